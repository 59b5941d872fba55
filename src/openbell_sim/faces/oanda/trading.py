"""Calls that change something: orders placed, replaced, cancelled, positions and trades closed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.events import Refuse
from openbell_sim.faces.oanda import errors, protections, reasons
from openbell_sim.faces.oanda.accounts import Call
from openbell_sim.faces.oanda.book import Json, OandaOrder, OrderState, Transaction
from openbell_sim.faces.oanda.errors import OandaError, RejectedError
from openbell_sim.faces.oanda.notes import Note
from openbell_sim.faces.oanda.requests import (
    CreateBody,
    OrderSpec,
    Placing,
    checked,
    checked_price,
    decode,
    order_request,
)
from openbell_sim.faces.port import Answer
from openbell_sim.refusals import Reason, RefusedError

_DEPENDENT = ("TAKE_PROFIT", "STOP_LOSS")
_KINDS = ("MARKET", "LIMIT", "STOP", "MARKET_IF_TOUCHED", *_DEPENDENT)


def create_order(call: Call) -> Answer:
    spec = _spec(call)
    before = call.book.last_id
    try:
        if spec.type in _DEPENDENT:
            protections.create(call, spec)
        else:
            _submit(call, _request(call, spec))
    except RejectedError as error:
        _record(call, spec, error)
    protections.settle(call.accounts, call.account)
    return _created(call, before, "order")


def _spec(call: Call) -> OrderSpec:
    """Raises OandaError, after the attempt is recorded: it reached the venue all the same."""
    try:
        spec = decode(call.body, CreateBody).order
        if spec.type not in _KINDS:
            raise errors.invalid("order.type")
    except OandaError as error:
        call.exchange.refuse(
            Refuse(
                order_id=0,
                account=call.account,
                received_ns=call.received_ns,
                reason=Reason.MALFORMED.value,
                at_ns=call.exchange.now_ns(),
            )
        )
        raise error from None
    return spec


def _request(call: Call, spec: OrderSpec) -> OrderRequest:
    """Raises RejectedError."""
    exchange, book = call.exchange, call.book
    note, units = checked(spec, exchange.instruments.get(spec.instrument), exchange.now_ns())
    # OANDA's ids are unique among the account's pending orders, in whatever instrument.
    namesake = book.by_client_id.get(note.client.id)
    if namesake is not None and namesake.state is OrderState.PENDING:
        raise RejectedError("CLIENT_ORDER_ID_ALREADY_EXISTS", Reason.DUPLICATE_CL_ORD_ID)
    held = book.position(spec.instrument).quantity
    if note.position_fill == "OPEN_ONLY" and held * units < 0:
        raise RejectedError("ORDER_FILL_POSITION_ACTION_INVALID")
    _check_key(call, closes=note.position_fill == "REDUCE_ONLY")
    market = exchange.markets[spec.instrument]
    placing = Placing(call.account, market, call.received_ns)
    return order_request(note, units, placing)


def _check_key(call: Call, *, closes: bool) -> None:
    """Raises RejectedError."""
    if not call.credentials.may_trade and not closes:
        raise RejectedError("ACCOUNT_ORDER_CREATION_LOCKED", Reason.MAY_NOT_TRADE)


def _submit(call: Call, request: OrderRequest) -> None:
    """What the exchange refuses is told by the transactions that follow."""
    if request.ord_type in (OrdType.STOP, OrdType.STOP_LIMIT):
        # OANDA fills a stop order at once whose price has been reached.
        try:
            call.exchange.test(request)
        except RefusedError as error:
            if error.reason is Reason.WOULD_TRIGGER:
                request = _at_once(request)
    try:
        call.exchange.submit(request)
    except RefusedError:
        return


def _at_once(request: OrderRequest) -> OrderRequest:
    kind = OrdType.MARKET if request.price is None else OrdType.LIMIT
    return replace(request, ord_type=kind, stop_price=None, time_in_force=TimeInForce.IOC)


def _record(call: Call, spec: OrderSpec, error: RejectedError) -> None:
    """A reject transaction, by way of the exchange's log, so that it keeps its id."""
    units = spec.units if spec.units is not None and spec.units.is_finite() else Decimal(0)
    note = Note(
        kind=spec.type,
        time_in_force=spec.time_in_force or "GTC",
        position_fill=spec.position_fill,
        price=spec.price,
        client=spec.client_extensions.plain(),
        trade_id=int(spec.trade_id) if spec.trade_id.isdecimal() else 0,
    )
    call.exchange.refuse(
        Refuse(
            order_id=0,
            account=call.account,
            cl_ord_id=spec.client_extensions.id,
            symbol=spec.instrument,
            side=(Side.BUY if units >= 0 else Side.SELL).value,
            order_qty=str(abs(units)),
            price="" if spec.price is None else str(spec.price),
            note=note.text(),
            received_ns=call.received_ns,
            reason=error.reason.value,
            text=error.reject_reason,
            at_ns=call.exchange.now_ns(),
        )
    )


