"""Counting requests against a venue's limits, in the two ways that venues do it.

Times are seconds of any one clock. A limit of 0 is none.
"""

from __future__ import annotations

from collections import defaultdict, deque


def scaled(most: int, scale: float) -> int:
    """A documented limit times `scale`: at least 1, so that a small scale never lifts it; 0 (no
    limit) for a scale of 0."""
    return max(1, int(most * scale)) if scale else 0


class SlidingSecond:
    """At most `most` in any second; those refused do not count."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken: defaultdict[str, deque[float]] = defaultdict(deque)

    def take(self, who: str, now_s: float) -> bool:
        """Whether `who` may have one more."""
        if not self.most:
            return True
        taken = self._taken[who]
        while taken and taken[0] <= now_s - 1:
            taken.popleft()
        if len(taken) >= self.most:
            return False
        taken.append(now_s)
        return True


class FixedWindow:
    """Counts that all fall to zero when a window ends; those refused count as well."""

    def __init__(self, width_s: int) -> None:
        self._width_s = width_s
        self._window = -1
        self._used: defaultdict[str, int] = defaultdict(int)

    def add(self, who: str, amount: int, now_s: float) -> int:
        """What `who` has used in the current window, this included."""
        window = int(now_s // self._width_s)
        if window != self._window:
            self._window = window
            self._used.clear()
        self._used[who] += amount
        return self._used[who]

    def ends_s(self, now_s: float) -> int:
        """When the current window ends."""
        return (int(now_s // self._width_s) + 1) * self._width_s
