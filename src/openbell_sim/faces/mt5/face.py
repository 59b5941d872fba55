"""The bridge's calls, as docs/reference/venues/mt5.md describes the protocol."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import Literal

import msgspec
import orjson
from aiohttp import web

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.counting import SlidingSecond, scaled
from openbell_sim.events import Refuse
from openbell_sim.exchange import Exchange
from openbell_sim.faces.mt5 import errors, render
from openbell_sim.faces.mt5.errors import BridgeError
from openbell_sim.faces.mt5.markets import CONTRACT_SIZE
from openbell_sim.faces.port import Answer, FaceOptions, RequestKind, Trouble
from openbell_sim.keys import Credentials, KeyRing
from openbell_sim.ledger import Order
from openbell_sim.listing import shown
from openbell_sim.refusals import Reason, RefusedError

_PER_SECOND = 50
"""Requests that one bridge serves: a terminal answers one call after the other, each in some 10 to
20 ms. The bridge's own number, see the protocol."""
_DEALS_MAX = 1000

_ORD_TYPES = {"market": OrdType.MARKET, "limit": OrdType.LIMIT, "stop": OrdType.STOP}
_KINDS: tuple[tuple[str, str, RequestKind], ...] = (
    ("POST", r"/v1/orders", RequestKind.SUBMIT),
    ("DELETE", r"/v1/(orders|tickets)/.+", RequestKind.CANCEL),
    ("GET", r"/v1/orders", RequestKind.OPEN_ORDERS),
    ("GET", r"/v1/(orders|tickets)/.+", RequestKind.ORDER),
    ("GET", r"/v1/deals", RequestKind.FILLS),
    ("GET", r"/v1/positions", RequestKind.POSITIONS),
    ("GET", r"/v1/account", RequestKind.ACCOUNT),
    ("GET", r"/v1/(symbols|ticks)", RequestKind.MARKET_DATA),
)


class NewOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/orders`."""

    id: str
    symbol: str
    side: Literal["buy", "sell"]
    type: Literal["market", "limit", "stop"]
    volume: str
    price: str | None = None
    stop_price: str | None = None
    reduce_only: bool = False


class Mt5Face:
    name = "mt5"

    def __init__(self, exchange: Exchange, keys: KeyRing, options: FaceOptions) -> None:
        self.exchange = exchange
        self.replies: Counter[tuple[str, str, int]] = Counter()
        self._keys = keys
        self._limit = SlidingSecond(scaled(_PER_SECOND, options.limit_scale))

    def add_routes(self, app: web.Application) -> None:
        routes: tuple[tuple[str, str, Callable[[_Call], object]], ...] = (
            ("GET", "/v1/account", self._account),
            ("GET", "/v1/symbols", self._symbols),
            ("GET", "/v1/ticks", self._ticks),
            ("GET", "/v1/orders", self._open_orders),
            ("POST", "/v1/orders", self._submit),
            ("GET", "/v1/orders/{id}", self._order),
            ("DELETE", "/v1/orders/{id}", self._cancel),
            ("GET", "/v1/tickets/{ticket}", self._order),
            ("DELETE", "/v1/tickets/{ticket}", self._cancel),
            ("GET", "/v1/deals", self._deals),
            ("GET", "/v1/positions", self._positions),
        )
        for method, path, operation in routes:
            app.router.add_route(method, path, self._handler(path, operation))

    def _handler(
        self, path: str, operation: Callable[[_Call], object]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            try:
                call = _Call(request, body, self._identify(request))
                if not self._limit.take("", time.monotonic()):
                    raise errors.busy()
                answer = Answer(200, operation(call))
            except BridgeError as error:
                answer = error.answer
            self.replies[request.method, path, answer.status] += 1
            return web.Response(
                body=orjson.dumps(answer.body),
                status=answer.status,
                content_type="application/json",
            )

        return handle

    def _identify(self, request: web.Request) -> Credentials:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        found = self._keys.with_secret(token)
        if scheme != "Bearer" or found is None:
            raise errors.unauthorized()
        return found

    # Account and market

    def _account(self, call: _Call) -> object:
        who = call.credentials
        return render.account(self.exchange, who.account, trade_allowed=who.may_trade)

    def _symbols(self, call: _Call) -> object:
        known = self.exchange.instruments
        return {
            "symbols": [
                render.symbol(known[name], self.exchange.session(name))
                for name in call.names()
                if name in known
            ],
            "unknown": [name for name in call.names() if name not in known],
        }

    def _ticks(self, call: _Call) -> object:
        ticks = [
            render.tick(self.exchange, name)
            for name in call.names()
            if name in self.exchange.markets
        ]
        return {"ticks": [tick for tick in ticks if tick is not None]}

    def _positions(self, call: _Call) -> object:
        held = [
            render.position(symbol, lot)
            for symbol, position in self.exchange.positions(call.credentials.account)
            for lot in position.lots
        ]
        return {"positions": list(shown(held)), "total": len(held)}

    def _deals(self, call: _Call) -> object:
        ticket, after = call.integer("order"), call.integer("after")
        from_ms = call.integer("from_ms")
        deals = [
            fill
            for fill in self.exchange.ledger.fills
            if fill.account == call.credentials.account
            and ticket in (None, fill.order_id)
            and (after is None or fill.exec_id > after)
            and (from_ms is None or render.ms(fill.at_ns) >= from_ms)
        ]
        deals.sort(key=lambda fill: fill.exec_id)
        page = shown(deals[:_DEALS_MAX])
        return {
            "deals": [render.deal(fill, "USD") for fill in page],
            "more": len(deals) > _DEALS_MAX,
        }

    # Orders

    def _open_orders(self, call: _Call) -> object:
        found = list(self.exchange.ledger.open.get(call.credentials.account, {}).values())
        return {"orders": [render.order(item) for item in shown(found)], "total": len(found)}

    def _order(self, call: _Call) -> object:
        return {"order": render.order(self._find(call))}

    def _submit(self, call: _Call) -> object:
        """An id that came before gives the order it made, or its refusal; with another content it
        is refused."""
        try:
            given = msgspec.json.decode(call.body, type=NewOrder)
        except msgspec.MsgspecError as error:
            raise errors.malformed(str(error)) from None
        try:
            request = self._request(call, given)
        except BridgeError as error:
            self._record_malformed(call, given, error)
            raise
        known = self.exchange.ledger.named(request.account, request.cl_ord_id)
        if known is not None:
            if not _same(known, request):
                self.exchange.turn_away(request, Reason.DUPLICATE_CL_ORD_ID)
                raise BridgeError(409, "id_in_use", "another order has this id", retcode=10013)
            return {"order": render.order(known), "known": True}
        reason = self._refused_before(request)
        if reason is not None:
            raise errors.rejected(reason)
        if not call.credentials.may_trade and not request.reduce_only:
            self.exchange.turn_away(request, Reason.MAY_NOT_TRADE)
            raise errors.rejected(Reason.MAY_NOT_TRADE)
        try:
            order = self.exchange.submit(request)
        except RefusedError as error:
            raise errors.rejected(error.reason) from None
        return {"order": render.order(order), "known": False}

    def _refused_before(self, request: OrderRequest) -> Reason | None:
        """What the trade server said to this id. What was malformed never came so far."""
        for refusal in self.exchange.ledger.refused:
            if (refusal.account, refusal.cl_ord_id) == (request.account, request.cl_ord_id):
                reason = Reason(refusal.reason)
                if reason is not Reason.MALFORMED:
                    return reason
        return None

    def _record_malformed(self, call: _Call, given: NewOrder, error: BridgeError) -> None:
        now_ns = self.exchange.now_ns()
        self.exchange.refuse(
            Refuse(
                order_id=0,
                account=call.credentials.account,
                cl_ord_id=given.id,
                symbol=given.symbol,
                side=given.side.upper(),
                ord_type=given.type.upper(),
                order_qty=given.volume,
                price=given.price or "",
                received_ns=now_ns,
                reason=Reason.MALFORMED.value,
                text=str(error),
                at_ns=now_ns,
            )
        )

    def _request(self, call: _Call, given: NewOrder) -> OrderRequest:
        if not 0 < len(given.id) <= 31:
            raise errors.malformed("id has 1 to 31 characters")  # MetaTrader's comment
        price, stop = _amount(given.price, "price"), _amount(given.stop_price, "stop_price")
        volume = _amount(given.volume, "volume")
        if volume is None or (given.type == "limit") != (price is not None):
            raise errors.malformed("volume, and a price for a limit order and no other")
        return OrderRequest(
            account=call.credentials.account,
            cl_ord_id=given.id,
            symbol=given.symbol,
            side=Side(given.side.upper()),
            ord_type=_ORD_TYPES[given.type],
            time_in_force=TimeInForce.GTC,
            qty=volume * CONTRACT_SIZE,
            price=price,
            stop_price=stop,
            # A terminal takes a limit order only on the far side of the market.
            post_only=given.type == "limit",
            reduce_only=given.reduce_only,
            received_ns=self.exchange.now_ns(),
        )

    def _cancel(self, call: _Call) -> object:
        order = self._find(call)
        try:
            told = self.exchange.cancel(order)
        except RefusedError as error:
            if error.reason is Reason.UNKNOWN_ORDER:
                raise BridgeError(409, "not_open", f"it is {order.status.lower()}") from None
            raise errors.rejected(error.reason) from None
        return {"order": render.order(told)}

    def _find(self, call: _Call) -> Order:
        account = call.credentials.account
        name, ticket = call.matched("id"), call.matched("ticket")
        found: Order | None
        if name:
            found = self.exchange.ledger.named(account, name)
        else:
            found = self.exchange.ledger.orders.get(int(ticket)) if ticket.isdigit() else None
        if found is None or found.account != account:
            raise errors.unknown_order()
        return found

    # For faults and metrics

    def kind_of(self, method: str, path: str) -> RequestKind:
        for known, pattern, kind in _KINDS:
            if method == known and re.fullmatch(pattern, path):
                return kind
        return RequestKind.OTHER

    def trouble(self, trouble: Trouble, status: int) -> Answer:
        match trouble:
            case Trouble.UNAVAILABLE:
                return errors.disconnected(status).answer
            case Trouble.THROTTLED:
                return errors.busy().answer
            case Trouble.CANCEL_REFUSED:
                return BridgeError(409, "rejected", "Modification denied", retcode=10025).answer
            case Trouble.BAD_NONCE | Trouble.KEY_REVOKED:
                return errors.unauthorized().answer

    async def run(self) -> None:
        """There is no stream: the bridge is asked."""

    async def disconnect(self) -> int:
        return 0

    def stream_counts(self) -> tuple[int, int]:
        return 0, 0


class _Call:
    """One request with who makes it."""

    def __init__(self, request: web.Request, body: bytes, credentials: Credentials) -> None:
        self._request = request
        self.body = body
        self.credentials = credentials

    def names(self) -> list[str]:
        return [name for name in self._request.query.get("names", "").split(",") if name]

    def matched(self, name: str) -> str:
        return self._request.match_info.get(name, "")

    def integer(self, name: str) -> int | None:
        text = self._request.query.get(name)
        if text is None:
            return None
        if not text.isdigit():
            raise errors.malformed(f"{name} is a whole number")
        return int(text)


def _amount(text: str | None, what: str) -> Decimal | None:
    if text is None:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value <= 0:
        raise errors.malformed(f"{what} is a positive number")
    return value


def _same(known: Order, request: OrderRequest) -> bool:
    # One that closes was cut to what was held.
    is_as_large = known.order_qty == request.qty or (
        known.reduce_only and known.order_qty < request.qty
    )
    return is_as_large and (
        known.symbol,
        known.side,
        known.ord_type,
        known.price,
        known.stop_price,
        known.reduce_only,
    ) == (
        request.symbol,
        request.side,
        request.ord_type,
        request.price,
        request.stop_price,
        request.reduce_only,
    )
