"""Stop losses and take profits of positions.

At the exchange they are reduce-only orders, a stop loss a stop order and a take profit a limit order,
of as much as the position has. One difference to TradeLocker follows: what they fill closes the
oldest position of the symbol first, whichever they hang on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from decimal import Decimal

from openbell.domain.orders import OrdType, Side
from openbell_sim.checks import OrderRequest
from openbell_sim.events import Deposit
from openbell_sim.exchange import Exchange, MarketState, Report
from openbell_sim.faces.tradelocker.book import (
    ZERO,
    Book,
    Bracket,
    Held,
    Note,
    note_of,
    position_id,
)
from openbell_sim.ledger import Order
from openbell_sim.refusals import RefusedError
from openbell_sim.tape import PublicTrade

CLOSED = "position_closed"


class Protections:
    """A listener of the exchange: fills open, reduce and close positions."""

    def __init__(self, exchange: Exchange, book: Book) -> None:
        self.changed = asyncio.Event()
        """Set when a fill may have left something for `settle`."""
        self._exchange = exchange
        self._book = book
        self._touched: set[str] = set()
        self._opened: dict[tuple[str, int], Note] = {}
        """By account and position: what opened with brackets."""
        exchange.listeners.append(self)

    # The exchange's events.

    def on_reports(self, reports: Sequence[Report]) -> None:
        for report in reports:
            fill = report.fill
            if fill is None:
                continue
            self._touched.add(fill.account)
            self.changed.set()
            note = note_of(report.order)
            opens = sum((abs(part.quantity) for part in fill.closed), ZERO) < fill.qty
            if opens and (note.stop_loss is not None or note.take_profit is not None):
                self._opened[fill.account, position_id(fill.order_id)] = note

    def on_deposit(self, deposit: Deposit) -> None: ...
    def on_trade(self, trade: PublicTrade) -> None: ...
    def on_book(self, symbol: str) -> None: ...

    def on_session(self, symbol: str, state: MarketState) -> None:
        """What a halt kept from being done is done after it."""
        if self._touched:
            self.changed.set()

    # What follows from them.

    def settle(self) -> None:
        """Gives new positions their brackets, and fits those of changed ones. Doing it again
        changes nothing."""
        self.changed.clear()
        opened, self._opened = self._opened, {}
        for (account, number), note in opened.items():
            held = self._book.position(account, number)
            for kind, price in (
                (Bracket.STOP_LOSS, note.stop_loss),
                (Bracket.TAKE_PROFIT, note.take_profit),
            ):
                if held is not None and price is not None:
                    # What the exchange refuses (a price that is reached already) it has recorded.
                    with contextlib.suppress(RefusedError):
                        self.set(account, held, kind, price)
        touched, self._touched = self._touched, set()
        for account in touched:
            for (number, _), order in self._book.hanging(account).items():
                try:
                    self._fit(order, self._book.position(account, number))
                except RefusedError:
                    self._touched.add(account)  # a halted market lets nothing go

    def set(self, account: str, held: Held, kind: Bracket, price: Decimal | None) -> None:
        """Puts one in the place of what hangs there; None takes it away. Raises RefusedError."""
        standing = self._book.hanging(account).get((held.id, kind))
        if price is None:
            if standing is not None:
                self._exchange.cancel(standing)
            return
        stops = kind is Bracket.STOP_LOSS
        if standing is not None:
            if stops:
                self._exchange.amend(standing, stop_price=price)
            else:
                self._exchange.amend(standing, price=price)
            return
        self._exchange.submit(
            OrderRequest(
                account=account,
                cl_ord_id="",
                symbol=held.symbol,
                side=Side.SELL if held.quantity > 0 else Side.BUY,
                ord_type=OrdType.STOP if stops else OrdType.LIMIT,
                qty=abs(held.quantity),
                price=None if stops else price,
                stop_price=price if stops else None,
                reduce_only=True,
                note=Note(position_id=held.id, bracket=kind).text(),
                received_ns=self._exchange.now_ns(),
            )
        )

    def _fit(self, order: Order, held: Held | None) -> None:
        """Raises RefusedError."""
        if held is None:
            self._exchange.cancel(order, reason=CLOSED)
        elif order.leaves_qty != abs(held.quantity):
            self._exchange.amend(order, qty=order.cum_qty + abs(held.quantity))
