"""Kraken's executions channel: our orders' events, pushed.

One WebSocket to `/v2`, one subscription, one token for each connection. It counts as up when the
subscription was confirmed. An order's terms are told once, when it is new or in the snapshot at the
start; later events name little more than its identifier, so what was told is kept here. Messages
are numbered: one that is missing, one that cannot be read, one of an order that was never told,
and five seconds in which not even a heartbeat comes, all end the connection, and StreamDown says
why before a new one is tried.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from openbell.domain.orders import OrdStatus
from openbell.venues.kraken.executions import Execution, order_in, report_of
from openbell.venues.kraken.wire import SymbolOf
from openbell.venues.port import OrderReport, StreamEvent, StreamUp, VenueError, VenueOrder
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

HEARTBEAT_S = 10.0
"""Of the WebSocket itself: a ping after so much silence."""
SILENCE_MAX_S = 5.0
"""Kraken sends a heartbeat about every second to whoever subscribed (docs.kraken.com, "Spot
WebSocket v2: heartbeat")."""
BACKOFF = Backoff(first_s=0.25, max_s=15.0)
"""Each attempt takes a token, which counts on the call counter; and about 150 connections in ten
minutes make Kraken's front refuse an address."""


class _Message(msgspec.Struct, frozen=True):
    """An answer (`method`, `success`) or something of a channel."""

    method: str = ""
    success: bool | None = None
    error: str = ""
    channel: str = ""
    type: str = ""
    sequence: int | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Told:
    """Orders as the channel told them, until they end."""

    def __init__(self, symbol_of: SymbolOf) -> None:
        self._symbol_of = symbol_of
        self._orders: dict[str, VenueOrder] = {}
        self._strangers: set[str] = set()
        """Orders in symbols that the desk does not trade."""

    def take(self, execution: Execution) -> OrderReport | None:
        """Raises ValueError for an event of an order of which too little is known."""
        key = execution.order_id
        if key in self._strangers:
            return None
        try:
            order = order_in(execution, self._orders.get(key), self._symbol_of)
        except KeyError:
            self._strangers.add(key)
            return None
        if order.status.is_final:
            self._orders.pop(key, None)
        else:
            self._orders[key] = order
        # Until it is live it is nothing that rests, fills or can be cancelled.
        if order.status is OrdStatus.PENDING_NEW:
            return None
        return report_of(execution, order)


@dataclass(frozen=True)
class Executions:
    """Opens the channel, again and again."""

    transport: Transport
    url: str
    token: Callable[[], Awaitable[str]]
    """A fresh one, asked for at each connection. Raises VenueError."""
    symbol_of: SymbolOf
    timeout_s: float
    clean: Callable[[str], str]

    def events(self) -> AsyncIterator[StreamEvent]:
        """For ever: see `pushed_stream`."""
        return pushed_stream(self._connected, BACKOFF)

    async def _connected(self) -> Connection:
        async with subscribed(
            self.transport,
            self.url,
            self._subscribe,
            heartbeat_s=HEARTBEAT_S,
            timeout_s=self.timeout_s,
        ) as (socket, _):
            yield StreamUp()
            async with aclosing(self._reports(socket)) as reports:
                async for report in reports:
                    yield report

    async def _subscribe(self, socket: WebSocket) -> None:
        """Returns when the subscription was confirmed."""
        try:
            token = await self.token()
        except VenueError as error:
            raise LostError(f"no token: {error.message}") from error
        await socket.send_str(_subscription(token))
        while (message := read(content(await socket.receive()), _Message)).method != "subscribe":
            pass
        if not message.success:
            raise LostError(self.clean(f"subscription refused: {message.error}"))

    async def _reports(self, socket: WebSocket) -> AsyncGenerator[OrderReport, None]:
        told = _Told(self.symbol_of)
        last: int | None = None
        while True:
            message = await _next(socket)
            if message.channel != "executions":
                continue
            if message.sequence is not None:
                if last is not None and message.sequence <= last:
                    continue  # told before
                if last is not None and message.sequence != last + 1:
                    raise LostError(f"{message.sequence - last - 1} messages are missing")
                last = message.sequence
            for execution in read(message.data, list[Execution]):
                try:
                    report = told.take(execution)
                except ValueError as error:
                    raise LostError(f"an event that tells too little: {error}") from error
                # A snapshot repeats what asking tells, and is not news.
                if report is not None and message.type == "update":
                    yield report


def _subscription(token: str) -> str:
    params = {"channel": "executions", "token": token, "snap_orders": True, "snap_trades": False}
    return msgspec.json.encode({"method": "subscribe", "params": params, "req_id": 1}).decode()


async def _next(socket: WebSocket) -> _Message:
    try:
        message = await socket.receive(timeout=SILENCE_MAX_S)
    except TimeoutError:
        raise LostError(f"nothing heard for {SILENCE_MAX_S:g} s") from None
    return read(content(message), _Message)
