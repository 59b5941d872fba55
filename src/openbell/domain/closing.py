"""Plans of a closing: what is cancelled first, how positions are flattened, and the statement that
says what remains.

A flatten never makes a position larger and never flips it: its legs in sum are at most the
position, whatever is still under way on the same side taken off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal

import msgspec

from openbell.domain import order_book
from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, Order, OrdType, Side, TimeInForce
from openbell.domain.positions import Instrument, Pnl, Position

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


class FlattenLeg(msgspec.Struct, frozen=True, kw_only=True):
    """One order of a flatten; reduce-only."""

    venue: str
    symbol: str
    side: Side
    order_qty: Decimal
    ord_type: OrdType
    price: Decimal | None
    """None: a market order."""
    time_in_force: TimeInForce
    expected_px: Decimal | None
    """The touch it would trade at, or its limit; None: no quote."""
    expected_slippage: Decimal | None
    """Against the mid, in the quote currency, depth beyond the touch left out; positive: a cost."""
    expected_fee: Decimal | None
    """In the quote currency."""


class Dust(msgspec.Struct, frozen=True, kw_only=True):
    """A remainder that no order can close."""

    venue: str
    symbol: str
    quantity: Decimal


class FlattenPlan(msgspec.Struct, frozen=True, kw_only=True):
    legs: tuple[FlattenLeg, ...]
    dust: tuple[Dust, ...]
    blocked: tuple[str, ...]
    """Positions that cannot be planned, with the reason."""


class Flatness(StrEnum):
    FLAT = "flat"
    DUST = "dust"
    """Not zero, and too small for any order."""
    OPEN = "open"


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


def plan_flatten(
    positions: Iterable[Position],
    rules: Mapping[Instrument, InstrumentRules],
    quotes: Mapping[Instrument, Quote],
    mode: Literal["market", "limit"],
    *,
    under_way: Mapping[Instrument, Decimal] | None = None,
    taker_fee: Decimal = ZERO,
) -> FlattenPlan:
    """Orders that bring positions to zero or dust, by venue and symbol.

    `limit`: IOC at the mid, rounded to the tick; where there is no sound quote, a market order.
    `under_way` is what open orders on the closing side could still take off each position (a
    positive quantity): it is not ordered again. `taker_fee` is a share, for the estimate only.
    """
    legs: list[FlattenLeg] = []
    dust: list[Dust] = []
    blocked: list[str] = []
    for position in sorted(positions, key=lambda p: p.instrument):
        if position.is_flat:
            continue
        rule = rules.get(position.instrument)
        if rule is None:
            blocked.append(f"{position.venue} {position.symbol}: the venue's rules are not known")
            continue
        quote = quotes.get(position.instrument)
        quote = quote if quote is not None and quote.is_sound else None
        price = quote.mid if quote is not None else position.avg_px
        if is_flat(position.quantity, rule, price) is Flatness.DUST:
            dust.append(
                Dust(venue=position.venue, symbol=position.symbol, quantity=position.quantity)
            )
            continue
        left = abs(position.quantity) - (under_way or {}).get(position.instrument, ZERO)
        legs += [
            _leg(position, quantity, rule, quote, mode, taker_fee)
            for quantity in _split(left, rule, price)
        ]
    return FlattenPlan(legs=tuple(legs), dust=tuple(dust), blocked=tuple(blocked))


def is_flat(quantity: Decimal, rules: InstrumentRules, price: Decimal | None) -> Flatness:
    """Whether a position is closed as far as the venue allows. Without a price only the quantity
    decides, so what is called dust then is dust at any price."""
    if quantity == 0:
        return Flatness.FLAT
    rounded = rules.round_qty(abs(quantity))
    if rounded == 0 or rounded < rules.min_qty:
        return Flatness.DUST
    if price is None or not price.is_finite() or price <= 0:
        return Flatness.OPEN
    return Flatness.OPEN if rules.is_tradable(quantity, price) else Flatness.DUST


class RemainingOrder(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    symbol: str
    cl_ord_id: str
    venue_order_id: str
    side: Side
    leaves_qty: Decimal
    price: Decimal | None = None
    own: bool = True
    """False: another's, on the same account. Shown, and left alone."""


class RemainingPosition(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    symbol: str
    quantity: Decimal


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


def _split(quantity: Decimal, rules: InstrumentRules, price: Decimal) -> list[Decimal]:
    """Quantities the venue takes, in sum at most `quantity` and as near to it as the lot allows."""
    left = rules.round_qty(max(quantity, ZERO))
    largest = rules.round_qty(rules.max_qty)
    parts: list[Decimal] = []
    while left > largest > 0:
        half = rules.round_qty(left / 2)
        # A last part too small to be taken is avoided by sharing the last two evenly.
        share = not _takes(rules, left - largest, price) and _takes(rules, half, price)
        part = half if share else largest
        parts.append(part)
        left -= part
    if _takes(rules, left, price):
        parts.append(left)
    return parts


def _takes(rules: InstrumentRules, quantity: Decimal, price: Decimal) -> bool:
    return is_flat(quantity, rules, price) is Flatness.OPEN


def _leg(
    position: Position,
    quantity: Decimal,
    rules: InstrumentRules,
    quote: Quote | None,
    mode: Literal["market", "limit"],
    taker_fee: Decimal,
) -> FlattenLeg:
    side = Side.SELL if position.quantity > 0 else Side.BUY
    price = rules.round_price(quote.mid) if mode == "limit" and quote is not None else None
    expected: Decimal | None = None
    if quote is not None:
        expected = price or (quote.bid_px if side is Side.SELL else quote.ask_px)
    return FlattenLeg(
        venue=position.venue,
        symbol=position.symbol,
        side=side,
        order_qty=quantity,
        ord_type=OrdType.MARKET if price is None else OrdType.LIMIT,
        price=price,
        time_in_force=TimeInForce.GTC if price is None else TimeInForce.IOC,
        expected_px=expected,
        expected_slippage=(
            None
            if expected is None or quote is None
            else (expected - quote.mid) * side.sign * quantity
        ),
        expected_fee=None if expected is None else expected * quantity * taker_fee,
    )
