"""Plans of a closing: what is cancelled first, and the statement that says what remains."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from openbell.domain import order_book
from openbell.domain.flattening import Dust, RemainingOrder, RemainingPosition
from openbell.domain.market import Quote
from openbell.domain.orders import ClOrdID, Order, OrdType, Side
from openbell.domain.positions import Instrument, Pnl

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelScope:
    """Which orders; what is not named is not restricted."""

    venue: str | None = None
    symbol: str | None = None
    strategy: str | None = None
    cl_ord_ids: Collection[ClOrdID] | None = None
    passive_stay: bool = False
    """Orders that can only provide liquidity are not in it: see `is_passive`."""

    def holds(self, order: Order) -> bool:
        return (
            not (self.passive_stay and is_passive(order))
            and (self.venue is None or order.new.venue == self.venue)
            and (self.symbol is None or order.new.symbol == self.symbol)
            and (self.strategy is None or order.new.strategy == self.strategy)
            and (self.cl_ord_ids is None or order.cl_ord_id in self.cl_ord_ids)
        )


def is_passive(order: Order) -> bool:
    """Whether the order can only provide liquidity: a limit order that the venue rejects rather than
    matches at once. How far a price is from trading says nothing of the next moment."""
    return order.new.ord_type is OrdType.LIMIT and order.new.post_only


class CancelTarget(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    symbol: str
    cl_ord_id: ClOrdID
    venue_order_id: str
    leaves_qty: Decimal
    distance: Decimal | None
    """How far its price is from trading, as a share of the mid; 0 or less: it may trade now. None:
    not known, which counts as near."""
    notional: Decimal | None
    """What is left of it, in the quote currency, as far as a price is known."""


def plan_cancels(
    open_orders: Iterable[Order],
    scope: CancelScope,
    quotes: Mapping[Instrument, Quote],
) -> list[CancelTarget]:
    """The orders of the scope that could still trade, riskiest first: nearest to trading, then
    largest. Without a quote an order counts as near."""
    targets = [
        _target(order, quotes.get((order.new.venue, order.new.symbol)))
        for order in open_orders
        if order_book.is_open(order) and scope.holds(order)
    ]
    return sorted(
        targets,
        key=lambda t: (
            max(t.distance if t.distance is not None else ZERO, ZERO),
            -(t.notional or ZERO),
            t.cl_ord_id,
        ),
    )


class ClosingStatement(msgspec.Struct, frozen=True, kw_only=True):
    """What is left when a desk is closed, asked from the venues and the system, not remembered."""

    remaining_orders: tuple[RemainingOrder, ...] = ()
    remaining_positions: tuple[RemainingPosition, ...] = ()
    """Above dust."""
    dust: tuple[Dust, ...] = ()
    unknown: tuple[str, ...] = ()
    """Venues that could not be asked, or not in full, with the reason."""
    pnl: Pnl | None = None
    checkpoint: str | None = None
    """Path of the file; None: none was written."""
    checkpoint_wanted: bool = True
    """False: there is nothing that an earlier one does not hold."""
    processes_left: int | None = None
    """None: could not be counted."""
    sockets_left: int | None = None
    errors_last_5m: int | None = None
    orders_kept: bool = False
    """The desk's policy was to keep resting orders."""
    kept: tuple[str, ...] = ()
    """ClOrdIDs that were to stay where only some were."""
    positions_kept: bool = False
    reconciled: bool = True
    """The books agreed with the venues at the end."""


def open_points(statement: ClosingStatement) -> list[str]:
    """Why the closing is not verified; empty if it is. Errors in the log are told, but do not make
    a verified closing unverified: they are not what remains."""
    points: list[str] = [f"not verified: {venue}" for venue in statement.unknown]
    own = [
        order
        for order in statement.remaining_orders
        if order.own and order.cl_ord_id not in statement.kept
    ]
    if own and not statement.orders_kept:
        points.append(
            f"{len(own)} {'order remains' if len(own) == 1 else 'orders remain'} at the venue"
        )
    if statement.remaining_positions and not statement.positions_kept:
        held = len(statement.remaining_positions)
        points.append(f"{held} {'position remains' if held == 1 else 'positions remain'}")
    if not statement.reconciled:
        points.append("the books differ from the venue")
    if statement.checkpoint is None and statement.checkpoint_wanted:
        points.append("no checkpoint was written")
    for one, several, count in (
        ("process", "processes", statement.processes_left),
        ("socket", "sockets", statement.sockets_left),
    ):
        if count is None:
            points.append(f"{several} left could not be counted")
        elif count:
            points.append(f"1 {one} is left" if count == 1 else f"{count} {several} are left")
    return points


def verified(statement: ClosingStatement) -> bool:
    """Whether everything that was meant to end was seen to have ended."""
    return not open_points(statement)


def _target(order: Order, quote: Quote | None) -> CancelTarget:
    new = order.new
    sound = quote if quote is not None and quote.is_sound else None
    price = new.price if new.price is not None else (sound.mid if sound else None)
    distance: Decimal | None = None
    if new.ord_type is OrdType.MARKET:
        distance = ZERO
    elif sound is not None and new.price is not None:
        touch = sound.ask_px if new.side is Side.BUY else sound.bid_px
        distance = (touch - new.price) * new.side.sign / sound.mid
    return CancelTarget(
        venue=new.venue,
        symbol=new.symbol,
        cl_ord_id=order.cl_ord_id,
        venue_order_id=order.venue_order_id,
        leaves_qty=order.leaves_qty,
        distance=distance,
        notional=None if price is None else order.leaves_qty * price,
    )
