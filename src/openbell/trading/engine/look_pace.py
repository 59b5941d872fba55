"""When to look at a venue next, and how thoroughly, without eating up its request budget.

- While books and venue agree: every `poll_every`, executions too every `DEEP_EVERY_S`.
- While they do not: at once again, then less and less often, for what stands for minutes is not
  cleared up by asking; executions, the dearest of all questions, more rarely still, and no sooner than
  otherwise where nothing differs and only something is not clear yet: an order in doubt, or one that
  changed meanwhile. Such a look does not learn from them, and the one that finds agreement would wait.
- News (an order event, a doubt that was resolved, the stream back) begins the back-off anew.
- However much news there is, looks never use more than `LOOKS_SHARE` of what the venue lets the
  account ask in a minute. What a person asks, and every cancel, finds room.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from openbell.venues.port import QueryCosts

DEEP_EVERY_S = 30.0
"""How often executions are compared too, besides open orders and positions."""
LOOK_AGAIN_S = 0.2
"""The first pause where something is not clear, and the shortest between any two looks."""
LOOK_AT_LEAST_S = 5.0
"""The longest such pause, unless `poll_every` is longer. Ours: a person who mends a difference by
hand is not kept waiting for longer."""
DEEP_AFTER_PAUSES = 4
"""Where something is not clear, executions are compared again after so many pauses."""
LOOKS_SHARE = 0.2
"""Ours. Of the rest, `venues.pacing` keeps as much again for cancels."""
FREE_SHARE = LOOKS_SHARE / 2
"""So much at once; what comes on top is spread evenly over the minute, so that a burst of news
does not leave the engine blind for the rest of it."""
_MINUTE_S = 60.0


@dataclass
class LookPace:
    """One venue's. Times are of one monotonic clock, in seconds, and given by the caller."""

    poll_every_s: float
    symbols: int
    costs: QueryCosts
    _pauses: int = 0
    """Since the last news, or since books and venue last agreed."""
    _deep_due_s: float = 0.0
    _spent: deque[tuple[float, float]] = field(default_factory=deque)
    """When, and what share of the budget, within the last minute."""

    def news(self, *, deep: bool) -> None:
        """Something happened that another look may clear up; `deep`: or executions may be missed."""
        self._pauses = 0
        if deep:
            self._deep_due_s = 0.0

    def is_deep(self, now_s: float) -> bool:
        """Whether a look that begins now compares executions too."""
        return now_s >= self._deep_due_s

    def wait_s(self, *, deep: bool, now_s: float) -> float:
        """How long such a look must wait; 0: it may begin."""
        self._forget(now_s)
        if not self._spent:
            return 0.0
        last_s = self._spent[-1][0]
        cost = self._cost(deep)
        used = sum(each for _, each in self._spent)
        may_s = last_s + LOOK_AGAIN_S
        if used > FREE_SHARE:
            evenly_s = _MINUTE_S * cost / (LOOKS_SHARE - FREE_SHARE)
            may_s = max(may_s, last_s + min(evenly_s, _MINUTE_S))
        over = used + cost - LOOKS_SHARE
        for at_s, each in self._spent:
            if over <= 0:
                break
            may_s = max(may_s, at_s + _MINUTE_S)
            over -= each
        return max(0.0, may_s - now_s)

    def began(self, *, deep: bool, now_s: float) -> None:
        self._spent.append((now_s, self._cost(deep)))

    def asked(self, orders: int, now_s: float) -> None:
        """The last look called for asking after so many orders."""
        at_s, cost = self._spent.pop() if self._spent else (now_s, 0.0)
        self._spent.append((at_s, cost + orders * self.costs.order))

    def pause_s(self, *, deep: bool, settled: bool, differs: bool, now_s: float) -> float:
        """How long to wait after a look, unless there is news. `settled`: it left nothing to clear
        up; `differs`: it found something that is not so in the books."""
        if settled:
            self._pauses = 0
            if deep:
                self._deep_due_s = now_s + DEEP_EVERY_S
            return self.poll_every_s
        longest_s = max(LOOK_AT_LEAST_S, self.poll_every_s)
        pause_s = min(LOOK_AGAIN_S * 2.0 ** min(self._pauses, 16), longest_s)
        if deep:
            after_s = DEEP_AFTER_PAUSES * pause_s if differs else DEEP_EVERY_S
            self._deep_due_s = now_s + min(after_s, DEEP_EVERY_S)
        elif self._pauses == 0 and differs:
            self._deep_due_s = now_s  # what has just come up may be an execution not yet heard of
        self._pauses += 1
        return pause_s

    @property
    def room_s(self) -> float:
        """In how long an exhausted budget has room for all questions of a deep look. Where it is
        begun as soon as there is room for one, it spends that and fails at the next."""
        return min(_MINUTE_S * self._cost(True), _MINUTE_S)

    def _cost(self, deep: bool) -> float:
        costs = self.costs
        each = costs.open_orders + (costs.fills if deep else 0.0)
        return self.symbols * each + costs.positions

    def _forget(self, now_s: float) -> None:
        while self._spent and self._spent[0][0] <= now_s - _MINUTE_S:
            self._spent.popleft()
