"""The venue's books: accounts, orders, fills as the fold of its events.

Pure: the same events in the same order give the same state, live or after a restart.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdStatus, OrdType, Side, TimeInForce
from openbell_sim.account import ZERO, Account
from openbell_sim.events import Accept, Cancel, Deposit, Event, Expire, Fill, Refuse
from openbell_sim.instruments import Instrument
from openbell_sim.matching.book import SelfTradePrevention


class Order(msgspec.Struct, kw_only=True):
    """An order as the venue sees it. Refused ones keep their words in `refused`."""

    order_id: int
    account: str
    cl_ord_id: str
    symbol: str
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    order_qty: Decimal
    quote_qty: Decimal | None
    price: Decimal | None
    post_only: bool
    prevention: SelfTradePrevention
    origin: str
    note: str
    """Words of the face."""
    received_ns: int
    accepted_ns: int
    updated_ns: int
    status: OrdStatus = OrdStatus.NEW
    cum_qty: Decimal = ZERO
    cum_quote: Decimal = ZERO
    locked: Decimal = ZERO
    """Still held for this order: quote currency for a BUY, base currency for a SELL."""
    reason: str = ""
    """Why it was refused or expired."""
    cancel_id: str = ""

    @property
    def leaves_qty(self) -> Decimal:
        return ZERO if self.status.is_final else self.order_qty - self.cum_qty

    @property
    def is_open(self) -> bool:
        return not self.status.is_final


class OwnFill(msgspec.Struct, frozen=True, kw_only=True):
    """A fill with what one wants to know of its order."""

    exec_id: int
    order_id: int
    account: str
    cl_ord_id: str
    symbol: str
    side: Side
    price: Decimal
    qty: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool
    at_ns: int

    @property
    def quote_qty(self) -> Decimal:
        return self.price * self.qty


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
        self._fills_of: dict[int, list[OwnFill]] = {}
        self._by_cl_ord_id: dict[tuple[str, str, str], Order] = {}
        self.last_order_id = 0
        self.last_exec_id = 0

    def account(self, name: str) -> Account:
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = Account(name)
            self.open[name] = {}
        return account

    def by_cl_ord_id(self, account: str, symbol: str, cl_ord_id: str) -> Order | None:
        """The newest order under this name; the name of an order that ended may be used again."""
        return self._by_cl_ord_id.get((account, symbol, cl_ord_id))

    def fills_of(self, order_id: int) -> list[OwnFill]:
        return self._fills_of.get(order_id, [])

    def apply(self, event: Event) -> Order | None:
        """The order that the event concerns, if any."""
        match event:
            case Deposit():
                account = self.account(event.account)
                account.deposit(event.currency, event.amount)
                account.updated_ns = event.at_ns
                return None
            case Refuse():
                self.refused.append(event)
                self.last_order_id = max(self.last_order_id, event.order_id)
                return None
            case Accept():
                return self._accept(event)
            case Fill():
                return self._fill(event)
            case Cancel():
                order = self._end(event.order_id, OrdStatus.CANCELED, event.at_ns)
                order.cancel_id = event.request_id
                return order
            case Expire():
                order = self._end(event.order_id, OrdStatus.EXPIRED, event.at_ns)
                order.reason = event.reason
                return order

    def _accept(self, event: Accept) -> Order:
        instrument = self._instruments[event.symbol]
        currency = instrument.quote if event.side is Side.BUY else instrument.base
        self.account(event.account).lock(currency, event.locked)
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
            post_only=event.post_only,
            prevention=event.prevention,
            origin=event.origin,
            note=event.note,
            received_ns=event.received_ns,
            accepted_ns=event.at_ns,
            updated_ns=event.at_ns,
            locked=event.locked,
        )
        self.orders[order.order_id] = order
        self.open[order.account][order.order_id] = order
        self._by_cl_ord_id[order.account, order.symbol, order.cl_ord_id] = order
        self.last_order_id = max(self.last_order_id, order.order_id)
        return order

    def _fill(self, event: Fill) -> Order:
        order = self.orders[event.order_id]
        instrument = self._instruments[order.symbol]
        account = self.account(order.account)
        notional = event.price * event.qty
        buying = order.side is Side.BUY
        spent, paid = (instrument.quote, notional) if buying else (instrument.base, event.qty)
        got, received = (instrument.base, event.qty) if buying else (instrument.quote, notional)
        # What was held for this quantity is freed, then the price is paid; a limit order that
        # buys below its limit gets the difference back.
        held = order.price * event.qty if buying and order.price is not None else paid
        account.unlock(spent, held)
        order.locked -= held
        account.add(spent, -paid)
        account.add(got, received)
        account.add(event.fee_currency, -event.fee)
        account.updated_ns = event.at_ns
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
            at_ns=event.at_ns,
        )
        self.fills.append(fill)
        self._fills_of.setdefault(order.order_id, []).append(fill)
        self.last_exec_id = max(self.last_exec_id, event.exec_id)
        return order

    def _end(self, order_id: int, status: OrdStatus, at_ns: int) -> Order:
        order = self.orders[order_id]
        if order.locked:
            instrument = self._instruments[order.symbol]
            currency = instrument.quote if order.side is Side.BUY else instrument.base
            self.account(order.account).unlock(currency, order.locked)
            order.locked = ZERO
        order.status = status
        order.updated_ns = at_ns
        self.open[order.account].pop(order.order_id, None)
        return order
