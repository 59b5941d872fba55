"""How positions are flattened, and what remains of orders and positions.

A flatten never makes a position larger and never flips it: its legs in sum are at most the
position, whatever is still under way on the same side taken off.

Needs neither the books nor what they are made of: the emergency stop plans by it as well, and must not
go down with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import OrdType, Side, TimeInForce

ZERO = Decimal(0)

Instrument = tuple[str, str]
"""Venue and unified symbol."""


class Held(Protocol):
    """A position, as its plan needs it: the books have more of it, a venue tells no more."""

    @property
    def venue(self) -> str: ...

    @property
    def symbol(self) -> str: ...

    @property
    def quantity(self) -> Decimal:
        """Signed, in the base currency; negative: short."""

    @property
    def avg_px(self) -> Decimal:
        """What it is valued at where there is no sound quote."""


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


def plan_flatten(
    positions: Iterable[Held],
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
    for position in sorted(positions, key=_instrument):
        if position.quantity == 0:
            continue
        rule = rules.get(_instrument(position))
        if rule is None:
            blocked.append(f"{position.venue} {position.symbol}: the venue's rules are not known")
            continue
        quote = quotes.get(_instrument(position))
        quote = quote if quote is not None and quote.is_sound else None
        price = quote.mid if quote is not None else position.avg_px
        if is_flat(position.quantity, rule, price) is Flatness.DUST:
            dust.append(
                Dust(venue=position.venue, symbol=position.symbol, quantity=position.quantity)
            )
            continue
        left = abs(position.quantity) - (under_way or {}).get(_instrument(position), ZERO)
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
    position: Held,
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


def _instrument(position: Held) -> Instrument:
    return position.venue, position.symbol
