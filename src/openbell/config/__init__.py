"""Layer `config`: desk.toml as strict models, where a desk's files lie, and its secrets."""
