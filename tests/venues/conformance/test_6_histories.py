"""Random histories: whatever happened, after asking the adapter's view equals the venue's.

Submits, cancels, fills, others' trades and lost replies in a random order; then every order is
asked for by its ClOrdID, and what the adapter says is compared with the venue's own record. The
seed is in the test's failure; `OPENBELL_SEED=n` runs that one again.
"""

from __future__ import annotations

import os
import random
from decimal import Decimal

import pytest
from tests.venues.conformance.harness import Relay, Sim, Trader

from openbell.domain.orders import ClOrdID, Side
from openbell.venues.port import Accepted, Unknown

operation = pytest.mark.operation
STEPS = 25
SEEDS = [int(os.environ["OPENBELL_SEED"])] if "OPENBELL_SEED" in os.environ else [1, 2]


class History:
    """What we know without asking: which ids were sent, and which of them are in doubt."""

    def __init__(self, trader: Trader, relay: Relay, seed: int) -> None:
        self._trader = trader
        self._relay = relay
        self._chance = random.Random(seed)
        self.sent: list[ClOrdID] = []
        self.in_doubt = 0

    async def step(self) -> None:
        subject = self._trader.subject
        choice = self._chance.random()
        faulty = self._chance.random() < 0.25
        fault = self._chance.choice(["lose", "503"])
        if choice < 0.45 or not self.sent:
            side = self._chance.choice([Side.BUY, Side.SELL])
            if faulty:
                self._relay.strike(fault, subject.submit)
            await self._submit(await self._trader.resting(side))
        elif choice < 0.65:
            side = self._chance.choice([Side.BUY, Side.SELL])
            if faulty:
                self._relay.strike(fault, subject.submit)
            await self._submit(self._trader.market(side))
        else:
            if faulty:
                self._relay.strike(fault, subject.cancel)
            target = self._chance.choice(self.sent)
            outcome = await self._trader.venue.cancel(self._trader.symbol, target)
            self.in_doubt += isinstance(outcome, Unknown)

    async def _submit(self, order) -> None:
        outcome = await self._trader.venue.submit(order)
        assert isinstance(outcome, Accepted | Unknown), outcome
        self.sent.append(order.cl_ord_id)
        self.in_doubt += isinstance(outcome, Unknown)


@operation("random histories with faults")
@pytest.mark.parametrize("seed", SEEDS)
async def test_after_recovery_the_adapters_view_is_the_venues(
    opened, relay, sim: Sim, subject, seed
):
    venue = opened(timeout=2.0)
    await venue.connect()
    trader = Trader(venue, subject)
    start = await trader.position()
    history = History(trader, relay, seed)
    for _ in range(STEPS):
        await history.step()
    relay.fault = ""
    assert relay.struck, "no fault struck: the history shows nothing"

    rows = {row["cl_ord_id"]: row for row in sim.rows()}
    assert len(rows) == len(sim.rows()), "an order reached the venue twice"
    for cl_ord_id in history.sent:
        found = await venue.order(trader.symbol, cl_ord_id)
        assert found is not None, f"seed {seed}: {cl_ord_id} is not found"
        row = rows[cl_ord_id]
        assert (found.cum_qty, found.order_qty) == (
            Decimal(row["cum_qty"]),
            Decimal(row["order_qty"]),
        ), f"seed {seed}"
        assert found.status.is_final == (Decimal(row["leaves_qty"]) == 0), f"seed {seed}"
    listing = await venue.open_orders([trader.symbol])
    assert listing.complete
    assert {o.cl_ord_id for o in listing.orders if o.cl_ord_id in rows} == {
        cl_ord_id for cl_ord_id in history.sent if Decimal(rows[cl_ord_id]["leaves_qty"]) > 0
    }, f"seed {seed}"

    filled = Decimal(0)
    fees = Decimal(0)
    base = venue.rules(trader.symbol).base
    for cl_ord_id in history.sent:
        row = rows[cl_ord_id]
        if Decimal(row["cum_qty"]) == 0:
            continue
        found = await venue.order(trader.symbol, cl_ord_id)
        fills = await venue.fills(trader.symbol, venue_order_id=found.venue_order_id)
        assert sum((f.last_qty for f in fills), Decimal(0)) == Decimal(row["cum_qty"])
        filled += Side(row["side"]).sign * Decimal(row["cum_qty"])
        if not venue.capabilities.positions:
            fees += sum((f.fee for f in fills if f.fee_currency == base), Decimal(0))
    assert await trader.position() - start == filled - fees, f"seed {seed}"
    for order in listing.orders:
        await venue.cancel(trader.symbol, order.cl_ord_id, venue_order_id=order.venue_order_id)