def _created(call: Call, before: int, prefix: str) -> Answer:
    """What became of one order, told by the transactions since `before`. The fields of OANDA's
    answers begin with `prefix`: `order`, `longOrder`, `shortOrder`."""
    new = call.book.transactions[before:]
    first = new[0]
    if first.kind.endswith("_REJECT"):
        return _rejected(call, new, f"{prefix}RejectTransaction")
    facts: Json = {f"{prefix}CreateTransaction": call.written([first])[0]}
    for kind, name in (("ORDER_FILL", "Fill"), ("ORDER_CANCEL", "Cancel")):
        of_it = [t for t in new if t.kind == kind and t.body["orderID"] == str(first.id)]
        if of_it:
            facts[f"{prefix}{name}Transaction"] = call.written(of_it[-1:])[0]
    facts["relatedTransactionIDs"] = [str(item.id) for item in new]
    location = f"{call.base_url}/v3/accounts/{call.book.id}/orders/{first.id}"
    return Answer(201, call.answer(**facts), {"Location": location})


def _rejected(call: Call, new: list[Transaction], name: str, status: int = 400) -> Answer:
    reason = str(new[0].body["rejectReason"])
    return Answer(
        status,
        call.answer(
            **{name: call.written(new[:1])[0]},
            relatedTransactionIDs=[str(item.id) for item in new],
            errorCode=reason,
            errorMessage=errors.in_words(reason),
        ),
    )


# Cancelling and replacing


def cancel_order(call: Call) -> Answer:
    """A refused cancel leaves no transaction: the exchange keeps no record of it."""
    found = call.book.find_order(call.parts["order"])
    if found is None or found.state is not OrderState.PENDING:
        return _not_cancelled(call, Reason.UNKNOWN_ORDER)
    before = call.book.last_id
    try:
        call.exchange.cancel(call.exchange.ledger.orders[found.exchange_id], "CLIENT_REQUEST")
    except RefusedError as error:
        return _not_cancelled(call, error.reason)
    new = call.book.transactions[before:]
    told = next((item for item in new if item.id == found.cancelled_by), None)
    if told is None:
        # Acknowledged, and not done yet: the answer is ahead of what will be recorded.
        body: Json = {"orderID": str(found.id), "reason": "CLIENT_REQUEST"}
        told = Transaction(before + 1, call.exchange.now_ns(), before + 1, "ORDER_CANCEL", body)
        new = [*new, told]
    return Answer(
        200,
        call.answer(
            orderCancelTransaction=call.written([told])[0],
            relatedTransactionIDs=[str(item.id) for item in new],
        ),
    )


def replace_order(call: Call) -> Answer:
    """Another price, other units, another client id: an order is replaced by one of its kind."""
    spec = _spec(call)
    found = call.book.find_order(call.parts["order"])
    if found is None or found.state is not OrderState.PENDING:
        return _not_cancelled(call, Reason.UNKNOWN_ORDER)
    before = call.book.last_id
    resting = call.exchange.ledger.orders[found.exchange_id]
    try:
        _check_key(
            call, closes=found.note.position_fill == "REDUCE_ONLY" or spec.type in _DEPENDENT
        )
        units, price, client = _replacement(call, found, spec)
        call.exchange.amend(
            resting,
            qty=resting.cum_qty + abs(units),
            price=price if resting.stop_price is None else None,
            stop_price=None if resting.stop_price is None else price,
            cl_ord_id=client or None,
        )
    except RejectedError as error:
        _record(call, spec, error)
    except RefusedError as error:
        _record(call, spec, RejectedError(reasons.of_reason(error.reason), error.reason))
    protections.settle(call.accounts, call.account)
    new = call.book.transactions[before:]
    if new[0].kind.endswith("_REJECT"):
        return _rejected(call, new, "orderRejectTransaction")
    answer = _created(call, before + 1, "order")
    assert isinstance(answer.body, dict)
    related = [str(item.id) for item in new]
    cancelled: Json = {"orderCancelTransaction": call.written(new[:1])[0]}
    return Answer(201, answer.body | cancelled | {"relatedTransactionIDs": related}, answer.headers)


def _replacement(
    call: Call, found: OandaOrder, spec: OrderSpec
) -> tuple[Decimal, Decimal | None, str]:
    """Units, price and client id. Raises RejectedError."""
    item = call.exchange.instruments[found.symbol]
    if spec.type != found.note.kind:
        raise RejectedError("REPLACING_ORDER_INVALID")
    if spec.type in _DEPENDENT:
        price = checked_price(spec.price, item, "PRICE")
        return found.units, price, spec.client_extensions.id
    note, units = checked(spec, item, call.exchange.now_ns())
    keeps = (spec.instrument, note.time_in_force) == (found.symbol, found.note.time_in_force)
    if not keeps or units * found.units < 0:
        raise RejectedError("REPLACING_ORDER_INVALID")
    return units, note.price, note.client.id


