"""Addresses of both APIs: from HTTP to calls and back."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from openbell_sim.counting import scaled
from openbell_sim.exchange import Exchange
from openbell_sim.faces.alpaca import account, errors, market_data, trading
from openbell_sim.faces.alpaca.budget import PER_MINUTE, Budget
from openbell_sim.faces.alpaca.errors import AlpacaError
from openbell_sim.faces.alpaca.orders import Replacements
from openbell_sim.faces.alpaca.sockets import FEEDS, Sockets
from openbell_sim.faces.alpaca.streams import Hub, encode_json
from openbell_sim.faces.alpaca.trading import Call, Result
from openbell_sim.faces.port import Answer, FaceOptions, RequestKind, Trouble
from openbell_sim.keys import Credentials, KeyRing

_SYMBOL = "{symbol}"


@dataclass(frozen=True)
class Operation:
    run: Callable[[Call], Result]
    kind: RequestKind


_DATA = RequestKind.MARKET_DATA
OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/v2/clock"): Operation(account.clock, RequestKind.OTHER),
    ("GET", "/v2/calendar"): Operation(account.calendar, RequestKind.OTHER),
    ("GET", "/v2/account"): Operation(account.account, RequestKind.ACCOUNT),
    ("GET", "/v2/account/configurations"): Operation(account.configurations, RequestKind.ACCOUNT),
    ("GET", "/v2/account/activities"): Operation(account.activities, RequestKind.FILLS),
    ("GET", "/v2/account/activities/{kind}"): Operation(account.activities, RequestKind.FILLS),
    ("GET", "/v2/assets"): Operation(account.assets, RequestKind.OTHER),
    ("GET", "/v2/assets/{symbol}"): Operation(account.asset, RequestKind.OTHER),
    ("GET", "/v2/orders"): Operation(trading.listed, RequestKind.OPEN_ORDERS),
    ("POST", "/v2/orders"): Operation(trading.place, RequestKind.SUBMIT),
    ("DELETE", "/v2/orders"): Operation(trading.cancel_all, RequestKind.MASS_CANCEL),
    ("GET", "/v2/orders:by_client_order_id"): Operation(
        trading.by_client_order_id, RequestKind.ORDER
    ),
    ("GET", "/v2/orders/{order_id}"): Operation(trading.by_id, RequestKind.ORDER),
    ("PATCH", "/v2/orders/{order_id}"): Operation(trading.replace_order, RequestKind.AMEND),
    ("DELETE", "/v2/orders/{order_id}"): Operation(trading.cancel, RequestKind.CANCEL),
    ("GET", "/v2/positions"): Operation(account.positions, RequestKind.POSITIONS),
    ("DELETE", "/v2/positions"): Operation(account.close_all, RequestKind.CLOSE_POSITION),
    ("GET", "/v2/positions/{symbol}"): Operation(account.position, RequestKind.POSITIONS),
    ("DELETE", "/v2/positions/{symbol}"): Operation(account.close, RequestKind.CLOSE_POSITION),
    ("GET", "/v2/stocks/quotes/latest"): Operation(market_data.latest_quotes, _DATA),
    ("GET", "/v2/stocks/trades/latest"): Operation(market_data.latest_trades, _DATA),
    ("GET", "/v2/stocks/bars/latest"): Operation(market_data.latest_bars, _DATA),
    ("GET", "/v2/stocks/snapshots"): Operation(market_data.snapshots, _DATA),
    ("GET", "/v2/stocks/trades"): Operation(market_data.trades, _DATA),
    ("GET", "/v2/stocks/bars"): Operation(market_data.bars, _DATA),
    ("GET", f"/v2/stocks/{_SYMBOL}/quotes/latest"): Operation(market_data.latest_quotes, _DATA),
    ("GET", f"/v2/stocks/{_SYMBOL}/trades/latest"): Operation(market_data.latest_trades, _DATA),
    ("GET", f"/v2/stocks/{_SYMBOL}/bars/latest"): Operation(market_data.latest_bars, _DATA),
    ("GET", f"/v2/stocks/{_SYMBOL}/trades"): Operation(market_data.trades, _DATA),
    ("GET", f"/v2/stocks/{_SYMBOL}/bars"): Operation(market_data.bars, _DATA),
}
"""By method and address. Of two that fit, the first."""


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))


_PATTERNS = [(method, _pattern(path), each) for (method, path), each in OPERATIONS.items()]


class AlpacaFace:
    name = "alpaca"

    def __init__(self, exchange: Exchange, keys: KeyRing, options: FaceOptions) -> None:
        limit = scaled(PER_MINUTE, options.limit_scale)
        self.replies: Counter[tuple[str, str, int]] = Counter()
        self._exchange = exchange
        self._keys = keys
        self._calendar = options.calendar or account.REGULAR
        self._replacements = Replacements(exchange.ledger.orders.values())
        self._budgets = {is_data: Budget(limit) for is_data in (False, True)}
        self.hub = Hub(exchange, self._replacements)
        self._sockets = Sockets(self.hub, keys, options.gate, one_each=limit > 0)
        exchange.listeners.append(self.hub)

    def add_routes(self, app: web.Application) -> None:
        for method, path in OPERATIONS:
            app.router.add_route(method, path, self._serve)
        app.router.add_get("/stream", self._sockets.serve_trading)
        app.router.add_get(f"/v2/{{feed:{'|'.join(FEEDS)}}}", self._sockets.serve_data)

    async def _serve(self, request: web.Request) -> web.Response:
        assert request.match_info.route.resource is not None
        path = request.match_info.route.resource.canonical
        operation = OPERATIONS[request.method, path]
        body = await request.read()
        headers: dict[str, str] = {}
        try:
            credentials = self._identify(request)
            budget = self._budgets[operation.kind is _DATA]
            allowed, headers = budget.spend(credentials.account, time.time())
            if not allowed:
                raise errors.too_many_requests()
            call = Call(
                exchange=self._exchange,
                replacements=self._replacements,
                calendar=self._calendar,
                credentials=credentials,
                query=request.query,
                named=request.match_info,
                body=body,
                received_ns=self._exchange.now_ns(),
            )
            status, result = operation.run(call)
        except AlpacaError as error:
            status, result = error.status, error.body()
        self.replies[request.method, path, status] += 1
        return web.Response(
            body=None if result is None else encode_json(result),
            status=status,
            headers=headers,
            content_type="application/json",
        )

    def _identify(self, request: web.Request) -> Credentials:
        """Raises AlpacaError."""
        credentials = self._keys.find(request.headers.get("APCA-API-KEY-ID"))
        secret = request.headers.get("APCA-API-SECRET-KEY")
        if credentials is None or credentials.secret != secret:
            raise errors.unauthorized()
        return credentials

    # For faults and metrics

    def kind_of(self, method: str, path: str) -> RequestKind:
        for known, pattern, operation in _PATTERNS:
            if known == method and pattern.fullmatch(path):
                return operation.kind
        return RequestKind.STREAM

    def trouble(self, trouble: Trouble, status: int) -> Answer:
        match trouble:
            case Trouble.CANCEL_REFUSED:
                error = errors.ended("pending_cancel")
            case Trouble.BAD_NONCE | Trouble.KEY_REVOKED:
                # Nothing in a request to Alpaca carries a time or a nonce.
                error = errors.unauthorized()
            case Trouble.UNAVAILABLE | Trouble.THROTTLED:
                status = 429 if trouble is Trouble.THROTTLED else status
                return Answer(status, errors.of_status(status))
        return Answer(error.status, error.body())

    async def run(self) -> None:
        await self.hub.run()

    def stream_counts(self) -> tuple[int, int]:
        return len(self.hub.trading) + len(self.hub.data), self.hub.sent

    async def disconnect(self) -> int:
        return await self.hub.disconnect()
