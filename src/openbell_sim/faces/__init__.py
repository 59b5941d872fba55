"""Protocols of real venues over the one exchange."""
