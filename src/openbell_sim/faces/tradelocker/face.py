"""TradeLocker's calls: who may make them, how often, and what they come to."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from openbell_sim.exchange import Exchange
from openbell_sim.faces.port import Answer, FaceOptions, RequestKind, Trouble
from openbell_sim.faces.tradelocker import errors, queries, trading
from openbell_sim.faces.tradelocker.book import Book
from openbell_sim.faces.tradelocker.call import ACC_NUM, Call, account_id
from openbell_sim.faces.tradelocker.errors import TradeLockerError
from openbell_sim.faces.tradelocker.limits import Limits
from openbell_sim.faces.tradelocker.markets import HOME
from openbell_sim.faces.tradelocker.protections import Protections
from openbell_sim.faces.tradelocker.tokens import ACCESS, LIFE_S, REFRESH, Tokens
from openbell_sim.keys import Credentials, KeyRing
from openbell_sim.refusals import Reason

Serve = Callable[[web.Request, bytes], Answer]
Operation = Callable[[Call], object]

_BASE = "/backend-api"
_ACCOUNT = "/trade/accounts/{account}"
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class Route:
    operation: Operation
    """Gives the answer's `d`; None: there is none; a text: `s` itself."""
    kind: RequestKind
    limited_as: str = ""
    """Name of its rate limit."""
    changes: bool = False


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/trade/config"): Route(queries.config, RequestKind.OTHER),
    ("GET", "/trade/accounts"): Route(queries.accounts, RequestKind.ACCOUNT, "GET_ACCOUNTS"),
    ("GET", "/trade/quotes"): Route(queries.quotes, RequestKind.MARKET_DATA, "QUOTES"),
    ("GET", "/trade/depth"): Route(queries.depth, RequestKind.MARKET_DATA, "DEPTH"),
    ("GET", "/trade/history"): Route(queries.history, RequestKind.MARKET_DATA, "QUOTES_HISTORY"),
    ("GET", "/trade/dailyBar"): Route(queries.daily_bar, RequestKind.MARKET_DATA, "DAILY_BAR"),
    ("GET", "/trade/instruments/{instrument}"): Route(
        queries.instrument, RequestKind.MARKET_DATA, "GET_INSTRUMENT_DETAILS"
    ),
    ("GET", "/trade/sessions/{session}"): Route(
        queries.session, RequestKind.MARKET_DATA, "GET_TRADE_SESSIONS"
    ),
    ("GET", "/trade/sessionStatuses/{status}"): Route(
        queries.session_status, RequestKind.MARKET_DATA, "GET_SESSION_STATUSES"
    ),
    ("GET", f"{_ACCOUNT}/instruments"): Route(
        queries.instruments, RequestKind.MARKET_DATA, "GET_INSTRUMENTS"
    ),
    ("GET", f"{_ACCOUNT}/state"): Route(queries.state, RequestKind.ACCOUNT, "GET_ACCOUNTS_STATE"),
    ("GET", f"{_ACCOUNT}/orders"): Route(queries.orders, RequestKind.OPEN_ORDERS, "GET_ORDERS"),
    ("GET", f"{_ACCOUNT}/ordersHistory"): Route(
        queries.orders_history, RequestKind.ORDER, "GET_ORDERS_HISTORY"
    ),
    ("GET", f"{_ACCOUNT}/positions"): Route(
        queries.positions, RequestKind.POSITIONS, "GET_POSITIONS"
    ),
    ("GET", f"{_ACCOUNT}/executions"): Route(
        queries.executions, RequestKind.FILLS, "GET_EXECUTIONS"
    ),
    ("POST", f"{_ACCOUNT}/orders"): Route(
        trading.place, RequestKind.SUBMIT, "PLACE_ORDER", changes=True
    ),
    ("DELETE", f"{_ACCOUNT}/orders"): Route(
        trading.cancel_all, RequestKind.MASS_CANCEL, "MODIFY_ORDER", changes=True
    ),
    ("DELETE", f"{_ACCOUNT}/positions"): Route(
        trading.close_all, RequestKind.CLOSE_POSITION, "MODIFY_POSITION", changes=True
    ),
    ("DELETE", "/trade/orders/{order}"): Route(
        trading.cancel, RequestKind.CANCEL, "MODIFY_ORDER", changes=True
    ),
    ("PATCH", "/trade/orders/{order}"): Route(
        trading.change, RequestKind.AMEND, "MODIFY_ORDER", changes=True
    ),
    ("DELETE", "/trade/positions/{position}"): Route(
        trading.close, RequestKind.CLOSE_POSITION, "MODIFY_POSITION", changes=True
    ),
    ("PATCH", "/trade/positions/{position}"): Route(
        trading.protect, RequestKind.AMEND, "MODIFY_POSITION", changes=True
    ),
}


class Login(msgspec.Struct, frozen=True):
    email: str
    password: str
    server: str


class Refresh(msgspec.Struct, frozen=True, rename="camel"):
    refresh_token: str


