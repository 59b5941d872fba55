"""What the engine's register of live orders says against what a venue lists.

    in the register ─▶ in a list, its cancel acknowledged ──────────▶ the lists tell its end
                    └▶ in none, or gone without that: asked for by ClOrdID ─┬▶ final ─────▶ it has ended
                                   ▲                  ├▶ open ──────▶ cancelled, asked for again
                                   └──────────────────┴▶ not known ─▶ never to land, once its time is over

What always holds:
- Only the venue's word, or a time, takes an order off the list of those that are not accounted for. Its
  word is also a mass cancel that it acknowledged, of those that rested long before, if three of them are
  seen to have been cancelled.
- An order that had an answer once is never given up for not being known: a venue that has lost it is
  not believed.
- One without an answer may land as long as `LANDS_WITHIN_S` after the last moment at which it can have
  left: its venue's time-out from when it was handed over, or the moment from which nothing could be sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from openbell.domain.orders import ClOrdID, OrdStatus
from openbell.kill.aside import aside
from openbell.kill.asking import Asking
from openbell.runtime.processes import this_boot
from openbell.state.live_orders import (
    HeldRegister,
    LiveOrder,
    LiveOrders,
    Sent,
    note_ended,
    read_live_orders,
)
from openbell.state.order_latency import lands_by_ns
from openbell.venues.port import VenueError, VenueOrder

AT_ONCE = 10
SAMPLE = 3
"""Of each symbol's orders that a mass cancel took before anything was listed, so many are asked for."""
NAMED_MAX = 3
READ_S = 5.0
"""For a disk that is busy. Cancels do not wait for it, only what is proven does; a register that is not
read makes every venue unknown."""
NOTE_S = 2.0


@dataclass(frozen=True, slots=True)
class Reading:
    live: LiveOrders
    at_ns: int
    """Monotonic; nothing that it names left later."""


class Register(Protocol):
    """Where a stop reads which orders are live."""

    async def read(self) -> Reading:
        """Once nothing can be sent any more. Raises nothing for what a disk does."""
        ...

    async def note_ended(self, venue: str, cl_ord_ids: Collection[ClOrdID]) -> None: ...


Held = Callable[[], Awaitable[tuple[tuple[HeldRegister, ...], str]]]


class RegisterOnDisk:
    """Of one stop: read once, by whichever venue is first. `held`: gives the registers that processes have
    mapped, and why there may be more of them, once it is read; raises nothing."""

    def __init__(self, folder: Path, held: Held | None = None) -> None:
        self._folder = folder
        self._held = held
        self._reading: asyncio.Task[Reading] | None = None

    async def read(self) -> Reading:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    async def note_ended(self, venue: str, cl_ord_ids: Collection[ClOrdID]) -> None:
        """Best effort: the next stop asks for what is not noted."""
        if cl_ord_ids:
            with contextlib.suppress(OSError, TimeoutError):
                await aside(lambda: note_ended(self._folder, venue, list(cl_ord_ids)), NOTE_S)

    async def _read(self) -> Reading:
        at_ns = time.monotonic_ns()
        held, not_held = ((), "") if self._held is None else await self._held()
        try:
            live = await aside(lambda: read_live_orders(self._folder, this_boot(), held), READ_S)
        except TimeoutError:
            live = LiveOrders(damage="the disk does not answer")
        if not_held and not live.damage:
            live = replace(live, damage=not_held)
        return Reading(live, at_ns)


