"""Quotes and the rules of an instrument."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

import msgspec


def base_quote(symbol: str) -> tuple[str, str]:
    """Base and quote currency of a unified symbol: `("BTC", "USDT")`. Raises ValueError."""
    base, slash, quote = symbol.partition("/")
    if not (base and slash and quote):
        raise ValueError(f"{symbol!r} is not a unified symbol such as BTC/USDT")
    return base, quote


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """Best bid and offer of one symbol at one venue."""

    venue: str
    symbol: str
    bid_px: Decimal
    bid_qty: Decimal
    ask_px: Decimal
    ask_qty: Decimal
    venue_time_ns: int
    received_ns: int
    late_ns: int = 0
    """How much later than the venue's own time this symbol's messages come, as its feed found last; 0 as
    well where that is not known, as of venues that put no time on them."""

    def age_ns(self, now_ns: int) -> int:
        """Since it was so at the venue, as far as that is known, else since it arrived. Less than nothing:
        the clock was set back since."""
        return now_ns - self.received_ns + self.late_ns

    @property
    def mid(self) -> Decimal:
        return (self.bid_px + self.ask_px) / 2

    @property
    def is_sound(self) -> bool:
        """Both prices are positive numbers and not crossed. Nothing may be concluded from others."""
        return (
            self.bid_px.is_finite()
            and self.ask_px.is_finite()
            and Decimal(0) < self.bid_px <= self.ask_px
        )


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """A public trade."""

    venue: str
    symbol: str
    price: Decimal
    quantity: Decimal
    aggressor_is_buyer: bool
    venue_time_ns: int
    received_ns: int


class InstrumentRules(msgspec.Struct, frozen=True, kw_only=True):
    """What an order in this symbol must satisfy, as the venue states it."""

    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    lot_size: Decimal
    min_qty: Decimal
    max_qty: Decimal
    min_notional: Decimal
    """In the quote currency."""

    def round_price(self, price: Decimal) -> Decimal:
        """The nearest price on the tick grid."""
        return (price / self.tick_size).quantize(Decimal(1), ROUND_HALF_EVEN) * self.tick_size

    def round_qty(self, quantity: Decimal) -> Decimal:
        """The largest quantity on the lot grid that is not more than `quantity`."""
        return (quantity / self.lot_size).quantize(Decimal(1), ROUND_DOWN) * self.lot_size

    def is_tradable(self, quantity: Decimal, price: Decimal) -> bool:
        """Whether so much at this price is above the venue's minima; less is dust, which no
        order can close."""
        rounded = self.round_qty(abs(quantity))
        return rounded >= self.min_qty and rounded > 0 and rounded * price >= self.min_notional
