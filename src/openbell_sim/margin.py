"""Margin of one account in one currency: pure, from positions, working orders and prices.

The margin held for a symbol is `margin_rate` times the value of the largest position that its
working orders can lead to: all buys filled, or all sells filled. So an order that only closes
holds nothing, and a bracket around a position is not counted twice. Positions are valued at the
mark (as Binance's `positionInitialMargin` and OANDA's `marginUsed` are), orders at their own
price. Reduce-only orders hold nothing.

There is no liquidation: a loss may exceed the balance, and then nothing but closing is accepted.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

import msgspec

from openbell.domain.orders import Side
from openbell_sim.account import ZERO
from openbell_sim.instruments import Instrument
from openbell_sim.positions import Position


class Margin(msgspec.Struct, frozen=True, kw_only=True):
    """All in one currency. `equity == balance + unrealized`, `available == equity - used`."""

    balance: Decimal
    """Deposits, realized profits and fees. Negative where losses exceeded it."""
    unrealized: Decimal
    used: Decimal
    """Held for positions and working orders; what is locked for spot orders is in it."""

    @property
    def equity(self) -> Decimal:
        return self.balance + self.unrealized

    @property
    def available(self) -> Decimal:
        return self.equity - self.used


class Working(msgspec.Struct, kw_only=True):
    """What an account's open orders in one symbol add up to."""

    count: int = 0
    reduce_only: int = 0
    """How many of them."""
    buy_qty: Decimal = ZERO
    """What is left of the buys that may enlarge a position; kept for margined symbols only."""
    buy_value: Decimal = ZERO
    """The same times the orders' prices, in the quote currency."""
    sell_qty: Decimal = ZERO
    sell_value: Decimal = ZERO

    def add(self, side: Side, qty: Decimal, price: Decimal) -> None:
        """A negative `qty` takes away."""
        if side is Side.BUY:
            self.buy_qty += qty
            self.buy_value += qty * price
        else:
            self.sell_qty += qty
            self.sell_value += qty * price

    def with_order(self, side: Side, qty: Decimal, value: Decimal) -> Working:
        """As it would be with one more order."""
        more = msgspec.structs.replace(self)
        if side is Side.BUY:
            more.buy_qty += qty
            more.buy_value += value
        else:
            more.sell_qty += qty
            more.sell_value += value
        return more


class Priced(Protocol):
    """An order, as far as its value goes."""

    @property
    def price(self) -> Decimal | None: ...
    @property
    def stop_price(self) -> Decimal | None: ...


def order_price(order: Priced) -> Decimal | None:
    """What an order is valued at; None for a market order, which ends within its own request."""
    return order.price if order.price is not None else order.stop_price


def held(
    instrument: Instrument, position: Position, working: Working, mark: Decimal | None
) -> Decimal:
    """Initial margin of a symbol, in its settlement currency. Without a mark the position is
    valued at what it cost."""
    rate = instrument.margin_rate
    assert rate is not None
    quantity = abs(position.quantity)
    if instrument.settles_in_base:
        value = quantity
    else:
        value = abs(position.cost) if mark is None else quantity * mark
    if not working.buy_qty and not working.sell_qty:
        return rate * value
    bought = position.quantity + working.buy_qty
    sold = position.quantity - working.sell_qty
    more = max(
        _part(instrument, bought - quantity, working.buy_qty, working.buy_value),
        _part(instrument, -sold - quantity, working.sell_qty, working.sell_value),
    )
    return rate * (value + more)


def _part(instrument: Instrument, excess: Decimal, qty: Decimal, value: Decimal) -> Decimal:
    """Value of the part of the orders that would enlarge the position."""
    if excess <= 0:
        return ZERO
    if excess == qty:
        return qty if instrument.settles_in_base else value
    return instrument.value(excess, value / qty)
