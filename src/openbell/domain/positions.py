"""Positions and P&L from fills, by average cost.

Invariant, after every fill (all in the quote currency):

    realized_pnl == sold - bought - fees[quote] + quantity * avg_px

so realized plus unrealized P&L is the cash that flowed plus what is held at the mark, however often
the average was rounded, and a flat position's P&L is exact.

Fees: one in the quote currency is paid from the proceeds. One in the base currency is paid from
what was bought: it makes the position smaller, and costs its worth at the fill's price. Both are
taken from `realized_pnl` at once. One in a third currency touches neither; it is kept in `fees`
and converted when a total is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from openbell.domain.market import base_quote
from openbell.domain.orders import Side

ZERO = Decimal(0)

Instrument = tuple[str, str]
"""Venue and unified symbol: what positions, marks and quotes are keyed by."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What is held of one symbol at one venue from our own fills."""

    venue: str
    symbol: str
    quantity: Decimal = ZERO
    """Signed, in the base currency; negative: short."""
    avg_px: Decimal = ZERO
    """Average price of what is held; 0 when flat."""
    realized_pnl: Decimal = ZERO
    """In the quote currency, after fees paid in the base or quote currency."""
    fees: dict[str, Decimal] = {}
    """Paid so far per currency, all of them."""
    fee_cost: Decimal = ZERO
    """In the quote currency: the part of `fees` that `realized_pnl` is already less by."""
    bought: Decimal = ZERO
    """Turnover of buys in the quote currency."""
    sold: Decimal = ZERO
    """Turnover of sells in the quote currency."""

    @property
    def instrument(self) -> Instrument:
        return self.venue, self.symbol

    @property
    def is_flat(self) -> bool:
        return self.quantity == 0


class Pnl(msgspec.Struct, frozen=True, kw_only=True):
    """`net == realized + unrealized - fees`, all in `currency`."""

    realized: Decimal
    """Before fees."""
    unrealized: Decimal
    fees: Decimal
    net: Decimal
    currency: str
    unpriced: tuple[str, ...] = ()
    """What the total leaves out for want of a price, such as `binance BTC/USDT` or `fees in BNB`."""


def apply_fill(
    position: Position,
    *,
    side: Side,
    quantity: Decimal,
    price: Decimal,
    fee: Decimal = ZERO,
    fee_currency: str = "",
    fee_in_kind: bool = True,
    base: str,
    quote: str,
) -> Position:
    """The position after a fill of `quantity` (positive) at `price`. A negative fee is a rebate.

    `fee_in_kind` as in `OrderFilled`: without it a fee in the base currency is counted as what it
    was worth in the quote currency.
    """
    if fee_currency == base and not fee_in_kind:
        fee, fee_currency = fee * price, quote
    turnover = quantity * price
    bought = position.bought + (turnover if side is Side.BUY else ZERO)
    sold = position.sold + (turnover if side is Side.SELL else ZERO)
    held, avg_px = _trade(position.quantity, position.avg_px, side.sign * quantity, price)
    fees, fee_cost = position.fees, position.fee_cost
    if fee:
        fees = {**fees, fee_currency: fees.get(fee_currency, ZERO) + fee}
        if fee_currency == base:
            held, avg_px = _trade(held, avg_px, -fee, price)
            fee_cost += fee * price
        elif fee_currency == quote:
            fee_cost += fee
    return _settled(position, held, avg_px, fees, fee_cost, bought, sold, base, quote)


def revert_fill(
    position: Position, *, side: Side, quantity: Decimal, price: Decimal, base: str, quote: str
) -> Position:
    """The position without a fill that was counted before, such as an inferred one that its real
    one replaces. Quantity, turnover and total P&L are as if it had never been counted; how the
    total divides into realized and unrealized may differ, for the average has moved since."""
    turnover = quantity * price
    bought = position.bought - (turnover if side is Side.BUY else ZERO)
    sold = position.sold - (turnover if side is Side.SELL else ZERO)
    held, avg_px = _trade(position.quantity, position.avg_px, -side.sign * quantity, price)
    return _settled(
        position, held, avg_px, position.fees, position.fee_cost, bought, sold, base, quote
    )


def unrealized(position: Position, mark: Decimal) -> Decimal:
    """In the quote currency, at a price that the caller knows to be sound."""
    return position.quantity * (mark - position.avg_px)


def total_pnl(
    positions: Iterable[Position],
    marks: Mapping[Instrument, Decimal],
    conversion: Mapping[str, Decimal],
    *,
    currency: str | None = None,
) -> Pnl:
    """P&L over all positions in one currency.

    `marks` are prices per (venue, symbol). `conversion` is what one unit of a currency is worth in
    `currency`, which by default is the quote currency of most positions. Whatever lacks a finite
    mark or rate is left out and named in `unpriced`; it is never taken as zero silently.
    """
    positions = list(positions)
    currency = currency or common_quote(position.symbol for position in positions)
    realized = open_pnl = fees = ZERO
    unpriced: list[str] = []
    for position in positions:
        base, quote = base_quote(position.symbol)
        rate = _rate(quote, currency, conversion)
        if rate is None:
            unpriced.append(f"{position.venue} {position.symbol}")
        else:
            realized += (position.realized_pnl + position.fee_cost) * rate
            fees += position.fee_cost * rate
            mark = marks.get(position.instrument)
            if position.is_flat:
                pass
            elif mark is None or not mark.is_finite():
                unpriced.append(f"{position.venue} {position.symbol}")
            else:
                open_pnl += unrealized(position, mark) * rate
        for fee_currency, paid in position.fees.items():
            if fee_currency in (base, quote) or not paid:
                continue
            rate = _rate(fee_currency, currency, conversion)
            if rate is None:
                unpriced.append(f"fees in {fee_currency or 'an unnamed currency'}")
            else:
                fees += paid * rate
    return Pnl(
        realized=realized,
        unrealized=open_pnl,
        fees=fees,
        net=realized + open_pnl - fees,
        currency=currency,
        unpriced=tuple(dict.fromkeys(unpriced)),
    )


def common_quote(symbols: Iterable[str]) -> str:
    """The quote currency of most symbols, the first by name of several; empty for no symbols."""
    quotes = [base_quote(symbol)[1] for symbol in symbols]
    return min(quotes, key=lambda quote: (-quotes.count(quote), quote)) if quotes else ""


def _rate(currency: str, target: str, conversion: Mapping[str, Decimal]) -> Decimal | None:
    if currency == target:
        return Decimal(1)
    rate = conversion.get(currency)
    return rate if rate is not None and rate.is_finite() else None


def _trade(
    held: Decimal, avg_px: Decimal, change: Decimal, price: Decimal
) -> tuple[Decimal, Decimal]:
    """Signed quantity and average price after a signed change at `price`."""
    after = held + change
    if after == 0:
        return ZERO, ZERO
    if held == 0 or (held > 0) != (after > 0):
        return after, price  # opened, or through zero: what is held now was all traded at `price`
    if abs(after) > abs(held):
        return after, (held * avg_px + change * price) / after
    return after, avg_px


def _settled(
    position: Position,
    held: Decimal,
    avg_px: Decimal,
    fees: dict[str, Decimal],
    fee_cost: Decimal,
    bought: Decimal,
    sold: Decimal,
    base: str,
    quote: str,
) -> Position:
    return Position(
        venue=position.venue,
        symbol=position.symbol,
        quantity=held,
        avg_px=avg_px,
        realized_pnl=sold - bought - fees.get(quote, ZERO) + held * avg_px,
        fees=fees,
        fee_cost=fee_cost,
        bought=bought,
        sold=sold,
    )
