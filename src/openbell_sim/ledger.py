"""The venue's books: accounts, orders, fills as the fold of its events.

Pure: the same events in the same order give the same state, live or after a restart.
"""

from __future__ import annotations

from decimal import Decimal

from openbell.domain.orders import OrdStatus, Side
from openbell_sim.account import ZERO, Account
from openbell_sim.dead_man import DeadManSwitches
from openbell_sim.events import (
    Accept,
    Amend,
    Cancel,
    DeadMan,
    Deposit,
    Event,
    Expire,
    Fill,
    PendingCancel,
    Refuse,
    Session,
    Trigger,
)
from openbell_sim.instruments import Instrument
from openbell_sim.margin import Working, order_price
from openbell_sim.orders import Order, OwnFill
from openbell_sim.positions import ClosedLot, OpenLot, Position
from openbell_sim.sessions import Sessions

__all__ = ["Ledger", "Order", "OwnFill"]


class Ledger:
    def __init__(self, instruments: dict[str, Instrument]) -> None:
        self._instruments = instruments
        self.accounts: dict[str, Account] = {}
        self.orders: dict[int, Order] = {}
        """Accepted orders, by order id, in the order of their acceptance."""
        self.refused: list[Refuse] = []
        self.fills: list[OwnFill] = []
        self.open: dict[str, dict[int, Order]] = {}
        """Open orders by account, in the order of their acceptance."""
        self._positions: dict[str, dict[str, Position]] = {}
        self._working: dict[str, dict[str, Working]] = {}
        self.settlement = frozenset(
            instrument.settle_currency
            for instrument in instruments.values()
            if instrument.margin_rate is not None
        )
        """Currencies in which margined instruments are settled."""
        self.sessions = Sessions()
        self.dead_man = DeadManSwitches()
        self.pending_cancels: dict[int, PendingCancel] = {}
        """By order id: acknowledged, yet to be done."""
        self._priority = 0
        self._fills_of: dict[int, list[OwnFill]] = {}
        self._by_cl_ord_id: dict[tuple[str, str, str], Order] = {}
        self._named: dict[tuple[str, str], Order] = {}
        self.last_order_id = 0
        self.last_exec_id = 0

    def account(self, name: str) -> Account:
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = Account(name, self.settlement)
            self.open[name] = {}
            self._positions[name] = {}
            self._working[name] = {}
        return account

    def position(self, account: str, symbol: str) -> Position:
        """Flat where nothing was ever traded, and on the spot."""
        found = self._positions.get(account, {}).get(symbol)
        return found if found is not None else Position()

    def positions(self, account: str) -> dict[str, Position]:
        """By symbol, flat ones included."""
        return self._positions.get(account, {})

    def working(self, account: str, symbol: str) -> Working:
        found = self._working.get(account, {}).get(symbol)
        return found if found is not None else Working()

    def working_of(self, account: str) -> dict[str, Working]:
        """By symbol; every symbol in which the account ever had an order."""
        return self._working.get(account, {})

    def by_cl_ord_id(self, account: str, symbol: str, cl_ord_id: str) -> Order | None:
        """The newest order under this name; the name of an order that ended may be used again."""
        return self._by_cl_ord_id.get((account, symbol, cl_ord_id))

    def named(self, account: str, cl_ord_id: str) -> Order | None:
        """The same, whatever the symbol."""
        return self._named.get((account, cl_ord_id))

    def fills_of(self, order_id: int) -> list[OwnFill]:
        return self._fills_of.get(order_id, [])

    def apply(self, event: Event) -> Order | None:
        """The order that the event concerns, if any."""
        match event:
            case Accept():
                return self._accept(event)
            case Fill():
                return self._fill(event)
            case Cancel():
                order = self._end(event.order_id, OrdStatus.CANCELED, event.at_ns)
                order.cancel_id = event.request_id
                order.reason = event.reason
                return order
            case Expire():
                order = self._end(event.order_id, OrdStatus.EXPIRED, event.at_ns)
                order.reason = event.reason
                return order
            case Amend():
                return self._amend(event)
            case Trigger():
                return self._trigger(event)
            case Refuse():
                self.refused.append(event)
                self.last_order_id = max(self.last_order_id, event.order_id)
                return None
            case PendingCancel():
                self.pending_cancels[event.order_id] = event
                return None
            case Deposit():
                account = self.account(event.account)
                account.deposit(event.currency, event.amount)
                account.updated_ns = event.at_ns
                return None
            case Session():
                self.sessions.apply(event)
                return None
            case DeadMan():
                self.dead_man.apply(event)
                return None

    def _accept(self, event: Accept) -> Order:
        account = self.account(event.account)
        if event.locked:
            account.lock(self._spent(event), event.locked)
        self._priority += 1
        order = Order(
            order_id=event.order_id,
            account=event.account,
            cl_ord_id=event.cl_ord_id,
            symbol=event.symbol,
            side=event.side,
            ord_type=event.ord_type,
            time_in_force=event.time_in_force,
            order_qty=event.order_qty,
            quote_qty=event.quote_qty,
            price=event.price,
            stop_price=event.stop_price,
            post_only=event.post_only,
            reduce_only=event.reduce_only,
            closes=event.closes,
            prevention=event.prevention,
            origin=event.origin,
            note=event.note,
            received_ns=event.received_ns,
            accepted_ns=event.at_ns,
            updated_ns=event.at_ns,
            priority=self._priority,
            locked=event.locked,
        )
        self.orders[order.order_id] = order
        self.open[order.account][order.order_id] = order
        self._name(order)
        self.last_order_id = max(self.last_order_id, order.order_id)
        working = self._working[order.account]
        if order.symbol not in working:
            working[order.symbol] = Working()
        working[order.symbol].count += 1
        working[order.symbol].reduce_only += order.reduce_only
        self._count(order, order.order_qty)
        return order

    def _spent(self, order: Order | Accept) -> str:
        """The currency that an order on the spot gives away."""
        instrument = self._instruments[order.symbol]
        return instrument.quote if order.side is Side.BUY else instrument.base

    def _name(self, order: Order) -> None:
        self._by_cl_ord_id[order.account, order.symbol, order.cl_ord_id] = order
        self._named[order.account, order.cl_ord_id] = order

    def _count(self, order: Order, qty: Decimal) -> None:
        """Counts a quantity of an order among what may enlarge a position. A market order is not
        counted: it ends within its own request."""
        if self._instruments[order.symbol].margin_rate is None or order.reduce_only:
            return
        price = order_price(order)
        if price is not None:
            self._working[order.account][order.symbol].add(order.side, qty, price)

    def _amend(self, event: Amend) -> Order:
        order = self.orders[event.order_id]
        if event.locked != order.locked:
            self.account(order.account).lock(self._spent(order), event.locked - order.locked)
        self._count(order, -order.leaves_qty)
        order.order_qty = event.order_qty
        order.price = event.price
        order.stop_price = event.stop_price
        order.locked = event.locked
        order.updated_ns = event.at_ns
        if event.cl_ord_id != order.cl_ord_id:
            order.cl_ord_id = event.cl_ord_id
            self._name(order)
        if not event.keeps_priority:
            self._priority += 1
            order.priority = self._priority
        self._count(order, order.leaves_qty)
        return order

    def _trigger(self, event: Trigger) -> Order:
        order = self.orders[event.order_id]
        if event.locked != order.locked:
            self.account(order.account).lock(self._spent(order), event.locked - order.locked)
            order.locked = event.locked
        order.triggered = True
        order.updated_ns = event.at_ns
        self._priority += 1
        order.priority = self._priority
        return order

    def _fill(self, event: Fill) -> Order:
        order = self.orders[event.order_id]
        instrument = self._instruments[order.symbol]
        notional = event.price * event.qty
        if instrument.margin_rate is None:
            closed: tuple[ClosedLot, ...] = ()
            self._exchange_currencies(order, instrument, event, notional)
        else:
            closed = self._change_position(order, instrument, event)
        self._count(order, -event.qty)
        order.cum_qty += event.qty
        order.cum_quote += notional
        order.updated_ns = event.at_ns
        if order.quote_qty is not None:
            order.order_qty = order.cum_qty
        if event.completes or (order.quote_qty is None and order.cum_qty == order.order_qty):
            self._end(order.order_id, OrdStatus.FILLED, event.at_ns)
        else:
            order.status = OrdStatus.PARTIALLY_FILLED
        fill = OwnFill(
            exec_id=event.exec_id,
            order_id=order.order_id,
            account=order.account,
            cl_ord_id=order.cl_ord_id,
            symbol=order.symbol,
            side=order.side,
            price=event.price,
            qty=event.qty,
            fee=event.fee,
            fee_currency=event.fee_currency,
            is_maker=event.is_maker,
            closed=closed,
            at_ns=event.at_ns,
        )
        self.fills.append(fill)
        self._fills_of.setdefault(order.order_id, []).append(fill)
        self.last_exec_id = max(self.last_exec_id, event.exec_id)
        return order

    def _exchange_currencies(
        self, order: Order, instrument: Instrument, event: Fill, notional: Decimal
    ) -> None:
        """A fill on the spot."""
        account = self.account(order.account)
        buying = order.side is Side.BUY
        spent, paid = (instrument.quote, notional) if buying else (instrument.base, event.qty)
        got, received = (instrument.base, event.qty) if buying else (instrument.quote, notional)
        # What was held for this quantity is freed, then the price is paid; a limit order that
        # buys below its limit gets the difference back.
        held = order.price * event.qty if buying and order.price is not None else paid
        account.pay(spent, paid, held=held)
        order.locked -= held
        if event.fee_currency == got:
            account.add(got, received - event.fee)
        else:
            account.add(got, received)
            account.add(event.fee_currency, -event.fee)
        account.updated_ns = event.at_ns

    def _change_position(
        self, order: Order, instrument: Instrument, event: Fill
    ) -> tuple[ClosedLot, ...]:
        """A fill on margin: only profit, loss and fee are money."""
        positions = self._positions[order.account]
        position = positions.get(order.symbol)
        if position is None:
            position = positions[order.symbol] = Position()
        opened = OpenLot(
            exec_id=event.exec_id,
            order_id=order.order_id,
            quantity=order.side.sign * event.qty,
            price=event.price,
            at_ns=event.at_ns,
        )
        before = position.realized
        closed = position.fill(instrument, opened, order.closes)
        account = self.account(order.account)
        account.add(instrument.settle_currency, position.realized - before)
        account.add(event.fee_currency, -event.fee)
        account.updated_ns = event.at_ns
        return closed

    def _end(self, order_id: int, status: OrdStatus, at_ns: int) -> Order:
        order = self.orders[order_id]
        if order.locked:
            self.account(order.account).unlock(self._spent(order), order.locked)
            order.locked = ZERO
        self._count(order, -order.leaves_qty)
        working = self._working[order.account][order.symbol]
        working.count -= 1
        working.reduce_only -= order.reduce_only
        self.pending_cancels.pop(order_id, None)
        order.status = status
        order.updated_ns = at_ns
        self.open[order.account].pop(order.order_id, None)
        return order
