"""Stop losses and take profits that hang on trades.

At the exchange they are reduce-only orders: a take profit a limit order, a stop loss a stop order,
of as many units as the trade has. Two differences to OANDA follow: what they fill closes the
oldest trades of the instrument first, and a stop loss is triggered by the last price rather than
by the bid or the ask.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell_sim.faces.oanda import errors, reasons
from openbell_sim.faces.oanda.accounts import Accounts, Call
from openbell_sim.faces.oanda.book import Book, Json, OrderState, Trade
from openbell_sim.faces.oanda.errors import RejectedError
from openbell_sim.faces.oanda.notes import ClientExtensions, Note
from openbell_sim.faces.oanda.requests import (
    OnFill,
    OrderSpec,
    Placing,
    checked_price,
    decode,
    order_request,
)
from openbell_sim.faces.port import Answer
from openbell_sim.refusals import Reason, RefusedError

KINDS = ("TAKE_PROFIT", "STOP_LOSS")


def settle(accounts: Accounts, account: str) -> None:
    """Makes what newly opened trades are to have, and ends or cuts what changed trades no longer
    need. Doing it again changes nothing."""
    book = accounts.book(account)
    undone: dict[int, Trade] = {}
    while book.opened or book.touched:
        opened, book.opened = book.opened, {}
        touched, book.touched = book.touched, {}
        for trade, note in opened.values():
            for kind, wanted in zip(KINDS, (note.take_profit, note.stop_loss), strict=True):
                if wanted is not None and trade.is_open and (trade.id, kind) not in book.hanging:
                    _place(accounts, account, trade, kind, wanted.price, wanted.client, "ON_FILL")
        for trade in touched.values():
            for kind in KINDS:
                try:
                    _fit(accounts, book, trade, kind)
                except RefusedError:
                    # A halted market lets nothing go.
                    undone[trade.id] = trade
        accounts.catch_up()
    book.touched |= undone


def _fit(accounts: Accounts, book: Book, trade: Trade, kind: str) -> None:
    """Raises RefusedError."""
    order = book.hanging.get((trade.id, kind))
    if order is None or order.state is not OrderState.PENDING:
        return
    resting = accounts.exchange.ledger.orders[order.exchange_id]
    if not resting.is_open:
        return
    if not trade.is_open:
        accounts.exchange.cancel(resting, "LINKED_TRADE_CLOSED", reason="linked_trade_closed")
    elif resting.leaves_qty > abs(trade.units):
        accounts.exchange.amend(resting, qty=resting.cum_qty + abs(trade.units))


def _place(
    accounts: Accounts,
    account: str,
    trade: Trade,
    kind: str,
    price: Decimal,
    client: ClientExtensions,
    reason: str,
) -> None:
    """What the exchange refuses is told by the transactions that follow."""
    note = Note(
        kind=kind,
        reason=reason,
        position_fill="REDUCE_ONLY",
        price=price,
        client=client,
        trade_id=trade.id,
    )
    exchange = accounts.exchange
    placing = Placing(account, exchange.markets[trade.symbol], exchange.now_ns())
    try:
        exchange.submit(order_request(note, -trade.units, placing))
    except RefusedError:
        return


def create(call: Call, spec: OrderSpec) -> None:
    """An order of these kinds, asked for by itself. Raises RejectedError."""
    trade = call.book.find_trade(spec.trade_id)
    if trade is None or not trade.is_open:
        raise RejectedError("TRADE_DOESNT_EXIST", Reason.REDUCE_ONLY)
    standing = call.book.hanging.get((trade.id, spec.type))
    if standing is not None and standing.state is OrderState.PENDING:
        raise RejectedError(f"{spec.type}_ORDER_ALREADY_EXISTS")
    price = checked_price(spec.price, call.exchange.instruments[trade.symbol], "PRICE")
    client = spec.client_extensions.checked("ORDER")
    _place(call.accounts, call.account, trade, spec.type, price, client, "CLIENT_ORDER")


class DependentBody(msgspec.Struct, frozen=True, rename="camel"):
    """Null cancels; what is not named stays."""

    take_profit: OnFill | msgspec.UnsetType | None = msgspec.UNSET
    stop_loss: OnFill | msgspec.UnsetType | None = msgspec.UNSET


def set_dependent(call: Call) -> Answer:
    """`PUT trades/{id}/orders`."""
    trade = call.book.find_trade(call.parts["trade"])
    if trade is None or not trade.is_open:
        return Answer(404, call.answer(**errors.no_such("trade").body()))
    body = decode(call.body, DependentBody)
    begun = call.book.last_id
    facts: Json = {}
    for kind, given in zip(KINDS, (body.take_profit, body.stop_loss), strict=True):
        if not isinstance(given, msgspec.UnsetType):
            before = call.book.last_id
            _set(call, trade, kind, given)
            facts |= _told(call, kind, before)
    settle(call.accounts, call.account)
    related = [str(item.id) for item in call.book.transactions[begun:]]
    status = 400 if any(name.endswith("RejectTransaction") for name in facts) else 200
    return Answer(status, call.answer(**facts, relatedTransactionIDs=related))


def _set(call: Call, trade: Trade, kind: str, given: OnFill | None) -> None:
    """Puts one in the place of what hangs there; None takes that away. Raises OandaError."""
    exchange, standing = call.exchange, call.book.hanging.get((trade.id, kind))
    resting = None
    if standing is not None and standing.state is OrderState.PENDING:
        resting = exchange.ledger.orders[standing.exchange_id]
    try:
        if given is None:
            if resting is not None:
                exchange.cancel(resting, "CLIENT_REQUEST")
            return
        price = checked_price(given.price, exchange.instruments[trade.symbol], "PRICE")
        client = given.client_extensions.checked("ORDER")
        if resting is None:
            _place(call.accounts, call.account, trade, kind, price, client, "CLIENT_ORDER")
        elif resting.stop_price is None:
            exchange.amend(resting, price=price, cl_ord_id=client.id or None)
        else:
            exchange.amend(resting, stop_price=price, cl_ord_id=client.id or None)
    except (RejectedError, RefusedError) as error:
        refused = isinstance(error, RefusedError)
        word = reasons.of_reason(error.reason) if refused else str(error)
        raise errors.OandaError(400, errors.in_words(word), word) from None


def _told(call: Call, kind: str, before: int) -> Json:
    """The transactions since `before` under the names that the answer has for them."""
    name = "takeProfit" if kind == "TAKE_PROFIT" else "stopLoss"
    names = {
        "ORDER_CANCEL": f"{name}OrderCancelTransaction",
        "ORDER_FILL": f"{name}OrderFillTransaction",
        f"{kind}_ORDER": f"{name}OrderTransaction",
        f"{kind}_ORDER_REJECT": f"{name}OrderRejectTransaction",
    }
    new = call.book.transactions[before:]
    return {names[item.kind]: call.written([item])[0] for item in new if item.kind in names}
