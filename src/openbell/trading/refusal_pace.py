"""How soon a strategy may ask again for an order that was refused.

A strategy is shown the market many times a second and asks for what it wants each time; where its
orders are refused (post-only at a venue that has none, no funds, a closed market), it would ask for
ever, at the market's own rate. So each refusal in a row doubles the time until the same is passed on
again. The same: symbol, side, type, time in force and post-only. Neither price nor quantity, which
follow the market. An acceptance of it begins anew; what is asked for differently is not held back.

Pure: events and times in, yes or no out.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from openbell.domain.orders import NewOrder, OrdType, Side, TimeInForce
from openbell.trading.strategy import Submit

FIRST_NS = 500_000_000
LONGEST_NS = 60_000_000_000
"""Then one order a minute tries whether the venue takes it again."""
TOLD_AT = 3
"""So many refusals in a row are told as a warning. One alone is the daily bread of whoever quotes
post-only in a moving market."""
PACED_ELSEWHERE = frozenset({"throttled", "never_sent", "never_arrived"})
"""Codes of rejections that say nothing against the order itself: the venue's limits are kept by the
engine's gate, and what was never sent met a permit, a halt or a latch."""


class Shape(msgspec.Struct, frozen=True, order=True):
    """What makes two orders of one strategy the same to whoever refuses them."""

    symbol: str
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    post_only: bool

    @classmethod
    def of(cls, order: NewOrder | Submit) -> Shape:
        return cls(order.symbol, order.side, order.ord_type, order.time_in_force, order.post_only)

    def __str__(self) -> str:
        post = " post-only" if self.post_only else ""
        return f"{self.side} {self.symbol} {self.ord_type} {self.time_in_force}{post}"


@dataclass(frozen=True)
class Streak:
    """Refusals in a row of one shape."""

    refusals: int
    code: str
    text: str
    until_ns: int
    """Nothing of this shape is passed on before."""

    @property
    def why(self) -> str:
        return f"{self.code} {self.text}".strip()


class RefusalPace:
    """Of one strategy."""

    def __init__(self) -> None:
        self._streaks: dict[Shape, Streak] = {}

    @property
    def streaks(self) -> dict[Shape, Streak]:
        return dict(sorted(self._streaks.items()))

    @property
    def why(self) -> str:
        """In a sentence, what is refused again and again; empty where nothing is."""
        return "; ".join(
            f"asks less often for {shape}: refused {streak.refusals} times in a row: {streak.why}"
            for shape, streak in self.streaks.items()
            if streak.refusals >= TOLD_AT
        )

    def holds(self, order: Submit, now_ns: int) -> bool:
        streak = self._streaks.get(Shape.of(order))
        return streak is not None and now_ns < streak.until_ns

    def refused(self, order: NewOrder, code: str, text: str, now_ns: int) -> Streak | None:
        """Returns the streak where it is to be told now: once, when it has become one."""
        if code in PACED_ELSEWHERE:
            return None
        shape = Shape.of(order)
        before = self._streaks.get(shape)
        count = before.refusals + 1 if before else 1
        wait_ns = min(FIRST_NS << min(count - 1, 30), LONGEST_NS)
        streak = Streak(count, code, text, now_ns + wait_ns)
        self._streaks[shape] = streak
        return streak if count == TOLD_AT else None

    def accepted(self, order: NewOrder) -> None:
        self._streaks.pop(Shape.of(order), None)

    def clear(self) -> None:
        self._streaks.clear()
