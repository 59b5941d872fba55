"""One measured number and the bound it is held against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """`value` against `bound` (None: only printed). `met` is None where there is no bound."""

    name: str
    value: float
    unit: str
    """`ms`, `MB`, `% of a core`, `x` for a ratio, `orders/s`, ..."""
    bound: float | None = None
    at_most: bool = True
    """False: the value must be at least the bound."""
    method: str = ""
    """How it was measured, in a sentence or two."""
    limited_by: str = ""
    """For a number missed: what limits it."""

    @property
    def met(self) -> bool | None:
        if self.bound is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound
