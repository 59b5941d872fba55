"""Sends the cancels of one venue: in the planned order, many at once, and none after the venue said
stop. What became of them is remembered for the next plan, never taken for an end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openbell.domain.orders import ClOrdID
from openbell.kill import events
from openbell.kill.asking import Asking, is_throttled
from openbell.kill.events import StopEvent, Tell
from openbell.kill.plan import (
    CancelCall,
    Means,
    Refused,
    Target,
    open_notional,
    plan_cancels,
)
from openbell.venues.port import Accepted, CancelOutcome, Listing, Rejected, Unknown, VenueOrder

_log = logging.getLogger(__name__)

CALLS_AT_ONCE = 50
"""Requests under way at one venue: enough to fill 20 ms round trips up to 2,500 a second."""
IN_A_ROW = 8
"""Requests that are put together before another venue's answer is looked at: fifty of them take as
long as a round trip, and the answer may be the list whose one mass cancel withdraws a thousand."""
REFUSALS_IN_A_ROW = 10
"""Then the venue is asked what it holds before more is sent: a revoked key refuses everything, and
many refused requests get an account locked (Kraken's "Temporary lockout")."""
STRAGGLERS_S = 1.0
"""How long the last calls of a round may take before the list is asked for without them."""
ACKNOWLEDGED_S = 0.5
"""How long an acknowledged cancel is given before it is sent again; twice as long each time."""
SURVIVALS = 2
"""An order that survived so many acknowledged cancels is asked for by itself."""


@dataclass(slots=True)
class Sight:
    """What is known of an order that was seen open."""

    order: VenueOrder
    acknowledged: int = 0
    """Cancels that the venue took."""
    again_at_s: float = 0.0
    """Not cancelled again before."""
    refused: bool = False


class _Round:
    """Calls that are sent together."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.taken = False
        """Whether the venue took any."""
        self.stopped = False
        self.refusals = 0
        """In a row."""


class Cancelling:
    def __init__(self, asking: Asking, target: Target, tell: Tell) -> None:
        self.refusal = ""
        """The last reason for which a cancel of the last round was not taken."""
        self.unsettled = False
        """Whether anything was, or may have been, cancelled since this was last set to False."""
        self.swept_ns: dict[str, int] = {}
        """By symbol, empty for the account: when a mass cancel was sent, monotonic, that the venue took
        before anything was listed."""
        self._asking = asking
        self._venue = asking.venue
        self._target = target
        self._tell = tell
        self._sights: dict[str, Sight] = {}
        """By venue order id."""
        self._avoid: set[Refused] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self._now_s = asyncio.get_running_loop().time

    @property
    def acknowledged(self) -> int:
        """Orders whose cancel the venue took."""
        return sum(sight.acknowledged > 0 for sight in self._sights.values())

    @property
    def acknowledged_ids(self) -> set[ClOrdID]:
        return {each.order.cl_ord_id for each in self._sights.values() if each.acknowledged}

    def saw(self, orders: Iterable[VenueOrder]) -> None:
        """They are open, by the venue's last list."""
        for order in orders:
            self._sight(order).order = order

    def unasked(self, most: int) -> list[VenueOrder]:
        """The riskiest of each symbol's orders that were open, and that the venue took no cancel of."""
        found: dict[str, list[VenueOrder]] = {}
        for sight in self._sights.values():
            if not sight.acknowledged and sight.order.cl_ord_id:
                found.setdefault(sight.order.symbol, []).append(sight.order)
        return [
            order
            for orders in found.values()
            for order in sorted(orders, key=open_notional, reverse=True)[:most]
        ]

    def plan(self, listing: Listing) -> list[CancelCall]:
        now_s = self._now_s()
        sights = self._sights.items()
        calls = plan_cancels(
            listing,
            self._venue.capabilities,
            self._target,
            avoid=self._avoid,
            stubborn={key for key, s in sights if s.refused or s.acknowledged >= SURVIVALS},
            skip={key for key, sight in sights if sight.again_at_s > now_s},
        )
        if calls:
            self._avoid, self.refusal = set(), ""
        return calls

    async def send(self, calls: Sequence[CancelCall]) -> bool:
        """In this order; whether the venue took any. What is left when it wants no more requests,
        or refuses one after the other, is to be planned again from the next list. Raises
        GivenUpError."""
        if not calls:
            return False
        name = self._venue.name
        means = dict(Counter(call.means for call in calls))
        orders = sum(len(call.orders) for call in calls)
        say(
            self._tell,
            events.Cancelling(venue=name, at_ns=time.time_ns(), means=means, orders=orders),
        )
        turn = _Round()
        slots = asyncio.Semaphore(CALLS_AT_ONCE)
        for count, call in enumerate(calls):
            if count % IN_A_ROW == 0:
                await asyncio.sleep(0)
            await slots.acquire()
            if not turn.stopped:
                await self._asking.turn()
            if turn.stopped:  # perhaps while it waited for its turn
                break
            self._start(call, turn, slots)
        if turn.tasks:
            await asyncio.wait(turn.tasks, timeout=STRAGGLERS_S)
        if turn.taken:
            say(
                self._tell,
                events.Acknowledged(venue=name, at_ns=time.time_ns(), orders=self.acknowledged),
            )
        return turn.taken

    async def end(self) -> None:
        """Requests still under way are given up."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _start(self, call: CancelCall, turn: _Round, slots: asyncio.Semaphore) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            slots.release()
            self._under_way.discard(task)

        task = asyncio.create_task(self._send(call, turn))
        turn.tasks.add(task)
        self._under_way.add(task)
        task.add_done_callback(ended)

    async def _send(self, call: CancelCall, turn: _Round) -> None:
        began_ns = time.monotonic_ns()
        outcomes = await self._asking.cancel(call)
        if not all(isinstance(outcome, Rejected) for outcome in outcomes):
            self.unsettled = True
        if call.means in (Means.ACCOUNT, Means.SYMBOL):
            self._note_mass(call, outcomes[0], turn)
            if isinstance(outcomes[0], Accepted) and not call.orders:
                self.swept_ns[call.symbol] = began_ns
        else:
            for order, outcome in zip(call.orders, outcomes, strict=True):
                self._note(order, outcome, turn)

    def _note_mass(self, call: CancelCall, outcome: CancelOutcome, turn: _Round) -> None:
        if isinstance(outcome, Accepted):
            turn.taken = True
            for order in call.orders:
                self._took(order)
        elif isinstance(outcome, Rejected) and not is_throttled(outcome):
            # Where nothing was known to be there, a refusal may say no more than that.
            if call.orders:
                self._avoid.add((call.means, call.symbol))
                self.refusal = f"{call.means} cancel: {outcome.code} {outcome.text}"
        else:
            self._note_unsure(outcome, turn)

    def _note(self, order: VenueOrder, outcome: CancelOutcome, turn: _Round) -> None:
        if isinstance(outcome, Accepted):
            turn.taken, turn.refusals = True, 0
            self._took(order)
        elif isinstance(outcome, Rejected) and not is_throttled(outcome):
            self._sight(order).refused = True
            self.refusal = f"{outcome.code} {outcome.text}"
            turn.refusals += 1
            turn.stopped = turn.stopped or turn.refusals >= REFUSALS_IN_A_ROW
        else:
            self._note_unsure(outcome, turn)

    def _note_unsure(self, outcome: Rejected | Unknown, turn: _Round) -> None:
        """Whether it was done is not known, or it was not looked at."""
        if isinstance(outcome, Unknown):
            self.refusal = f"unknown: {outcome.why}"
        else:
            self.refusal = f"{outcome.code} {outcome.text}"
            turn.stopped = True

    def _took(self, order: VenueOrder) -> None:
        sight = self._sight(order)
        sight.again_at_s = self._now_s() + ACKNOWLEDGED_S * 2**sight.acknowledged
        sight.acknowledged += 1

    def _sight(self, order: VenueOrder) -> Sight:
        sight = self._sights.get(order.venue_order_id)
        if sight is None:
            sight = self._sights[order.venue_order_id] = Sight(order)
        return sight


def say(tell: Tell, event: StopEvent) -> None:
    """Whoever listens must not be able to end a stop."""
    try:
        tell(event)
    except Exception as error:  # noqa: BLE001 # it is not ours
        _log.error("a listener of the stop failed: %s", type(error).__name__)
