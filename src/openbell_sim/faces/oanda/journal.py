"""The sequence of OANDA transactions that the exchange's events amount to.

A pure fold: the same events in the same order give the same transactions with the same ids, live
or after a restart from the order log. Therefore nothing here looks at a clock, and what only the
request knew comes with the events, in the order's note.

One fill transaction is one execution. The exchange books a fill for every level of the book that
an arriving order takes; OANDA fills an order at one price, the average (`fullVWAP`). So the fills
that an order takes in a row are one transaction, which ends with the next event of the account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from openbell.domain.orders import Side, TimeInForce
from openbell_sim.events import Accept, Amend, Cancel, Deposit, Event, Expire, Fill, Refuse
from openbell_sim.faces.oanda import reasons, render
from openbell_sim.faces.oanda.book import (
    ZERO,
    Book,
    Json,
    OandaOrder,
    OrderState,
    Trade,
    Transaction,
)
from openbell_sim.faces.oanda.markets import HOME, listing, money
from openbell_sim.faces.oanda.notes import Note, read_note
from openbell_sim.instruments import Instrument
from openbell_sim.positions import OpenLot


@dataclass
class _Run:
    """An order's fills that become one transaction."""

    order: OandaOrder
    at_ns: int
    takes: bool
    units: Decimal = ZERO
    """Signed."""
    notional: Decimal = ZERO
    realized: Decimal = ZERO
    commission: Decimal = ZERO
    opened: list[tuple[int, Decimal]] = field(default_factory=list)
    """Lots: exec id and signed units."""
    reduced: dict[int, tuple[Decimal, Decimal]] = field(default_factory=dict)
    """By trade: units taken off (signed as the fill), and what they realized."""

    @property
    def price(self) -> Decimal:
        return abs(self.notional / self.units)


