"""An account's transactions, and what they say of its orders. Pure.

OANDA's own objects do not tell enough of an order: a pending one does not say how much of it was
filled, and one that ended need not be found by the client's id again (ids are unique among pending
orders only). The transactions tell all of it, in a sequence without gaps: of 2,124 transactions in
OANDA's own example the last has the id 2124. So a list in which an id is missing was cut, and is
taken for no answer.

Invariant: every transaction with `floor < id <= top` has been taken, and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Side
from openbell.venues.oanda.wire import ZERO, Transaction, symbol_of
from openbell.venues.port import OrderReport, VenueFill, VenueOrder

_ORD_TYPES = {
    "MARKET_ORDER": OrdType.MARKET,
    "FIXED_PRICE_ORDER": OrdType.MARKET,
    "LIMIT_ORDER": OrdType.LIMIT,
    "TAKE_PROFIT_ORDER": OrdType.LIMIT,
    "STOP_ORDER": OrdType.STOP,
    "STOP_LOSS_ORDER": OrdType.STOP,
    "GUARANTEED_STOP_LOSS_ORDER": OrdType.STOP,
    "TRAILING_STOP_LOSS_ORDER": OrdType.STOP,
    # Market orders once their price is touched, from whichever side.
    "MARKET_IF_TOUCHED_ORDER": OrdType.STOP,
}
_BY_THE_CLIENT = {"CLIENT_REQUEST", "CLIENT_REQUEST_REPLACED"}
"""Reasons of a cancel that somebody asked for; all others are the venue's own."""
_NEVER_REST = {"IOC", "FOK"}


class CutError(Exception):
    """A list of transactions has holes."""


@dataclass(slots=True)
class _Life:
    """An order, by the transactions that concern it."""

    created: Transaction
    cl_ord_id: str
    fills: list[Transaction] = field(default_factory=list)
    ended: Transaction | None = None

    @property
    def cum_qty(self) -> Decimal:
        return sum((abs(fill.units) for fill in self.fills), ZERO)