def _not_cancelled(call: Call, reason: Reason) -> Answer:
    return Answer(404, call.answer(**cancel_rejection(reason)))


def cancel_rejection(reason: Reason) -> Json:
    word = reasons.of_cancel_refusal(reason)
    return {"errorCode": word, "errorMessage": errors.in_words(word)}


# Closing


class TradeCloseBody(msgspec.Struct, frozen=True):
    units: str | int | float = "ALL"


class PositionCloseBody(msgspec.Struct, frozen=True, rename="camel"):
    long_units: str | int | float = ""
    short_units: str | int | float = ""


def close_trade(call: Call) -> Answer:
    """A trade that a sweep of several levels opened is several lots of the exchange: it is closed
    by as many orders, of which the answer names the first and the last fill."""
    trade = call.book.find_trade(call.parts["trade"])
    if trade is None or not trade.is_open:
        return Answer(404, call.answer(**errors.no_such("trade").body()))
    asked = str(decode(call.body, TradeCloseBody).units)
    left = abs(trade.units) if asked == "ALL" else _closing_units(asked)
    if left > abs(trade.units):
        raise OandaError(
            400,
            errors.in_words("CLOSE_TRADE_UNITS_EXCEED_TRADE_SIZE"),
            "CLOSE_TRADE_UNITS_EXCEED_TRADE_SIZE",
        )
    before = call.book.last_id
    for exec_id in trade.exec_ids:
        lot = call.exchange.ledger.position(call.account, trade.symbol).lot(exec_id)
        if lot is None or not left:
            continue
        part = min(left, abs(lot.quantity))
        left -= part
        note = Note(
            kind="MARKET",
            reason="TRADE_CLOSE",
            time_in_force="FOK",
            position_fill="REDUCE_ONLY",
            trade_id=trade.id,
            closes=asked,
        )
        try:
            call.exchange.close_lot(
                call.account,
                trade.symbol,
                exec_id,
                part,
                note=note.text(),
                received_ns=call.received_ns,
            )
        except RefusedError:
            break
    protections.settle(call.accounts, call.account)
    return _closed(_created(call, before, "order"))


def close_position(call: Call) -> Answer:
    item = call.instrument(call.parts["instrument"])
    body = decode(call.body, PositionCloseBody)
    held = call.book.position(item.symbol).quantity
    answers: list[Answer] = []
    for prefix, given, side in (
        ("longOrder", str(body.long_units), Side.SELL),
        ("shortOrder", str(body.short_units), Side.BUY),
    ):
        exists = held * side.sign < 0
        # A side that is not named is closed where it exists.
        if given == "NONE" or (not given and not exists):
            continue
        asked = given or "ALL"
        before = call.book.last_id
        units = abs(held) if asked == "ALL" else _closing_units(asked)
        note = Note(
            kind="MARKET",
            reason="POSITION_CLOSEOUT",
            time_in_force="FOK",
            position_fill="REDUCE_ONLY",
            closes=asked,
        )
        market = call.exchange.markets[item.symbol]
        if not exists:
            spec = OrderSpec(type="MARKET", instrument=item.symbol)
            _record(call, spec, RejectedError("CLOSEOUT_POSITION_DOESNT_EXIST", Reason.REDUCE_ONLY))
        else:
            placing = Placing(call.account, market, call.received_ns)
            _submit(call, order_request(note, side.sign * units, placing))
        protections.settle(call.accounts, call.account)
        answers.append(_closed(_created(call, before, prefix)))
    if not answers:
        raise OandaError(
            404,
            errors.in_words("CLOSEOUT_POSITION_DOESNT_EXIST"),
            "CLOSEOUT_POSITION_DOESNT_EXIST",
        )
    return _together(call, answers)


def _closing_units(asked: str) -> Decimal:
    try:
        units = Decimal(asked)
    except ArithmeticError:
        raise errors.invalid("units") from None
    if not units.is_finite() or units <= 0:
        raise errors.invalid("units")
    return units


def _closed(answer: Answer) -> Answer:
    return Answer(200 if answer.status == 201 else answer.status, answer.body)


def _together(call: Call, answers: list[Answer]) -> Answer:
    """The answers about the long and the short side as one."""
    bodies = [answer.body for answer in answers if isinstance(answer.body, dict)]
    merged: Json = {key: value for body in bodies for key, value in body.items()}
    merged["relatedTransactionIDs"] = [
        number for body in bodies for number in body["relatedTransactionIDs"]
    ]
    return Answer(max(answer.status for answer in answers), call.answer(**merged))
