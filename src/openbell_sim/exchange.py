"""The venue itself, without any face: books, accounts, checks, and the record of what happened.

Every request goes the same way: it is checked, its events are applied to the ledger and matched on
the floor, and all of them are recorded before anybody hears of them (`recorder`). All of it is
synchronous: one request at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdType, Side
from openbell_sim.account import FeeSchedule
from openbell_sim.admission import Admission
from openbell_sim.checks import OrderRequest
from openbell_sim.events import Cancel, Deposit, Event, Refuse
from openbell_sim.floor import Floor, Market
from openbell_sim.instruments import Instrument
from openbell_sim.ledger import Ledger, Order
from openbell_sim.margin import Margin
from openbell_sim.market.events import MarketEvent
from openbell_sim.matching.book import Book
from openbell_sim.positions import Position
from openbell_sim.recorder import Forgetful, Listener, Record, Recorder, Report
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.rules import VenueRules

__all__ = ["Exchange", "Forgetful", "Listener", "Market", "Record", "Report"]


class Exchange:
    def __init__(
        self,
        instruments: Iterable[Instrument],
        *,
        now_ns: Callable[[], int],
        rules: VenueRules | None = None,
        fees: FeeSchedule | None = None,
        record: Record | None = None,
        max_open_orders: int | None = None,
        keep_history: bool = False,
    ) -> None:
        """`fees` and `max_open_orders` replace what the rules say. `keep_history`: for faces that
        number everything that ever happened."""
        self.now_ns = now_ns
        self.rules = rules or VenueRules()
        self.fees = fees or self.rules.fees
        self.max_open_orders = max_open_orders or self.rules.max_open_orders
        started_ms = now_ns() // 1_000_000
        # Identifiers start at the clock's milliseconds, so that they grow over restarts even
        # where no log tells the last one.
        self.markets = {
            instrument.symbol: Market(
                instrument=instrument, book=Book(started_ms), next_trade_id=started_ms
            )
            for instrument in instruments
        }
        self.instruments = {name: market.instrument for name, market in self.markets.items()}
        self.ledger = Ledger(self.instruments)
        self._recorder = Recorder(self.ledger, record, keep_history=keep_history)
        self._floor = Floor(self.markets, self._recorder, fees=self.fees, now_ns=now_ns)
        self._admission = Admission(
            markets=self.markets,
            ledger=self.ledger,
            cl_ord_ids=self.rules.cl_ord_id,
            reduce_only=self.rules.reduce_only,
            max_open_orders=self.max_open_orders,
            now_ns=now_ns,
        )
        self._next_order_id = started_ms

    @property
    def listeners(self) -> list[Listener]:
        """Whoever wants to hear of what happens joins here."""
        return self._recorder.listeners

    @property
    def history(self) -> list[Event] | None:
        """Every event since the order log began, in order; None where it is not kept."""
        return self._recorder.history

    def restore(self, events: Iterable[Event]) -> int:
        """Takes up the state that an order log tells; the number of its events. To be called
        before anything else. Open orders rest again in the order of their priority."""
        count = self._recorder.restore(events)
        self._next_order_id = max(self._next_order_id, self.ledger.last_order_id + 1)
        for market in self.markets.values():
            market.next_trade_id = max(market.next_trade_id, self.ledger.last_exec_id + 1)
        resting = [order for orders in self.ledger.open.values() for order in orders.values()]
        for order in sorted(resting, key=lambda order: order.priority):
            self._floor.rest(order)
        return count

    # Questions

    def positions(self, account: str) -> list[tuple[str, Position]]:
        """Those that are not flat, of margined symbols."""
        return [
            (symbol, position)
            for symbol, position in self.ledger.positions(account).items()
            if position.quantity
        ]

    def margin(self, account: str, currency: str) -> Margin:
        """What the account has and holds in one currency."""
        return self._admission.margin(account, currency)

    # Requests

    def deposit(self, account: str, currency: str, amount: Decimal) -> Deposit:
        event = Deposit(account=account, currency=currency, amount=amount, at_ns=self.now_ns())
        self._recorder.emit(event)
        self._recorder.commit()
        for listener in self.listeners:
            listener.on_deposit(event)
        return event

    def submit(self, request: OrderRequest) -> Order:
        """Accepts and matches an order. Raises RefusedError, after the refusal is recorded."""
        return self._submit(request, None)

    def close_lot(
        self,
        account: str,
        symbol: str,
        exec_id: int,
        qty: Decimal | None = None,
        *,
        cl_ord_id: str = "",
        origin: str = "api",
        note: str = "",
        received_ns: int | None = None,
    ) -> Order:
        """Closes one lot of a position at the market, or `qty` of it. Raises RefusedError, with
        REDUCE_ONLY where there is no such lot."""
        if symbol not in self.instruments:
            raise RefusedError(Reason.UNKNOWN_SYMBOL, symbol)
        lot = self.ledger.position(account, symbol).lot(exec_id)
        # Without a lot it is refused, by the name of what it would have been.
        quantity = lot.quantity if lot is not None else self.instruments[symbol].min_qty
        return self._submit(
            OrderRequest(
                account=account,
                cl_ord_id=cl_ord_id,
                symbol=symbol,
                side=Side.SELL if quantity > 0 else Side.BUY,
                ord_type=OrdType.MARKET,
                qty=abs(quantity) if qty is None else qty,
                reduce_only=True,
                origin=origin,
                note=note,
                received_ns=self.now_ns() if received_ns is None else received_ns,
            ),
            exec_id,
        )

    def _submit(self, request: OrderRequest, closes: int | None) -> Order:
        try:
            accept, taker = self._admission.order(request, self._next_order_id, closes)
        except RefusedError as error:
            self.refuse(
                Refuse(
                    order_id=0,
                    account=request.account,
                    cl_ord_id=request.cl_ord_id,
                    symbol=request.symbol,
                    side=request.side.value,
                    ord_type=request.ord_type.value,
                    order_qty=str(request.qty or request.quote_qty or ""),
                    price=str(request.price or ""),
                    origin=request.origin,
                    note=request.note,
                    received_ns=request.received_ns,
                    reason=error.reason.value,
                    text=error.text,
                    at_ns=self.now_ns(),
                )
            )
            raise
        self._next_order_id += 1
        order = self._recorder.emit(accept)
        assert order is not None
        self._floor.enter(order, taker)
        self._recorder.commit((order.symbol,))
        return order

    def test(self, request: OrderRequest) -> None:
        """All that `submit` checks, and nothing of what it does. Raises RefusedError."""
        self._admission.order(request, self._next_order_id)

    def refuse(self, refusal: Refuse) -> None:
        """Records an order that was not accepted; its order id is given here."""
        self._recorder.emit(msgspec.structs.replace(refusal, order_id=self._next_order_id))
        self._next_order_id += 1
        self._recorder.commit()

    def cancel(self, order: Order, request_id: str = "") -> Order:
        """The order as the client is to be told of it. Raises RefusedError for one that has
        ended."""
        if not order.is_open:
            raise RefusedError(Reason.UNKNOWN_ORDER)
        self._floor.withdraw(order)
        self._recorder.emit(
            Cancel(order_id=order.order_id, request_id=request_id, at_ns=self.now_ns())
        )
        self._recorder.commit((order.symbol,))
        return order

    def amend(
        self,
        order: Order,
        *,
        qty: Decimal | None = None,
        price: Decimal | None = None,
        stop_price: Decimal | None = None,
        cl_ord_id: str | None = None,
    ) -> Order:
        """Changes an open order under its own order id; `qty` counts what was filled already. It
        goes to the end of the queue unless only its quantity shrinks, and may match at once.
        Raises RefusedError; the order is then as it was."""
        if not order.is_open:
            raise RefusedError(Reason.UNKNOWN_ORDER)
        amend, taker = self._admission.amendment(
            order, qty=qty, price=price, stop_price=stop_price, cl_ord_id=cl_ord_id
        )
        self._floor.amend(order, amend, taker)
        self._recorder.commit((order.symbol,))
        return order

    # The crowd

    def play(self, event: MarketEvent) -> None:
        """Applies what a market source says. Own orders that it fills are filled."""
        if self._floor.play(event):
            self._recorder.commit((event.symbol,))
