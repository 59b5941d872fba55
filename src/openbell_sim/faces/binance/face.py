"""REST and WebSocket handlers: from HTTP to operations and back."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

import orjson
from aiohttp import WSMsgType, web

from openbell_sim.exchange import Exchange
from openbell_sim.faces.binance import errors, security
from openbell_sim.faces.binance.client import Client
from openbell_sim.faces.binance.errors import BinanceError
from openbell_sim.faces.binance.hub import Hub
from openbell_sim.faces.binance.operations import ROUTES, Operation, Security, operations
from openbell_sim.faces.binance.parameters import Parameters
from openbell_sim.faces.binance.trading import Call
from openbell_sim.faces.binance.weights import WEIGHT_PER_MINUTE, Weights
from openbell_sim.faces.port import (
    ON_SOCKET,
    Answer,
    Asked,
    FaceOptions,
    RequestKind,
    Trouble,
)
from openbell_sim.keys import KeyRing

_PING_S = 20.0
"""Binance pings every 20 s and disconnects who does not answer."""
_STREAM_NAME = re.compile(r"[a-z0-9_.!-]+@[a-zA-Z0-9_@]+")


class BinanceFace:
    name = "binance"

    def __init__(self, exchange: Exchange, keys: KeyRing, options: FaceOptions) -> None:
        weight_limit = options.weight_limit or int(WEIGHT_PER_MINUTE * options.limit_scale)
        self.exchange = exchange
        self.hub = Hub(exchange)
        self.weights = Weights(weight_limit)
        self.replies: dict[tuple[str, str, int], int] = {}
        self._keys = keys
        self._gate = options.gate
        self._meet = options.meet
        self._calls: set[asyncio.Task[None]] = set()
        self._operations = operations(weight_limit)
        self._methods: dict[str, Callable[[Client, Parameters], object]] = {
            "userDataStream.subscribe.signature": self._subscribe_user_data,
            "userDataStream.unsubscribe": self._unsubscribe_user_data,
        }
        exchange.listeners.append(self.hub)

    def add_routes(self, app: web.Application) -> None:
        for method, path in ROUTES:
            app.router.add_route(method, path, self._rest)
        for method in ("POST", "PUT", "DELETE"):
            app.router.add_route(method, "/api/v3/userDataStream", self._listen_key)
        app.router.add_get("/ws", self._stream_socket)
        app.router.add_get("/ws/{streams:.+}", self._stream_socket)
        app.router.add_get("/stream", self._stream_socket)
        app.router.add_get("/stream/{streams:.+}", self._stream_socket)
        app.router.add_get("/ws-api/v3", self._api_socket)

    # REST

    async def _rest(self, request: web.Request) -> web.Response:
        operation = self._operations[ROUTES[request.method, request.path]]
        return await self._reply(
            request,
            operation,
            lambda query, body, p: self._run_rest(request, operation, query, body, p),
        )

    def _run_rest(
        self, request: web.Request, operation: Operation, query: str, body: str, p: Parameters
    ) -> object:
        received_ns = self.exchange.now_ns()
        if operation.public is not None:
            return operation.public(self.exchange, p)
        account = self._identify(
            request.headers.get("X-MBX-APIKEY"), security.signed_text(query, body), p, operation
        )
        assert operation.private is not None
        return operation.private(Call(self.exchange, account, p, received_ns))

    def _identify(self, key: str | None, text: str, p: Parameters, operation: Operation) -> str:
        credentials = security.identify(self._keys, key)
        if operation.security is Security.SIGNED:
            security.verify(credentials, text, p, self.exchange.now_ns() // 1_000_000)
        return credentials.account

    async def _listen_key(self, request: web.Request) -> web.Response:
        def run(query: str, body: str, p: Parameters) -> object:
            key = request.headers.get("X-MBX-APIKEY")
            account = security.identify(self._keys, key).account
            if request.method == "POST":
                return {"listenKey": self.hub.new_listen_key(account)}
            listen_key = p.text("listenKey")
            if request.method == "DELETE":
                known = self.hub.drop_listen_key(listen_key)
            else:
                known = self.hub.has_listen_key(listen_key)
            if not known:
                raise BinanceError(-1125, "This listenKey does not exist.")
            return {}

        return await self._reply(request, Operation(lambda _: 2), run)

    async def _reply(
        self,
        request: web.Request,
        operation: Operation,
        run: Callable[[str, str, Parameters], object],
    ) -> web.Response:
        """Counts the weight, runs the call, renders its result or error."""
        _, _, query = request.raw_path.partition("?")
        body = (await request.read()).decode(errors="replace")
        now_s = time.time()
        try:
            p = Parameters(_pairs(query) | _pairs(body))
            used = self.weights.use(request.remote or "", operation.weight(p), now_s)
            headers = {"X-MBX-USED-WEIGHT": str(used), "X-MBX-USED-WEIGHT-1M": str(used)}
            if used > self.weights.limit:
                headers["Retry-After"] = str(self.weights.retry_after_s(now_s))
                raise errors.too_much_weight(self.weights.limit)
            if operation.places_order:
                who = request.headers.get("X-MBX-APIKEY", "")
                in_10_s, today = self.weights.count_order(who, now_s)
                headers["X-MBX-ORDER-COUNT-10S"] = str(in_10_s)
                headers["X-MBX-ORDER-COUNT-1D"] = str(today)
            status, result = 200, run(query, body, p)
        except BinanceError as error:
            status, result = error.status, error.body()
        counted = (request.method, request.path, status)
        self.replies[counted] = self.replies.get(counted, 0) + 1
        return web.Response(
            body=orjson.dumps(result),
            status=status,
            headers=headers,
            content_type="application/json",
        )

    # WebSocket streams

    async def _stream_socket(self, request: web.Request) -> web.WebSocketResponse:
        named = request.match_info.get("streams", "").split("/")
        combined = request.path.startswith("/stream")
        if combined:
            named += request.query.get("streams", "").split("/")
        return await self._serve_socket(
            request,
            Client(_socket(), self._gate, combined=combined),
            self._on_stream_message,
            named,
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
        self.hub.clients.add(client)
        self.hub.subscribe(client, [name for name in streams if self._is_stream(name)])
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
        return bool(_STREAM_NAME.fullmatch(name)) or self.hub.has_listen_key(name)

    async def _on_stream_message(self, client: Client, text: bytes) -> None:
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
            change(client, names)

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
        if method in self._methods:
            return self._methods[method](client, p)
        operation = self._operations.get(method)
        if operation is None:
            raise BinanceError(-1000, f"Unknown method '{method}'.")
        if operation.public is not None:
            return operation.public(self.exchange, p)
        received_ns = self.exchange.now_ns()
        account = self._identify_api(p, operation)
        assert operation.private is not None
        return operation.private(Call(self.exchange, account, p, received_ns))

    def _identify_api(self, p: Parameters, operation: Operation) -> str:
        key = p.text_or_none("apiKey")
        return self._identify(key, security.sorted_text(p.values), p, operation)

    def _subscribe_user_data(self, client: Client, p: Parameters) -> object:
        operation = Operation(lambda _: 2, security=Security.SIGNED)
        account = self._identify_api(p, operation)
        return {"subscriptionId": self.hub.subscribe_account(client, account)}

    def _unsubscribe_user_data(self, client: Client, p: Parameters) -> object:
        self.hub.unsubscribe_account(client, p.integer_or_none("subscriptionId"))
        return {}

    # For faults and metrics

    def kind_of(self, method: str, path: str) -> RequestKind:
        name = path if method == ON_SOCKET else ROUTES.get((method, path))
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
