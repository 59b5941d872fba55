"""From a wanted position to the next order towards it."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import Side, TimeInForce
from openbell.trading.strategy import Action, Submit, View

BPS = Decimal("0.0001")
"""One basis point."""


def step_towards(
    target: Decimal, symbol: str, view: View, *, slippage_bps: Decimal
) -> Iterable[Action]:
    """An immediate-or-cancel limit order for what is missing to `target`, or nothing.

    Nothing while an order of this symbol is open, as it may fill yet; nothing without a quote;
    nothing below the venue's minima. The limit is the other side's best price plus `slippage_bps`:
    a bound on what a thin book can cost, which a market order does not have.
    """
    quote, rules = view.quotes.get(symbol), view.rules.get(symbol)
    if quote is None or rules is None or has_open_order(symbol, view):
        return
    missing = target - view.position(symbol)
    side = Side.BUY if missing > 0 else Side.SELL
    price = _bounded_price(side, quote, rules, slippage_bps)
    quantity = rules.round_qty(abs(missing))
    if price > 0 and rules.is_tradable(quantity, price):
        yield Submit(symbol, side, quantity, price, time_in_force=TimeInForce.IOC)


def has_open_order(symbol: str, view: View) -> bool:
    return any(order.new.symbol == symbol for order in view.open_orders)


def _bounded_price(
    side: Side, quote: Quote, rules: InstrumentRules, slippage_bps: Decimal
) -> Decimal:
    best = quote.ask_px if side is Side.BUY else quote.bid_px
    return rules.round_price(best * (1 + side.sign * slippage_bps * BPS))
