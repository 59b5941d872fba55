"""The Algo Service: conditional orders, which this venue keeps apart from all others.

Since 2025-12-09 conditional orders of USD-M futures are placed, listed and cancelled by calls of
their own; `POST /fapi/v1/order` refuses them (-4120), `openOrders` and `allOpenOrders` do not see
them. Source: "Change Log" 2025-11-06 and "New Algo Order" of the USD-M futures API.

Of the conditional types STOP and STOP_MARKET are offered here, triggered by the last price.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from openbell.domain.orders import OrdStatus, OrdType
from openbell_sim.checks import OrderRequest
from openbell_sim.faces.binance.common import errors, orders
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.faces.binance.common.operation import Call, Json
from openbell_sim.faces.binance_usdm import render, trading
from openbell_sim.faces.binance_usdm.refusals import from_refusal
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Order
from openbell_sim.listing import shown
from openbell_sim.refusals import RefusedError

TYPES = {"STOP": OrdType.STOP_LIMIT, "STOP_MARKET": OrdType.STOP}
_NOT_OFFERED = ("TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
_DONE = {
    "code": 200,
    "msg": "The operation of cancel all open order is done.",
}


def place(call: Call) -> Json:
    request = orders.recorded(call, _request, "clientAlgoId")
    trading.check_key(call, request, "clientAlgoId")
    try:
        order = call.exchange.submit(request)
    except RefusedError as error:
        raise from_refusal(error, call.exchange.instruments.get(request.symbol)) from None
    return algo_order(order, call.exchange.instruments[order.symbol])


def _request(call: Call) -> OrderRequest:
    p = call.parameters
    if p.text("algoType") != "CONDITIONAL":
        raise errors.not_valid("algoType")
    kind = p.text("type")
    if kind in _NOT_OFFERED or p.flag("closePosition"):
        raise errors.not_offered()
    if kind not in TYPES:
        raise errors.invalid_order_type()
    p.decimal("triggerPrice")
    if p.text_or_none("workingType") not in (None, "CONTRACT_PRICE", "MARK_PRICE"):
        raise BinanceError(-4031, "Invalid working type.")
    plain = trading.read_order(
        call.asking(
            {
                **p.values,
                "type": "LIMIT" if kind == "STOP" else "MARKET",
                **(
                    {"timeInForce": p.text_or_none("timeInForce") or "GTC"}
                    if kind == "STOP"
                    else {}
                ),
                "newClientOrderId": p.text_or_none("clientAlgoId") or "",
            }
        )
    )
    return replace(plain, ord_type=TYPES[kind], stop_price=p.decimal("triggerPrice"))


def _find(call: Call, missing: BinanceError) -> Order:
    """By id alone: these calls name no symbol."""
    p = call.parameters
    order_id = p.integer_or_none("algoId")
    cl_ord_id = p.text_or_none("clientAlgoId")
    if order_id is None and cl_ord_id is None:
        raise BinanceError(
            -1102, "Param 'clientAlgoId' or 'algoId' must be sent, but both were empty/null!"
        )
    ledger = call.exchange.ledger
    if order_id is not None:
        order = ledger.orders.get(order_id)
    else:
        order = ledger.named(call.account, cl_ord_id or "")
    if order is None or order.account != call.account or not render.is_conditional(order):
        raise missing
    return order


def query(call: Call) -> Json:
    order = _find(call, errors.no_such_order())
    return algo_order(order, call.exchange.instruments[order.symbol])


def cancel(call: Call) -> Json:
    order = _find(call, errors.unknown_order())
    if not order.waits:
        raise errors.unknown_order()
    try:
        told = call.exchange.cancel(order, orders.new_client_id())
    except RefusedError as error:
        raise from_refusal(error) from None
    return {
        "algoId": told.order_id,
        "clientAlgoId": told.cl_ord_id,
        "code": "200",
        "msg": "success",
    }


def cancel_all(call: Call) -> Json:
    for order in orders.open_orders(call, call.symbol()):
        if order.waits:
            try:
                call.exchange.cancel(order, orders.new_client_id())
            except RefusedError as error:
                raise from_refusal(error) from None
    return dict(_DONE)


def open_orders(call: Call) -> list[Json]:
    found = orders.open_orders(call, call.symbol_or_none())
    return _listed(call, [order for order in found if order.waits])


def all_orders(call: Call) -> list[Json]:
    first_id = call.parameters.integer_or_none("algoId")
    found = [
        order
        for order in orders.all_orders(call, call.symbol())
        if render.is_conditional(order) and (first_id is None or order.order_id >= first_id)
    ]
    return _listed(call, list(orders.page(call, found, first_id is not None)))


def _listed(call: Call, found: list[Order]) -> list[Json]:
    items = call.exchange.instruments
    return [algo_order(order, items[order.symbol]) for order in shown(found)]


def status(order: Order) -> str:
    """In the Algo Service's words."""
    if not order.triggered:
        return order.status.value
    return "FINISHED" if order.status.is_final else "TRIGGERED"


