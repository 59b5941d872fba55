"""What the guard knows of the closing that has told it to hold the switches: when it was heard last.

A controller that closes a desk says so with each beat. One that was killed says nothing until the one that
is started in its place goes on with the closing, by itself or on a person's word; one whose closing was
broken off lives on, and does not say it. Until then nobody but the guard is left to withdraw what the
engine was to leave behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class ClosingWatch:
    """Hears the closing of a desk."""

    def __init__(
        self,
        silent_after_s: float,
        controller_is_well: Callable[[], bool],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silent_after_s = silent_after_s
        self._controller_is_well = controller_is_well
        self._clock_s = clock_s
        self._heard_s = clock_s()
        """Or since when it is waited for: a guard that comes after another one has heard nothing yet."""

    def hear(self, at_s: float) -> None:
        """It goes on."""
        self._heard_s = max(self._heard_s, at_s)

    def forgive(self, seconds: float) -> None:
        """This process itself was stopped for so long: nobody was silent for that."""
        self._heard_s = min(self._heard_s + seconds, self._clock_s())

    @property
    def silent_s(self) -> float:
        return self._clock_s() - self._heard_s

    @property
    def is_well(self) -> bool:
        """That its controller is gone is known at once."""
        return self.silent_s < self._silent_after_s and self._controller_is_well()
