"""Compare our books with what the venue says, and say what would heal the differences.

Rules:

- An incomplete answer is not an empty one: what was not seen is unknown.
- Absence from one list proves nothing: the order is asked for by its ClOrdID.
- What changed while we looked is unknown, not different: look again. But orders in flight explain no
  more than their quantities: what a position differs beyond that is told (`PositionFinding.beyond`).
- Orders that are not ours are listed and left alone.
- Reconciling again without news changes nothing: the same facts give the same findings, and once
  the actions are done, none are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

import msgspec

from openbell.domain import ids, order_book
from openbell.domain.orders import ClOrdID, Order, OrdStatus, Side

ZERO = Decimal(0)


class Agreement(StrEnum):
    OK = "ok"
    MISMATCH = "mismatch"
    """Both sides are known, and differ."""
    UNKNOWN = "unknown"
    """One side is not known, or moved while we looked."""


class Kind(StrEnum):
    """What a difference is. Stable words: `openbell reconcile --json` and the API tell them."""

    MISSING_FILL = "missing_fill"
    """Executions of an own order that the books lack."""
    UNKNOWN_ORDER = "unknown_order"
    """An order or execution with this desk's ClOrdID that the books never held."""
    STRAY_ORDER = "stray_order"
    """Open at the venue, ended in the books."""
    ORDER_DIFFERS = "order_differs"
    """Side or quantity of an order are not what was sent."""
    EXTERNAL_TRADE = "external_trade"
    """The position differs, and executions that are not the desk's explain it."""
    UNEXPLAINED = "unexplained"
    """The position differs, and no execution that the venue tells explains all of it."""
    IN_DOUBT = "in_doubt"
    """What became of an own order is not known yet."""
    MOVING = "moving"
    """Changed while the venue was asked."""
    INCOMPLETE = "incomplete"
    """The venue's answer is not all there is, or is not to be believed."""
    UNREACHABLE = "unreachable"
    """The venue could not be asked."""
    ROUNDING = "rounding"
    """Less than the smallest tradable quantity."""
    INFERRED_FILL = "inferred_fill"
    """An own order's executed quantity is booked, its executions are not listed yet."""
    FOREIGN_ORDER = "foreign_order"
    """An open order on the account that is not the desk's."""
    EXTERNAL_TRANSFER = "external_transfer"
    """Cash differs, and no execution explains it: a deposit, a withdrawal, interest, a charge."""
    FEE_UNKNOWN = "fee_unknown"
    """Cash differs, and the fee or price of an own execution is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFacts:
    """An open order as the venue lists it."""

    cl_ord_id: ClOrdID
    venue_order_id: str
    symbol: str
    side: Side
    order_qty: Decimal
    cum_qty: Decimal
    price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FillFacts:
    """An execution as the venue lists it."""

    exec_id: str
    venue_order_id: str
    cl_ord_id: ClOrdID
    """Empty where the venue's list does not carry it."""
    symbol: str
    side: Side
    last_qty: Decimal
    last_px: Decimal
    fee: Decimal = ZERO
    fee_currency: str = ""
    is_maker: bool = False
    venue_time_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BookFacts:
    """Our side, for one venue."""

    venue: str
    desk_id: str
    orders: tuple[Order, ...]
    """All that the books hold for this venue, final ones included."""
    positions: Mapping[str, Decimal]
    """Signed quantity per symbol."""
    tolerance: Mapping[str, Decimal] = field(default_factory=dict)
    """Per symbol: differences of position smaller than this are rounding, not trading; usually the
    lot. Without one, any difference is a mismatch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueFacts:
    """The venue's side, asked in one go."""

    asked_ns: int
    """Our clock before the first request left: what the books learned since, the venue may not have
    told yet."""
    open_orders: tuple[OrderFacts, ...]
    complete: bool
    """Whether `open_orders` is all there is."""
    positions: Mapping[str, Decimal] | None
    """Signed quantity per symbol; None: not answered."""
    fills: tuple[FillFacts, ...] = ()
    """Recent executions, as many as were asked for."""


class OrderFinding(msgspec.Struct, frozen=True, kw_only=True):
    cl_ord_id: ClOrdID
    venue_order_id: str
    symbol: str
    status: Agreement
    why: str = ""
    kind: Kind | None = None
    """None where it agrees."""


