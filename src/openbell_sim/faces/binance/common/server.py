"""REST and WebSocket handlers of Binance's venues: from HTTP to operations and back."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import orjson
from aiohttp import WSMsgType, web

from openbell_sim.exchange import Exchange
from openbell_sim.faces.binance.common import errors, security
from openbell_sim.faces.binance.common.client import Client
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.faces.binance.common.hub import Hub
from openbell_sim.faces.binance.common.limits import Limits
from openbell_sim.faces.binance.common.operation import Call, Operation, Security
from openbell_sim.faces.binance.common.parameters import Parameters
from openbell_sim.faces.port import (
    ON_SOCKET,
    Answer,
    Asked,
    FaceOptions,
    RequestKind,
    Trouble,
)
from openbell_sim.keys import Credentials, KeyRing

_PING_S = 20.0
"""Binance pings every 20 s and disconnects who does not answer."""
_STREAM_NAME = re.compile(r"![a-zA-Z]+(@arr(@[a-z0-9]+)?)?|[a-z0-9_.-]+@[a-zA-Z0-9_@]+")
_API_KEY = "X-MBX-APIKEY"

Session = Callable[[Client, Parameters], object]
"""A call of the WebSocket API that concerns its own connection."""


@dataclass(frozen=True, kw_only=True)
class Sockets:
    """Where a venue has its WebSockets."""

    roots: Mapping[str, Callable[[str], bool]]
    """Prefixes of `/ws` and `/stream`, each with the streams that it carries (listen keys are told
    apart before): `{"/market": is_market_stream}`."""
    api: str
    """Path of the WebSocket API."""


class BinanceServer:
    """Base of the faces; a subclass says what it serves."""

    name: str

    def __init__(
        self,
        exchange: Exchange,
        keys: KeyRing,
        options: FaceOptions,
        *,
        hub: Hub,
        limits: Limits,
        operations: Mapping[str, Operation],
        routes: Mapping[tuple[str, str], str],
        sockets: Sockets,
    ) -> None:
        self.exchange = exchange
        self.hub = hub
        self.limits = limits
        self.replies: Counter[tuple[str, str, int]] = Counter()
        self.sessions: dict[str, Session] = {}
        self._keys = keys
        self._gate = options.gate
        self._meet = options.meet
        self._operations = operations
        self._routes = routes
        self._sockets = sockets
        self._calls: set[asyncio.Task[None]] = set()
        exchange.listeners.append(hub)

    def add_routes(self, app: web.Application) -> None:
        for method, path in self._routes:
            app.router.add_route(method, path, self._rest)
        for root in self._sockets.roots:
            for kind in ("ws", "stream"):
                app.router.add_get(f"{root}/{kind}", self._stream_socket)
                app.router.add_get(f"{root}/{kind}/{{streams:.+}}", self._stream_socket)
        app.router.add_get(self._sockets.api, self._api_socket)

    # REST

    async def _rest(self, request: web.Request) -> web.Response:
        """Counts the weight, runs the call, renders its result or error."""
        operation = self._operations[self._routes[request.method, request.path]]
        _, _, query = request.raw_path.partition("?")
        body = (await request.read()).decode(errors="replace")
        now_s = time.time()
        headers: dict[str, str] = {}
        try:
            p = Parameters(_pairs(body) | _pairs(query))
            headers |= self.limits.use(request.remote or "", operation.weight(p), now_s)
            result, more = self._carry_out(
                operation, request.headers.get(_API_KEY), security.signed_text(query, body), p
            )
            headers |= more
            status = 200
        except BinanceError as error:
            status, result = error.status, error.body()
            headers |= error.headers
        self.replies[request.method, request.path, status] += 1
        return web.Response(
            body=orjson.dumps(result),
            status=status,
            headers=headers,
            content_type="application/json",
        )

    def _carry_out(
        self, operation: Operation, key: str | None, text: str, p: Parameters
    ) -> tuple[object, dict[str, str]]:
        """The result of a call, and headers that tell what it used. Raises BinanceError."""
        received_ns = self.exchange.now_ns()
        if operation.public is not None:
            return operation.public(self.exchange, p), {}
        credentials = self._identify(operation, key, text, p)
        headers = {}
        if operation.orders is not None:
            headers = self.limits.count_orders(
                credentials.account, operation.orders(p), time.time()
            )
        assert operation.private is not None
        call = Call(
            self.exchange, credentials.account, p, received_ns, may_trade=credentials.may_trade
        )
        return operation.private(call), headers

    def _identify(
        self, operation: Operation, key: str | None, text: str, p: Parameters
    ) -> Credentials:
        credentials = security.identify(self._keys, key)
        if operation.security is Security.SIGNED:
            security.verify(credentials, text, p, self.exchange.now_ns() // 1_000_000)
        return credentials

    # WebSocket streams

    async def _stream_socket(self, request: web.Request) -> web.WebSocketResponse:
        root = next(
            root
            for root in sorted(self._sockets.roots, key=len, reverse=True)
            if request.path.startswith((f"{root}/ws", f"{root}/stream"))
        )
        carried = self._sockets.roots[root]
        combined = request.path.startswith(f"{root}/stream")
        named = request.match_info.get("streams", "").split("/")
        named += request.query.get("streams", "").split("/")
        named.append(request.query.get("listenKey", ""))
        return await self._serve_socket(
            request,
            Client(_socket(), self._gate, combined=combined),
            lambda client, text: self._on_stream_message(client, text, carried),
            [name for name in named if self._is_stream(name) and self._carries(carried, name)],
        )

    async def _serve_socket(
        self,
        request: web.Request,
        client: Client,
        handle: Callable[[Client, bytes], Awaitable[None]],
        streams: list[str],
    ) -> web.WebSocketResponse:
        socket = client.socket
        await socket.prepare(request)
        client.address = request.remote or ""
        self.hub.clients.add(client)
        self.hub.subscribe(client, streams)
        pump = asyncio.create_task(client.pump())
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await handle(client, message.data.encode())
        finally:
            self.hub.forget(client)
            pump.cancel()
        return socket

    def _is_stream(self, name: str) -> bool:
        """Clients put words of their own where names of streams stand (ccxt: `/ws/0`)."""
        return bool(_STREAM_NAME.fullmatch(name)) or name in self.hub.listen_keys

    def _carries(self, carried: Callable[[str], bool], name: str) -> bool:
        return name in self.hub.listen_keys or carried(name)

    async def _on_stream_message(
        self, client: Client, text: bytes, carried: Callable[[str], bool]
    ) -> None:
        request = _json_object(text)
        method, number = request.get("method"), request.get("id")
        names = _names(request.get("params"))
        if method == "LIST_SUBSCRIPTIONS":
            client.put(orjson.dumps({"result": sorted(client.streams), "id": number}))
        elif method not in ("SUBSCRIBE", "UNSUBSCRIBE") or not names:
            _refuse(client, number, "Invalid request: unknown method or parameters")
        elif not all(self._is_stream(name) for name in names):
            _refuse(client, number, "Invalid request: invalid stream")
        else:
            # The reply goes first: clients take what comes before it for stray messages.
            client.put(orjson.dumps({"result": None, "id": number}))
            change = self.hub.subscribe if method == "SUBSCRIBE" else self.hub.unsubscribe
            change(client, [name for name in names if self._carries(carried, name)])

    # WebSocket API

    async def _api_socket(self, request: web.Request) -> web.WebSocketResponse:
        return await self._serve_socket(
            request, Client(_socket(), self._gate), self._on_api_message, []
        )

    async def _on_api_message(self, client: Client, text: bytes) -> None:
        # A task of its own: a call that a fault holds up holds up no other, and is carried out
        # though its client has gone.
        task = asyncio.create_task(self._answer_api(client, _json_object(text)))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer_api(self, client: Client, request: Mapping[str, object]) -> None:
        async def carry_out() -> dict[str, object]:
            try:
                return {"status": 200, "result": self._run_api(client, request)}
            except BinanceError as error:
                return {"status": error.status, "error": error.body()}

        name, given = str(request.get("method")), request.get("params")
        credentials = self._keys.find(str(given.get("apiKey")) if isinstance(given, dict) else None)
        asked = Asked(
            kind=self.kind_of(ON_SOCKET, name),
            method=ON_SOCKET,
            path=name,
            account=None if credentials is None else credentials.account,
            said=(orjson.dumps(given),),
        )
        outcome = await self._meet(asked, carry_out)
        if outcome is None:
            await client.socket.close()
            return
        if isinstance(outcome, Answer):
            outcome = {"status": outcome.status, "error": outcome.body}
        client.put(orjson.dumps({"id": request.get("id"), **outcome}))

    def _run_api(self, client: Client, request: Mapping[str, object]) -> object:
        method, given = request.get("method"), request.get("params")
        p = Parameters({k: _text(v) for k, v in given.items()} if isinstance(given, dict) else {})
        if not isinstance(method, str):
            raise errors.missing("method")
        if method in self.sessions:
            self.limits.use(client.address, 2, time.time())
            return self.sessions[method](client, p)
        operation = self._operations.get(method)
        if operation is None:
            raise BinanceError(-1000, f"Unknown method '{method}'.")
        self.limits.use(client.address, operation.weight(p), time.time())
        key, text = p.text_or_none("apiKey"), security.sorted_text(p.values)
        result, _ = self._carry_out(operation, key, text, p)
        return result

    def identify_session(self, p: Parameters) -> str:
        """The account that signed a call of the WebSocket API. Raises BinanceError."""
        operation = Operation(lambda _: 0, security=Security.SIGNED)
        key, text = p.text_or_none("apiKey"), security.sorted_text(p.values)
        return self._identify(operation, key, text, p).account

    # For faults and metrics

    def kind_of(self, method: str, path: str) -> RequestKind:
        name = path if method == ON_SOCKET else self._routes.get((method, path))
        operation = self._operations.get(name) if name is not None else None
        return operation.kind if operation is not None else RequestKind.STREAM

    def trouble(self, trouble: Trouble, status: int) -> Answer:
        match trouble:
            case Trouble.CANCEL_REFUSED:
                error = errors.cancel_refused()
            case Trouble.BAD_NONCE:
                error = errors.late_timestamp()
            case Trouble.KEY_REVOKED:
                error = errors.bad_key()
            case Trouble.UNAVAILABLE | Trouble.THROTTLED:
                return Answer(status, errors.of_status(status))
        return Answer(error.status, error.body())

    async def run(self) -> None:
        await self.hub.run()

    def stream_counts(self) -> tuple[int, int]:
        return len(self.hub.clients), self.hub.sent

    async def disconnect(self) -> int:
        return await self.hub.disconnect()


def _socket() -> web.WebSocketResponse:
    return web.WebSocketResponse(heartbeat=_PING_S, compress=False)


def _pairs(text: str) -> dict[str, str]:
    return dict(parse_qsl(text, keep_blank_values=True))


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _json_object(text: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _refuse(client: Client, number: object, msg: str) -> None:
    client.put(orjson.dumps({"error": {"code": 2, "msg": msg}, "id": number}))