def algo_order(order: Order, item: Instrument) -> Json:
    triggered = order.triggered
    return {
        "algoId": order.order_id,
        "clientAlgoId": order.cl_ord_id,
        "algoType": "CONDITIONAL",
        "orderType": render.algo_type(order),
        "symbol": order.symbol,
        "side": order.side.value,
        "positionSide": "BOTH",
        "timeInForce": render.time_in_force(order),
        "quantity": render.on_grid(order.order_qty, item.lot),
        "algoStatus": status(order),
        "actualOrderId": str(order.order_id) if triggered else "",
        "actualPrice": f"{render.average_price(order):.5f}",
        "triggerPrice": render.on_grid(order.stop_price or Decimal(0), item.tick),
        "price": render.on_grid(order.price or Decimal(0), item.tick),
        "icebergQuantity": None,
        "tpTriggerPrice": "0.000",
        "tpPrice": "0.000",
        "slTriggerPrice": "0.000",
        "slPrice": "0.000",
        "tpOrderType": "",
        "selfTradePreventionMode": order.prevention.value,
        "workingType": "CONTRACT_PRICE",
        "priceMatch": "NONE",
        "closePosition": False,
        "priceProtect": False,
        "reduceOnly": order.reduce_only,
        "createTime": render.ms(order.accepted_ns),
        "updateTime": render.ms(order.updated_ns),
        "triggerTime": render.ms(order.updated_ns) if triggered else 0,
        "goodTillDate": 0,
    }


def update(order: Order, item: Instrument, now_ns: int) -> Json:
    """The user data event `ALGO_UPDATE`."""
    triggered = order.triggered
    return {
        "e": "ALGO_UPDATE",
        "T": render.ms(order.updated_ns),
        "E": render.ms(now_ns),
        "o": {
            "caid": order.cl_ord_id,
            "aid": order.order_id,
            "at": "CONDITIONAL",
            "o": render.algo_type(order),
            "s": order.symbol,
            "S": order.side.value,
            "ps": "BOTH",
            "f": render.time_in_force(order),
            "q": render.on_grid(order.order_qty, item.lot),
            "X": status(order),
            "ai": str(order.order_id) if triggered else "",
            "ap": f"{render.average_price(order):.5f}",
            "aq": render.on_grid(order.cum_qty, item.lot),
            "act": render.order_type(order) if triggered else "0",
            "tp": render.on_grid(order.stop_price or Decimal(0), item.tick),
            "p": render.on_grid(order.price or Decimal(0), item.tick),
            "V": order.prevention.value,
            "wt": "CONTRACT_PRICE",
            "pm": "NONE",
            "cp": False,
            "pP": False,
            "R": order.reduce_only,
            "tt": render.ms(order.updated_ns) if triggered else 0,
            "gtd": 0,
            "rm": order.reason if order.status is OrdStatus.EXPIRED else "",
        },
    }
