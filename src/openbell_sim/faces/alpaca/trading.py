"""Calls about orders: placing, finding, replacing, cancelling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from openbell.domain.orders import Side
from openbell_sim.checks import OrderRequest
from openbell_sim.events import Refuse
from openbell_sim.exchange import Exchange
from openbell_sim.faces.alpaca import errors, names, reading, render
from openbell_sim.faces.alpaca.errors import AlpacaError
from openbell_sim.faces.alpaca.orders import (
    REPLACED,
    Note,
    Replacements,
    as_accepted,
    note_of,
    note_text,
    status_of,
)
from openbell_sim.faces.alpaca.render import Json
from openbell_sim.keys import Credentials
from openbell_sim.ledger import Order
from openbell_sim.listing import shown
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.session_calendar import SessionCalendar

NO_CONTENT = 204
MULTI_STATUS = 207
_LISTED_DEFAULT, _LISTED_MAX = 50, 500
"""`limit` of "All Orders"."""


@dataclass(frozen=True)
class Call:
    """One call of an identified account."""

    exchange: Exchange
    replacements: Replacements
    calendar: SessionCalendar
    credentials: Credentials
    query: Mapping[str, str]
    named: Mapping[str, str]
    """The variable parts of the address."""
    body: bytes
    received_ns: int

    @property
    def account(self) -> str:
        return self.credentials.account

    def quantity(self, symbol: str) -> Decimal:
        """The account's position; negative: short."""
        return self.exchange.ledger.position(self.account, symbol).quantity

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        orders = self.exchange.ledger.open.get(self.account, {}).values()
        return [order for order in orders if symbol in (None, order.symbol)]

    def rendered(self, order: Order, *, status: str = "") -> Json:
        return render.order(order, self.replacements, status=status)


Result = tuple[int, object]
"""Status and body."""


# Placing


def place(call: Call) -> Result:
    try:
        request = reading.new_order(
            reading.decoded(call.body, reading.OrderBody),
            account=call.account,
            price_of=lambda symbol, side: _price(call.exchange, symbol, side),
            received_ns=call.received_ns,
        )
    except AlpacaError as error:
        _record_unread(call, error)
        raise
    return 200, call.rendered(as_accepted(submit(call, request)), status="pending_new")


def submit(call: Call, request: OrderRequest) -> Order:
    """Raises AlpacaError, after the refusal is recorded."""
    checks = ((_check_key, Reason.MAY_NOT_TRADE), (_check_position, Reason.REDUCE_ONLY))
    for check, reason in checks:
        try:
            check(call, request)
        except AlpacaError as error:
            call.exchange.turn_away(request, reason, f"{error.code} {error.message}")
            raise
    return _submit(call, request)


def _submit(call: Call, request: OrderRequest) -> Order:
    try:
        return call.exchange.submit(request)
    except RefusedError as error:
        raise errors.from_refusal(error, request) from None


def _closes(call: Call, request: OrderRequest) -> bool:
    return call.quantity(request.symbol) * request.side.sign < 0


def _check_key(call: Call, request: OrderRequest) -> None:
    """Raises AlpacaError for what a key that may only close would open."""
    if not call.credentials.may_trade and not _closes(call, request):
        raise errors.from_refusal(RefusedError(Reason.MAY_NOT_TRADE), request)


def _check_position(call: Call, request: OrderRequest, replaced: Order | None = None) -> None:
    """What Alpaca refuses by looking at the position. Raises AlpacaError.

    One order never takes a position through zero. An order that says what it is for
    (`position_intent`) is refused where it would do something else, or where other orders hold
    the shares; for one that does not say, other orders are not counted here (Alpaca does).
    `replaced`: an order that will be gone by then.
    """
    held = call.quantity(request.symbol)
    closes = _closes(call, request)
    inferred = f"{request.side.value.lower()}_to_{'close' if closes else 'open'}"
    specified = note_of(request).position_intent
    if specified and specified != inferred:
        raise errors.unprocessable(
            f"position intent mismatch, inferred: {inferred}, specified: {specified}"
        )
    if not closes:
        if request.side is Side.SELL and request.qty % 1:
            raise errors.unprocessable("fractional orders cannot be sold short")
        return
    promised = Decimal(0)
    if specified:
        promised = promised_qty(call, request.symbol, request.side)
        promised -= replaced.leaves_qty if replaced is not None else 0
    check_available(request.symbol, request.qty, abs(held), promised)


def check_available(symbol: str, requested: Decimal, existing: Decimal, promised: Decimal) -> None:
    """Raises AlpacaError where less than `requested` is left to close."""
    available = max(Decimal(0), existing - promised)
    if requested > available:
        raise errors.insufficient_quantity(
            symbol,
            requested=names.number(requested),
            existing=names.number(existing),
            held=names.number(promised),
            available=names.number(available),
        )


def promised_qty(call: Call, symbol: str, side: Side) -> Decimal:
    """What open orders of this side will take of the position, if they are filled."""
    leaves = (order.leaves_qty for order in call.open_orders(symbol) if order.side is side)
    return sum(leaves, Decimal(0))


def _price(exchange: Exchange, symbol: str, side: Side) -> Decimal | None:
    """What the other side asks, or bids; else the mark."""
    market = exchange.markets.get(symbol)
    if market is None:
        return None
    best = market.book.side(side.opposite).best
    return market.mark() if best is None else market.instrument.price(best)


