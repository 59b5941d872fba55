"""Random histories: whatever happened, after recovery the adapter's view equals the venue's.

In a random order: orders that rest and orders that trade; cancels, of which some are refused, some
acknowledged and done only later; resting orders that the crowd fills in whole or in part; a person's
own orders at the venue, resting or trading; lists that come back empty or cut once; replies that are
lost, or said to be unknown, on the way (the relay) or by the venue (its plan of faults), and orders
that a 503 says are unknown and that never were.

Then a fresh adapter, as after a crash, looks: every order by its ClOrdID (status, quantities, fills),
the open orders, the position, against the venue's own record. Every order arrived once. The seed is in
each failure; `OPENBELL_SEED=n` runs that one again.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from tests.venues.conformance.harness import Relay, Sim, Trader

from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, Side
from openbell.venues.port import Accepted, Rejected, SubmitOutcome, VenueError

operation = pytest.mark.operation
STEPS = 30
SEEDS = [int(os.environ["OPENBELL_SEED"])] if "OPENBELL_SEED" in os.environ else [1, 2]
PUT_OFF_S = 0.1

SUBMIT_FAULTS: list[dict[str, Any]] = [
    {"kind": "drop_reply", "kinds": ["submit"]},
    {"kind": "status_503_unknown", "kinds": ["submit"], "accepted": True},
    {"kind": "status_503_unknown", "kinds": ["submit"], "accepted": False},
    {"kind": "partial_fill", "kinds": ["submit"]},
]
CANCEL_FAULTS: list[dict[str, Any]] = [
    {"kind": "drop_reply", "kinds": ["cancel"]},
    {"kind": "lazy_cancels", "kinds": ["cancel"], "delay_s": PUT_OFF_S},
    {"kind": "reject_cancels", "kinds": ["cancel"]},
    {"kind": "fill_during_cancel", "kinds": ["cancel"], "part": 0.5},
]
LIST_FAULTS: list[dict[str, Any]] = [
    {"kind": "empty_list"},
    {"kind": "empty_list", "kinds": ["order"]},
    {"kind": "truncated_page", "keep": 1},
    {"kind": "empty_list", "kinds": ["fills"]},
    {"kind": "truncated_page", "kinds": ["fills"], "keep": 1},
]


class History:
    """What we know without asking: which ids were sent."""

    def __init__(self, trader: Trader, relay: Relay, sim: Sim, seed: int) -> None:
        self._trader = trader
        self._relay = relay
        self._sim = sim
        self._chance = random.Random(seed)
        self._faces = bool(trader.subject.face)
        """Whether the venue is openbell-sim, with a plan of faults and a person's hands."""
        self.sent: dict[ClOrdID, SubmitOutcome] = {}
        self.quiet_s = 0.0
        """When what the venue puts off will have been done, by the monotonic clock."""
        self.did: Counter[str] = Counter()

    async def step(self) -> None:
        name, work = self._chance.choices(
            [
                ("resting", self._resting),
                ("market", self._market),
                ("cancel", self._cancel),
                ("crowd", self._crowd_fills),
                ("person", self._person),
                ("look", self._look),
            ],
            [30, 20, 20, 12, 10, 8],
        )[0]
        self.did[name] += 1
        await work()

    async def _resting(self) -> None:
        self._strike(self._trader.subject.submit, SUBMIT_FAULTS)
        await self._submit(await self._trader.resting(self._side()))

    async def _market(self) -> None:
        self._strike(self._trader.subject.submit, SUBMIT_FAULTS)
        await self._submit(self._trader.market(self._side()))

    async def _submit(self, order: NewOrder) -> None:
        self.sent[order.cl_ord_id] = await self._trader.venue.submit(order)

    async def _cancel(self) -> None:
        if self.sent:
            self._strike(self._trader.subject.cancel, CANCEL_FAULTS)
            await self._trader.venue.cancel(
                self._trader.symbol, self._chance.choice(list(self.sent))
            )

    async def _crowd_fills(self) -> None:
        """Of what rests, ours or a person's, in whole or in part."""
        resting = [row for row in self._sim.rows() if Decimal(row["leaves_qty"]) > 0]
        if resting and self._faces:
            row = self._chance.choice(resting)
            self._sim.ask_for(
                f"/sim/v1/orders/{row['order_id']}/fill", {"part": self._chance.choice([0.5, 1.0])}
            )

    async def _person(self) -> None:
        rows = self._sim.rows()
        if not rows or not self._faces:
            return
        like = await self._trader.resting(self._side())
        rests = self._chance.random() < 0.5
        self._sim.ask_for(
            "/sim/v1/orders",
            {
                "symbol": rows[0]["symbol"],
                "side": like.side.value,
                "quantity": str(like.order_qty),
                **({"type": "LIMIT", "price": str(like.price)} if rests else {}),
            },
        )

    async def _look(self) -> None:
        """While lists lie: nothing that is seen then may be kept."""
        if self._faces:
            self._plan(self._chance.choice(LIST_FAULTS))
        with suppress(VenueError):
            await self._trader.venue.open_orders([self._trader.symbol])
            await self._trader.venue.fills(self._trader.symbol)
        if self.sent:
            with suppress(VenueError):
                await self._trader.venue.order(
                    self._trader.symbol, self._chance.choice(list(self.sent))
                )

    def _side(self) -> Side:
        return self._chance.choice([Side.BUY, Side.SELL])

    def _strike(self, request: bytes, faults: list[dict[str, Any]]) -> None:
        chance = self._chance.random()
        if chance < 0.2:
            self._relay.strike(self._chance.choice(["lose", "503"]), request)
        elif chance < 0.5 and self._faces:
            self._plan(self._chance.choice(faults))

    def _plan(self, fault: dict[str, Any]) -> None:
        self.did[fault["kind"]] += 1
        self.quiet_s = time.monotonic() + PUT_OFF_S + 0.5
        self._sim.clear_faults()
        self._sim.ask_for("/sim/v1/control/faults", {**fault, "count": 1})


