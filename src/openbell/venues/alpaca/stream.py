"""Alpaca's `trade_updates`: our orders' events, pushed.

One WebSocket, one message that says who we are and one that says what we listen to. It counts as
up when the venue has confirmed that it is `trade_updates` that is listened to, and not when the
socket is open. What was missed while it was away Alpaca does not send again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import msgspec

from openbell.venues.alpaca.wire import SymbolOf, TradeUpdate
from openbell.venues.credentials import Credentials
from openbell.venues.port import OrderReport, StreamEvent, StreamUp
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

STREAM = "trade_updates"
PING_AFTER_S = 10.0
"""Of silence; half of it more without a pong and the peer counts as dead. Ours: Alpaca states no
interval, and its own client pings every 10 s."""
BACKOFF = Backoff(first_s=0.5, max_s=30.0)
"""Ours; Alpaca's client goes from 1 s to 30 s."""


class _Message(msgspec.Struct, frozen=True):
    stream: str
    data: msgspec.Raw


class _Authorization(msgspec.Struct, frozen=True):
    status: str


class _Listening(msgspec.Struct, frozen=True):
    streams: list[str]


@dataclass(frozen=True)
class TradeUpdates:
    """Opens the stream, again and again."""

    transport: Transport
    url: str
    credentials: Credentials
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
            self._listen,
            heartbeat_s=PING_AFTER_S,
            timeout_s=self.timeout_s,
        ) as (socket, _):
            yield StreamUp()
            while True:
                report = self._report_in(await _next(socket))
                if report is not None:
                    yield report

    async def _listen(self, socket: WebSocket) -> None:
        """Returns when the venue has confirmed what it will send."""
        await socket.send_str(
            _request(
                "authenticate",
                key_id=self.credentials.key,
                secret_key=self.credentials.secret,
            )
        )
        told = read((await _next(socket)).data, _Authorization)
        if told.status != "authorized":
            raise LostError(self.clean(f"authentication refused: {told.status}"))
        await socket.send_str(_request("listen", streams=[STREAM]))
        while (message := await _next(socket)).stream != "listening":
            if message.stream == "authorization":
                raise LostError("listening refused")
        if STREAM not in read(message.data, _Listening).streams:
            raise LostError(f"{STREAM} is not available")

    def _report_in(self, message: _Message) -> OrderReport | None:
        if message.stream != STREAM:
            return None
        update = read(message.data, TradeUpdate)
        try:
            return update.to_port(self.symbol_of)
        except KeyError:
            return None  # the account's, in a symbol that the desk does not trade
        except ValueError as error:
            raise LostError(f"an unreadable TradeUpdate: {error}") from error


def _request(action: str, **data: object) -> str:
    return msgspec.json.encode({"action": action, "data": data}).decode()


async def _next(socket: WebSocket) -> _Message:
    return read(content(await socket.receive()), _Message)
