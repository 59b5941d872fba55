"""Placing, changing and cancelling orders: the same for REST and WebSocket v2."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NoReturn

import msgspec

from openbell_sim.checks import OrderRequest
from openbell_sim.events import Refuse
from openbell_sim.exchange import Exchange
from openbell_sim.faces.kraken import ids, limits
from openbell_sim.faces.kraken.errors import (
    INVALID_ORDER,
    ORDER_RATE,
    UNKNOWN_ORDER,
    KrakenError,
    from_refusal,
    invalid,
)
from openbell_sim.faces.kraken.limits import Limits
from openbell_sim.faces.kraken.pairs import Pair, Pairs
from openbell_sim.faces.kraken.parameters import Parameters
from openbell_sim.faces.kraken.words import NewOrder, check_deadline, note_of
from openbell_sim.keys import Credentials
from openbell_sim.ledger import Order
from openbell_sim.refusals import Reason, RefusedError

BATCH_ADD = range(2, 16)
BATCH_CANCEL_MAX = 50
DEAD_MAN_MAX_S = 86_400


@dataclass(frozen=True)
class Desk:
    """What calls of any account work on."""

    exchange: Exchange
    pairs: Pairs
    limits: Limits
    amended_ns: dict[int, int] = field(default_factory=dict)
    """When an order was last amended, by order id: what a change costs goes by it."""

    @property
    def now_s(self) -> float:
        return self.exchange.now_ns() / 1e9


@dataclass(frozen=True)
class Call:
    """One call of an identified account."""

    desk: Desk
    credentials: Credentials
    parameters: Parameters
    received_ns: int

    @property
    def exchange(self) -> Exchange:
        return self.desk.exchange

    @property
    def account(self) -> str:
        return self.credentials.account


# Placing.


def record_unreadable(call: Call, p: Parameters, error: KrakenError) -> NoReturn:
    """What cannot be read as an order reached the venue all the same: it is recorded."""

    def word(*names: str) -> str:
        for name in names:
            try:
                text = p.text_or_none(name)
            except KrakenError:
                continue
            if text is not None:
                return text
        return ""

    call.exchange.refuse(
        Refuse(
            order_id=0,
            account=call.account,
            cl_ord_id=word("cl_ord_id"),
            symbol=word("pair", "symbol"),
            side=word("type", "side"),
            ord_type=word("ordertype", "order_type"),
            order_qty=word("volume", "order_qty", "cash_order_qty"),
            price=word("price", "limit_price"),
            received_ns=call.received_ns,
            reason=Reason.MALFORMED.value,
            text=error.message,
            at_ns=call.exchange.now_ns(),
        )
    )
    raise error


def place(call: Call, new: NewOrder) -> Order:
    """Raises KrakenError."""
    desk = call.desk
    if not desk.limits.add(call.account, new.pair.altname, desk.now_s):
        call.exchange.turn_away(new.request, "order_rate", ORDER_RATE)
        raise KrakenError(ORDER_RATE)
    return _submit(call, new.request)


def _check_key(call: Call) -> None:
    """Of a change: it needs the permission to create and modify orders, as a new one does. Raises
    KrakenError."""
    if not call.credentials.may_trade:
        raise from_refusal(RefusedError(Reason.MAY_NOT_TRADE))


def _submit(call: Call, request: OrderRequest) -> Order:
    if not call.credentials.may_trade:
        raise _turned_away(call, request, Reason.MAY_NOT_TRADE)
    # Kraken keeps identifiers apart over all pairs of an account, the exchange within each.
    namesake = call.exchange.ledger.named(call.account, request.cl_ord_id)
    if namesake is not None and namesake.is_open and namesake.symbol != request.symbol:
        raise _turned_away(call, request, Reason.DUPLICATE_CL_ORD_ID)
    try:
        return call.exchange.submit(request)
    except RefusedError as error:
        raise from_refusal(error) from None


def _turned_away(call: Call, request: OrderRequest, reason: Reason) -> KrakenError:
    """Records an order that the exchange never sees."""
    error = from_refusal(RefusedError(reason))
    call.exchange.turn_away(request, reason, error.message)
    return error


def validate(call: Call, new: NewOrder) -> None:
    """All that is checked, and nothing done. Raises KrakenError."""
    _check_key(call)
    try:
        call.exchange.test(new.request)
    except RefusedError as error:
        raise from_refusal(error) from None


def place_batch(call: Call, orders: Sequence[NewOrder]) -> list[Order | KrakenError]:
    """Each as far as it gets; the batch counts half of its orders. Raises KrakenError."""
    if len(orders) not in BATCH_ADD:
        raise invalid("orders")
    desk, symbol = call.desk, orders[0].pair.altname
    if not desk.limits.add(call.account, symbol, desk.now_s, len(orders) / 2):
        raise KrakenError(ORDER_RATE)
    results: list[Order | KrakenError] = []
    for new in orders:
        try:
            results.append(_submit(call, new.request))
        except KrakenError as error:
            results.append(error)
    return results


# Finding.


def named(call: Call, reference: str) -> list[Order]:
    """Open orders by txid or user reference. Raises KrakenError."""
    open_orders = call.exchange.ledger.open.get(call.account, {})
    order_id = ids.order_id_of(reference)
    if order_id is not None:
        order = call.exchange.ledger.orders.get(order_id)
        if order is None or order.account != call.account:
            raise KrakenError(INVALID_ORDER)
        if not order.is_open:
            raise KrakenError(UNKNOWN_ORDER)
        return [order]
    try:
        userref = int(reference)
    except ValueError:
        raise KrakenError(INVALID_ORDER) from None
    found = [o for o in open_orders.values() if userref and note_of(o).userref == userref]
    if not found:
        raise KrakenError(UNKNOWN_ORDER)
    return found


def by_client_id(call: Call, cl_ord_id: str) -> Order:
    """The open order. Raises KrakenError."""
    order = call.exchange.ledger.named(call.account, cl_ord_id)
    if order is None or not order.is_open:
        raise KrakenError(UNKNOWN_ORDER)
    return order


def _one(call: Call, txid_name: str) -> Order:
    p = call.parameters
    if p.has("cl_ord_id"):
        return by_client_id(call, p.text("cl_ord_id"))
    found = named(call, p.text(txid_name))
    if len(found) != 1:
        raise KrakenError(INVALID_ORDER)
    return found[0]


# Cancelling.


def cancel(call: Call, orders: Sequence[Order]) -> int:
    """The number of them. Raises KrakenError where the rate limit is reached."""
    desk = call.desk
    for order in orders:
        cost = limits.cancel_cost(_age_s(call, order))
        if not desk.limits.change(call.account, order.symbol, desk.now_s, fixed=0, decaying=cost):
            raise KrakenError(ORDER_RATE)
        _withdraw(call, order)
    return len(orders)


def cancel_batch(call: Call, references: Sequence[str], cl_ord_ids: Sequence[str]) -> int:
    """Those that are there. Carried out whatever the rate. Raises KrakenError."""
    if not 0 < len(references) + len(cl_ord_ids) <= BATCH_CANCEL_MAX:
        raise invalid("orders")
    found: dict[int, Order] = {}
    for reference in references:
        with suppress(KrakenError):
            found |= {order.order_id: order for order in named(call, reference)}
    for cl_ord_id in cl_ord_ids:
        with suppress(KrakenError):
            order = by_client_id(call, cl_ord_id)
            found[order.order_id] = order
    return _cancel_all(call, list(found.values()))


def cancel_all(call: Call) -> int:
    return _cancel_all(call, list(call.exchange.ledger.open.get(call.account, {}).values()))


def _cancel_all(call: Call, orders: Sequence[Order]) -> int:
    count = 0
    for order in orders:
        cost = limits.cancel_cost(_age_s(call, order))
        try:
            call.exchange.cancel(order)
        except RefusedError:
            continue
        call.desk.limits.force(call.account, order.symbol, call.desk.now_s, cost)
        count += 1
    return count


def _withdraw(call: Call, order: Order) -> None:
    try:
        call.exchange.cancel(order)
    except RefusedError as error:
        raise from_refusal(error) from None


def _age_s(call: Call, order: Order) -> float:
    """Since it was accepted or amended."""
    since_ns = call.desk.amended_ns.get(order.order_id, order.accepted_ns)
    return (call.exchange.now_ns() - since_ns) / 1e9


# Changing.


def amend(call: Call, txid_name: str) -> tuple[Order, str]:
    """The order and the identifier of the change. Raises KrakenError."""
    _check_key(call)
    p, exchange = call.parameters, call.exchange
    check_deadline(p, exchange.now_ns())
    order = _one(call, txid_name)
    if not any(p.has(name) for name in ("order_qty", "limit_price", "trigger_price")):
        raise invalid()
    desk = call.desk
    if not desk.limits.change(
        call.account,
        order.symbol,
        desk.now_s,
        fixed=1,
        decaying=limits.amend_cost(_age_s(call, order)),
    ):
        raise KrakenError(ORDER_RATE)
    price = p.decimal_or_none("limit_price")
    if p.flag("post_only") and price is not None and _would_take(exchange, order, price):
        raise from_refusal(RefusedError(Reason.WOULD_MATCH))
    qty = p.decimal_or_none("order_qty")
    if qty is not None and qty <= order.cum_qty:
        # Kraken cancels what remains of an order that is made smaller than its executions.
        _withdraw(call, order)
    else:
        try:
            exchange.amend(
                order, qty=qty, price=price, stop_price=p.decimal_or_none("trigger_price")
            )
        except RefusedError as error:
            raise from_refusal(error) from None
        desk.amended_ns[order.order_id] = exchange.now_ns()
    return order, ids.amend_id(order.order_id, exchange.now_ns())


def _would_take(exchange: Exchange, order: Order, price: Decimal) -> bool:
    market = exchange.markets[order.symbol]
    try:
        return market.book.would_match(order.side, market.instrument.ticks(price))
    except ValueError:
        return False  # the exchange refuses it for its grid


@dataclass(frozen=True)
class Edited:
    order: Order
    replaced: Order
    pair: Pair


def edit(call: Call, txid_name: str, volume_name: str, price_name: str) -> Edited:
    """Cancels an order and places another in its stead; what it filled stays with the old one.
    Raises KrakenError."""
    _check_key(call)
    p, exchange = call.parameters, call.exchange
    check_deadline(p, exchange.now_ns())
    old = _one(call, txid_name)
    pair = call.desk.pairs.by_symbol[old.symbol]
    volume = p.decimal_or_none(volume_name) or old.order_qty
    if old.cum_qty >= volume:
        raise invalid("volume")
    desk = call.desk
    if not desk.limits.change(
        call.account,
        old.symbol,
        desk.now_s,
        fixed=1,
        decaying=limits.edit_cost(_age_s(call, old)),
    ):
        raise KrakenError(ORDER_RATE)
    flags = set(p.texts("oflags"))
    note = note_of(old)
    request = OrderRequest(
        account=call.account,
        cl_ord_id=f"~{old.cl_ord_id}"[:36],
        symbol=old.symbol,
        side=old.side,
        ord_type=old.ord_type,
        time_in_force=old.time_in_force,
        qty=volume - old.cum_qty,
        price=p.decimal_or_none(price_name) or old.price,
        stop_price=old.stop_price,
        # The flag must be said again on each edit.
        post_only="post" in flags or p.flag("post_only"),
        prevention=old.prevention,
        note=msgspec.json.encode(note).decode(),
        received_ns=call.received_ns,
    )
    _withdraw(call, old)
    return Edited(_submit(call, request), old, pair)