class TradeLockerFace:
    name = "tradelocker"

    def __init__(self, exchange: Exchange, keys: KeyRing, options: FaceOptions) -> None:
        self.exchange = exchange
        self.replies: dict[tuple[str, str, int], int] = {}
        self._book = Book(exchange)
        self._protections = Protections(exchange, self._book)
        self._limits = Limits(options.limit_scale)
        self._keys = keys
        self._tokens = Tokens()
        self._kinds = [
            (method, re.compile(_BASE + re.sub(r"{\w+}", "[^/]+", path)), route.kind)
            for (method, path), route in ROUTES.items()
        ]

    def add_routes(self, app: web.Application) -> None:
        jwt = f"{_BASE}/auth/jwt"
        app.router.add_post(f"{jwt}/token", self._handler(self._login))
        app.router.add_post(f"{jwt}/refresh", self._handler(self._refresh))
        app.router.add_get(f"{jwt}/all-accounts", self._handler(self._all_accounts))
        for (method, path), route in ROUTES.items():
            app.router.add_route(method, _BASE + path, self._handler(self._served(route)))

    def _handler(self, serve: Serve) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            try:
                answer = serve(request, body)
            except TradeLockerError as error:
                answer = error.answer
            resource = request.match_info.route.resource
            assert resource is not None, "every handler has its route"
            counted = (request.method, resource.canonical, answer.status)
            self.replies[counted] = self.replies.get(counted, 0) + 1
            return web.Response(
                body=_ENCODE(answer.body), status=answer.status, content_type="application/json"
            )

        return handle

    # Who it is.

    def _login(self, request: web.Request, body: bytes) -> Answer:
        try:
            given = msgspec.json.decode(body, type=Login)
        except msgspec.MsgspecError as error:
            raise errors.malformed(str(error)) from None
        found = self._keys.find(given.email)
        if found is None or found.secret != given.password or not given.server:
            raise errors.bad_credentials()
        return self._tokens_of(given.email, given.server)

    def _refresh(self, request: web.Request, body: bytes) -> Answer:
        try:
            given = msgspec.json.decode(body, type=Refresh)
        except msgspec.MsgspecError as error:
            raise errors.malformed(str(error)) from None
        who = self._tokens.read(given.refresh_token, REFRESH, self._now_s())
        if who is None or self._keys.find(who[0]) is None:
            raise errors.bad_credentials()
        return self._tokens_of(*who)

    def _tokens_of(self, email: str, server: str) -> Answer:
        now_s = self._now_s()
        ends = dt.datetime.fromtimestamp(now_s + LIFE_S[ACCESS], dt.UTC)
        return Answer(
            201,
            {
                "accessToken": self._tokens.mint(ACCESS, email, server, now_s),
                "refreshToken": self._tokens.mint(REFRESH, email, server, now_s),
                "expireDate": ends.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            },
        )

    def _identify(self, request: web.Request) -> Credentials:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        who = self._tokens.read(token, ACCESS, self._now_s()) if scheme == "Bearer" else None
        found = self._keys.find(who[0]) if who is not None else None
        if found is None:
            raise errors.unauthorized()
        return found

    def _now_s(self) -> int:
        return self.exchange.now_ns() // 1_000_000_000

    def _all_accounts(self, request: web.Request, body: bytes) -> Answer:
        who = self._identify(request)
        balance = self.exchange.margin(who.account, HOME).balance
        account = {
            "id": account_id(who.account),
            "name": f"SIM#{who.account}#1",
            "currency": HOME,
            "status": "ACTIVE",
            "accNum": ACC_NUM,
            "accountBalance": f"{balance:f}",
        }
        return Answer(200, {"accounts": [account]})

    # What is asked.

    def _served(self, route: Route) -> Serve:
        def serve(request: web.Request, body: bytes) -> Answer:
            who = self._identify(request)
            asked = request.match_info.get("account")
            if asked is not None and asked != account_id(who.account):
                raise errors.not_found("Account")
            if request.headers.get("accNum") != ACC_NUM:
                raise errors.malformed("accNum is missing, or of no account")
            if not self._limits.take(who.key, route.limited_as, time.monotonic()):
                raise errors.throttled()
            call = Call(
                exchange=self.exchange,
                book=self._book,
                protections=self._protections,
                limits=self._limits,
                credentials=who,
                parts=request.match_info,
                query=request.query,
                body=body,
                received_ns=self.exchange.now_ns(),
            )
            told = route.operation(call)
            if route.changes:
                self._protections.settle()
            if isinstance(told, str):
                return Answer(200, {"s": told})
            return Answer(200, {"s": "ok"} if told is None else {"s": "ok", "d": told})

        return serve

    # For faults and metrics.

    def kind_of(self, method: str, path: str) -> RequestKind:
        for its_method, pattern, kind in self._kinds:
            if method == its_method and pattern.fullmatch(path):
                return kind
        return RequestKind.OTHER

    def trouble(self, trouble: Trouble, status: int) -> Answer:
        match trouble:
            case Trouble.UNAVAILABLE:
                return TradeLockerError("Service unavailable", status).answer
            case Trouble.THROTTLED:
                return errors.throttled().answer  # it knows no 418
            case Trouble.CANCEL_REFUSED:
                return errors.refused(Reason.UNKNOWN_ORDER).answer
            case Trouble.BAD_NONCE | Trouble.KEY_REVOKED:
                return errors.unauthorized().answer

    async def run(self) -> None:
        """There is no stream. Brackets follow positions that the market changed."""
        while True:
            await self._protections.changed.wait()
            self._protections.settle()

    async def disconnect(self) -> int:
        return 0

    def stream_counts(self) -> tuple[int, int]:
        return 0, 0
