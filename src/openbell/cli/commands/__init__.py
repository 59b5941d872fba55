"""The commands, one module each (small kindred ones together)."""
