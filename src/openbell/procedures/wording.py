"""How counts read."""

from __future__ import annotations


def count_of(count: int, what: str, several: str = "") -> str:
    """`1 open order`, `2 open orders`; `several` where the plural is no `s` more."""
    return f"{count} {what if count == 1 else several or what + 's'}"
