"""What a person does at the venue itself, past every desk: `POST /sim/v1/...`.

Orders that come from here carry `"origin": "manual"` in the order log. Fault plans do the same
things at their time (`faults.ground`).
"""

from __future__ import annotations

import secrets
from decimal import Decimal

import msgspec
from aiohttp import web

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim import truth
from openbell_sim.checks import OrderRequest
from openbell_sim.exchange import Exchange
from openbell_sim.ledger import Order
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.sessions import MarketState
from openbell_sim.wire import Admit, json_reply, read, refused

MANUAL = "manual"


class ManualOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: str = ""
    """Empty: the first account."""
    symbol: str
    side: Side
    type: OrdType = OrdType.MARKET
    time_in_force: TimeInForce = TimeInForce.GTC
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    reduce_only: bool = False
    client_order_id: str = ""


class ManualClose(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: str = ""
    symbol: str = ""
    """Empty: everything the account holds by its fills."""


class ManualFill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    part: float = 1.0
    """Of what is left of the order."""

    def __post_init__(self) -> None:
        if not 0 < self.part <= 1:
            raise ValueError("part must be above 0 and at most 1")


class ManualSession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    symbol: str = ""
    """Empty: every symbol; what was set of single ones is forgotten."""
    state: str | None
    """One of `MarketState`. null: what the calendar says counts again."""


class ManualDeposit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: str = ""
    currency: str
    amount: Decimal


def place(exchange: Exchange, account: str, given: ManualOrder) -> Order:
    """Raises RefusedError."""
    return exchange.submit(
        OrderRequest(
            account=account,
            cl_ord_id=given.client_order_id or _name(),
            symbol=given.symbol,
            side=given.side,
            ord_type=given.type,
            time_in_force=given.time_in_force,
            qty=given.quantity,
            price=given.price,
            stop_price=given.stop_price,
            reduce_only=given.reduce_only,
            origin=MANUAL,
            received_ns=exchange.now_ns(),
        )
    )


def close(exchange: Exchange, account: str, symbol: str = "") -> list[Order]:
    """Brings what the account's fills left it with to nothing, by market orders: of `symbol`, or
    of every symbol. What is less than a lot stays. Raises RefusedError; what was closed before
    stays closed."""
    orders = []
    for (owner, name), quantity in sorted(truth.net_quantities(exchange).items()):
        if owner != account or symbol not in ("", name):
            continue
        instrument = exchange.instruments[name]
        closable = abs(quantity) // instrument.lot * instrument.lot
        if closable:
            orders.append(
                place(
                    exchange,
                    account,
                    ManualOrder(
                        symbol=name,
                        side=Side.SELL if quantity > 0 else Side.BUY,
                        quantity=closable,
                        reduce_only=instrument.margin_rate is not None,
                    ),
                )
            )
    return orders


def _name() -> str:
    return f"web_{secrets.token_hex(9)}"


class Hands:
    def __init__(self, exchange: Exchange, admit: Admit, *, first_account: str) -> None:
        self._exchange = exchange
        self._first_account = first_account
        self._admit = admit

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/sim/v1/orders", self._order)
        app.router.add_delete("/sim/v1/orders/{order_id}", self._cancel)
        app.router.add_post("/sim/v1/orders/{order_id}/fill", self._fill)
        app.router.add_post("/sim/v1/positions/close", self._close)
        app.router.add_post("/sim/v1/sessions", self._session)
        app.router.add_post("/sim/v1/deposits", self._deposit)

    async def _order(self, request: web.Request) -> web.Response:
        self._admit(request)
        given = await read(request, ManualOrder)
        try:
            order = place(self._exchange, self._account(given.account), given)
        except RefusedError as error:
            raise _conflict(error) from None
        return json_reply({"order": truth.order(order)}, 201)

    async def _cancel(self, request: web.Request) -> web.Response:
        self._admit(request)
        order = self._find(request)
        try:
            self._exchange.cancel(order, _name())
        except RefusedError as error:
            raise refused(409, error.reason.value, f"it is {order.status.value}") from None
        return json_reply({"order": truth.order(order)})

    async def _fill(self, request: web.Request) -> web.Response:
        self._admit(request)
        order, given = self._find(request), await read(request, ManualFill)
        try:
            self._exchange.fill(order, given.part)
        except RefusedError as error:
            raise refused(409, error.reason.value, f"it is {order.status.value}") from None
        return json_reply({"order": truth.order(order)})

    async def _session(self, request: web.Request) -> web.Response:
        self._admit(request)
        given = await read(request, ManualSession)
        self._check_symbol(given.symbol)
        self._exchange.set_session(given.symbol or None, _market_state(given.state))
        return json_reply({"market": truth.market(self._exchange)})

    async def _close(self, request: web.Request) -> web.Response:
        self._admit(request)
        given = await read(request, ManualClose)
        self._check_symbol(given.symbol)
        try:
            orders = close(self._exchange, self._account(given.account), given.symbol)
        except RefusedError as error:
            raise _conflict(error) from None
        return json_reply({"orders": [truth.order(order) for order in orders]}, 201)

    async def _deposit(self, request: web.Request) -> web.Response:
        self._admit(request)
        given = await read(request, ManualDeposit)
        if given.amount <= 0:
            raise refused(400, Reason.MALFORMED.value, "amount must be positive")
        self._exchange.deposit(self._account(given.account), given.currency, given.amount)
        return json_reply(truth.positions(self._exchange), 201)

    def _account(self, name: str) -> str:
        return name or self._first_account

    def _check_symbol(self, symbol: str) -> None:
        if symbol and symbol not in self._exchange.markets:
            raise refused(404, Reason.UNKNOWN_SYMBOL.value, symbol)

    def _find(self, request: web.Request) -> Order:
        text = request.match_info["order_id"]
        order = self._exchange.ledger.orders.get(int(text)) if text.isdigit() else None
        if order is None:
            raise refused(404, Reason.UNKNOWN_ORDER.value, text)
        return order


_NO_ORDERS = {
    Reason.MARKET_CLOSED: "the market is closed",
    Reason.CANCEL_ONLY: "the market takes cancels alone",
    Reason.HALTED: "the market is halted: neither orders nor cancels are taken",
}


def _why(reason: Reason) -> str:
    state = _NO_ORDERS.get(reason)
    if state is None:
        return reason.value.replace("_", " ")
    return f"{state}; GET /sim/v1/market tells its state, POST /sim/v1/sessions sets it"


def _conflict(error: RefusedError) -> web.HTTPException:
    return refused(409, error.reason.value, error.text or _why(error.reason))


def _market_state(text: str | None) -> MarketState | None:
    """Raises HTTPBadRequest that lists the states there are."""
    if text is None:
        return None
    try:
        return MarketState(text)
    except ValueError:
        states = ", ".join(MarketState)
        told = f"there is no market state {text!r}; the states are {states}, and null for the calendar's"
        raise refused(400, Reason.MALFORMED.value, told) from None
