"""Orders of the matching engine: place, change, cancel, list; and the countdown that cancels them.

Source: "Trade" of the USD-M futures API (developers.binance.com).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

import orjson

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.faces.binance.common import errors, orders
from openbell_sim.faces.binance.common.errors import BinanceError
from openbell_sim.faces.binance.common.operation import Call, Json
from openbell_sim.faces.binance.common.parameters import Parameters
from openbell_sim.faces.binance_usdm import render
from openbell_sim.faces.binance_usdm.refusals import from_refusal
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.listing import shown
from openbell_sim.matching.book import SelfTradePrevention
from openbell_sim.refusals import Reason, RefusedError

T = TypeVar("T")

MOST_PLACED = 5
MOST_CANCELLED = 10
"""Orders in one batch."""
WEEK_MS = 7 * 86_400_000
"""The longest time between `startTime` and `endTime`, and how far back one sees without them."""

_LISTS = {name.lower(): name for name in ("orderIdList", "origClientOrderIdList")}
_TYPES = {"LIMIT": OrdType.LIMIT, "MARKET": OrdType.MARKET}
_CONDITIONAL = (
    "STOP",
    "STOP_MARKET",
    "TAKE_PROFIT",
    "TAKE_PROFIT_MARKET",
    "TRAILING_STOP_MARKET",
)


# Placing


def place_order(call: Call) -> Json:
    request = orders.recorded(call, read_order)
    check_key(call, request)
    item = call.exchange.instruments[request.symbol]
    try:
        order = call.exchange.submit(request)
    except RefusedError as error:
        raise from_refusal(error, item) from None
    if call.parameters.text_or_none("newOrderRespType") == "RESULT":
        return render.order_changed(order, item)
    return render.order_acknowledged(order, item)


def check_key(call: Call, request: OrderRequest, client_id_name: str = "newClientOrderId") -> None:
    """A key that may not trade may close still. Raises BinanceError."""
    if not call.may_trade and not request.reduce_only:
        error = errors.bad_key()
        orders.refuse(call, error, Reason.MAY_NOT_TRADE, client_id_name)
        raise error


def test_order(call: Call) -> Json:
    request = read_order(call)
    try:
        call.exchange.test(request)
    except RefusedError as error:
        raise from_refusal(error, call.exchange.instruments[request.symbol]) from None
    return {}


def place_many(call: Call) -> list[Json]:
    """Each order of the list fares for itself."""
    batch = _list_of(call.parameters, "batchOrders", dict)
    if not 1 <= len(batch) <= MOST_PLACED:
        raise BinanceError(-4082, "Invalid number of batch place orders.")
    return [
        _attempt(place_order, call.asking({name: _text(v) for name, v in order.items()}))
        for order in batch
    ]


def count_of_batch(p: Parameters) -> int:
    """How many orders a batch counts as."""
    try:
        return len(_list_of(p, "batchOrders", dict))
    except BinanceError:
        return 1


def read_order(call: Call) -> OrderRequest:
    """A plain order. Raises BinanceError."""
    p = call.parameters
    symbol = call.symbol()
    item = call.exchange.instruments[symbol]
    side = p.choice("side", Side, errors.invalid_side())
    if p.text_or_none("positionSide") not in (None, "BOTH"):
        raise BinanceError(-4061, "Order's position side does not match user's setting.")
    kind = p.text("type")
    if kind in _CONDITIONAL:
        # They are the Algo Service's (`algo`).
        raise BinanceError(
            -4120,
            "Order type not supported for this endpoint. "
            "Please use the Algo Order API endpoints instead.",
        )
    if kind not in _TYPES:
        raise errors.invalid_order_type()
    if p.text_or_none("newOrderRespType") not in (None, "ACK", "RESULT"):
        raise BinanceError(-1136, "Invalid newOrderRespType.")
    if p.has("priceMatch") and p.text("priceMatch") != "NONE":
        raise errors.not_offered()
    prevention = SelfTradePrevention.EXPIRE_MAKER
    if p.has("selfTradePreventionMode"):
        prevention = p.choice(
            "selfTradePreventionMode",
            SelfTradePrevention,
            errors.not_valid("selfTradePreventionMode"),
        )
    quantity = _on_grid(p.decimal("quantity"), item.lot)
    if quantity <= 0:
        raise BinanceError(-4003, "Quantity less than or equal to zero.")
    if quantity < item.min_qty:
        raise BinanceError(-4004, "Quantity less than min quantity.")
    if quantity > item.max_qty:
        raise BinanceError(-4005, "Quantity greater than max quantity.")
    time_in_force, post_only, price = TimeInForce.GTC, False, None
    if kind == "LIMIT":
        post_only = p.text("timeInForce") == "GTX"
        if not post_only:
            time_in_force = p.choice("timeInForce", TimeInForce, errors.invalid_time_in_force())
        price = _on_grid(p.decimal("price"), item.tick)
        if price < item.min_price:
            raise BinanceError(-4013, "Price less than min price.")
        if price > item.max_price:
            raise BinanceError(-4002, "Price greater than max price.")
    elif p.has("price"):
        raise errors.not_required("price")
    return OrderRequest(
        account=call.account,
        cl_ord_id=p.client_id("newClientOrderId") or orders.new_client_id(),
        symbol=symbol,
        side=side,
        ord_type=_TYPES[kind],
        time_in_force=time_in_force,
        qty=quantity,
        price=price,
        post_only=post_only,
        reduce_only=p.flag("reduceOnly"),
        prevention=prevention,
        received_ns=call.received_ns,
    )


def _on_grid(number: Decimal, step: Decimal) -> Decimal:
    """Binance reads no more digits than a symbol has; off the grid within them is told apart."""
    exponent = number.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > render.digits(step):
        raise BinanceError(-1111, "Precision is over the maximum defined for this asset.")
    return number


# Changing


def amend_order(call: Call) -> Json:
    """Its place in the queue is lost, unless it only becomes smaller."""
    p = call.parameters
    symbol = call.symbol()
    order = _find(call, symbol, errors.no_such_order())
    if not call.may_trade and not order.reduce_only:
        raise errors.bad_key()
    if p.choice("side", Side, errors.invalid_side()) is not order.side:
        raise errors.not_valid("side")
    item = call.exchange.instruments[symbol]
    qty = _on_grid(p.decimal("quantity"), item.lot)
    price = _on_grid(p.decimal("price"), item.tick)
    if not order.is_open or order.price is None:
        raise errors.no_such_order()
    if (qty, price) == (order.order_qty, order.price):
        raise BinanceError(-5027, "No need to modify the order.")
    try:
        if qty <= order.cum_qty:
            # Binance ends an order that is amended to less than was executed of it.
            told = call.exchange.cancel(order, orders.new_client_id())
        else:
            told = call.exchange.amend(order, qty=qty, price=price)
    except RefusedError as error:
        raise from_refusal(error, item) from None
    return render.order_changed(told, item)


# Cancelling


def cancel_order(call: Call) -> Json:
    symbol = call.symbol()
    order = _find(call, symbol, errors.unknown_order())
    return _cancelled(call, order)


def cancel_many(call: Call) -> list[Json]:
    """Each order of the list fares for itself."""
    symbol = call.symbol()
    # ccxt writes both names in lower case.
    p = Parameters({_LISTS.get(name, name): v for name, v in call.parameters.values.items()})
    if p.has("orderIdList"):
        wanted = [{"orderId": str(n)} for n in _list_of(p, "orderIdList", int)]
    else:
        names = _list_of(p, "origClientOrderIdList", str)
        wanted = [{"origClientOrderId": name} for name in names]
    if not 1 <= len(wanted) <= MOST_CANCELLED:
        raise BinanceError(-4032, "Exceed maximum cancel order size.")
    return [_attempt(cancel_order, call.asking({"symbol": symbol, **one})) for one in wanted]


def cancel_all(call: Call) -> Json:
    """One that was filled in this moment keeps no other from being cancelled."""
    for order in orders.open_orders(call, call.symbol()):
        if not order.waits:
            try:
                _cancelled(call, order)
            except BinanceError:
                if order.is_open:
                    raise
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def _cancelled(call: Call, order: Order) -> Json:
    try:
        told = call.exchange.cancel(order, orders.new_client_id())
    except RefusedError as error:
        raise from_refusal(error) from None
    return render.order_changed(told, call.exchange.instruments[told.symbol])


def countdown(call: Call) -> Json:
    symbol = call.symbol()
    milliseconds = call.parameters.integer("countdownTime")
    if milliseconds < 0:
        raise errors.not_valid("countdownTime")
    call.exchange.arm_dead_man(call.account, symbol, milliseconds / 1000)
    return {"symbol": symbol, "countdownTime": str(milliseconds)}


# Listing


def query_order(call: Call) -> Json:
    symbol = call.symbol()
    order = _find(call, symbol, errors.no_such_order())
    return render.order_query(order, call.exchange.instruments[symbol])


def query_open_order(call: Call) -> Json:
    symbol = call.symbol()
    order = _find(call, symbol, errors.no_such_order())
    if not order.is_open:
        raise errors.no_such_order()
    return render.order_query(order, call.exchange.instruments[symbol])


def _find(call: Call, symbol: str, missing: BinanceError) -> Order:
    order = orders.find_order(call, symbol, missing)
    if order.waits:
        raise missing
    return order


def open_orders(call: Call) -> list[Json]:
    found = orders.open_orders(call, call.symbol_or_none())
    return _listed(call, [order for order in found if not order.waits])


def all_orders(call: Call) -> list[Json]:
    _check_window(call)
    first_id = call.parameters.integer_or_none("orderId")
    found = [
        order
        for order in orders.all_orders(call, call.symbol())
        if not order.waits and (first_id is None or order.order_id >= first_id)
    ]
    return _listed(call, list(orders.page(call, found, first_id is not None)))


def _listed(call: Call, found: list[Order]) -> list[Json]:
    items = call.exchange.instruments
    return [render.order_query(order, items[order.symbol]) for order in shown(found)]


def user_trades(call: Call) -> list[Json]:
    """Without times and ids those of the last week."""
    _check_window(call)
    p, symbol = call.parameters, call.symbol()
    order_id, from_id = p.integer_or_none("orderId"), p.integer_or_none("fromId")
    if from_id is not None and (p.has("startTime") or p.has("endTime")):
        raise BinanceError(-1128, "Combination of optional parameters invalid.")
    bounded = from_id is not None or p.has("startTime") or p.has("endTime")
    since_ms = 0 if bounded else render.ms(call.exchange.now_ns()) - WEEK_MS
    found: list[OwnFill] = [
        fill
        for fill in call.exchange.ledger.fills
        if fill.account == call.account
        and fill.symbol == symbol
        and order_id in (None, fill.order_id)
        and (from_id is None or fill.exec_id >= from_id)
        and render.ms(fill.at_ns) >= since_ms
        and orders.within(call, fill.at_ns)
    ]
    page = orders.page(call, found, from_id is not None)
    item = call.exchange.instruments[symbol]
    return [render.own_trade(fill, item) for fill in shown(page)]


def _check_window(call: Call) -> None:
    start = call.parameters.integer_or_none("startTime")
    end = call.parameters.integer_or_none("endTime")
    if start is not None and end is not None and end - start > WEEK_MS:
        raise BinanceError(-4165, "Maximum time interval is 7 days.")


def _attempt(operation: Callable[[Call], Json], call: Call) -> Json:
    try:
        return operation(call)
    except BinanceError as error:
        return error.body()


def _list_of(p: Parameters, name: str, kind: type[T]) -> list[T]:
    """A parameter that is a JSON list of one kind of things."""
    try:
        found = orjson.loads(p.text(name))
    except orjson.JSONDecodeError:
        raise errors.not_valid(name) from None
    if not isinstance(found, list) or not all(isinstance(each, kind) for each in found):
        raise errors.not_valid(name)
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
