"""Layer `venues`: the `Venue` port and its adapters, found by entry point."""
