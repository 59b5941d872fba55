"""How it is said, at every start, that a desk trades real money."""

from __future__ import annotations

from collections.abc import Iterable


def live_notice(venues: Iterable[str]) -> str:
    """A sentence about the venues with `environment = "live"`; empty where there are none."""
    named = ", ".join(venues)
    return f"LIVE: real money at {named}" if named else ""
