"""HTTP handlers: from requests to calls and back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections import Counter
from collections.abc import Callable
from weakref import WeakSet

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from openbell_sim.exchange import Exchange
from openbell_sim.faces.oanda import errors, pricing, protections, queries, trading
from openbell_sim.faces.oanda.accounts import Accounts, Call
from openbell_sim.faces.oanda.book import Json, account_id
from openbell_sim.faces.oanda.errors import OandaError
from openbell_sim.faces.oanda.limits import Limits
from openbell_sim.faces.oanda.streams import Hub, LineSink, Stream
from openbell_sim.faces.oanda.times import TimeFormat
from openbell_sim.faces.port import Answer, FaceOptions, RequestKind, Trouble
from openbell_sim.keys import Credentials, KeyRing
from openbell_sim.refusals import Reason, RefusedError

_EXPIRY_EVERY_S = 0.25
"""How often orders good till a time are looked at."""

Query = Callable[[Call], Json]
Operation = Callable[[Call], Answer]

_ACCOUNT = "/v3/accounts/{account}"
QUERIES: dict[str, tuple[Query, RequestKind]] = {
    "/v3/accounts": (queries.accounts, RequestKind.ACCOUNT),
    _ACCOUNT: (queries.account, RequestKind.ACCOUNT),
    f"{_ACCOUNT}/summary": (queries.summary, RequestKind.ACCOUNT),
    f"{_ACCOUNT}/instruments": (queries.instruments, RequestKind.MARKET_DATA),
    f"{_ACCOUNT}/changes": (queries.changes, RequestKind.ACCOUNT),
    f"{_ACCOUNT}/orders": (queries.orders, RequestKind.OPEN_ORDERS),
    f"{_ACCOUNT}/pendingOrders": (queries.pending_orders, RequestKind.OPEN_ORDERS),
    f"{_ACCOUNT}/orders/{{order}}": (queries.order, RequestKind.ORDER),
    f"{_ACCOUNT}/trades": (queries.trades, RequestKind.POSITIONS),
    f"{_ACCOUNT}/openTrades": (queries.open_trades, RequestKind.POSITIONS),
    f"{_ACCOUNT}/trades/{{trade}}": (queries.trade, RequestKind.POSITIONS),
    f"{_ACCOUNT}/positions": (queries.positions, RequestKind.POSITIONS),
    f"{_ACCOUNT}/openPositions": (queries.open_positions, RequestKind.POSITIONS),
    f"{_ACCOUNT}/positions/{{instrument}}": (queries.position, RequestKind.POSITIONS),
    f"{_ACCOUNT}/transactions": (queries.transactions, RequestKind.FILLS),
    f"{_ACCOUNT}/transactions/idrange": (queries.transactions_between, RequestKind.FILLS),
    f"{_ACCOUNT}/transactions/sinceid": (queries.transactions_since, RequestKind.FILLS),
    f"{_ACCOUNT}/transactions/{{transaction}}": (queries.transaction, RequestKind.FILLS),
    f"{_ACCOUNT}/pricing": (pricing.prices, RequestKind.MARKET_DATA),
    f"{_ACCOUNT}/instruments/{{instrument}}/candles": (pricing.candles, RequestKind.MARKET_DATA),
    "/v3/instruments/{instrument}/candles": (pricing.candles, RequestKind.MARKET_DATA),
    "/v3/instruments/{instrument}/orderBook": (pricing.order_book, RequestKind.MARKET_DATA),
}
OPERATIONS: dict[tuple[str, str], tuple[Operation, RequestKind]] = {
    ("POST", f"{_ACCOUNT}/orders"): (trading.create_order, RequestKind.SUBMIT),
    ("PUT", f"{_ACCOUNT}/orders/{{order}}"): (trading.replace_order, RequestKind.AMEND),
    ("PUT", f"{_ACCOUNT}/orders/{{order}}/cancel"): (trading.cancel_order, RequestKind.CANCEL),
    ("PUT", f"{_ACCOUNT}/positions/{{instrument}}/close"): (
        trading.close_position,
        RequestKind.CLOSE_POSITION,
    ),
    ("PUT", f"{_ACCOUNT}/trades/{{trade}}/close"): (
        trading.close_trade,
        RequestKind.CLOSE_POSITION,
    ),
    ("PUT", f"{_ACCOUNT}/trades/{{trade}}/orders"): (protections.set_dependent, RequestKind.AMEND),
}
_PRICE_STREAM = f"{_ACCOUNT}/pricing/stream"
_TRANSACTION_STREAM = f"{_ACCOUNT}/transactions/stream"


class OandaFace:
    name = "oanda"

    def __init__(self, exchange: Exchange, keys: KeyRing, options: FaceOptions) -> None:
        self.exchange = exchange
        self.accounts = Accounts(exchange)
        self.hub = Hub(self.accounts)
        self.limits = Limits(options.limit_scale)
        self.replies: Counter[tuple[str, str, int]] = Counter()
        self._keys = keys
        self._gate = options.gate
        self._numbers = itertools.count(int(time.time() * 1000))
        self._connections: WeakSet[object] = WeakSet()
        self._kinds = [
            (method, _pattern(path), kind)
            for (method, path), kind in [
                # First, as in `add_routes`.
                (("GET", _PRICE_STREAM), RequestKind.STREAM),
                (("GET", _TRANSACTION_STREAM), RequestKind.STREAM),
                *((("GET", path), kind) for path, (_, kind) in QUERIES.items()),
                *(((method, path), kind) for (method, path), (_, kind) in OPERATIONS.items()),
            ]
        ]
        exchange.listeners.append(self.hub)

    # What every face tells.

    def add_routes(self, app: web.Application) -> None:
        # Before what they would be taken for: a transaction called "stream".
        app.router.add_get(_PRICE_STREAM, self._price_stream)
        app.router.add_get(_TRANSACTION_STREAM, self._transaction_stream)
        for path, (query, _) in QUERIES.items():
            app.router.add_get(path, self._handler(_answering(query)))
        for (method, path), (operation, _) in OPERATIONS.items():
            app.router.add_route(method, path, self._handler(operation))

    def kind_of(self, method: str, path: str) -> RequestKind:
        for its_method, pattern, kind in self._kinds:
            if method == its_method and pattern.fullmatch(path):
                return kind
        return RequestKind.OTHER

    def trouble(self, trouble: Trouble, status: int) -> Answer:
        match trouble:
            case Trouble.THROTTLED:
                # OANDA knows no 418.
                error = errors.throttled()
            case Trouble.CANCEL_REFUSED:
                return Answer(404, trading.cancel_rejection(Reason.HALTED))
            case Trouble.KEY_REVOKED:
                error = errors.unauthorized()
            case Trouble.BAD_NONCE:
                # Its requests carry neither number nor time.
                error = errors.missing()
            case Trouble.UNAVAILABLE:
                error = OandaError(status, "The server is temporarily unable to answer.")
        return Answer(error.status, error.body())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hub.run_prices())
            tasks.create_task(self._settle())
            tasks.create_task(self._expire())

    async def _settle(self) -> None:
        """Stop losses and take profits follow trades that the market changed."""
        while True:
            await self.hub.changed.wait()
            self.hub.changed.clear()
            for book in self.accounts.all():
                protections.settle(self.accounts, book.name)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_EVERY_S)
            now_ns = self.exchange.now_ns()
            for book in self.accounts.all():
                for order in list(book.pending.values()):
                    if 0 < order.note.expires_ns <= now_ns:
                        resting = self.exchange.ledger.orders[order.exchange_id]
                        # A halted market lets nothing go: tried again when it is looked at next.
                        with contextlib.suppress(RefusedError):
                            self.exchange.cancel(resting, "TIME_IN_FORCE_EXPIRED", reason="expired")

    async def disconnect(self) -> int:
        return await self.hub.disconnect()

    def stream_counts(self) -> tuple[int, int]:
        return len(self.hub.streams), self.hub.sent

    # Requests

    def _handler(self, operation: Operation) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            try:
                self._admit(request)
                answer = operation(self._call(request, body))
                self.hub.tell()
            except OandaError as error:
                answer = Answer(error.status, error.body())
            return self._reply(request, answer)

        return handle

    def _admit(self, request: web.Request) -> None:
        """Raises OandaError for a request, or a connection, too many."""
        now_s, who, transport = time.monotonic(), request.remote or "", request.transport
        if transport is not None and transport not in self._connections:
            if not self.limits.connections.take(who, now_s):
                raise errors.throttled()
            self._connections.add(transport)
        if not self.limits.requests.take(who, now_s):
            raise errors.throttled()

    def _call(self, request: web.Request, body: bytes) -> Call:
        """Raises OandaError."""
        credentials = self._identify(request)
        asked = request.match_info.get("account")
        if asked is not None and asked != account_id(credentials.account):
            raise errors.forbidden()
        times = request.headers.get("Accept-Datetime-Format", TimeFormat.RFC3339.value)
        if times not in TimeFormat.__members__:
            raise errors.invalid("Accept-Datetime-Format")
        return Call(
            accounts=self.accounts,
            credentials=credentials,
            parts=request.match_info,
            query=request.query,
            body=body,
            times=TimeFormat(times),
            received_ns=self.exchange.now_ns(),
            base_url=str(request.url.origin()),
        )

    def _identify(self, request: web.Request) -> Credentials:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        credentials = self._keys.with_secret(token.strip())
        if scheme.lower() != "bearer" or credentials is None:
            raise errors.unauthorized()
        return credentials

    def _reply(self, request: web.Request, answer: Answer) -> web.Response:
        self._count(request, answer.status)
        return web.Response(
            body=orjson.dumps(answer.body),
            status=answer.status,
            headers={**answer.headers, "RequestID": str(next(self._numbers))},
            content_type="application/json",
        )

    def _count(self, request: web.Request, status: int) -> None:
        resource = request.match_info.route.resource
        path = request.path if resource is None else resource.canonical
        self.replies[request.method, path, status] += 1

    # Streams

    async def _price_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(
            request,
            lambda call: [
                call.instrument(name).symbol
                for name in call.query.get("instruments", "").split(",")
            ],
        )

    async def _transaction_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, None)

    async def _stream(
        self, request: web.Request, symbols_of: Callable[[Call], list[str]] | None
    ) -> web.StreamResponse:
        try:
            self._admit(request)
            call = self._call(request, b"")
            if self.limits.streams and len(self.hub.streams) >= self.limits.streams:
                raise errors.too_many_streams()
            symbols = symbols_of(call) if symbols_of is not None else []
        except OandaError as error:
            return self._reply(request, Answer(error.status, error.body()))
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        self._count(request, 200)
        account = "" if symbols_of is not None else call.account
        sink = LineSink(response)
        stream = Stream(sink, self._gate, call.times, account=account, symbols=symbols)
        await self.hub.serve(stream)
        return response


def _answering(query: Query) -> Operation:
    return lambda call: Answer(200, query(call))


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
