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

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
import msgspec

from openbell.venues.coinbase import wire
from openbell.venues.polling import OrderWatch, Seen
from openbell.venues.port import (
    OrderReport,
    StreamDown,
    StreamEvent,
    StreamUp,
    VenueError,
    VenueFill,
    VenueOrder,
)
from openbell.venues.transport import NotSentError, Transport, WebSocket

PING_AFTER_S = 10.0
"""Of silence; half of it more without a pong and the peer counts as dead."""
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 15.0
"""Far inside the 8 connections per second and address of "WebSocket Rate Limits"."""
SETTLED_AFTER_S = 30.0
"""A connection that lived so long starts the back-off anew; one that flaps does not."""
FACTS_KEPT = 10_000

T = TypeVar("T")


class _LostError(Exception):
    """The stream cannot go on; the text says why, without secrets."""


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

    async def events(self) -> AsyncIterator[StreamEvent]:
        """For ever. StreamDown is repeated while connecting fails for another reason than before."""
        loop = asyncio.get_running_loop()
        waits = _backoff()
        told = ""
        while True:
            up_since_s: float | None = None
            try:
                async with asyncio.timeout(self.timeout_s):
                    socket, snapshot = await self._subscribe()
                try:
                    reports = await self._reports(snapshot)
                    up_since_s = loop.time()
                    told = ""
                    yield StreamUp()
                    # The first time it is what there was before; later what was missed.
                    for report in reports if self._begun else ():
                        yield report
                    self._begun = True
                    while True:
                        message = self._numbered(_decode(await socket.receive()))
                        for report in await self._reports(_orders_in(message)):
                            yield report
                finally:
                    await socket.close()
            except _LostError as lost:
                why = str(lost)
            except TimeoutError:
                why = f"not subscribed within {self.timeout_s:g} s"
            if why != told:
                told = why
                yield StreamDown(why=why)
            if up_since_s is not None and loop.time() - up_since_s >= SETTLED_AFTER_S:
                waits = _backoff()
            await asyncio.sleep(next(waits))

    async def _subscribe(self) -> tuple[WebSocket, list[wire.PushedOrder]]:
        """A socket whose subscription was confirmed, and the orders told until then."""
        self._expected = None
        try:
            socket = await self.transport.open_websocket(self.url, heartbeat_s=PING_AFTER_S)
        except NotSentError as error:
            raise _LostError(str(error)) from error
        orders: list[wire.PushedOrder] = []
        try:
            for request in self.subscriptions():
                await socket.send_str(msgspec.json.encode(request).decode())
            while True:
                message = self._numbered(_decode(await socket.receive()))
                if message is None:
                    continue
                if message.type == "error":
                    raise _LostError(self.clean(f"subscription refused: {message.message}"))
                orders += _orders_in(message)
                if "user" in _subscribed(message):
                    return socket, orders
        except BaseException as error:
            await socket.close()
            if isinstance(error, aiohttp.ClientError | ConnectionError):
                raise _LostError(f"connection lost ({type(error).__name__})") from error
            raise

    def _numbered(self, message: wire.Message) -> wire.Message | None:
        """None for one that came before. A number left out is a message that was lost."""
        number = message.sequence_num
        if number is None:
            return message
        if self._expected is not None and number < self._expected:
            return None
        if self._expected is not None and number > self._expected:
            raise _LostError(f"{number - self._expected} messages are missing")
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
            raise _LostError(f"an unreadable order: {error}") from error
        except VenueError as error:
            # What it said is lost, so it is a gap like any other.
            raise _LostError(f"an order could not be asked for: {error.message}") from error
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
    return _read(message.events, list[wire.Event])


def _decode(message: aiohttp.WSMessage) -> wire.Message:
    if message.type is not aiohttp.WSMsgType.TEXT:
        reason = f"code {message.data}" if message.type is aiohttp.WSMsgType.CLOSE else "no close"
        raise _LostError(f"connection closed ({reason})")
    return _read(message.data, wire.Message)


def _read(data: str | msgspec.Raw, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        # What it said is lost, so it is a gap like any other.
        raise _LostError(f"an unreadable message: {error}") from error


def _backoff() -> Iterator[float]:
    wait_s = BACKOFF_FIRST_S
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, BACKOFF_MAX_S)