class PositionFinding(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    books: Decimal
    venue_says: Decimal | None
    status: Agreement
    why: str = ""
    kind: Kind | None = None
    """None where it agrees to the last digit. Of one that an order explains, the order's."""
    beyond: tuple[Decimal, Decimal] | None = None
    """Between what the venue's less the books' quantity is, when all that orders in flight may account
    for is taken out of it; equal where none is. None: that may be nothing, or is not known."""


@dataclass(frozen=True, slots=True)
class AskForOrder:
    """Ask the venue for the order by its ClOrdID and book what it answers."""

    symbol: str
    cl_ord_id: ClOrdID


@dataclass(frozen=True, slots=True)
class ApplyFills:
    """Book executions of one of our orders that the books lack, oldest first."""

    cl_ord_id: ClOrdID
    fills: tuple[FillFacts, ...]


@dataclass(frozen=True, slots=True)
class AdoptOrder:
    """An order with this desk's ClOrdID that the books never held, as after an old copy of the
    journal was restored: book its intent and acceptance, so that its fills count and it can be
    cancelled."""

    order: OrderFacts


@dataclass(frozen=True, slots=True)
class CancelStray:
    """An order of ours that rests at the venue though the books hold it final: cancel it. This can
    only reduce risk, and its fills are counted all the same. An AskForOrder follows."""

    symbol: str
    cl_ord_id: ClOrdID


@dataclass(frozen=True, slots=True)
class QuarantineForeign:
    """An order that is not ours. Show it; touch it only when account-wide action was asked for."""

    order: OrderFacts


ReconcileAction = AskForOrder | ApplyFills | AdoptOrder | CancelStray | QuarantineForeign


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    orders: tuple[OrderFinding, ...]
    """One per own order that is open here or there, or has executions we lack."""
    positions: tuple[PositionFinding, ...]
    foreign: tuple[OrderFacts, ...]
    actions: tuple[ReconcileAction, ...]
    """Those of one order are to be done in this order."""
    complete: bool
    """Whether the venue answered in full."""

    @property
    def status(self) -> Agreement:
        """MISMATCH if anything differs, else UNKNOWN if anything is unknown, else OK."""
        seen = {order.status for order in self.orders}
        seen |= {position.status for position in self.positions}
        if Agreement.MISMATCH in seen:
            return Agreement.MISMATCH
        if Agreement.UNKNOWN in seen or not self.complete:
            return Agreement.UNKNOWN
        return Agreement.OK

    @property
    def ok(self) -> bool:
        return self.status is Agreement.OK


def reconcile(ours: BookFacts, venue: VenueFacts) -> Reconciliation:
    """Compares one venue's orders and positions with our books. See the rules above."""
    orders = {order.cl_ord_id: order for order in ours.orders}
    by_venue_id = {
        (order.new.symbol, order.venue_order_id): order.cl_ord_id
        for order in ours.orders
        if order.venue_order_id
    }
    listed = {there.cl_ord_id: there for there in venue.open_orders}
    lacking = _lacking_fills(ours, venue, orders, by_venue_id)
    findings: list[OrderFinding] = []
    actions: list[ReconcileAction] = []
    foreign: list[OrderFacts] = []

    for cl_ord_id, order in orders.items():
        there = listed.get(cl_ord_id)
        fills = lacking.get(cl_ord_id, ())
        if there is None and not fills and not order_book.is_open(order):
            continue
        kind, why, heals = _compare(order, there, fills, venue)
        findings.append(
            OrderFinding(
                cl_ord_id=cl_ord_id,
                venue_order_id=order.venue_order_id or (there.venue_order_id if there else ""),
                symbol=order.new.symbol,
                status=_agreement(kind),
                why=why,
                kind=kind,
            )
        )
        actions += heals

    for there in venue.open_orders:
        if there.cl_ord_id in orders:
            continue
        if not ids.is_own(there.cl_ord_id, ours.desk_id):
            foreign.append(there)
            actions.append(QuarantineForeign(there))
            continue
        findings.append(_unheard_of(there.cl_ord_id, there.venue_order_id, there.symbol))
        actions.append(AdoptOrder(there))
    for cl_ord_id, fills in lacking.items():
        if cl_ord_id not in orders and cl_ord_id not in listed:
            findings.append(_unheard_of(cl_ord_id, fills[0].venue_order_id, fills[0].symbol))
            actions.append(AskForOrder(fills[0].symbol, cl_ord_id))

    return Reconciliation(
        orders=tuple(findings),
        positions=tuple(_compare_positions(ours, venue, findings)),
        foreign=tuple(foreign),
        actions=tuple(actions),
        complete=venue.complete and venue.positions is not None,
    )


def _compare(
    order: Order, there: OrderFacts | None, fills: tuple[FillFacts, ...], venue: VenueFacts
) -> tuple[Kind | None, str, tuple[ReconcileAction, ...]]:
    """An order of ours with what the venue lists of it."""
    ask = AskForOrder(order.new.symbol, order.cl_ord_id)
    if fills:
        several = len(fills) != 1
        why = f"{len(fills)} execution{'s are' if several else ' is'} not in the books"
        return Kind.MISSING_FILL, why, (ApplyFills(order.cl_ord_id, fills),)
    if order.updated_ns >= venue.asked_ns:
        return Kind.MOVING, "changed while the venue was asked", ()
    if there is None:
        why = "not in the venue's list" if venue.complete else "the venue's list was cut"
        return Kind.IN_DOUBT, f"{why}, which proves nothing", (ask,)
    if order.status is OrdStatus.REJECTED:
        return Kind.STRAY_ORDER, "open at the venue, rejected in the books", (ask,)
    if order.status.is_final:
        why = f"open at the venue, {order.status} in the books"
        # Its fills may be lacking as well, and would be hidden once it is gone from the list.
        return Kind.STRAY_ORDER, why, (CancelStray(order.new.symbol, order.cl_ord_id), ask)
    if order.status is OrdStatus.UNKNOWN or not order.venue_order_id:
        return Kind.IN_DOUBT, "listed, but its outcome is not booked yet", (ask,)
    if there.order_qty != order.new.order_qty or there.side is not order.new.side:
        why = f"the venue says {there.side} {there.order_qty}"
        return Kind.ORDER_DIFFERS, f"{why}, the books {order.new.side} {order.new.order_qty}", ()
    if there.cum_qty != order.cum_qty:
        why = f"the venue filled {there.cum_qty}, the books {order.cum_qty}"
        return Kind.MISSING_FILL, why, (ask,)
    return None, "", ()


def _unheard_of(cl_ord_id: ClOrdID, venue_order_id: str, symbol: str) -> OrderFinding:
    return OrderFinding(
        cl_ord_id=cl_ord_id,
        venue_order_id=venue_order_id,
        symbol=symbol,
        status=Agreement.MISMATCH,
        why="this desk's ClOrdID, and not in its books",
        kind=Kind.UNKNOWN_ORDER,
    )


def _lacking_fills(
    ours: BookFacts,
    venue: VenueFacts,
    orders: Mapping[ClOrdID, Order],
    by_venue_id: Mapping[tuple[str, str], ClOrdID],
) -> dict[ClOrdID, tuple[FillFacts, ...]]:
    """Executions of our orders that the books do not hold, oldest first, each once."""
    found: dict[ClOrdID, dict[str, FillFacts]] = {}
    for fill in venue.fills:
        cl_ord_id = fill.cl_ord_id or by_venue_id.get((fill.symbol, fill.venue_order_id))
        if not cl_ord_id:
            continue
        order = orders.get(cl_ord_id)
        if order is None and not ids.is_own(cl_ord_id, ours.desk_id):
            continue
        if order is None or fill.exec_id not in order.exec_ids:
            found.setdefault(cl_ord_id, {}).setdefault(fill.exec_id, fill)
    return {
        cl_ord_id: tuple(sorted(fills.values(), key=lambda fill: fill.venue_time_ns))
        for cl_ord_id, fills in found.items()
    }


def _compare_positions(
    ours: BookFacts, venue: VenueFacts, findings: Sequence[OrderFinding]
) -> Iterable[PositionFinding]:
    # An order that is not clear may have fills that explain a difference, and so may one that
    # changed after the venue was asked.
    unclear = {
        order.new.symbol: Kind.MOVING
        for order in ours.orders
        if order.cum_qty > 0 and order.updated_ns >= venue.asked_ns
    }
    unclear |= {f.symbol: f.kind for f in findings if f.kind is not None}
    in_flight = _in_flight(ours, venue, findings)
    for symbol in sorted({*ours.positions, *(venue.positions or {})}):
        books = ours.positions.get(symbol, ZERO)
        says = None if venue.positions is None else venue.positions.get(symbol)
        kind: Kind | None = None
        status, why = Agreement.OK, ""
        beyond = None
        if says is None:
            status, kind, why = Agreement.UNKNOWN, Kind.INCOMPLETE, "the venue did not say"
        elif not _equal(books, says, ours.tolerance.get(symbol)):
            beyond = _beyond(
                says - books, in_flight.get(symbol, _NOTHING), ours.tolerance.get(symbol)
            )
            if symbol in unclear:
                status, kind = Agreement.UNKNOWN, unclear[symbol]
                why = "differs, and an order of it is not clear"
            else:
                status, kind = Agreement.MISMATCH, Kind.UNEXPLAINED
                why = (
                    f"the books hold {books}, the venue {says}, and no order of this desk explains it; "
                    "`openbell reconcile` looks for executions that do"
                )
        elif books != says:
            kind, why = Kind.ROUNDING, "less than the smallest tradable quantity"
        yield PositionFinding(
            symbol=symbol,
            books=books,
            venue_says=says,
            status=status,
            why=why,
            kind=kind,
            beyond=beyond,
        )


def _in_flight(
    ours: BookFacts, venue: VenueFacts, findings: Sequence[OrderFinding]
) -> dict[str, tuple[Decimal, Decimal] | None]:
    """By symbol: the least and the most that the venue's quantity may be above the books' by what orders
    do that are not clear. None: no bound is known."""
    orders = {order.cl_ord_id: order for order in ours.orders}
    kinds = {finding.cl_ord_id: finding for finding in findings if finding.kind is not None}
    found: dict[str, tuple[Decimal, Decimal] | None] = {}
    for cl_ord_id, finding in kinds.items():
        # One that the books never held, or that is not what was sent, may have filled any quantity.
        if cl_ord_id not in orders or finding.kind is Kind.ORDER_DIFFERS:
            found[finding.symbol] = None
    for cl_ord_id, order in orders.items():
        moved = order.updated_ns >= venue.asked_ns
        symbol = order.new.symbol
        if cl_ord_id not in kinds and not (moved and order.cum_qty > 0):
            continue
        so_far = found.get(symbol, _NOTHING)
        if so_far is None:
            continue
        more = (order.new.order_qty - order.cum_qty) * _WITH_FEE
        less = order.cum_qty * _WITH_FEE if moved else ZERO
        low, high = (-less, more) if order.new.side is Side.BUY else (-more, less)
        found[symbol] = (so_far[0] + low, so_far[1] + high)
    return found


def _beyond(
    difference: Decimal, in_flight: tuple[Decimal, Decimal] | None, tolerance: Decimal | None
) -> tuple[Decimal, Decimal] | None:
    if in_flight is None:
        return None
    low, high = difference - in_flight[1], difference - in_flight[0]
    if low <= 0 <= high or (tolerance is not None and min(abs(low), abs(high)) < tolerance):
        return None
    return low, high


_NOTHING = (ZERO, ZERO)
_WITH_FEE = Decimal("1.01")
"""A fee in kind moves a position by more than the quantity traded, by less than a hundredth. Ours."""


def _equal(books: Decimal, says: Decimal, tolerance: Decimal | None) -> bool:
    return books == says or (tolerance is not None and abs(books - says) < tolerance)


_UNKNOWN = frozenset({Kind.IN_DOUBT, Kind.MOVING, Kind.INCOMPLETE, Kind.UNREACHABLE})
_AGREED = frozenset({Kind.ROUNDING, Kind.INFERRED_FILL, Kind.FOREIGN_ORDER, Kind.FEE_UNKNOWN})


def agreement_of(kind: Kind) -> Agreement:
    """What a difference of this kind means."""
    if kind in _AGREED:
        return Agreement.OK
    return Agreement.UNKNOWN if kind in _UNKNOWN else Agreement.MISMATCH


def _agreement(kind: Kind | None) -> Agreement:
    return Agreement.OK if kind is None else agreement_of(kind)
