"""The venue itself, without any face: books, accounts, checks, and the record of what happened.

Every request goes the same way: it is checked, its events are applied to the ledger and matched on
the floor, and all of them are recorded before anybody hears of them (`recorder`). All of it is
synchronous: one request at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell_sim.account import FeeSchedule
from openbell_sim.admission import Admission
from openbell_sim.checks import OrderRequest
from openbell_sim.due import Due
from openbell_sim.events import (
    DROPPED,
    Deposit,
    Event,
    Expire,
    Refuse,
    Session,
)
from openbell_sim.floor import Floor
from openbell_sim.instruments import Instrument
from openbell_sim.interventions import Interventions, with_those_of_request
from openbell_sim.ledger import Ledger, Order
from openbell_sim.margin import Margin
from openbell_sim.market.events import MarketEvent
from openbell_sim.markets import Market
from openbell_sim.matching.book import Book
from openbell_sim.positions import Position
from openbell_sim.recorder import Forgetful, Listener, Record, Recorder, Report
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.rules import VenueRules
from openbell_sim.sessions import MarketState

__all__ = ["Exchange", "Forgetful", "Listener", "Market", "MarketState", "Record", "Report"]


class Exchange:
    def __init__(
        self,
        instruments: Iterable[Instrument],
        *,
        now_ns: Callable[[], int],
        skew_ns: Callable[[], int] = lambda: 0,
        rules: VenueRules | None = None,
        fees: FeeSchedule | None = None,
        record: Record | None = None,
        max_open_orders: int | None = None,
        keep_history: bool = False,
    ) -> None:
        """`skew_ns`: how wrong `now_ns` is by a fault; what is due at its time follows the truth.
        `fees` and `max_open_orders` replace what the rules say. `keep_history`: for faces that
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
        self._standing = Interventions()
        self._floor = Floor(
            self.markets,
            self._recorder,
            fees=self.fees,
            now_ns=now_ns,
            interventions=lambda: self.interventions,
        )
        self._due = Due(self.ledger, self._recorder, self._floor, now_ns=now_ns, skew_ns=skew_ns)
        self._admission = Admission(
            markets=self.markets,
            ledger=self.ledger,
            cl_ord_ids=self.rules.cl_ord_id,
            reduce_only=self.rules.reduce_only,
            max_open_orders=self.max_open_orders,
            now_ns=now_ns,
        )
        self._next_order_id = started_ms
        self.due_changed: Callable[[], None] = lambda: None
        """Called when something may have become due earlier than `next_due_ns` said before."""

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
        self._floor.apply_sessions()
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
            self.turn_away(request, error.reason, error.text)
            raise
        self._next_order_id += 1
        order = self._recorder.emit(accept)
        assert order is not None
        self._floor.enter(order, taker)
        told = order
        if order.waits and self.interventions.drop_stops:
            told = copy.copy(order)
            self._drop(order)
        self._recorder.commit((order.symbol,))
        return told

    def test(self, request: OrderRequest) -> None:
        """All that `submit` checks, and nothing of what it does. Raises RefusedError."""
        self._admission.order(request, self._next_order_id)

    def turn_away(self, request: OrderRequest, reason: str, text: str = "") -> None:
        """Records an order that was understood and not accepted, whoever did not: a face says why
        in the words of `Reason` where there is one, and in its venue's words by `text`."""
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
                reason=str(reason),
                text=text,
                at_ns=self.now_ns(),
            )
        )

    def refuse(self, refusal: Refuse) -> None:
        """Records an order that was not accepted; its order id is given here."""
        self._recorder.emit(msgspec.structs.replace(refusal, order_id=self._next_order_id))
        self._next_order_id += 1
        self._recorder.commit()

    def cancel(self, order: Order, request_id: str = "", *, reason: str = "") -> Order:
        """The order as whoever asked is to be told of it. Raises RefusedError for one that has
        ended, and where the market takes no cancels.

        A `reason` makes it the venue's own doing, told in `events.Cancel`: then neither a halt nor
        an intervention is in its way."""
        if not order.is_open:
            raise RefusedError(Reason.UNKNOWN_ORDER)
        if reason:
            self._due.cancel(order, request_id, reason)
            self._recorder.commit((order.symbol,))
            return order
        state = self.markets[order.symbol].state
        if state is MarketState.HALTED:
            raise RefusedError(Reason.HALTED)
        meddling = self.interventions
        if meddling.fill_on_cancel and state is MarketState.OPEN and not order.waits:
            self._floor.fill(order, meddling.fill_on_cancel)
        told = order
        if order.is_open and meddling.lazy_cancels_s:
            self._due.cancel_later(order, request_id, _ns(meddling.lazy_cancels_s))
            self.due_changed()
            told = copy.copy(order)
            told.status, told.cancel_id = OrdStatus.CANCELED, request_id
            told.updated_ns = self.now_ns()
        elif order.is_open:
            self._due.cancel(order, request_id)
        self._recorder.commit((order.symbol,))
        if told.status is not OrdStatus.CANCELED:
            raise RefusedError(Reason.UNKNOWN_ORDER)
        return told

    def fill(self, order: Order, part: float = 1.0) -> None:
        """The crowd takes a part of what is left of a resting order, at least one lot. Raises
        RefusedError for one that does not rest, and where the market does not trade."""
        if not order.is_open or order.waits:
            raise RefusedError(Reason.UNKNOWN_ORDER)
        if self.markets[order.symbol].state is not MarketState.OPEN:
            raise RefusedError(Reason.MARKET_CLOSED)
        self._floor.fill(order, part)
        self._recorder.commit((order.symbol,))

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

    # Sessions

    def session(self, symbol: str) -> MarketState:
        return self.markets[symbol].state

    def set_session(
        self, symbol: str | None, state: MarketState | None, *, scheduled: bool = False
    ) -> None:
        """Sets the state of a symbol, or of all of them (None). A `state` of None takes back what
        was set. What the calendar says is `scheduled`, and counts where nothing else was set."""
        event = Session(symbol=symbol or "", state=state, scheduled=scheduled, at_ns=self.now_ns())
        if self.ledger.sessions.holds(event):
            return
        self._recorder.emit(event)
        changed = self._floor.apply_sessions()
        self._recorder.commit()
        for name in changed:
            for listener in self.listeners:
                listener.on_session(name, self.session(name))
            if self.session(name) is MarketState.OPEN:
                self._floor.reopen(name)
                self._recorder.commit((name,))

    # What happens at its time

    def arm_dead_man(self, account: str, symbol: str | None, timeout_s: float) -> int:
        """Cancels the open orders of the account (in one symbol, or in all of them) when the time
        has passed, unless it is armed again. 0 disarms. When it expires, on the venue's clock; 0:
        never."""
        self.ledger.account(account)
        self._due.arm(account, symbol or "", _ns(timeout_s))
        self._recorder.commit()
        self.due_changed()
        return self.dead_man(account, symbol) or 0

    def dead_man(self, account: str, symbol: str | None) -> int | None:
        """When the switch expires, on the venue's clock; None: it is not armed."""
        return self._due.expires_ns((account, symbol or ""))

    def fire_dead_man(self, account: str, symbol: str | None) -> None:
        """Fires a switch (or all of the account's) before its time. Raises RefusedError where
        none is armed."""
        switches = self._due.armed(account, symbol)
        if not switches:
            raise RefusedError(Reason.MALFORMED, "no dead-man's switch is armed")
        self._recorder.commit(tuple(self._due.fire(switches)))

    def next_due_ns(self) -> int | None:
        """When `expire_due` will have something to do, on the venue's clock."""
        return self._due.next_ns()

    def expire_due(self, now_ns: int) -> None:
        """Fires the dead-man's switches whose time has come, and does the cancels that were put
        off. The venue's own doing: no halt and no intervention keeps it from it."""
        self._recorder.commit(tuple(self._due.do(now_ns)))

    # Faults

    @property
    def interventions(self) -> Interventions:
        """Those that hold now, for the request at hand."""
        return with_those_of_request(self._standing)

    def intervene(self, interventions: Interventions) -> None:
        """From here on these hold, and no others."""
        begins_to_drop = interventions.drop_stops and not self._standing.drop_stops
        self._standing = interventions
        if begins_to_drop:
            for orders in self.ledger.open.values():
                for order in [order for order in orders.values() if order.waits]:
                    self._drop(order)
            self._recorder.commit()

    def _drop(self, order: Order) -> None:
        self._floor.withdraw(order)
        self._recorder.emit(Expire(order_id=order.order_id, reason=DROPPED, at_ns=self.now_ns()))

    # The crowd

    def play(self, event: MarketEvent) -> None:
        """Applies what a market source says. Own orders that it fills are filled."""
        if self._floor.play(event):
            self._recorder.commit((event.symbol,))


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