class History:
    def __init__(self, top: int, currency: str) -> None:
        """Begins after the transaction `top`. `currency` is the account's own, of its fees."""
        self.floor = top
        self.top = top
        self.currency = currency
        self._lives: dict[int, _Life] = {}
        self._by_client: dict[str, int] = {}
        self._orphans: dict[int, list[Transaction]] = {}
        """What concerns orders that were created at or below the floor."""
        self._trades: dict[int, Transaction] = {}
        """The fills that opened them."""

    def extend(self, transactions: Sequence[Transaction]) -> None:
        """Takes those that follow the top, oldest first. Raises CutError."""
        self._check(transactions, self.top + 1)
        for transaction in transactions:
            self._take(transaction)
        self.top += len(transactions)

    def prepend(self, transactions: Sequence[Transaction]) -> None:
        """Takes those that end at the floor, oldest first. Raises CutError."""
        self._check(transactions, self.floor - len(transactions) + 1)
        for transaction in transactions:
            self._take(transaction)
        self.floor -= len(transactions)

    def _check(self, transactions: Sequence[Transaction], first: int) -> None:
        for expected, transaction in enumerate(transactions, first):
            if transaction.number != expected:
                raise CutError(f"transaction {expected} is missing")

    def _take(self, transaction: Transaction) -> None:
        kind = transaction.type
        if kind.endswith("_ORDER"):
            self._create(transaction)
        elif kind == "ORDER_FILL":
            opened = transaction.trade_opened
            if opened is not None:
                self._trades[int(opened.trade_id)] = transaction
            self._concern(transaction)
        elif kind in ("ORDER_CANCEL", "ORDER_CLIENT_EXTENSIONS_MODIFY"):
            self._concern(transaction)

    def _create(self, transaction: Transaction) -> None:
        number, name = transaction.number, transaction.client_extensions.id
        life = self._lives[number] = _Life(transaction, name)
        self._name(name, number)
        for later in self._orphans.pop(number, ()):
            self._add(number, life, later)

    def _concern(self, transaction: Transaction) -> None:
        number = int(transaction.order_id)
        life = self._lives.get(number)
        if life is None:
            self._orphans.setdefault(number, []).append(transaction)
        else:
            self._add(number, life, transaction)

    def _add(self, number: int, life: _Life, transaction: Transaction) -> None:
        match transaction.type:
            case "ORDER_FILL":
                life.fills.append(transaction)
                life.fills.sort(key=lambda fill: fill.number)
            case "ORDER_CANCEL":
                life.ended = transaction
            case _ if transaction.client_extensions_modify.id:
                life.cl_ord_id = transaction.client_extensions_modify.id
                self._name(life.cl_ord_id, number)

    def _name(self, name: str, number: int) -> None:
        """An id may be used again: the newest order has it."""
        if name and number >= self._by_client.get(name, 0):
            self._by_client[name] = number

    # What is known.

    def number_of(self, cl_ord_id: str) -> int | None:
        """Order id of the newest order of this name."""
        return self._by_client.get(cl_ord_id)

    def needs(self, number: int) -> int:
        """The lowest transaction that must be known to tell of this order."""
        life = self._lives.get(number)
        trade = life.created.trade_id if life is not None else ""
        hangs = life is not None and not life.created.instrument and trade
        return min(number, int(trade)) if hangs else number

    def order(self, number: int) -> VenueOrder | None:
        """None for an order that is not known, or hangs on a trade that is not."""
        life = self._lives.get(number)
        if life is None:
            return None
        created = life.created
        instrument, units = created.instrument, created.units
        if not instrument:
            opening = self._trades.get(int(created.trade_id or 0))
            if opening is None or opening.trade_opened is None:
                return None
            instrument, units = opening.instrument, -opening.trade_opened.units
        ord_type = _ORD_TYPES.get(created.type, OrdType.STOP)
        price, stop_px = created.price, None
        if ord_type is OrdType.STOP:
            price, stop_px = None, created.price
        elif ord_type is OrdType.MARKET and created.price_bound is not None:
            # A market order with a worst price is a limit order that never rests.
            ord_type, price = OrdType.LIMIT, created.price_bound
        last = max(
            (created, *life.fills, *([life.ended] if life.ended is not None else [])),
            key=lambda each: each.number,
        )
        return VenueOrder(
            venue_order_id=str(number),
            cl_ord_id=ClOrdID(life.cl_ord_id),
            symbol=symbol_of(instrument),
            side=Side.BUY if units > 0 else Side.SELL,
            ord_type=ord_type,
            status=_status(life, abs(units)),
            order_qty=abs(units),
            cum_qty=life.cum_qty,
            price=price,
            created_ns=created.at_ns,
            updated_ns=last.at_ns,
            stop_px=stop_px,
            reduce_only=created.position_fill == "REDUCE_ONLY" or not created.instrument,
        )

    def fills_of(self, number: int) -> list[VenueFill]:
        life = self._lives.get(number)
        if life is None:
            return []
        return [self._fill(fill, life.cl_ord_id) for fill in life.fills]

    def fills_since(self, since_ns: int) -> list[VenueFill]:
        """Oldest first; also of orders that are older than what is known."""
        known = [(fill, life.cl_ord_id) for life in self._lives.values() for fill in life.fills]
        known += [
            (each, each.client_order_id)
            for orphans in self._orphans.values()
            for each in orphans
            if each.type == "ORDER_FILL"
        ]
        known.sort(key=lambda pair: pair[0].number)
        return [self._fill(fill, name) for fill, name in known if fill.at_ns >= since_ns]

    def report(self, transaction: Transaction) -> OrderReport | None:
        """What the newest transaction says; None where it concerns no order that is known."""
        if transaction.type.endswith("_ORDER"):
            order = self.order(transaction.number)
            return None if order is None else OrderReport(order=order)
        if transaction.type not in ("ORDER_FILL", "ORDER_CANCEL"):
            return None
        order = self.order(int(transaction.order_id))
        if order is None:
            return None
        if transaction.type == "ORDER_CANCEL":
            return OrderReport(order=order)
        return OrderReport(order=order, fill=self._fill(transaction, order.cl_ord_id))

    def _fill(self, fill: Transaction, cl_ord_id: str) -> VenueFill:
        """One transaction is one execution, however many trades it opened, reduced or closed."""
        return VenueFill(
            exec_id=fill.id,
            venue_order_id=fill.order_id,
            cl_ord_id=ClOrdID(cl_ord_id or fill.client_order_id),
            symbol=symbol_of(fill.instrument),
            side=Side.BUY if fill.units > 0 else Side.SELL,
            last_qty=abs(fill.units),
            last_px=fill.filled_at,
            fee=fill.commission + fill.guaranteed_execution_fee,
            fee_currency=self.currency,
            is_maker=False,  # OANDA is the other side of every trade
            venue_time_ns=fill.at_ns,
        )


def _status(life: _Life, order_qty: Decimal) -> OrdStatus:
    cum_qty = life.cum_qty
    if life.ended is not None:
        asked_for = life.ended.reason in _BY_THE_CLIENT
        return OrdStatus.CANCELED if asked_for else OrdStatus.EXPIRED
    if cum_qty >= order_qty:
        return OrdStatus.FILLED
    if not cum_qty:
        return OrdStatus.NEW
    created = life.created
    rests = created.type != "MARKET_ORDER" and created.time_in_force not in _NEVER_REST
    return OrdStatus.PARTIALLY_FILLED if rests else OrdStatus.EXPIRED
