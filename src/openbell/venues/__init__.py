"""Layer `venues`: the `Venue` port and its adapters, found by entry point.

`registry.open_venue` makes one; `clerk` asks venues from a short-lived process of its own.
"""
