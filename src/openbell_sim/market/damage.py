"""What of a file could not be used: told when it is met, and never the end of the market."""

from __future__ import annotations

from collections.abc import Callable


class Damage:
    """One pass through one file. `tell` hears of the first line of each kind of damage at once,
    and of their number at the end."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._counts: dict[str, int] = {}

    def left_out(self, number: int, why: str) -> None:
        """`number` counts lines or rows from 1; `why` must not vary with the line's contents."""
        self._counts[why] = self._counts.get(why, 0) + 1
        if self._counts[why] == 1:
            self._tell(f"line {number} is left out: {why}")

    def cut_short(self, why: str) -> None:
        self._tell(f"it ends early: {why}")

    def close(self) -> None:
        for why, count in self._counts.items():
            if count > 1:
                self._tell(f"{count} lines were left out: {why}")


def unheard(_: str) -> None:
    """For whoever reads a file again: its damage has been told."""
