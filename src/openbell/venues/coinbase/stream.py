"""Coinbase's user channel: our orders' events, pushed.

One WebSocket, subscribed to `user` and `heartbeats` (without these a quiet channel is closed after
a minute or so). It counts as up when the venue lists `user` among its subscriptions. All messages of
a connection are numbered together, so a lost one is noticed: it ends the connection, as a cut does,
and is told as StreamDown.

An event tells how far an order is, in sums, and not the single executions; nor, on every account,
its price, nor the size of one that has ended. So the rest is asked for over REST: an order once,
when it is first heard of, and executions when the executed quantity has grown.

ccxt.pro has this channel as well and is not used: of two events between two reads it keeps one, and
it does not say that it was away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from openbell.venues.coinbase import wire
from openbell.venues.polling import OrderWatch, Seen
from openbell.venues.port import (
    OrderReport,
    StreamEvent,
    StreamUp,
    VenueError,
    VenueFill,
    VenueOrder,
)
from openbell.venues.pushing import (
    Backoff,
    Connection,
    LostError,
    content,
    pushed_stream,
    read,
    subscribed,
)
from openbell.venues.transport import Transport, WebSocket

PING_AFTER_S = 10.0
"""Of silence; half of it more without a pong and the peer counts as dead."""
BACKOFF = Backoff(first_s=0.25, max_s=15.0)
"""Far inside the 8 connections per second and address of "WebSocket Rate Limits"."""
FACTS_KEPT = 10_000


@dataclass
class UserChannel:
    """Opens the channel, again and again."""

    transport: Transport
    url: str
    subscriptions: Callable[[], Sequence[dict[str, object]]]
    """The messages to send, signed; called at each connection, since they carry the time."""
    symbols: frozenset[str]
    """Unified; orders in others are not told."""
    order_of: Callable[[str], Awaitable[VenueOrder]]
    """Asks for an order by the venue's id. Raises VenueError."""
    fills_of: Callable[[VenueOrder], Awaitable[list[VenueFill]]]
    """Asks for all executions of an order. Raises VenueError."""
    timeout_s: float
    clean: Callable[[str], str]
    _watch: OrderWatch = field(default_factory=lambda: OrderWatch(since_ns=0))
    _known: dict[str, VenueOrder] = field(default_factory=dict)
    """By venue order id, as last told: size, price and type are taken from here."""
    _begun: bool = False
    _expected: int | None = None

    def events(self) -> AsyncIterator[StreamEvent]:
        """For ever: see `pushed_stream`."""
        return pushed_stream(self._connected, BACKOFF)

    async def _connected(self) -> Connection:
        self._expected = None
        async with subscribed(
            self.transport,
            self.url,
            self._subscribe,
            heartbeat_s=PING_AFTER_S,
            timeout_s=self.timeout_s,
        ) as (socket, snapshot):
            reports = await self._reports(snapshot)
            yield StreamUp()
            # The first time it is what there was before; later what was missed.
            for report in reports if self._begun else ():
                yield report
            self._begun = True
            while True:
                for report in await self._reports(_orders_in(await self._next(socket))):
                    yield report

    async def _subscribe(self, socket: WebSocket) -> list[wire.PushedOrder]:
        """Returns when the subscription was confirmed, with the orders told until then."""
        orders: list[wire.PushedOrder] = []
        for request in self.subscriptions():
            await socket.send_str(msgspec.json.encode(request).decode())
        while True:
            message = await self._next(socket)
            if message is None:
                continue
            if message.type == "error":
                raise LostError(self.clean(f"subscription refused: {message.message}"))
            orders += _orders_in(message)
            if "user" in _subscribed(message):
                return orders

    async def _next(self, socket: WebSocket) -> wire.Message | None:
        """None for a message that came before."""
        return self._numbered(read(content(await socket.receive()), wire.Message))

    def _numbered(self, message: wire.Message) -> wire.Message | None:
        """None for one that came before. A number left out is a message that was lost."""
        number = message.sequence_num
        if number is None:
            return message
        if self._expected is not None and number < self._expected:
            return None
        if self._expected is not None and number > self._expected:
            raise LostError(f"{number - self._expected} messages are missing")
        self._expected = number + 1
        return message

    async def _reports(self, pushed: Sequence[wire.PushedOrder]) -> list[OrderReport]:
        reports: list[OrderReport] = []
        for each in pushed:
            if wire.unified(each.product_id) in self.symbols:
                reports += await self._reports_of(each)
        return reports

    async def _reports_of(self, pushed: wire.PushedOrder) -> list[OrderReport]:
        try:
            order = await self._order(pushed)
        except ValueError as error:
            raise LostError(f"an unreadable order: {error}") from error
        except VenueError as error:
            # What it said is lost, so it is a gap like any other.
            raise LostError(f"an order could not be asked for: {error.message}") from error
        fills: list[VenueFill] = []
        if self._watch.executed(order.venue_order_id) < order.cum_qty:
            with suppress(VenueError):  # whoever hears the report sees that executions are missing
                fills = await self.fills_of(order)
        if not self._begun:
            self._watch.begin([order], fills)
            return [OrderReport(order=order)]
        return self._watch.reports(Seen(orders={order.venue_order_id: order}, fills=fills))

    async def _order(self, pushed: wire.PushedOrder) -> VenueOrder:
        """The order as pushed; its size, price and type as known, or as asked for."""
        known = self._known.get(pushed.order_id)
        if known is None or pushed.differs_from(known):
            known = await self.order_of(pushed.order_id)
        filled = max(pushed.filled, known.cum_qty)
        status = wire.status(pushed.status, filled)
        if known.status.is_final and not status.is_final:
            status = known.status  # the answer was newer than the event
        order = msgspec.structs.replace(known, status=status, cum_qty=filled)
        self._known[pushed.order_id] = order
        if len(self._known) > FACTS_KEPT:
            ended = (key for key, each in self._known.items() if each.status.is_final)
            del self._known[next(ended, next(iter(self._known)))]
        return order


def _subscribed(message: wire.Message) -> set[str]:
    if message.channel != "subscriptions":
        return set()
    return {name for event in _events(message) for name in event.subscriptions}


def _orders_in(message: wire.Message | None) -> list[wire.PushedOrder]:
    if message is None or message.channel != "user":
        return []
    return [order for event in _events(message) for order in event.orders]


def _events(message: wire.Message) -> list[wire.Event]:
    return read(message.events, list[wire.Event])
