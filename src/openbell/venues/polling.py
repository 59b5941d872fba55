"""Order events of a venue that pushes none: asked for again and again, and what changed is told.

A round asks for open orders, then for each symbol's executions, then by itself for every order of
which these two leave something open: one that is no longer listed, or was executed and not listed.
What is new in the answers is decided by `OrderWatch`, which asks nobody.

What polling cannot see: an order that came and went between two rounds without an execution. Nor
can it tell how an order ended that carries no ClOrdID, because the port has no other question about
one order; the last report of such an order says UNKNOWN.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Protocol

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID, OrdStatus
from openbell.venues.port import (
    Capabilities,
    Listing,
    OrderReport,
    StreamDown,
    StreamEvent,
    StreamUp,
    VenueError,
    VenueFill,
    VenueOrder,
    VenueThrottledError,
)

OVERLAP_NS = 300 * 1_000_000_000
"""Executions are asked from this long before the newest one known, and at the start before now:
trade lists lag, and clocks differ. Ours; venues that check time stamps refuse a fifth of it."""
ENDED_KEPT = 1000
"""Ended orders that are remembered, so that an execution listed late is told with its order."""
_ZERO = Decimal(0)


class Pollable(Protocol):
    """What is asked of an adapter; every `base.VenueBase` that implements the port is one."""

    @property
    def config(self) -> VenueConfig: ...
    @property
    def capabilities(self) -> Capabilities: ...
    async def server_time_ns(self) -> int: ...
    async def open_orders(self, symbols: Sequence[str] = ()) -> Listing: ...
    async def order(self, symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None: ...
    async def fills(
        self, symbol: str, *, since_ns: int = 0, venue_order_id: str = ""
    ) -> list[VenueFill]: ...


async def polled_stream(
    venue: Pollable, poll_every_s: float, nudge: asyncio.Event | None = None
) -> AsyncIterator[StreamEvent]:
    """`Venue.stream` of an adapter without order events. For ever. Whoever sets `nudge` has the next
    round begin at once.

    StreamUp follows the first round that was answered; what the venue held by then is not told.
    A round that fails is StreamDown (repeated only with another reason) and no loss: after the next
    StreamUp comes what changed meanwhile. When throttled, it waits as long as the venue says.
    """
    watch = OrderWatch(since_ns=await _now_ns(venue) - OVERLAP_NS)
    begun, up, told = False, False, ""
    while True:
        pause_s = poll_every_s
        try:
            listing, fills = await _lists(venue, watch)
            if begun:
                reports = watch.reports(await _cleared_up(venue, watch, listing, fills))
            else:
                reports, begun = [], True
                watch.begin(listing.orders, fills)
        except VenueError as error:
            if isinstance(error, VenueThrottledError):
                pause_s = max(pause_s, error.retry_after_s)
            up = False
            if error.message != told:
                told = error.message
                yield StreamDown(why=told)
        else:
            if not up:
                up, told = True, ""
                yield StreamUp()
            for report in reports:
                yield report
        if nudge is None or not up:
            await asyncio.sleep(pause_s)
            continue
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await nudge.wait()
        nudge.clear()


async def _now_ns(venue: Pollable) -> int:
    """By the venue's clock; by ours where it has none, or does not answer now."""
    if venue.capabilities.server_time:
        try:
            return await venue.server_time_ns()
        except VenueError:
            return time.time_ns()  # what is wrong with the venue the first round will tell
    return time.time_ns()


async def _lists(venue: Pollable, watch: OrderWatch) -> tuple[Listing, list[VenueFill]]:
    """Open orders, and executions since the last round. Raises VenueError."""
    listing = await venue.open_orders()
    fills: list[VenueFill] = []
    for symbol in venue.config.symbols:
        since_ns = watch.since_ns(symbol)
        listed = await venue.fills(symbol, since_ns=since_ns)
        fills += [fill for fill in listed if fill.venue_time_ns >= since_ns]
    return listing, fills


