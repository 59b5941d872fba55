"""Closes the positions of one venue after its orders are gone, as the venue tells them.

Reduce-only market orders, one leg at a time. What always holds:
- An order is at most as large as its leg, and the next one of that leg is not sent before the last
  one is seen to have ended and the position shows what it did. So none flips a position.
- An order of which nothing is known is looked for. On a venue that cannot be told to reduce only,
  one that is not found stops its leg: a second might sell what the desk does not hold.
- No single answer proves that nothing is held: a fill that came before the cancel may be told late. Two
  that agree do, as far apart as an order may take to arrive, the second asked once no order is on its way.
- An order is written down, and that is on the disk, before it is sent. What a stop before this one
  may have sent is looked for first. On a venue that cannot be told to reduce only, what is not found
  keeps its leg from being sold again, and what the disk does not keep is not sent.
- On such a venue nothing is bought: a spot position below zero means that `holdings` in desk.toml
  is wrong, or that somebody took money out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from openbell.domain.flattening import (
    Dust,
    FlattenLeg,
    FlattenPlan,
    RemainingPosition,
    plan_flatten,
)
from openbell.domain.orders import ClOrdID, NewOrder, Purpose
from openbell.kill import events
from openbell.kill.asking import Asking
from openbell.kill.cancelling import say
from openbell.kill.events import Tell
from openbell.kill.flatten_record import FlattenRecord
from openbell.kill.pace import Backoff
from openbell.kill.statement import Flat, Result
from openbell.venues.port import (
    Accepted,
    Rejected,
    Unknown,
    VenueError,
    VenueOrder,
    VenuePosition,
)

ORDERS_PER_LEG = 5
"""A market that refuses or does not fill five orders is not asked for a sixth: repeated automated
execution needs a person (RTS 6 Art. 15(3))."""
ENDS_WITHIN_S = 5.0
"""A market order that is not filled by then waits for something: it is withdrawn."""
LOOK_S = (0.02, 0.5)
RETRY_S = (0.1, 2.0)

Leg = tuple[str, str]
"""Symbol and the venue's name of the leg."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What the venue says is held, and what it is worth; of no book."""

    venue: str
    symbol: str
    quantity: Decimal
    avg_px: Decimal


@dataclass(slots=True)
class _Course:
    """What was done about a leg."""

    orders: int = 0
    before: Decimal | None = None
    """The position that the last order that traded was sent for; None: it shows what that did."""
    stopped: bool = False
    why: str = ""
    unsure: bool = False
    """An order may have been sent of which nothing is known."""


