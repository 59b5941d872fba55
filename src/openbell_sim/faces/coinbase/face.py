"""REST and WebSocket handlers: from HTTP to operations and back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import orjson
from aiohttp import WSMsgType, web
from multidict import MultiDict

from openbell_sim.exchange import Exchange
from openbell_sim.faces.coinbase import accounts, errors, market_data, orders, security
from openbell_sim.faces.coinbase.call import Call
from openbell_sim.faces.coinbase.client import Client
from openbell_sim.faces.coinbase.errors import CoinbaseError, Json
from openbell_sim.faces.coinbase.hub import MESSAGE_CHANNELS, Hub
from openbell_sim.faces.coinbase.limits import PerSecond
from openbell_sim.faces.port import (
    ON_SOCKET,
    Answer,
    Asked,
    FaceOptions,
    RequestKind,
    Trouble,
)
from openbell_sim.keys import Credentials, KeyRing

SUBSCRIBE_WITHIN_S = 5.0
"""Who subscribes to nothing for so long is disconnected ("WebSocket Overview")."""


class Access(Enum):
    PUBLIC = auto()
    PRIVATE = auto()


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    """As aiohttp routes it; `{name}` is an identifier."""
    run: Callable[[Call], Json]
    kind: RequestKind
    access: Access = Access.PRIVATE


def _operations() -> list[Operation]:
    v3, market = "/api/v3/brokerage", "/api/v3/brokerage/market"
    public, data = Access.PUBLIC, RequestKind.MARKET_DATA
    listed = [
        Operation("GET", "/v2/time", market_data.v2_time, data, public),
        Operation("GET", f"{v3}/time", market_data.v3_time, data, public),
        Operation("GET", "/v2/currencies", market_data.currencies, data, public),
        Operation("GET", "/v2/currencies/crypto", market_data.crypto_currencies, data, public),
        Operation("GET", "/v2/exchange-rates", market_data.exchange_rates, data, public),
        Operation("GET", f"{v3}/best_bid_ask", market_data.best_bid_ask, data),
        Operation("POST", f"{v3}/orders", orders.place, RequestKind.SUBMIT),
        Operation("POST", f"{v3}/orders/preview", orders.preview, RequestKind.OTHER),
        Operation("POST", f"{v3}/orders/edit", orders.edit, RequestKind.AMEND),
        Operation("POST", f"{v3}/orders/batch_cancel", orders.batch_cancel, RequestKind.CANCEL),
        Operation("GET", f"{v3}/orders/historical/batch", orders.batch, RequestKind.OPEN_ORDERS),
        Operation("GET", f"{v3}/orders/historical/fills", orders.fills, RequestKind.FILLS),
        Operation("GET", f"{v3}/orders/historical/{{name}}", orders.get, RequestKind.ORDER),
        Operation("GET", f"{v3}/accounts", accounts.accounts, RequestKind.ACCOUNT),
        Operation("GET", f"{v3}/accounts/{{name}}", accounts.account, RequestKind.ACCOUNT),
        Operation("GET", "/v2/accounts", accounts.wallets, RequestKind.ACCOUNT),
        Operation("GET", f"{v3}/key_permissions", accounts.key_permissions, RequestKind.ACCOUNT),
        Operation("GET", f"{v3}/portfolios", accounts.portfolios, RequestKind.ACCOUNT),
        Operation("GET", f"{v3}/cfm/positions", accounts.no_positions, RequestKind.POSITIONS),
        Operation(
            "GET", f"{v3}/transaction_summary", accounts.transaction_summary, RequestKind.ACCOUNT
        ),
    ]
    for prefix, access in ((market, public), (v3, Access.PRIVATE)):
        product = f"{prefix}/products/{{name}}"
        listed += [
            Operation("GET", f"{prefix}/product_book", market_data.product_book, data, access),
            Operation("GET", f"{prefix}/products", market_data.products, data, access),
            Operation("GET", product, market_data.product, data, access),
            Operation("GET", f"{product}/candles", market_data.candles, data, access),
            Operation("GET", f"{product}/ticker", market_data.ticker, data, access),
        ]
    return listed


class CoinbaseFace:
    name = "coinbase"

    def __init__(self, exchange: Exchange, keys: KeyRing, options: FaceOptions) -> None:
        self.exchange = exchange
        self.hub = Hub(exchange)
        self.replies: Counter[tuple[str, str, int]] = Counter()
        self._keys = keys
        self._gate = options.gate
        self._meet = options.meet
        self._limits = PerSecond(options.limit_scale)
        self._operations = _operations()
        self._calls: set[asyncio.Task[None]] = set()
        exchange.listeners.append(self.hub)

    def add_routes(self, app: web.Application) -> None:
        for operation in self._operations:
            app.router.add_route(operation.method, operation.path, self._handler(operation))
        app.router.add_get("/", self._socket)

    # REST

    def _handler(
        self, operation: Operation
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.Response:
            body = (await request.read()).decode(errors="replace")
            try:
                status, result = 200, self._run(request, operation, body)
            except CoinbaseError as error:
                status, result = error.status, error.body
            self.replies[request.method, operation.path, status] += 1
            return _response(status, result)

        return handle

    def _run(self, request: web.Request, operation: Operation, body: str) -> object:
        received_ns = self.exchange.now_ns()
        caller: Credentials | None = None
        private = operation.access is Access.PRIVATE
        if private:
            _, _, query = request.raw_path.partition("?")
            signed = security.Signed(request.method, request.path, query, body)
            now_s = received_ns / 1e9
            caller = security.identify(self._keys, request.headers, signed, now_s)
        who = caller.account if caller is not None else request.remote or ""
        if not self._limits.allows(who, time.monotonic(), private=private):
            raise errors.rate_limited()
        return operation.run(
            Call(
                exchange=self.exchange,
                caller=caller,
                query=MultiDict(request.query),
                body=_json_object(body),
                name=request.match_info.get("name", ""),
                received_ns=received_ns,
            )
        )

    # WebSocket

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False)
        if not socket.can_prepare(request).ok:
            return web.Response(status=404)
        await socket.prepare(request)
        client = Client(socket, self._gate)
        self.hub.clients.add(client)
        pump = asyncio.create_task(client.pump())
        patience = asyncio.get_running_loop().call_later(
            SUBSCRIBE_WITHIN_S, lambda: self._spawn(_close_idle(client))
        )
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._spawn(self._answer(client, _json_object(message.data)))
        finally:
            patience.cancel()
            self.hub.forget(client)
            pump.cancel()
        return socket

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        """A task of its own: a call that a fault holds up holds up no other."""
        task = asyncio.get_running_loop().create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, client: Client, message: Mapping[str, object]) -> None:
        async def carry_out() -> str:
            return self._subscription(client, message)

        channel = str(message.get("channel") or "")
        key = message.get("api_key")
        credentials = self._keys.find(key if isinstance(key, str) else None)
        asked = Asked(
            kind=RequestKind.STREAM,
            method=ON_SOCKET,
            path=f"{message.get('type')} {channel}",
            account=None if credentials is None else credentials.account,
        )
        outcome = await self._meet(asked, carry_out)
        if outcome is None:
            await client.socket.close()
            return
        if isinstance(outcome, Answer):
            outcome = f"status {outcome.status}"
        if outcome:
            client.put(orjson.dumps({"type": "error", "message": outcome}))

    def _subscription(self, client: Client, message: Mapping[str, object]) -> str:
        """Subscribes or unsubscribes; what is wrong with the message, empty for nothing."""
        channel, given = message.get("channel"), message.get("product_ids")
        products = [str(name) for name in given] if isinstance(given, list) else []
        if not isinstance(channel, str) or channel not in MESSAGE_CHANNELS:
            return f"unknown channel {channel}"
        unknown = [name for name in products if name not in self.exchange.markets]
        if unknown and channel != "heartbeats":
            return f"{unknown[0]} is not a valid product"
        match message.get("type"):
            case "subscribe":
                if channel == "user":
                    try:
                        client.account = security.identify_subscription(
                            self._keys, message, channel, products, self.exchange.now_ns() / 1e9
                        ).account
                    except CoinbaseError:
                        return "authentication failure"
                self.hub.subscribe(client, channel, products)
            case "unsubscribe":
                self.hub.unsubscribe(client, channel, products)
            case other:
                return f"unknown type {other}"
        return ""

    # For faults and metrics

    def kind_of(self, method: str, path: str) -> RequestKind:
        if method == ON_SOCKET:
            return RequestKind.STREAM
        best = next((each for each in self._operations if _fits(each, method, path)), None)
        return best.kind if best is not None else RequestKind.STREAM

    def trouble(self, trouble: Trouble, status: int) -> Answer:
        match trouble:
            case Trouble.CANCEL_REFUSED:
                refused = {
                    "success": False,
                    "failure_reason": "COMMANDER_REJECTED_CANCEL_ORDER",
                    "order_id": "",
                }
                return Answer(200, {"results": [refused]})
            case Trouble.THROTTLED:
                return Answer(status, errors.rate_limited().body)
            case Trouble.UNAVAILABLE:
                return Answer(status, errors.unavailable(status).body)
            case Trouble.BAD_NONCE | Trouble.KEY_REVOKED:
                error = errors.unauthorized()
                return Answer(error.status, error.body)

    async def run(self) -> None:
        await self.hub.run()

    def stream_counts(self) -> tuple[int, int]:
        return len(self.hub.clients), self.hub.sent

    async def disconnect(self) -> int:
        return await self.hub.disconnect()


def _fits(operation: Operation, method: str, path: str) -> bool:
    """Operations without an identifier stand before those with one where both would fit."""
    wanted, given = operation.path.split("/"), path.split("/")
    return (
        operation.method == method
        and len(wanted) == len(given)
        and all(w in (g, "{name}") for w, g in zip(wanted, given, strict=True))
    )


async def _close_idle(client: Client) -> None:
    if not client.products:
        await client.socket.close(message=b"subscribe timeout")


def _response(status: int, result: object) -> web.Response:
    if isinstance(result, str):
        return web.Response(text=result, status=status)
    return web.Response(body=orjson.dumps(result), status=status, content_type="application/json")


def _json_object(text: str) -> Mapping[str, object]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
