"""What the venue says no to: told with its own code, and nothing left behind."""

from __future__ import annotations

from decimal import Decimal

import pytest

from openbell.domain.orders import OrdStatus, Side
from openbell.venues.port import Rejected

operation = pytest.mark.operation


async def _refused(venue, trader, order) -> Rejected:
    outcome = await venue.submit(order)
    assert isinstance(outcome, Rejected), outcome
    assert outcome.code
    assert outcome.text
    found = await venue.order(order.symbol, order.cl_ord_id)
    # A venue may keep a refused order as one that ended at once.
    assert found is None or (found.status is OrdStatus.REJECTED and found.cum_qty == 0)
    return outcome


@operation("refuse: price off the grid")
async def test_a_price_off_the_tick_grid_is_rejected(venue, trader):
    order = await trader.resting()
    half = venue.rules(trader.symbol).tick_size / 2
    await _refused(venue, trader, await trader.resting(price=order.price + half))


@operation("refuse: quantity off the grid")
async def test_a_quantity_off_the_lot_grid_is_rejected(venue, trader, subject):
    half = venue.rules(trader.symbol).lot_size / 2
    await _refused(venue, trader, await trader.resting(order_qty=subject.quantity + half))


@operation("refuse: quantity below the minimum")
async def test_a_quantity_below_the_venues_minimum_is_rejected(venue, trader):
    rules = venue.rules(trader.symbol)
    order = await trader.resting()
    less = rules.round_qty(min(rules.min_qty / 2, rules.min_qty - rules.lot_size))
    too_small = less if less > 0 else rules.lot_size
    if rules.is_tradable(too_small, order.price):
        pytest.skip("nothing to try: a single step of the grid is an order there")
    await _refused(venue, trader, await trader.resting(order_qty=too_small))


@operation("refuse: more than the account has")
async def test_more_than_the_account_can_pay_is_rejected(venue, trader):
    """As small a multiple of the free funds as is sure to be too much."""
    rules = venue.rules(trader.symbol)
    quote = await venue.quote(trader.symbol)
    balances = await venue.balances()
    if venue.capabilities.positions:
        free = max(balance.free for balance in balances.values())
        quantity, side = free * 1000 / min(quote.bid_px, Decimal(1000)), Side.BUY
    else:
        quantity, side = balances[rules.base].free * 2, Side.SELL
    await _refused(venue, trader, await trader.resting(side, order_qty=rules.round_qty(quantity)))
