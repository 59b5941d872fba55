"""How counts read."""

from __future__ import annotations


def count_of(count: int, what: str, several: str = "") -> str:
    """`1 open order`, `2 open orders`; `several` where the plural is no `s` more."""
    return f"{count} {what if count == 1 else several or what + 's'}"


def seconds_text(seconds: float) -> str:
    """`0.35 s`, `12 s`"""
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


KEPT_AS_ASKED = "kept as asked"
"""Of orders and positions that a closing leaves, in the detail of its step."""


def is_kept_as_asked(detail: str) -> bool:
    """Whether a step that did nothing by its detail left what it was asked to leave, and knew what that
    was: it did its part then."""
    return detail.endswith(KEPT_AS_ASKED)
