"""How much each caller used of what Binance allows in a minute, and how many orders it sent."""

from __future__ import annotations

from collections import defaultdict

MINUTE_S = 60
TEN_S = 10
DAY_S = 86400


WEIGHT_PER_MINUTE = 6000
"""Binance's, per address."""


class Window:
    """Counts in fixed windows, as Binance does: all counts fall to zero when one ends."""

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

    def left_s(self, now_s: float) -> int:
        """Whole seconds until the window ends, at least one."""
        return max(1, int(self._width_s - now_s % self._width_s) + 1)


class Weights:
    """`limit` is the request weight per address and minute."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._minute = Window(MINUTE_S)
        self._orders_10s = Window(TEN_S)
        self._orders_day = Window(DAY_S)
        self.highest = 0

    def use(self, address: str, weight: int, now_s: float) -> int:
        used = self._minute.add(address, weight, now_s)
        self.highest = max(self.highest, used)
        return used

    def retry_after_s(self, now_s: float) -> int:
        return self._minute.left_s(now_s)

    def count_order(self, account: str, now_s: float) -> tuple[int, int]:
        """Orders of the account in the last ten seconds and today."""
        return self._orders_10s.add(account, 1, now_s), self._orders_day.add(account, 1, now_s)