async def _cleared_up(
    venue: Pollable, watch: OrderWatch, listing: Listing, fills: list[VenueFill]
) -> Seen:
    """Asks for the orders that the lists leave unclear. Raises VenueError.

    This comes after the lists, so that an order told as ended comes with the executions that ended
    it.
    """
    orders = {order.venue_order_id: order for order in listing.orders}
    lost: list[str] = []
    for unclear in watch.unclear(listing, fills):
        found = await _found(venue, unclear)
        if found is None:
            lost.append(unclear.venue_order_id)
            continue
        orders[found.venue_order_id] = found
        if watch.lacks_fills(found, fills):
            fills = fills + await venue.fills(found.symbol, venue_order_id=found.venue_order_id)
    return Seen(orders=orders, fills=tuple(fills), lost=tuple(lost))


async def _found(venue: Pollable, unclear: Unclear) -> VenueOrder | None:
    """None where it cannot be asked for, is not known, or its ClOrdID leads to another order."""
    if not unclear.cl_ord_id:
        return None
    found = await venue.order(unclear.symbol, unclear.cl_ord_id)
    return found if found and found.venue_order_id == unclear.venue_order_id else None


class Unclear(msgspec.Struct, frozen=True, kw_only=True):
    """An order that the lists leave open."""

    symbol: str
    cl_ord_id: ClOrdID
    venue_order_id: str


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a round was told."""

    orders: Mapping[str, VenueOrder]
    """By venue order id: those listed, and those asked for by themselves."""
    fills: Sequence[VenueFill]
    """Of each order oldest first. Known ones are among them."""
    lost: Sequence[str] = ()
    """Venue order ids of which asking found nothing."""


class OrderWatch:
    """What has been told of a venue's orders, and what a round adds to it."""

    def __init__(self, *, since_ns: int) -> None:
        self._start_ns = since_ns
        self._newest_ns: dict[str, int] = {}
        self._exec_ids: defaultdict[str, dict[str, VenueFill]] = defaultdict(dict)
        """By symbol: told executions, as far back as they may be listed again."""
        self._told: dict[str, VenueOrder] = {}
        """By venue order id, in the order in which they were first seen."""
        self._executed: defaultdict[str, Decimal] = defaultdict(Decimal)
        """By venue order id: how much of it was told in executions, or before the first round."""

    def begin(self, orders: Iterable[VenueOrder], fills: Iterable[VenueFill]) -> None:
        """Takes what there is as told."""
        for order in orders:
            self._told[order.venue_order_id] = order
            self._executed[order.venue_order_id] = order.cum_qty
        self._note(fills)

    def since_ns(self, symbol: str) -> int:
        """From when on executions are to be asked for, by the venue's clock."""
        newest_ns = self._newest_ns.get(symbol)
        return self._start_ns if newest_ns is None else max(self._start_ns, newest_ns - OVERLAP_NS)

    def executed(self, venue_order_id: str) -> Decimal:
        """How much of an order was told in executions, or was executed before."""
        return self._executed[venue_order_id]

    def unclear(self, listing: Listing, fills: Iterable[VenueFill]) -> list[Unclear]:
        """Orders to ask for by themselves. An incomplete listing proves of none that it is gone."""
        listed = {order.venue_order_id: order for order in listing.orders}
        found: dict[str, Unclear] = {}
        if listing.complete:
            for order in self._told.values():
                if order.venue_order_id not in listed and not order.status.is_final:
                    found[order.venue_order_id] = _unclear(order)
        for venue_order_id, new in self._new(fills).items():
            known = listed.get(venue_order_id) or self._told.get(venue_order_id)
            if known is None:
                found[venue_order_id] = Unclear(
                    symbol=new[0].symbol,
                    cl_ord_id=new[0].cl_ord_id,
                    venue_order_id=venue_order_id,
                )
            elif known.cum_qty < self._executed[venue_order_id] + _sum(new):
                found[venue_order_id] = _unclear(known)
        return list(found.values())

    def lacks_fills(self, order: VenueOrder, fills: Iterable[VenueFill]) -> bool:
        """Whether an ended order was executed further than its executions tell."""
        new = self._new(fills).get(order.venue_order_id, [])
        told = self._executed[order.venue_order_id] + _sum(new)
        return order.status.is_final and told < order.cum_qty

    def reports(self, seen: Seen) -> list[OrderReport]:
        """What is new, and from now on is told."""
        new = self._new(seen.fills)
        reports: list[OrderReport] = []
        for venue_order_id, order in seen.orders.items():
            fills = new.pop(venue_order_id, [])
            if fills or self._is_news(order):
                reports += _reports_of(order, fills)
                self._told[venue_order_id] = order
            self._executed[venue_order_id] += _sum(fills)
        for venue_order_id, fills in new.items():
            if (told := self._told.get(venue_order_id)) is not None:
                reports += _reports_of(told, fills)
                self._executed[venue_order_id] += _sum(fills)
        for venue_order_id in seen.lost:
            if (told := self._told.pop(venue_order_id, None)) is not None:
                in_doubt = msgspec.structs.replace(told, status=OrdStatus.UNKNOWN)
                reports.append(OrderReport(order=in_doubt))
        self._note(seen.fills)
        self._forget_ended()
        return reports

    def _new(self, fills: Iterable[VenueFill]) -> dict[str, list[VenueFill]]:
        """Untold executions by venue order id."""
        new: dict[str, dict[str, VenueFill]] = {}
        for fill in fills:
            if fill.exec_id not in self._exec_ids[fill.symbol]:
                new.setdefault(fill.venue_order_id, {})[fill.exec_id] = fill
        return {venue_order_id: list(each.values()) for venue_order_id, each in new.items()}

    def _is_news(self, order: VenueOrder) -> bool:
        """Lists may lag behind what was told: an order neither reopens nor loses executions."""
        told = self._told.get(order.venue_order_id)
        if told is None:
            return True
        if told.status.is_final or order.cum_qty < told.cum_qty:
            return False
        return msgspec.structs.replace(order, updated_ns=told.updated_ns) != told

    def _note(self, fills: Iterable[VenueFill]) -> None:
        for fill in fills:
            if not fill.cl_ord_id and fill.venue_order_id not in self._told:
                continue  # whose it is may become known: a later round looks again
            newest_ns = self._newest_ns.get(fill.symbol, 0)
            self._newest_ns[fill.symbol] = max(newest_ns, fill.venue_time_ns)
            self._exec_ids[fill.symbol][fill.exec_id] = fill
        for symbol, known in self._exec_ids.items():
            since_ns = self.since_ns(symbol)
            old = [f for f in known.values() if f.venue_time_ns < since_ns and not self._open(f)]
            for fill in old:
                del known[fill.exec_id]

    def _open(self, fill: VenueFill) -> bool:
        """Whether the order may yet be asked for all of its executions."""
        order = self._told.get(fill.venue_order_id)
        return order is not None and not order.status.is_final

    def _forget_ended(self) -> None:
        ended = [key for key, order in self._told.items() if order.status.is_final]
        for venue_order_id in ended[: max(0, len(ended) - ENDED_KEPT)]:
            del self._told[venue_order_id]
            self._executed.pop(venue_order_id, None)


def _unclear(order: VenueOrder) -> Unclear:
    return Unclear(
        symbol=order.symbol, cl_ord_id=order.cl_ord_id, venue_order_id=order.venue_order_id
    )


def _reports_of(order: VenueOrder, fills: Sequence[VenueFill]) -> list[OrderReport]:
    """One per execution, each with the order as it was right after it; one without where there is
    none."""
    if not fills:
        return [OrderReport(order=order)]
    reports: list[OrderReport] = []
    for index, fill in enumerate(fills, 1):
        later = fills[index:]
        after = order
        if later:
            cum_qty = max(_ZERO, order.cum_qty - _sum(later))
            after = msgspec.structs.replace(
                order, status=OrdStatus.PARTIALLY_FILLED, cum_qty=cum_qty
            )
        reports.append(OrderReport(order=after, fill=fill))
    return reports


def _sum(fills: Iterable[VenueFill]) -> Decimal:
    return sum((fill.last_qty for fill in fills), _ZERO)