class Flattening:
    def __init__(
        self,
        asking: Asking,
        symbol: str | None,
        mint: Callable[[], ClOrdID],
        settle_s: float,
        tell: Tell,
        record: FlattenRecord = FlattenRecord(),  # noqa: B008 # it is immutable
    ) -> None:
        """`mint` makes a ClOrdID that was never used."""
        self._asking = asking
        self._venue = asking.venue
        self._symbol = symbol
        self._mint = mint
        self._settle_s = settle_s
        self._tell = tell
        self._record = record
        self._earlier = [
            sent for sent in record.earlier or () if self._symbol in (None, sent.symbol)
        ]
        # Until the venue has told of it, an order may be on its way.
        self._courses: dict[Leg, _Course] = {
            (sent.symbol, sent.leg): _Course(unsure=True) for sent in self._earlier
        }
        self._held: list[VenuePosition] | None = None
        """Not zero, and no dust, by the last answer; None: there is none."""
        self._stale = False
        """An order was sent since."""
        self._dust: list[Dust] = []
        self._told: dict[Leg, Decimal] | None = None
        """What is held, by the last answers that agreed."""
        self._told_s = 0.0
        """When the first of them came."""
        self._lasting_s = 0.0
        """From then until the last of them was asked for."""
        self._why = "no answer within the time given"

    @property
    def traded(self) -> bool:
        """Whether an order was sent, by this stop or one before it."""
        return bool(self._earlier) or any(course.orders for course in self._courses.values())

    async def run(self) -> None:
        """Ends when nothing more can be closed. Raises GivenUpError; the caller ends it when time
        is up."""
        retry, lag = Backoff(*RETRY_S), Backoff(*LOOK_S)
        await asyncio.gather(*(self._settle_earlier(leg) for leg in list(self._courses)))
        while True:
            try:
                await self.look()
                todo = await self._plans()
            except VenueError as error:
                self._held, self._why = None, error.message
                await retry.pause()
                continue
            if not todo:
                if self._lasting_s >= self._settle_s:
                    return
                loop = asyncio.get_running_loop()
                await asyncio.sleep(max(self._told_s + self._settle_s - loop.time(), LOOK_S[0]))
                continue
            await asyncio.gather(*(self._close(leg, plan) for leg, plan in todo))
            if any(course.why for course in self._courses.values()):
                await retry.pause()
            elif any(course.before is not None for course in self._courses.values()):
                await lag.pause()

    async def look(self) -> None:
        """Asks for the positions. Raises VenueError and GivenUpError."""
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        found = await self._asking.positions()
        # What trades elsewhere on the account says nothing of what is to be flat.
        mine = [p for p in found if p.quantity and self._symbol in (None, p.symbol)]
        told = {_leg(p): p.quantity for p in mine}
        if told != self._told or self._stale:
            self._told, self._told_s = told, loop.time()
        self._lasting_s = max(0.0, asked_s - self._told_s)
        held = list(mine)
        quantities = {_leg(position): position.quantity for position in found}
        for leg, course in self._courses.items():
            if course.before != quantities.get(leg, Decimal(0)):
                course.before = None
        self._dust = []
        for position in mine:
            plan = await self._plan(position)
            if plan is not None and plan.dust:
                self._dust += plan.dust
                held.remove(position)
        self._held, self._stale = held, False

    def flat(self) -> Flat:
        """As the venue told it last."""
        courses = self._courses.values()
        why = "; ".join(dict.fromkeys(course.why for course in courses if course.why))
        if self._held is None:
            return Flat(result="unknown", why=self._why)
        if self._stale:
            why = "an order was sent, and the positions are not told since"
        unsure = self._stale or any(course.unsure for course in courses)
        if not (unsure or self._held) and self._lasting_s < self._settle_s:
            unsure = True
            why = (
                f"they were told to be zero, but not by two answers {self._settle_s:g} s apart: a fill "
                "may be told late"
            )
        result: Result = "unknown" if unsure else "residual" if self._held else "verified"
        return Flat(
            result=result,
            positions=tuple(
                RemainingPosition(
                    venue=self._venue.name, symbol=held.symbol, quantity=held.quantity
                )
                for held in self._held
            ),
            dust=tuple(self._dust),
            why=why if result != "verified" else "",
        )

    async def _plans(self) -> list[tuple[Leg, FlattenPlan]]:
        """Of the legs for which an order may be sent, or that are waited for."""
        todo: list[tuple[Leg, FlattenPlan]] = []
        for position in self._held or []:
            leg = _leg(position)
            course = self._courses.setdefault(leg, _Course())
            if course.stopped:
                continue
            if self._record.earlier is None and not self._venue.capabilities.reduce_only:
                course.stopped = course.unsure = True
                course.why = (
                    f"{position.symbol}: the disk does not tell what an earlier stop has sold; "
                    "nothing is sold that may be sold already"
                )
            elif course.before is None and course.orders >= ORDERS_PER_LEG:
                course.stopped = True
                course.why = course.why or f"{ORDERS_PER_LEG} orders did not close it"
            elif position.quantity < 0 and not self._venue.capabilities.reduce_only:
                course.stopped = True
                course.why = (
                    f"{position.symbol}: the account holds less than the holdings in desk.toml; "
                    "nothing is bought for that"
                )
            else:
                plan = await self._plan(position)
                if plan is None or not plan.legs:
                    course.stopped = True
                    course.why = f"{position.symbol}: no order is known that closes it"
                else:
                    todo.append((leg, plan))
        return todo

    async def _plan(self, position: VenuePosition) -> FlattenPlan | None:
        """None: nothing is known of this symbol."""
        name, symbol = self._venue.name, position.symbol
        try:
            rules = self._venue.rules(symbol)
        except KeyError:
            return None
        try:
            quotes = {(name, symbol): await self._asking.quote(symbol)}
        except VenueError:
            quotes = {}  # a missing price keeps no position open
        mark = position.avg_px if position.avg_px is not None else Decimal(0)
        held = _Held(name, symbol, position.quantity, mark)
        return plan_flatten([held], {(name, symbol): rules}, quotes, "market")

    async def _close(self, leg: Leg, plan: FlattenPlan) -> None:
        course = self._courses[leg]
        if course.before is not None:
            return  # what the last order did is not told yet
        # One part of it: the next is planned from what the venue tells after it.
        part = plan.legs[0]
        held = next(p.quantity for p in self._held or [] if _leg(p) == leg)
        course.why = ""
        order = self._order(part)
        say(
            self._tell,
            events.Flattening(
                venue=self._venue.name,
                at_ns=time.time_ns(),
                symbol=order.symbol,
                side=order.side,
                quantity=order.order_qty,
                cl_ord_id=order.cl_ord_id,
                leg=leg[1],
                held=held,
            ),
        )
        if not await self._record.kept() and not self._venue.capabilities.reduce_only:
            course.stopped = True
            course.why = (
                f"{order.symbol}: the disk does not keep what is sent, so it could be sold twice: "
                "nothing is sold"
            )
            self._tell_of(order, "not_sent")
            return
        course.orders += 1
        self._stale = True
        outcome = await self._asking.submit(order)
        if isinstance(outcome, Rejected):
            course.why = f"{order.symbol}: {outcome.code} {outcome.text}"
            self._tell_of(order, "rejected")
            return
        await self._settle(leg, order, held, outcome)

    async def _settle_earlier(self, leg: Leg) -> None:
        """What stops before this one may have sent for the leg, one after the other."""
        for sent in self._earlier:
            if (sent.symbol, sent.leg) == leg and not self._courses[leg].stopped:
                lost = Unknown(why="a stop before this one was to send it")
                await self._settle(leg, sent.as_order(), sent.held, lost)

    async def _settle(
        self, leg: Leg, order: NewOrder, held: Decimal, outcome: Accepted | Unknown
    ) -> None:
        """Returns when it is known what became of the order, or that nothing will be known."""
        course = self._courses[leg]
        course.unsure = True
        ended = await self._ended(order, outcome)
        if ended is None:
            course.unsure = not self._venue.capabilities.reduce_only
            course.stopped = course.unsure
            course.why = f"{order.symbol}: order {order.cl_ord_id} is not found at the venue"
            if not course.unsure:
                self._tell_of(order, "not_found")
            return
        course.unsure = False
        self._tell_of(order, ended.status.lower(), ended.cum_qty)
        if ended.cum_qty:
            course.before = held
        if ended.cum_qty < ended.order_qty:
            course.why = (
                f"{order.symbol}: {ended.cum_qty} of {ended.order_qty} filled, "
                f"then {ended.status.lower()}"
            )

    async def _ended(self, order: NewOrder, outcome: Accepted | Unknown) -> VenueOrder | None:
        """The order when it has ended, or was withdrawn; None: the venue knew nothing of it twice,
        as far apart as an order may take to arrive. Where it cannot be asked it is asked again,
        until the caller's time is up."""
        look = Backoff(*LOOK_S)
        loop = asyncio.get_running_loop()
        withdraw_at_s = loop.time() + ENDS_WITHIN_S
        absent_since_s: float | None = None
        while True:
            try:
                found = await self._asking.order(order)
            except VenueError:
                await look.pause()
                continue
            if found is not None and found.status.is_final:
                return found
            if found is not None:
                absent_since_s = None
                if loop.time() > withdraw_at_s:
                    await self._asking.withdraw(found)
            elif isinstance(outcome, Unknown):
                absent_since_s = absent_since_s or loop.time()
                if loop.time() - absent_since_s > self._settle_s:
                    return None
            await look.pause()

    def _tell_of(self, order: NewOrder, status: str, filled: Decimal = Decimal(0)) -> None:
        say(
            self._tell,
            events.Flattened(
                venue=self._venue.name,
                at_ns=time.time_ns(),
                symbol=order.symbol,
                cl_ord_id=order.cl_ord_id,
                status=status,
                filled=filled,
            ),
        )

    def _order(self, leg: FlattenLeg) -> NewOrder:
        return NewOrder(
            cl_ord_id=self._mint(),
            venue=leg.venue,
            symbol=leg.symbol,
            side=leg.side,
            ord_type=leg.ord_type,
            order_qty=leg.order_qty,
            time_in_force=leg.time_in_force,
            purpose=Purpose.FLATTEN,
        )


def _leg(position: VenuePosition) -> Leg:
    return position.symbol, position.leg