class Journal:
    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self._instruments = instruments
        self.books: dict[str, Book] = {}
        """By the exchange's name of the account."""
        self._owner: dict[int, Book] = {}
        """By the exchange's order id."""
        self._closes: dict[int, int] = {}
        """Exec id of the lot that an order closes first, by the exchange's order id."""
        self._runs: dict[str, _Run] = {}
        self._batch: dict[str, int] = {}

    def book(self, account: str) -> Book:
        book = self.books.get(account)
        if book is None:
            book = self.books[account] = Book(account)
        return book

    def apply(self, events: Sequence[Event]) -> None:
        """All events up to a moment at which the exchange was at rest."""
        for event in events:
            self._apply(event)
        for account in list(self._runs):
            self._end_run(self.books[account])

    def _apply(self, event: Event) -> None:
        match event:
            case Deposit():
                self._deposit(event)
            case Accept():
                self._accept(event)
            case Refuse():
                self._refuse(event)
            case Fill():
                self._fill(event)
            case Cancel():
                book = self._at_rest(self._owner[event.order_id])
                order = book.by_exchange_id[event.order_id]
                self._cancel(book, order, reasons.of_cancel(event), event.at_ns)
            case Amend():
                self._amend(event)
            case Expire():
                book = self._at_rest(self._owner[event.order_id])
                order = book.by_exchange_id[event.order_id]
                reason = reasons.of_expiry(event.reason, order.note)
                self._cancel(book, order, reason, event.at_ns, in_batch=True)

    def _at_rest(self, book: Book) -> Book:
        self._end_run(book)
        return book

    def _add(self, book: Book, kind: str, at_ns: int, body: Json, *, in_batch: bool = False) -> int:
        """Appends a transaction; its id."""
        number = book.last_id + 1
        if not in_batch or book.name not in self._batch:
            self._batch[book.name] = number
        book.transactions.append(Transaction(number, at_ns, self._batch[book.name], kind, body))
        return number

    # Money

    def _deposit(self, event: Deposit) -> None:
        book = self._at_rest(self.book(event.account))
        if not book.transactions:
            book.created_ns = event.at_ns
            self._add(book, "CREATE", event.at_ns, {"homeCurrency": HOME})
        if event.currency != HOME:
            return
        book.balance += event.amount
        self._add(
            book,
            "TRANSFER_FUNDS",
            event.at_ns,
            {
                "amount": money(event.amount),
                "fundingReason": "CLIENT_FUNDING",
                "accountBalance": money(book.balance),
            },
        )

    # Orders

    def _accept(self, event: Accept) -> None:
        book = self._at_rest(self.book(event.account))
        note = read_note(
            event.note,
            ord_type=event.ord_type,
            time_in_force=event.time_in_force,
            cl_ord_id=event.cl_ord_id,
            price=event.price if event.stop_price is None else event.stop_price,
        )
        units = event.side.sign * event.order_qty
        order = self._create(book, event.symbol, units, note, event.order_id, event.at_ns)
        book.by_exchange_id[event.order_id] = order
        book.pending[order.id] = order
        self._owner[event.order_id] = book
        if event.closes is not None:
            self._closes[event.order_id] = event.closes

    def _create(
        self,
        book: Book,
        symbol: str,
        units: Decimal,
        note: Note,
        exchange_id: int,
        at_ns: int,
        *,
        in_batch: bool = False,
    ) -> OandaOrder:
        body = render.order_facts(note, symbol, units, self._instruments[symbol])
        body["reason"] = note.reason
        number = self._add(book, f"{note.kind}_ORDER", at_ns, body, in_batch=in_batch)
        order = OandaOrder(number, exchange_id, symbol, units, note, at_ns)
        book.orders[number] = order
        if note.client.id:
            book.by_client_id[note.client.id] = order
        if note.kind in ("TAKE_PROFIT", "STOP_LOSS"):
            book.hanging[note.trade_id, note.kind] = order
        return order

    def _refuse(self, event: Refuse) -> None:
        """OANDA takes an order that it cannot fill now, and cancels it in the same moment; what it
        cannot read or will not have it rejects; what is no order at all leaves no trace."""
        if reasons.leaves_no_trace(event):
            return
        book = self._at_rest(self.book(event.account))
        note = read_note(
            event.note,
            ord_type=event.ord_type,
            time_in_force=TimeInForce.GTC,
            cl_ord_id=event.cl_ord_id,
            price=Decimal(event.price) if event.price else None,
        )
        side = Side(event.side) if event.side else Side.BUY
        units = side.sign * Decimal(event.order_qty or 0)
        reason = reasons.of_cancellation(event, note)
        if reason is not None:
            order = self._create(book, event.symbol, units, note, 0, event.at_ns)
            self._cancel(book, order, reason, event.at_ns, in_batch=True)
            return
        item = self._instruments.get(event.symbol)
        body = render.order_facts(note, event.symbol, units, item)
        body |= {"reason": note.reason, "rejectReason": reasons.of_rejection(event)}
        self._add(book, f"{note.kind}_ORDER_REJECT", event.at_ns, body)

    def _amend(self, event: Amend) -> None:
        """What the venue cuts to what is left to close stays the same order; what the client
        replaces is cancelled, and another one created in the same moment."""
        book = self._at_rest(self._owner[event.order_id])
        old = book.by_exchange_id[event.order_id]
        sign = 1 if old.units > 0 else -1
        price = event.price if event.stop_price is None else event.stop_price
        follows_its_trade = (
            old.note.kind in ("TAKE_PROFIT", "STOP_LOSS") and price == old.note.price
        )
        if event.reason or follows_its_trade:
            # What hangs on a trade has no units of its own: OANDA tells nothing of it.
            old.units = sign * event.order_qty
            return
        filled = old.filled_units + old.filled_before
        note = msgspec.structs.replace(
            old.note,
            price=price,
            client=msgspec.structs.replace(old.note.client, id=event.cl_ord_id),
            reason="REPLACEMENT",
            replaces=old.id,
        )
        successor = book.last_id + 2
        old.replaced_by = successor
        self._cancel(book, old, "CLIENT_REQUEST_REPLACED", event.at_ns)
        units = sign * (event.order_qty - filled)
        new = self._create(
            book, old.symbol, units, note, event.order_id, event.at_ns, in_batch=True
        )
        new.filled_before = filled
        book.by_exchange_id[event.order_id] = new
        book.pending[new.id] = new

    def _cancel(
        self, book: Book, order: OandaOrder, reason: str, at_ns: int, *, in_batch: bool = False
    ) -> None:
        body: Json = {"orderID": str(order.id), "reason": reason}
        if order.note.client.id:
            body["clientOrderID"] = order.note.client.id
        if order.replaced_by:
            body["replacedByOrderID"] = str(order.replaced_by)
        order.cancelled_by = self._add(book, "ORDER_CANCEL", at_ns, body, in_batch=in_batch)
        order.cancelled_ns = at_ns
        order.state = OrderState.CANCELLED
        book.pending.pop(order.id, None)

    # Fills

    def _fill(self, event: Fill) -> None:
        book = self._owner[event.order_id]
        order = book.by_exchange_id[event.order_id]
        run = self._runs.get(book.name)
        takes = not event.is_maker
        if run is not None and not (takes and run.takes and run.order is order):
            self._end_run(book)
            run = None
        if run is None:
            run = self._runs[book.name] = _Run(order, event.at_ns, takes)
        item = self._instruments[order.symbol]
        sign = 1 if order.units > 0 else -1
        units = sign * event.qty
        run.units += units
        run.notional += units * event.price
        if event.fee_currency == HOME:
            run.commission += event.fee
        lot = OpenLot(
            exec_id=event.exec_id,
            order_id=event.order_id,
            quantity=units,
            price=event.price,
            at_ns=event.at_ns,
        )
        closed = book.position(order.symbol).fill(item, lot, self._closes.get(event.order_id))
        for part in closed:
            units += part.quantity
            trade = book.trade_of_lot[order.symbol, part.exec_id]
            if not part.left:
                del book.trade_of_lot[order.symbol, part.exec_id]
            before = run.reduced.get(trade.id, (ZERO, ZERO))
            run.reduced[trade.id] = (before[0] - part.quantity, before[1] + part.realized)
            run.realized += part.realized
            trade.realized += part.realized
            trade.closed_units += abs(part.quantity)
            trade.closed_notional += abs(part.quantity) * event.price
            trade.units -= part.quantity
        if units:
            run.opened.append((event.exec_id, units))

    def _end_run(self, book: Book) -> None:
        run = self._runs.pop(book.name, None)
        if run is None:
            return
        order, symbol = run.order, run.order.symbol
        book.balance += run.realized - run.commission
        book.realized_total += run.realized
        book.commission += run.commission
        number = self._add(
            book, "ORDER_FILL", run.at_ns, self._fill_body(book, run), in_batch=run.takes
        )
        order.filled_by, order.filled_ns = number, run.at_ns
        order.filled_units += abs(run.units)
        for trade_id, (units, realized) in run.reduced.items():
            trade = book.trades[trade_id]
            trade.closed_by.append(number)
            book.touched[trade_id] = trade
            was_long = units < 0
            book.realized[symbol, was_long] = book.realized.get((symbol, was_long), ZERO) + realized
            if trade.is_open:
                order.trade_reduced = trade_id
            else:
                trade.closed_ns = run.at_ns
                order.trades_closed.append(trade_id)
                del book.open_trades[symbol][trade_id]
        if run.opened:
            units = sum((part for _, part in run.opened), ZERO)
            trade = Trade(
                id=number,
                symbol=symbol,
                price=run.price,
                initial_units=units,
                exec_ids=tuple(exec_id for exec_id, _ in run.opened),
                opened_ns=run.at_ns,
                client=order.note.trade_client,
                units=units,
            )
            book.trades[number] = trade
            for exec_id in trade.exec_ids:
                book.trade_of_lot[symbol, exec_id] = trade
            book.open_trades.setdefault(symbol, {})[number] = trade
            book.realized.setdefault((symbol, units > 0), ZERO)
            order.trade_opened = number
            if order.note.take_profit is not None or order.note.stop_loss is not None:
                book.opened[number] = (trade, order.note)
        if order.filled_units == abs(order.units):
            order.state = OrderState.FILLED
            book.pending.pop(order.id, None)

    def _fill_body(self, book: Book, run: _Run) -> Json:
        order = run.order
        item = self._instruments[order.symbol]
        said = listing(item)
        price = render.average(run.price, said)
        body: Json = {
            "orderID": str(order.id),
            "instrument": order.symbol,
            "units": said.units(run.units),
            "requestedUnits": said.units(order.units),
            "price": price,
            "fullVWAP": price,
            "reason": reasons.of_fill(order.note),
            "pl": money(run.realized),
            "financing": money(ZERO),
            "commission": money(run.commission),
            "guaranteedExecutionFee": money(ZERO),
            "accountBalance": money(book.balance),
        }
        if order.note.client.id:
            body["clientOrderID"] = order.note.client.id
        closed: list[Json] = []
        for trade_id, (units, realized) in run.reduced.items():
            part: Json = {
                "tradeID": str(trade_id),
                "units": said.units(units),
                "price": price,
                "realizedPL": money(realized),
                "financing": money(ZERO),
            }
            if book.trades[trade_id].is_open:
                body["tradeReduced"] = part
            else:
                closed.append(part)
        if closed:
            body["tradesClosed"] = closed
        if run.opened:
            opened = sum((part for _, part in run.opened), ZERO)
            body["tradeOpened"] = {
                "tradeID": str(book.last_id + 1),
                "units": said.units(opened),
                "price": price,
                **render.extensions(order.note.trade_client, "clientExtensions"),
            }
        return body
