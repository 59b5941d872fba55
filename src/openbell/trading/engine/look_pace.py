"""When to look at a venue next, and how thoroughly, without eating up its request budget.

- While books and venue agree: every `poll_every`, executions too every `DEEP_EVERY_S`; more rarely, and
  evenly, where that would take more than the share below.
- While they do not: at once again, then less and less often, for what stands for minutes is not
  cleared up by asking; executions, the dearest of all questions, more rarely still, and no sooner than
  otherwise where nothing differs and only something is not clear yet: an order in doubt, or one that
  changed meanwhile. Such a look does not learn from them, and the one that finds agreement would wait.
- A difference that has just come up while the desk trades is looked at at once until it is clear whether
  it stands, out of `URGENT_SHARE`, which is kept for that: routine looks may have used what is theirs, and
  would leave the few that decide waiting for half a minute.
- News (an order event, a doubt that was resolved, the stream back) begins the back-off anew.
- However much news there is, other looks never use more than `LOOKS_SHARE` of what the venue lets the
  account ask in a minute. What a person asks, and every cancel, finds room.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from openbell.venues.port import QueryCosts

DEEP_EVERY_S = 30.0
"""How often executions are compared too, besides open orders and positions."""
DEEP_EVERY_AT_MOST_S = 300.0
"""However many symbols there are. Ours."""
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
"""So much at once; what comes on top is spread evenly over what is left, so that a burst of news
does not leave the engine blind for the rest of the minute."""
DEEP_SHARE = LOOKS_SHARE / 4
"""Of it, for executions in routine looks. Ours."""
URGENT_SHARE = LOOKS_SHARE / 4
"""On top of it, for looks that decide whether the desk may go on trading. What does not fit is taken
from the others. Ours."""
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
    _urgent: bool = False
    _spent: deque[tuple[float, float]] = field(default_factory=deque)
    """When, and what share of the budget, within the last minute."""
    _urgent_spent: deque[tuple[float, float]] = field(default_factory=deque)
    """As much for urgent looks."""

    def news(self, *, deep: bool) -> None:
        """Something happened that another look may clear up; `deep`: or executions may be missed."""
        self._pauses = 0
        if deep:
            self._deep_due_s = 0.0

    def is_deep(self, now_s: float) -> bool:
        """Whether a look that begins now compares executions too. It does without them where they would
        make it wait, for as long again as they may be apart."""
        if now_s < self._deep_due_s:
            return False
        self._forget(now_s)
        if self._urgent:
            return self._is_paid_apart(deep=True)
        overdue = now_s >= self._deep_due_s + self._deep_every_s
        return overdue or _sum(self._spent) + self._cost(True) <= LOOKS_SHARE

    def wait_s(self, *, deep: bool, now_s: float) -> float:
        """How long such a look must wait; 0: it may begin."""
        self._forget(now_s)
        spent = [*self._spent, *self._urgent_spent]
        if not spent:
            return 0.0
        last_s = max(at_s for at_s, _ in spent)
        may_s = last_s + LOOK_AGAIN_S
        if self._is_paid_apart(deep=deep):
            return max(0.0, may_s - now_s)
        cost, used = self._cost(deep), _sum(self._spent)
        if used > FREE_SHARE:
            # By what a look without executions costs: one with them, which is dearer, would leave
            # the engine blind for as much longer before it. It makes the looks after it rarer.
            evenly_s = _MINUTE_S * self._cost(False) / (LOOKS_SHARE - FREE_SHARE)
            left = max(LOOKS_SHARE - used, FREE_SHARE / 2)
            evenly_s *= FREE_SHARE / left
            may_s = max(may_s, last_s + min(evenly_s, _MINUTE_S))
        over = used + cost - LOOKS_SHARE
        for at_s, each in self._spent:
            if over <= 0:
                break
            may_s = max(may_s, at_s + _MINUTE_S)
            over -= each
        return max(0.0, may_s - now_s)

    def began(self, *, deep: bool, now_s: float) -> None:
        spent = self._urgent_spent if self._is_paid_apart(deep=deep) else self._spent
        spent.append((now_s, self._cost(deep)))

    def asked(self, orders: int, now_s: float) -> None:
        """The last look called for asking after so many orders."""
        # However many those are: only the look itself is let in by what is kept for urgent ones.
        self._spent.append((now_s, orders * self.costs.order))

    def pause_s(
        self, *, deep: bool, settled: bool, differs: bool, now_s: float, urgent: bool = False
    ) -> float:
        """How long to wait after a look, unless there is news. `settled`: it left nothing to clear
        up; `differs`: it found something that is not so in the books; `urgent`: and whether that
        stands decides whether the desk may go on trading."""
        self._urgent = urgent
        if settled:
            self._pauses = 0
            if deep:
                self._deep_due_s = now_s + self._deep_every_s
            return self.poll_every_s
        longest_s = max(LOOK_AT_LEAST_S, self.poll_every_s)
        pause_s = min(LOOK_AGAIN_S * 2.0 ** min(self._pauses, 16), longest_s)
        if deep:
            after_s = DEEP_AFTER_PAUSES * pause_s if differs else DEEP_EVERY_S
            self._deep_due_s = now_s + min(after_s, DEEP_EVERY_S)
        elif self._pauses == (1 if urgent else 0) and differs:
            # What has just come up may be an execution not yet heard of. Where it is urgent the next
            # look is a cheap one, since most that comes up passes, and the one that decides asks.
            self._deep_due_s = now_s
        self._pauses += 1
        return pause_s

    @property
    def room_s(self) -> float:
        """In how long an exhausted budget has room for all questions of a deep look. Where it is
        begun as soon as there is room for one, it spends that and fails at the next."""
        return min(_MINUTE_S * self._cost(True), _MINUTE_S)

    @property
    def _deep_every_s(self) -> float:
        """`DEEP_EVERY_S`, or longer where executions alone would use up more than `DEEP_SHARE`."""
        fills = self.symbols * self.costs.fills
        return max(DEEP_EVERY_S, min(_MINUTE_S * fills / DEEP_SHARE, DEEP_EVERY_AT_MOST_S))

    def _is_paid_apart(self, *, deep: bool) -> bool:
        """Whether such a look is an urgent one, and there is room for it among those."""
        return self._urgent and _sum(self._urgent_spent) + self._cost(deep) <= URGENT_SHARE

    def _cost(self, deep: bool) -> float:
        costs = self.costs
        each = costs.open_orders + (costs.fills if deep else 0.0)
        return self.symbols * each + costs.positions

    def _forget(self, now_s: float) -> None:
        for spent in (self._spent, self._urgent_spent):
            while spent and spent[0][0] <= now_s - _MINUTE_S:
                spent.popleft()


def _sum(spent: deque[tuple[float, float]]) -> float:
    return sum(share for _, share in spent)