def _end(status: OrdStatus) -> OrdStatus:
    """Venues have one word for an order that was cancelled and one that ran out."""
    return OrdStatus.CANCELED if status is OrdStatus.EXPIRED else status


def _signed(rows: Iterable[dict[str, Any]]) -> Decimal:
    return sum((Side(row["side"]).sign * Decimal(row["cum_qty"]) for row in rows), Decimal(0))


def _held(sim: Sim, symbol: str) -> Decimal:
    """What the venue says that the account's fills brought, fees taken in it deducted."""
    rows = sim.told("/sim/v1/positions")["positions"]
    return sum((Decimal(row["quantity"]) for row in rows if row["symbol"] == symbol), Decimal(0))


@operation("random histories with faults")
@pytest.mark.parametrize("seed", SEEDS)
async def test_after_recovery_the_adapters_view_is_the_venues(
    opened, relay, sim: Sim, subject, seed
):
    before = opened(timeout=2.0)
    await before.connect()
    start = await Trader(before, subject).position()
    earlier = {row["order_id"] for row in sim.rows()}
    # Before the first order the account holds nothing that the venue has fills of.
    held = Decimal(0)
    if subject.face:
        held = sum((_held(sim, name) for name in {row["symbol"] for row in sim.rows()}), Decimal(0))
    history = History(Trader(before, subject), relay, sim, seed)
    for _ in range(STEPS):
        await history.step()
    print(f"seed {seed}: {dict(history.did)}")
    relay.fault = ""
    assert relay.struck, "no fault struck: the history shows nothing"
    if subject.face:
        sim.clear_faults()
    await asyncio.sleep(max(0.0, history.quiet_s - time.monotonic()))

    venue = opened()
    await venue.connect()
    trader = Trader(venue, subject)
    rows = [row for row in sim.rows() if row["order_id"] not in earlier]
    by_id = {row["cl_ord_id"]: row for row in rows}
    assert len(by_id) == len(rows), f"seed {seed}: an order reached the venue twice"
    if subject.face:
        arrived = Counter(
            subject.own_id(name)
            for each in sim.told("/sim/v1/arrivals")["arrivals"]
            for name in each["cl_ord_ids"]
            if each["kind"] == "submit"
        )
        assert {arrived[cl_ord_id] for cl_ord_id in history.sent} == {1}, f"seed {seed}: {arrived}"

    fees = Decimal(0)
    base = venue.rules(trader.symbol).base
    for cl_ord_id, outcome in history.sent.items():
        found, row = await venue.order(trader.symbol, cl_ord_id), by_id.get(cl_ord_id)
        told = f"seed {seed}: {cl_ord_id}, {outcome}: {row}, {found}"
        if row is None or row["status"] == OrdStatus.REJECTED:
            assert not isinstance(outcome, Accepted), told
            assert found is None or found.status is OrdStatus.REJECTED, told
            continue
        assert not isinstance(outcome, Rejected), told
        assert found is not None, told
        assert (found.cum_qty, found.order_qty, _end(found.status)) == (
            Decimal(row["cum_qty"]),
            Decimal(row["order_qty"]),
            _end(OrdStatus(row["status"])),
        ), told
        if found.cum_qty:
            fills = await venue.fills(trader.symbol, venue_order_id=found.venue_order_id)
            assert sum((f.last_qty for f in fills), Decimal(0)) == found.cum_qty, told
            if not venue.capabilities.positions:
                fees += sum((f.fee for f in fills if f.fee_currency == base), Decimal(0))

    listing = await venue.open_orders([trader.symbol])
    assert listing.complete
    assert Counter((o.side.value, o.order_qty - o.cum_qty) for o in listing.orders) == Counter(
        (row["side"], Decimal(row["leaves_qty"]))
        for row in sim.rows()
        if Decimal(row["leaves_qty"]) > 0
    ), f"seed {seed}"
    assert {o.cl_ord_id for o in listing.orders} >= {
        cl_ord_id
        for cl_ord_id in history.sent
        if cl_ord_id in by_id and Decimal(by_id[cl_ord_id]["leaves_qty"]) > 0
    }, f"seed {seed}"

    if subject.face:  # which dates its rows
        since_ns = min(row["received_ns"] for row in rows)
        fills = await venue.fills(trader.symbol, since_ns=since_ns)
        assert sum((f.side.sign * f.last_qty for f in fills), Decimal(0)) == _signed(rows), (
            f"seed {seed}"
        )
    moved = await trader.position() - start
    assert moved == (
        _held(sim, rows[0]["symbol"]) - held if subject.face else _signed(rows) - fees
    ), f"seed {seed}"
    for order in listing.orders:
        await venue.cancel(trader.symbol, order.cl_ord_id, venue_order_id=order.venue_order_id)
