"""Orders: placing, editing, cancelling, listing, and their fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.events import Refuse
from openbell_sim.faces.coinbase import errors, render
from openbell_sim.faces.coinbase.call import Call, page, positive
from openbell_sim.faces.coinbase.errors import CoinbaseError, Json, OrderFailedError
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.listing import shown
from openbell_sim.refusals import Reason, RefusedError

ORDERS_PER_PAGE = 1000
"""The most that is given at once. Coinbase documents no maximum; clients ask for 1000."""
FILLS_PER_PAGE = 100
_OPEN = {"OPEN"}


# Placing


@dataclass(frozen=True)
class _Terms:
    """An `order_configuration`, understood."""

    ord_type: OrdType
    time_in_force: TimeInForce = TimeInForce.GTC
    qty: Decimal = Decimal(0)
    quote_qty: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    post_only: bool = False


def place(call: Call) -> Json:
    """An order whose `client_order_id` is known is not made: the answer tells the one of that id
    ("Create Order", `client_order_id`)."""
    given = call.body
    cl_ord_id = given.get("client_order_id")
    if call.caller is not None and not call.caller.may_trade:
        _record(call, str(cl_ord_id or ""), Reason.MAY_NOT_TRADE, "")
        raise errors.permission_denied()
    if not isinstance(cl_ord_id, str) or not cl_ord_id:
        raise errors.invalid_argument("client_order_id is required")
    configuration = given.get("order_configuration")
    known = _by_cl_ord_id(call, cl_ord_id)
    if known is not None:
        return _placed(known, configuration)
    try:
        request = _recorded_request(call, cl_ord_id)
        order = call.exchange.submit(request)
    except RefusedError as error:
        failure = errors.order_failure(error.reason, stop_is_up=given.get("side") == "BUY")
    except OrderFailedError as error:
        failure = error
    else:
        return _placed(order, configuration)
    if isinstance(failure, CoinbaseError):
        raise failure
    return {
        "success": False,
        "failure_reason": errors.UNKNOWN_FAILURE,
        "order_id": "",
        "error_response": failure.body(),
        "order_configuration": configuration,
    }


def _placed(order: Order, configuration: object) -> Json:
    return {
        "success": True,
        "failure_reason": errors.UNKNOWN_FAILURE,
        "order_id": render.order_uuid(order.order_id),
        "success_response": {
            "order_id": render.order_uuid(order.order_id),
            "product_id": order.symbol,
            "side": order.side.value,
            "client_order_id": order.cl_ord_id,
        },
        "order_configuration": configuration,
    }


def _by_cl_ord_id(call: Call, cl_ord_id: str) -> Order | None:
    ledger = call.exchange.ledger
    found = (ledger.by_cl_ord_id(call.account, name, cl_ord_id) for name in call.exchange.markets)
    return next((order for order in found if order is not None), None)


def _recorded_request(call: Call, cl_ord_id: str) -> OrderRequest:
    """What cannot be read as an order reached the venue all the same: it is recorded."""
    try:
        return _order_request(call, cl_ord_id)
    except (OrderFailedError, RefusedError) as error:
        _record(call, cl_ord_id, Reason.MALFORMED, str(error))
        raise


def _record(call: Call, cl_ord_id: str, reason: Reason, text: str) -> None:
    """Puts on record an order that the exchange never saw."""
    call.exchange.refuse(
        Refuse(
            order_id=0,
            account=call.account,
            cl_ord_id=cl_ord_id,
            symbol=str(call.body.get("product_id") or ""),
            side=str(call.body.get("side") or ""),
            ord_type="",
            order_qty="",
            price="",
            received_ns=call.received_ns,
            reason=reason.value,
            text=text,
            at_ns=call.exchange.now_ns(),
        )
    )


def _order_request(call: Call, cl_ord_id: str) -> OrderRequest:
    """Raises OrderFailedError, or RefusedError for a product that is not known."""
    given = call.body
    side = given.get("side")
    if side not in ("BUY", "SELL"):
        raise OrderFailedError("INVALID_SIDE", "PREVIEW_INVALID_SIDE", "Invalid side")
    product_id = given.get("product_id")
    if not isinstance(product_id, str) or product_id not in call.exchange.markets:
        raise RefusedError(Reason.UNKNOWN_SYMBOL, str(product_id))
    terms = _terms(given.get("order_configuration"), Side(side))
    return OrderRequest(
        account=call.account,
        cl_ord_id=cl_ord_id,
        symbol=product_id,
        side=Side(side),
        ord_type=terms.ord_type,
        time_in_force=terms.time_in_force,
        qty=terms.qty,
        quote_qty=terms.quote_qty,
        price=terms.price,
        stop_price=terms.stop_price,
        post_only=terms.post_only,
        received_ns=call.received_ns,
    )


def _terms(configuration: object, side: Side) -> _Terms:
    """Raises OrderFailedError."""
    if not isinstance(configuration, dict) or len(configuration) != 1:
        raise _unsupported()
    ((kind, values),) = configuration.items()
    if not isinstance(values, dict):
        raise _unsupported()
    try:
        return _read_terms(kind, values, side)
    except ValueError as error:
        failure = errors.order_failure(Reason.MALFORMED)
        assert isinstance(failure, OrderFailedError)
        raise OrderFailedError(failure.reason, failure.preview, f"Invalid {error}") from None


def _read_terms(kind: str, values: Mapping[str, object], side: Side) -> _Terms:
    """Raises OrderFailedError, and ValueError with the name of what is missing or no number."""
    if kind == "market_market_ioc":
        base_size, quote_size = positive(values, "base_size"), positive(values, "quote_size")
        if (base_size is None) == (quote_size is None):
            raise ValueError("base_size")
        if quote_size is not None:
            if side is Side.SELL:
                raise _unsupported()  # documented for BUY
            return _Terms(OrdType.MARKET, quote_qty=quote_size)
        assert base_size is not None
        return _Terms(OrdType.MARKET, qty=base_size)
    base_size, limit_price = positive(values, "base_size"), positive(values, "limit_price")
    if base_size is None or limit_price is None:
        raise ValueError("base_size" if base_size is None else "limit_price")
    match kind:
        case "limit_limit_gtc":
            post_only = values.get("post_only") is True
            return _Terms(OrdType.LIMIT, qty=base_size, price=limit_price, post_only=post_only)
        case "sor_limit_ioc":
            return _Terms(OrdType.LIMIT, TimeInForce.IOC, qty=base_size, price=limit_price)
        case "limit_limit_fok":
            return _Terms(OrdType.LIMIT, TimeInForce.FOK, qty=base_size, price=limit_price)
        case "stop_limit_stop_limit_gtc":
            stop_price = positive(values, "stop_price")
            if stop_price is None:
                raise ValueError("stop_price")
            ours = "STOP_DIRECTION_STOP_UP" if side is Side.BUY else "STOP_DIRECTION_STOP_DOWN"
            if values.get("stop_direction") != ours:
                raise _unsupported()  # a stop that takes profit is not simulated
            return _Terms(
                OrdType.STOP_LIMIT, qty=base_size, price=limit_price, stop_price=stop_price
            )
    raise _unsupported()


def _unsupported() -> OrderFailedError:
    return OrderFailedError(
        "UNSUPPORTED_ORDER_CONFIGURATION",
        "PREVIEW_INVALID_ORDER_CONFIG",
        "Unsupported order configuration",
    )


def preview(call: Call) -> Json:
    """All that `place` checks, and nothing of what it does. Totals are those of the limit or the
    best price, without fees."""
    errs: list[str] = []
    quote_size = base_size = total = render.ZERO
    product_id = str(call.body.get("product_id") or "")
    try:
        request = _order_request(call, "preview")
        call.exchange.test(request)
        mark = request.price or call.market(product_id).mark() or render.ZERO
        base_size = request.qty or (request.quote_qty or render.ZERO) / (mark or Decimal(1))
        total = quote_size = request.quote_qty or request.qty * mark
    except RefusedError as error:
        failure = errors.order_failure(error.reason, stop_is_up=call.body.get("side") == "BUY")
        if isinstance(failure, CoinbaseError):
            raise failure from None
        errs.append(failure.preview)
    except OrderFailedError as error:
        errs.append(error.preview)
    market = call.exchange.markets.get(product_id)
    item = market.instrument if market is not None else None
    return {
        "order_total": render.money(total),
        "commission_total": "0",
        "errs": errs,
        "warning": [],
        "quote_size": render.money(quote_size),
        "base_size": render.money(base_size),
        "best_bid": render.best_price(market.book.bids, item) if market and item else "",
        "best_ask": render.best_price(market.book.asks, item) if market and item else "",
        "is_max": False,
        "order_margin_total": "0",
        "leverage": "",
        "long_leverage": "",
        "short_leverage": "",
        "slippage": "0",
        "preview_id": render.named_uuid("preview", str(call.received_ns)),
    }


# Changing


def edit(call: Call) -> Json:
    """Of a limit order that rests until cancelled. Price and size are both wanted: a size that is
    left out reads as 0."""
    if call.caller is not None and not call.caller.may_trade:
        raise errors.permission_denied()
    order = _find(call, str(call.body.get("order_id") or ""))
    if order is None:
        raise errors.order_not_found()
    if not order.is_open or order.time_in_force is not TimeInForce.GTC:
        return _edit_failed("ORDER_EDITS_ONLY_SUPPORTED_ON_OPEN_ORDERS")
    try:
        price, size = positive(call.body, "price"), positive(call.body, "size")
    except ValueError as error:
        return _edit_failed(f"INVALID_EDITED_{str(error).upper()}")
    if size is None or price is None:
        return _edit_failed("INVALID_EDITED_SIZE" if size is None else "INVALID_EDITED_PRICE")
    if size <= order.cum_qty:
        return _edit_failed("CANNOT_EDIT_TO_BELOW_FILLED_SIZE")
    if (size, price) == (order.order_qty, order.price):
        return _edit_failed("EDIT_REQUEST_NO_CHANGE")
    try:
        call.exchange.amend(order, qty=size, price=price)
    except RefusedError as error:
        failure = errors.order_failure(error.reason)
        if isinstance(failure, CoinbaseError):
            raise failure from None
        return _edit_failed("COMMANDER_REJECTED_EDIT_ORDER", failure.preview)
    return {"success": True, "errors": []}


def _edit_failed(reason: str, preview: str = errors.UNKNOWN_PREVIEW_FAILURE) -> Json:
    return {
        "success": False,
        "errors": [{"edit_failure_reason": reason, "preview_failure_reason": preview}],
    }


def batch_cancel(call: Call) -> Json:
    """One result each, in the order of the request."""
    order_ids = call.body.get("order_ids")
    if not isinstance(order_ids, list) or not order_ids:
        raise errors.invalid_argument("order_ids is required")
    return {"results": [_cancelled(call, str(order_id)) for order_id in order_ids]}


def _cancelled(call: Call, order_id: str) -> Json:
    order = _find(call, order_id)
    failure = "UNKNOWN_CANCEL_ORDER"
    if order is not None:
        try:
            call.exchange.cancel(order)
            failure = ""
        except RefusedError as error:
            failure = errors.cancel_failure(error.reason)
    return {
        "success": not failure,
        "failure_reason": failure or "UNKNOWN_CANCEL_FAILURE_REASON",
        "order_id": order_id,
    }


def _find(call: Call, order_id: str) -> Order | None:
    number = render.order_number(order_id)
    order = call.exchange.ledger.orders.get(number) if number is not None else None
    return order if order is not None and order.account == call.account else None


# Looking


def get(call: Call) -> Json:
    order = _find(call, call.name)
    if order is None:
        raise errors.order_not_found()
    return {"order": render.order(order, call.exchange.ledger.fills_of(order.order_id))}


def batch(call: Call) -> Json:
    """Newest first. `OPEN` is not asked for together with other states ("List Orders")."""
    states = call.listed("order_status")
    if "OPEN" in states and len(states) > 1:
        raise errors.invalid_argument("cannot pair OPEN orders with other order types")
    ledger = call.exchange.ledger
    candidates = (
        ledger.open.get(call.account, {}).values() if states == _OPEN else ledger.orders.values()
    )
    products, ids = call.listed("product_id", "product_ids"), call.listed("order_ids")
    types, sides = call.listed("order_types"), call.listed("order_side")
    start_ns, end_ns = call.time_ns("start_date"), call.time_ns("end_date")
    found = [
        order
        for order in candidates
        if order.account == call.account
        and (not states or render.status(order) in states)
        and (not products or order.symbol in products)
        and (not ids or render.order_uuid(order.order_id) in ids)
        and (not types or order.ord_type.value in types)
        and (not sides or order.side.value in sides)
        and (start_ns is None or order.accepted_ns >= start_ns)
        and (end_ns is None or order.accepted_ns < end_ns)
    ]
    orders, cursor = page(
        shown(found[::-1]), call, call.count("limit", ORDERS_PER_PAGE, ORDERS_PER_PAGE)
    )
    return {
        "orders": [render.order(order, ledger.fills_of(order.order_id)) for order in orders],
        "sequence": "0",
        "has_next": bool(cursor),
        "cursor": cursor,
    }


def fills(call: Call) -> Json:
    """Newest first."""
    products = call.listed("product_id", "product_ids")
    order_ids, trade_ids = call.listed("order_id", "order_ids"), call.listed("trade_ids")
    start_ns = call.time_ns("start_sequence_timestamp")
    end_ns = call.time_ns("end_sequence_timestamp")
    found = [
        fill
        for fill in _own_fills(call, order_ids)
        if (not products or fill.symbol in products)
        and (not trade_ids or render.fill_uuid(fill) in trade_ids)
        and (start_ns is None or fill.at_ns >= start_ns)
        and (end_ns is None or fill.at_ns < end_ns)
    ]
    limit = call.count("limit", FILLS_PER_PAGE, ORDERS_PER_PAGE)
    listed, cursor = page(shown(found[::-1]), call, limit)
    return {"fills": [render.fill(fill) for fill in listed], "cursor": cursor}


def _own_fills(call: Call, order_ids: set[str]) -> Sequence[OwnFill]:
    ledger = call.exchange.ledger
    if not order_ids:
        return [fill for fill in ledger.fills if fill.account == call.account]
    orders = [order for order_id in order_ids if (order := _find(call, order_id)) is not None]
    return [fill for order in orders for fill in ledger.fills_of(order.order_id)]
