"""Openbell opens an algorithmic trading desk, watches over it, and closes it with proof."""

__version__ = "0.1.0"
