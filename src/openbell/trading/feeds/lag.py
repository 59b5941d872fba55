"""How much later than the venue's own time its messages come.

A feed that lags looks well: it is connected, and messages come without end. Only what the venue says of
when they were is behind. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

LAG_S_MAX = 1.0
"""More is told. What RTS 6, Art. 10, has systems bear at twice their peak is judged by the same second."""
WINDOW_S = 1.0
MESSAGES_MIN = 3
"""At least so many, over at least so long, and the least of them counts: one that was late, or the old
state with which a stream begins, is no lag."""
FORGET_S = 30.0
"""Of a symbol of which nothing new comes for so long nothing is said."""


@dataclass
class Lag:
    """Of one symbol. The two clocks are the venue's and this machine's: where one of them is wrong, so is
    the lag, which is to be said with it."""

    _newest_ns: int = 0
    _least_s: float | None = None
    _count: int = 0
    _from_s: float = 0.0
    _told: tuple[float, float] | None = None
    """The least of the last window, and when that ended."""

    def hear(self, venue_time_ns: int, received_ns: int, now_s: float) -> bool:
        """Whether a window ended. What carries no time, or none that is newer than what was heard, says
        nothing: venues repeat an old state."""
        if venue_time_ns <= self._newest_ns:
            return False
        self._newest_ns = venue_time_ns
        lag_s = (received_ns - venue_time_ns) / 1e9
        if self._count == 0:
            self._least_s, self._from_s = lag_s, now_s
        elif self._least_s is None or lag_s < self._least_s:
            self._least_s = lag_s
        self._count += 1
        if self._count < MESSAGES_MIN or now_s - self._from_s < WINDOW_S:
            return False
        assert self._least_s is not None
        self._told, self._count = (self._least_s, now_s), 0
        return True

    def seconds(self, now_s: float) -> float | None:
        """None: not known. Never less than nothing: a venue whose clock is ahead is not early."""
        if self._told is None or now_s - self._told[1] > FORGET_S:
            return None
        return max(0.0, self._told[0])

    def begin_anew(self) -> None:
        """Connected again: what comes first is the venue's state of before."""
        self._newest_ns, self._count, self._told = 0, 0, None