@dataclass
class Accounting:
    """The live orders of one venue, until each is accounted for."""

    asking: Asking
    register: Register | None
    """None: there is none to ask, and every order is taken to be listed."""
    symbol: str | None
    """None: all."""
    window_s: float
    """The venue's time-out: an order's first byte has left within it, or never does."""
    latency_s: float = 0.0
    """The longest that an order was seen to take: so long before a mass cancel it was sent, or it may
    have arrived after it."""
    damage: str = ""
    """Why nothing can be proven here."""
    gap: str = ""
    doubt: str = ""
    """Why not all are accounted for; empty while they are."""
    left: dict[ClOrdID, LiveOrder] = field(default_factory=dict)
    """Not accounted for."""
    ended: list[ClOrdID] = field(default_factory=list)
    """Asked for, and seen to have ended or never to land, whatever comes."""
    named: tuple[ClOrdID, ...] = ()
    """All that the register named, but for those that had no leave: an engine that was only silent, or
    stopped in part, may get it later."""
    _reading: Reading | None = None
    _listed: set[ClOrdID] = field(default_factory=set)
    _last: set[ClOrdID] = field(default_factory=set)
    """Of those, the ones in the last list."""
    _reasons: dict[str, None] = field(default_factory=dict)
    _withdrawn: set[ClOrdID] = field(default_factory=set)
    """Cancelled, by the venue's own word."""
    _hidden: set[ClOrdID] = field(default_factory=set)
    """Open by the venue's own word, while its list left them out: lists say nothing of them."""

    def saw(self, orders: Iterable[VenueOrder]) -> None:
        """The venue lists them: once it has taken their cancels, its lists tell their end."""
        self._last = {order.cl_ord_id for order in orders}
        self._listed |= self._last
        self._hidden -= self._last

    @property
    def missing(self) -> list[LiveOrder]:
        """Not accounted for, and not in the last list."""
        return [order for key, order in self.left.items() if key not in self._last]

    async def ask(
        self, swept_ns: Mapping[str, int], acknowledged: Collection[ClOrdID] = ()
    ) -> list[VenueOrder]:
        """Of every live order that no list has shown, or that is gone from them though the venue took no
        cancel of it; returns those that are open. `swept_ns`, `acknowledged`: as of `Cancelling`. Raises
        GivenUpError."""
        if self.register is None:
            return []
        if self._reading is None:
            self._begin(await self.register.read())
        can_ask = self.asking.venue.capabilities.lookup_by_cl_ord_id
        for key in (self._listed - self._last - self._hidden) & self.left.keys():
            if key in acknowledged or not can_ask:
                del self.left[key]
        self._reasons = {}
        samples: dict[str, list[ClOrdID]] = {}
        rests: dict[str, list[ClOrdID]] = {}
        for order in self._taken(swept_ns):
            sample = samples.setdefault(order.symbol, [])
            (sample if len(sample) < SAMPLE else rests.setdefault(order.symbol, [])).append(
                order.cl_ord_id
            )
        unasked = {key for rest in rests.values() for key in rest}
        found = await self._look_up(
            [each for each in self.missing if each.cl_ord_id not in unasked]
        )
        for symbol, rest in rests.items():
            # One that had filled, or was refused, before the sweep says nothing of it: another is asked for.
            asked, unseen = samples[symbol], deque(rest)
            while unseen and not any(key in self.left for key in asked):
                lacking = SAMPLE - sum(key in self._withdrawn for key in asked)
                if lacking <= 0:
                    break
                more = [unseen.popleft() for _ in range(min(lacking, len(unseen)))]
                found += await self._look_up([self.left[key] for key in more])
                asked += more
            if any(key in self.left for key in asked):
                found += await self._look_up([self.left[key] for key in unseen])
            else:
                for key in unseen:
                    del self.left[key]
        self.doubt = self._doubt()
        return found

    def _taken(self, swept_ns: Mapping[str, int]) -> list[LiveOrder]:
        """Those that rested when a mass cancel was sent that the venue acknowledged: a thousand
        questions for what the next list is to show gone would cost more than the stop. Not those that
        were sent so shortly before it that it may have overtaken them."""
        account_ns = swept_ns.get("", 0)
        latency_ns = int(self.latency_s * 1e9)
        return [
            order
            for order in self.missing
            if order.sent is Sent.OPEN
            and order.sent_ns + latency_ns < max(account_ns, swept_ns.get(order.symbol, 0))
            and order.cl_ord_id not in self._hidden
        ]

    def _begin(self, reading: Reading) -> None:
        self._reading = reading
        self.damage, self.gap = reading.live.damage, reading.live.gap
        name = self.asking.venue.name
        for order in reading.live.orders:
            if order.venue == name and self.symbol in (None, order.symbol):
                self.left[order.cl_ord_id] = order
        self.named = tuple(
            order.cl_ord_id for order in self.left.values() if order.sent is not Sent.INTENDED
        )

    async def _look_up(self, orders: Sequence[LiveOrder]) -> list[VenueOrder]:
        """Those that are open; what the venue says of the others is noted. Raises GivenUpError."""
        can_ask = self.asking.venue.capabilities.lookup_by_cl_ord_id
        slots = asyncio.Semaphore(AT_ONCE)

        async def look(order: LiveOrder) -> VenueOrder | None:
            async with slots:
                asked_ns = time.monotonic_ns()
                try:
                    told = await self.asking.order(order) if can_ask else None
                except VenueError as error:
                    self._reasons[error.message] = None
                    return None
            self._note(order, told, asked_ns)
            return None if told is None or told.status.is_final else told

        told = await asyncio.gather(*(look(order) for order in orders))
        return [each for each in told if each is not None]

    def _note(self, order: LiveOrder, told: VenueOrder | None, asked_ns: int) -> None:
        key = order.cl_ord_id
        if told is None:
            if not self._may_land(order, asked_ns):
                del self.left[key]
                if order.sent is not Sent.INTENDED:
                    self.ended.append(key)
        elif told.status.is_final:
            del self.left[key]
            self.ended.append(key)
            if told.status is OrdStatus.CANCELED:
                self._withdrawn.add(key)
        else:
            self._hidden.add(key)

    def _may_land(self, order: LiveOrder, at_ns: int) -> bool:
        """Whether one that the venue does not know may be open there, then or later."""
        if self._has_rested(order):
            return True
        return order.sent is Sent.UNANSWERED and at_ns < self._lands_by_ns(order)

    def _has_rested(self, order: LiveOrder) -> bool:
        """By the venue's own word, to the engine or to this stop."""
        key = order.cl_ord_id
        return order.sent is Sent.OPEN or key in self._listed or key in self._hidden

    def _lands_by_ns(self, order: LiveOrder) -> int:
        assert self._reading is not None
        return lands_by_ns(order.sent_ns, self._reading.at_ns, self.window_s)

    def _doubt(self) -> str:
        hidden: list[LiveOrder] = []
        lost: list[LiveOrder] = []
        sent: list[LiveOrder] = []
        for order in self.missing:
            if order.cl_ord_id in self._hidden:
                hidden.append(order)
            else:
                (lost if self._has_rested(order) else sent).append(order)
        if not (hidden or lost or sent):
            return ""
        told = []
        if hidden:
            told.append(f"{_named(hidden)} open by their ClOrdIDs, and no list shows them")
        if lost:
            told.append(f"{_named(lost)} rested, are in no list, and their end is not proven")
        if sent:
            last_ns = max(map(self._lands_by_ns, sent))
            wait_s = max(0.0, (last_ns - time.monotonic_ns()) / 1e9)
            told.append(f"{_named(sent)} sent without an answer, may still land for {wait_s:.0f} s")
        if not self.asking.venue.capabilities.lookup_by_cl_ord_id:
            self._reasons["the venue cannot be asked for an order by its ClOrdID"] = None
        return "; ".join((*told, *self._reasons))


def _named(orders: Sequence[LiveOrder]) -> str:
    names = ", ".join(order.cl_ord_id for order in orders[:NAMED_MAX])
    rest = len(orders) - NAMED_MAX
    return f"{names} and {rest} more" if rest > 0 else names