def _record_unread(call: Call, error: AlpacaError) -> None:
    """What cannot be read as an order reached the venue all the same."""
    try:
        body = reading.decoded(call.body, reading.OrderBody)
    except AlpacaError:
        body = reading.OrderBody()
    call.exchange.refuse(
        Refuse(
            order_id=0,
            account=call.account,
            cl_ord_id=body.client_order_id or "",
            symbol=body.symbol or "",
            side=(body.side or "").upper(),
            ord_type=(body.type or "").upper(),
            order_qty=str(body.qty or body.notional or ""),
            price=str(body.limit_price or ""),
            received_ns=call.received_ns,
            reason=Reason.MALFORMED.value,
            text=f"{error.code} {error.message}",
            at_ns=call.exchange.now_ns(),
        )
    )


# Finding


def listed(call: Call) -> Result:
    """`status`, `limit`, `after`, `until`, `direction`, `symbols`, `side`; `nested` changes nothing
    where every order has one leg."""
    query = call.query
    status = query.get("status", "open")
    if status not in ("open", "closed", "all"):
        raise errors.malformed("invalid status")
    after_ns, until_ns = (_time(query.get(name), name) for name in ("after", "until"))
    symbols = {symbol for symbol in query.get("symbols", "").split(",") if symbol}
    side = query.get("side", "").upper()
    found = [
        order
        for order in call.exchange.ledger.orders.values()
        if order.account == call.account
        and (status == "all" or order.is_open == (status == "open"))
        and (not symbols or order.symbol in symbols)
        and (not side or order.side.value == side)
        and (after_ns is None or order.accepted_ns > after_ns)
        and (until_ns is None or order.accepted_ns < until_ns)
    ]
    if query.get("direction", "desc") == "desc":
        found.reverse()
    limit = _limit(query.get("limit"))
    return 200, [call.rendered(order) for order in shown(found[:limit])]


def _limit(text: str | None) -> int:
    if not text:
        return _LISTED_DEFAULT
    if not text.isdecimal() or not int(text):
        raise errors.malformed("invalid limit")
    return min(int(text), _LISTED_MAX)


def _time(text: str | None, name: str) -> int | None:
    if not text:
        return None
    try:
        return names.time_ns(text)
    except ValueError:
        raise errors.malformed(f"invalid {name}") from None


def _find(call: Call) -> Order:
    text = call.named["order_id"]
    number = reading.order_number(text)
    order = None if number is None else call.exchange.ledger.orders.get(number)
    if order is None or order.account != call.account:
        raise errors.not_found(f"order not found for {text}")
    return order


def by_id(call: Call) -> Result:
    return 200, call.rendered(_find(call))


def by_client_order_id(call: Call) -> Result:
    name = call.query.get("client_order_id")
    if not name:
        raise errors.malformed("client_order_id is missing")
    order = call.exchange.ledger.named(call.account, name)
    if order is None:
        raise errors.not_found(f"order not found for {name}")
    return 200, call.rendered(order)


# Cancelling


def cancel(call: Call) -> Result:
    order = _find(call)
    _check_open(order)
    _cancel(call, order)
    return NO_CONTENT, None


def _check_open(order: Order) -> None:
    if not order.is_open:
        raise errors.ended(status_of(order))


def _cancel(call: Call, order: Order, request_id: str = "") -> Order:
    """The order as it is to be told. Raises AlpacaError."""
    try:
        return call.exchange.cancel(order, request_id)
    except RefusedError as error:
        _check_open(order)
        raise errors.from_refusal(error, _request_of(call, order)) from None


def cancel_all(call: Call) -> Result:
    """Each order's own status and body."""
    rows: list[Json] = []
    for order in call.open_orders():
        row: Json = {"id": names.order_id(order.order_id), "status": 200}
        try:
            row["body"] = call.rendered(_cancel(call, order))
        except AlpacaError as error:
            row |= {"status": error.status, "body": error.body()}
        rows.append(row)
    return MULTI_STATUS, list(shown(rows))


# Replacing


def replace_order(call: Call) -> Result:
    """Another order in the place of this one, with an id of its own. Where the new one would be
    refused the old one stays; both are looked at as if they stood beside each other."""
    old = _find(call)
    body = reading.decoded(call.body, reading.ReplaceBody)
    _check_open(old)
    request = _replacement(call, old, body)
    _check_key(call, request)
    _check_position(call, request, old)
    try:
        call.exchange.test(request)
    except RefusedError as error:
        raise errors.from_refusal(error, request) from None
    _cancel(call, old, REPLACED)
    new = _submit(call, request)
    return 200, call.rendered(as_accepted(new), status="pending_new")


def _replacement(call: Call, old: Order, body: reading.ReplaceBody) -> OrderRequest:
    note = note_of(old)
    if note.notional is not None:
        raise errors.unprocessable("notional orders cannot be replaced")
    if body.trail is not None:
        raise errors.unprocessable("this venue simulates no trailing_stop orders")
    qty = old.order_qty if body.qty is None else body.qty
    if qty <= old.cum_qty:
        raise errors.unprocessable("qty must be > filled qty")
    time_in_force = body.time_in_force or note.time_in_force
    request = _request_of(call, old)
    return replace(
        request,
        cl_ord_id=reading.client_id(body.client_order_id),
        time_in_force=reading.time_in_force_of(time_in_force),
        qty=qty - old.cum_qty,
        price=body.limit_price if body.limit_price is not None else request.price,
        stop_price=body.stop_price if body.stop_price is not None else request.stop_price,
        note=note_text(
            Note(
                time_in_force=time_in_force,
                extended_hours=note.extended_hours,
                replaces=old.order_id,
                position_intent=note.position_intent,
            )
        ),
    )


def _request_of(call: Call, order: Order) -> OrderRequest:
    return OrderRequest(
        account=order.account,
        cl_ord_id=order.cl_ord_id,
        symbol=order.symbol,
        side=order.side,
        ord_type=order.ord_type,
        time_in_force=order.time_in_force,
        qty=order.leaves_qty,
        price=order.price,
        stop_price=order.stop_price,
        note=order.note,
        received_ns=call.received_ns,
    )
