"""Layer `config`: desk.toml as strict models, where a desk's files lie, and its secrets."""

import os

# pydantic would look through every installed package for plug-ins of its own, in each process of a
# desk; and whatever it found would have a say in what a desk file means.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
