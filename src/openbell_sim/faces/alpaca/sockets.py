"""What clients of the streams say, and what is answered."""

from __future__ import annotations

from aiohttp import web

from openbell_sim.faces.alpaca.streams import (
    BINARY_JSON,
    CHANNELS,
    JSON,
    MSGPACK,
    Client,
    DataClient,
    Hub,
    TradingClient,
)
from openbell_sim.keys import Credentials, KeyRing
from openbell_sim.outbox import Gate

FEEDS = ("iex", "sip", "delayed_sip")
_PING_S = 10.0

# Errors of the market data stream: "WebSocket Stream", Errors.
_INVALID_SYNTAX = (400, "invalid syntax")
_NOT_AUTHENTICATED = (401, "not authenticated")
_AUTH_FAILED = (402, "auth failed")
_ALREADY_AUTHENTICATED = (403, "already authenticated")
_TOO_MANY_CONNECTIONS = (406, "connection limit exceeded")
_INVALID_ACTION = (410, "invalid subscribe action for this feed")


class Sockets:
    """`one_each`: an account may have one market data connection per feed, as with most of
    Alpaca's subscriptions."""

    def __init__(self, hub: Hub, keys: KeyRing, gate: Gate, *, one_each: bool) -> None:
        self._hub = hub
        self._keys = keys
        self._gate = gate
        self._one_each = one_each

    def _known(self, key: object, secret: object) -> Credentials | None:
        credentials = self._keys.find(key if isinstance(key, str) else None)
        return credentials if credentials is not None and credentials.secret == secret else None

    # Trade updates

    async def serve_trading(self, request: web.Request) -> web.WebSocketResponse:
        client = TradingClient(_socket(), BINARY_JSON, self._gate)
        await client.socket.prepare(request)
        self._hub.trading.add(client)
        async with client.pumping():
            try:
                async for message in client.socket:
                    if isinstance(message.data, str | bytes):
                        self._on_trading_message(client, client.read(message.data) or {})
            finally:
                self._hub.trading.discard(client)
        return client.socket

    def _on_trading_message(self, client: TradingClient, message: dict[str, object]) -> None:
        """Both forms of authentication are taken: alpaca-py's, and the documentation's newer
        `{"action": "auth", "key": ..., "secret": ...}`."""
        action, data = message.get("action"), message.get("data")
        words: dict[str, object] = data if isinstance(data, dict) else {}
        if action in ("authenticate", "auth"):
            credentials = self._known(
                words.get("key_id", message.get("key")),
                words.get("secret_key", message.get("secret")),
            )
            client.account = None if credentials is None else credentials.account
            status = "unauthorized" if credentials is None else "authorized"
            client.answer(
                {"stream": "authorization", "data": {"action": "authenticate", "status": status}}
            )
        elif action == "listen" and client.account is not None:
            streams = words.get("streams")
            client.listens = isinstance(streams, list) and "trade_updates" in streams
            granted = ["trade_updates"] if client.listens else []
            client.answer({"stream": "listening", "data": {"streams": granted}})
        elif action == "listen":
            client.answer(
                {"stream": "authorization", "data": {"action": "listen", "status": "unauthorized"}}
            )

    # Market data

    async def serve_data(self, request: web.Request) -> web.WebSocketResponse:
        packed = request.headers.get("Content-Type") == "application/msgpack"
        codec = MSGPACK if packed else JSON
        client = DataClient(_socket(), codec, self._gate, request.match_info["feed"])
        await client.socket.prepare(request)
        client.answer([{"T": "success", "msg": "connected"}])
        self._hub.data.add(client)
        async with client.pumping():
            try:
                if "APCA-API-KEY-ID" in request.headers:
                    headers = request.headers
                    self._authenticate(
                        client,
                        headers.get("APCA-API-KEY-ID"),
                        headers.get("APCA-API-SECRET-KEY"),
                    )
                async for message in client.socket:
                    if isinstance(message.data, str | bytes):
                        self._on_data_message(client, client.read(message.data))
            finally:
                self._hub.data.discard(client)
        return client.socket

    def _on_data_message(self, client: DataClient, message: dict[str, object] | None) -> None:
        if message is None:
            _refuse(client, _INVALID_SYNTAX)
            return
        action = message.get("action")
        if action == "auth":
            self._authenticate(client, message.get("key"), message.get("secret"))
        elif client.account is None:
            _refuse(client, _NOT_AUTHENTICATED)
        elif action in ("subscribe", "unsubscribe"):
            for channel in CHANNELS:
                names = message.get(channel, [])
                if not isinstance(names, list):
                    _refuse(client, _INVALID_SYNTAX)
                    return
                chosen = {name for name in names if isinstance(name, str)}
                if action == "subscribe":
                    client.symbols[channel] |= chosen
                else:
                    client.symbols[channel] -= chosen
            subscribed = {channel: sorted(client.symbols[channel]) for channel in CHANNELS}
            client.answer([{"T": "subscription", **subscribed}])
        else:
            _refuse(client, _INVALID_ACTION)

    def _authenticate(self, client: DataClient, key: object, secret: object) -> None:
        if client.account is not None:
            _refuse(client, _ALREADY_AUTHENTICATED)
            return
        credentials = self._known(key, secret)
        if credentials is None:
            _refuse(client, _AUTH_FAILED)
            return
        taken = any(
            other.account == credentials.account and other.feed == client.feed
            for other in self._hub.data
        )
        if taken and self._one_each:
            _refuse(client, _TOO_MANY_CONNECTIONS)
            return
        client.account = credentials.account
        client.answer([{"T": "success", "msg": "authenticated"}])


def _socket() -> web.WebSocketResponse:
    return web.WebSocketResponse(heartbeat=_PING_S, compress=False)


def _refuse(client: Client, error: tuple[int, str]) -> None:
    code, text = error
    client.answer([{"T": "error", "code": code, "msg": text}])
