"""Calls of an account: orders, cancels, queries, balances."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.faces.binance import render
from openbell_sim.faces.binance.common import errors, orders
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.faces.binance.common.operation import Call, Json
from openbell_sim.faces.binance.refusals import from_refusal
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.listing import shown
from openbell_sim.matching.book import SelfTradePrevention
from openbell_sim.refusals import Reason, RefusedError


def place_order(call: Call) -> Json:
    request = orders.recorded(call, _order_request)
    _check_key(call, request)
    try:
        order = call.exchange.submit(request)
    except RefusedError as error:
        raise from_refusal(error) from None
    fills = call.exchange.ledger.fills_of(order.order_id)
    default = "FULL" if request.ord_type is OrdType.MARKET or not request.post_only else "RESULT"
    return render.order_placed(
        order, fills, call.parameters.text_or_none("newOrderRespType") or default
    )


def _check_key(call: Call, request: OrderRequest) -> None:
    """A key that may not trade may still sell what the account holds."""
    if not call.may_trade and request.side is Side.BUY:
        error = errors.bad_key()
        orders.refuse(call, error, Reason.MAY_NOT_TRADE)
        raise error


def test_order(call: Call) -> Json:
    try:
        call.exchange.test(_order_request(call))
    except RefusedError as error:
        raise from_refusal(error) from None
    return {}


_TYPES = {
    "LIMIT": OrdType.LIMIT,
    "LIMIT_MAKER": OrdType.LIMIT,
    "MARKET": OrdType.MARKET,
    "STOP_LOSS": OrdType.STOP,
    "STOP_LOSS_LIMIT": OrdType.STOP_LIMIT,
}
_NOT_OFFERED = ("TAKE_PROFIT", "TAKE_PROFIT_LIMIT")


def _order_request(call: Call) -> OrderRequest:
    p = call.parameters
    symbol = call.symbol()
    side = p.choice("side", Side, errors.invalid_side())
    kind = p.text("type")
    if kind in _NOT_OFFERED or p.has("trailingDelta") or p.has("icebergQty"):
        raise errors.not_offered()
    if kind not in _TYPES:
        raise errors.invalid_order_type()
    response = p.text_or_none("newOrderRespType")
    if response is not None and response not in ("ACK", "RESULT", "FULL"):
        raise BinanceError(-1136, "Invalid newOrderRespType.")
    prevention = SelfTradePrevention.EXPIRE_MAKER
    if p.has("selfTradePreventionMode"):
        prevention = p.choice(
            "selfTradePreventionMode",
            SelfTradePrevention,
            errors.not_valid("selfTradePreventionMode"),
        )
    time_in_force, quantity, quote_qty, price = TimeInForce.GTC, Decimal(0), None, None
    stop_price = p.decimal("stopPrice") if kind.startswith("STOP_LOSS") else None
    if stop_price is None and p.has("stopPrice"):
        raise errors.not_required("stopPrice")
    if kind in ("MARKET", "STOP_LOSS"):
        for name in ("price", "timeInForce"):
            if p.has(name):
                raise errors.not_required(name)
        quote_qty = p.decimal_or_none("quoteOrderQty") if kind == "MARKET" else None
        if quote_qty is not None and p.has("quantity"):
            raise errors.not_required("quantity")
        if quote_qty is None:
            quantity = p.decimal("quantity")
        elif side is Side.SELL:
            # To sell for an amount of quote currency is offered by Binance, and by few others.
            raise BinanceError(-1014, "Unsupported order combination.")
    else:
        price, quantity = p.decimal("price"), p.decimal("quantity")
        if kind != "LIMIT_MAKER":
            time_in_force = p.choice("timeInForce", TimeInForce, errors.invalid_time_in_force())
        elif p.has("timeInForce"):
            raise errors.not_required("timeInForce")
    return OrderRequest(
        account=call.account,
        cl_ord_id=p.client_id("newClientOrderId") or orders.new_client_id(),
        symbol=symbol,
        side=side,
        ord_type=_TYPES[kind],
        time_in_force=time_in_force,
        qty=quantity,
        quote_qty=quote_qty,
        price=price,
        stop_price=stop_price,
        post_only=kind == "LIMIT_MAKER",
        prevention=prevention,
        received_ns=call.received_ns,
    )


def query_order(call: Call) -> Json:
    return render.order_query(orders.find_order(call, call.symbol(), errors.no_such_order()))


def cancel_order(call: Call) -> Json:
    order = orders.find_order(call, call.symbol(), errors.unknown_order())
    restriction = call.parameters.text_or_none("cancelRestrictions")
    if restriction not in (None, "ONLY_NEW", "ONLY_PARTIALLY_FILLED"):
        raise BinanceError(
            -1145, "cancelRestrictions has to be either ONLY_NEW or ONLY_PARTIALLY_FILLED."
        )
    if order.is_open and restriction is not None and restriction != f"ONLY_{order.status.value}":
        raise errors.cancel_refused()
    return _cancelled(call, order)


def _cancelled(call: Call, order: Order) -> Json:
    request_id = call.parameters.client_id("newClientOrderId") or orders.new_client_id()
    try:
        return render.order_canceled(call.exchange.cancel(order, request_id))
    except RefusedError as error:
        raise from_refusal(error) from None


def amend_order(call: Call) -> Json:
    """Makes an order smaller in its place. It gets another client id unless the call names the one
    it has."""
    order = orders.find_order(call, call.symbol(), errors.no_such_order())
    qty = call.parameters.decimal("newQty")
    if not order.is_open:
        raise errors.no_such_order()
    if not order.cum_qty < qty < order.order_qty:
        raise BinanceError(-2038, "The requested action would change no state; rejecting.")
    previous = order.cl_ord_id
    cl_ord_id = call.parameters.client_id("newClientOrderId") or orders.new_client_id()
    try:
        told = call.exchange.amend(order, qty=qty, cl_ord_id=cl_ord_id)
    except RefusedError as error:
        raise from_refusal(error) from None
    return render.order_amended(told, previous)


def order_list(call: Call) -> Json:
    """OCO, OTO and their kin are not simulated."""
    raise errors.not_offered()


def open_orders(call: Call) -> list[Json]:
    found = orders.open_orders(call, call.symbol_or_none())
    return [render.order_query(order) for order in shown(found)]


def cancel_open_orders(call: Call) -> list[Json]:
    """One that was filled in this moment keeps no other from being cancelled."""
    cancelled, refused = [], errors.unknown_order()
    for order in orders.open_orders(call, call.symbol()):
        try:
            cancelled.append(_cancelled(call, order))
        except BinanceError as error:
            refused = error
    if not cancelled:
        raise refused
    return cancelled


def cancel_replace(call: Call) -> Json:
    """Cancels one order and places another; what became of each is told apart."""
    mode = call.parameters.text("cancelReplaceMode")
    if mode not in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
        raise errors.not_valid("cancelReplaceMode")
    values = dict(call.parameters.values)
    named = {"orderId": "cancelOrderId", "origClientOrderId": "cancelOrigClientOrderId"}
    cancel_values = {"symbol": call.symbol()}
    for name, given in named.items():
        if values.get(given):
            cancel_values[name] = values[given]
    if values.get("cancelNewClientOrderId"):
        cancel_values["newClientOrderId"] = values["cancelNewClientOrderId"]
    cancelled = _attempt(cancel_order, call.asking(cancel_values))
    placed: tuple[str, Json | None] = ("NOT_ATTEMPTED", None)
    if cancelled[0] == "SUCCESS" or mode == "ALLOW_FAILURE":
        placed = _attempt(place_order, call)
    body: Json = {
        "cancelResult": cancelled[0],
        "newOrderResult": placed[0],
        "cancelResponse": cancelled[1],
        "newOrderResponse": placed[1],
    }
    if cancelled[0] == placed[0] == "SUCCESS":
        return body
    both = "SUCCESS" not in (cancelled[0], placed[0])
    raise CancelReplaceError(both=both, data=body)


class CancelReplaceError(BinanceError):
    def __init__(self, *, both: bool, data: Json) -> None:
        if both:
            super().__init__(-2022, "Order cancel-replace failed.", 400)
        else:
            super().__init__(-2021, "Order cancel-replace partially failed.", 409)
        self.data = data

    def body(self) -> dict[str, object]:
        return {**super().body(), "data": self.data}


def _attempt(operation: Callable[[Call], Json], call: Call) -> tuple[str, Json | None]:
    try:
        return "SUCCESS", operation(call)
    except BinanceError as error:
        return "FAILURE", error.body()


def all_orders(call: Call) -> list[Json]:
    first_id = call.parameters.integer_or_none("orderId")
    found = [
        order
        for order in orders.all_orders(call, call.symbol())
        if first_id is None or order.order_id >= first_id
    ]
    page = orders.page(call, found, first_id is not None)
    return [render.order_query(order) for order in shown(page)]


def my_trades(call: Call) -> list[Json]:
    symbol = call.symbol()
    order_id = call.parameters.integer_or_none("orderId")
    from_id = call.parameters.integer_or_none("fromId")
    found: list[OwnFill] = [
        fill
        for fill in call.exchange.ledger.fills
        if fill.account == call.account
        and fill.symbol == symbol
        and order_id in (None, fill.order_id)
        and (from_id is None or fill.exec_id >= from_id)
        and orders.within(call, fill.at_ns)
    ]
    page = orders.page(call, found, from_id is not None)
    return [render.own_trade(fill) for fill in shown(page)]


def account(call: Call) -> Json:
    exchange = call.exchange
    holder = exchange.ledger.account(call.account)
    rates = {"maker": exchange.fees.maker, "taker": exchange.fees.taker}
    omit_zero = call.parameters.text_or_none("omitZeroBalances") == "true"
    balances = render.balances(holder)
    return {
        "makerCommission": int(rates["maker"] * 10000),
        "takerCommission": int(rates["taker"] * 10000),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {
            **{name: render.money(rate) for name, rate in rates.items()},
            "buyer": render.money(Decimal(0)),
            "seller": render.money(Decimal(0)),
        },
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": render.ms(holder.updated_ns),
        "accountType": "SPOT",
        "balances": [
            balance
            for balance in balances
            if not omit_zero or Decimal(str(balance["free"])) or Decimal(str(balance["locked"]))
        ],
        "permissions": ["SPOT"],
        "uid": call.account_number,
    }
