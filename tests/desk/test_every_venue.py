"""A desk on each venue, from opening to a proven closing, judged from the venue's side.

What the adapters promise one by one, put to use: the feed's quotes reach a strategy, its orders
reach the venue through the engine, and closing leaves neither order nor position behind. Several
venues share a desk, as they do where people trade, and as a desk costs far more than a venue.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from tests.harness.paper_desk import PaperDesk, end_everything
from tests.harness.venue_desk import make_desk_of
from tests.venues.subjects import Subject, all_subjects

pytestmark = [pytest.mark.desk, pytest.mark.timeout(400)]

DESKS = 3


def name_of(subject: Subject) -> str:
    """`ccxt (kraken)` as the name of a venue in desk.toml."""
    return subject.name.replace(" (", "-").removesuffix(")")


VENUES = {name_of(subject): subject for subject in all_subjects()}
SHARES = [dict(list(VENUES.items())[first::DESKS]) for first in range(DESKS)]


@pytest.mark.parametrize("share", SHARES, ids=", ".join)
def test_a_desk_trades_there_and_closes_flat(
    share: dict[str, Subject], tmp_path: Path, await_that: Callable[..., None]
) -> None:
    desk = make_desk_of(tmp_path / "desk", share)
    try:
        trade_and_close(desk, list(share), await_that)
    finally:
        end_everything(desk)


def trade_and_close(desk: PaperDesk, venues: list[str], await_that: Callable[..., None]) -> None:
    assert desk.run("up").document["opened"]

    def connected() -> bool:
        rows = desk.look("connections")["connections"]
        return sorted(row["venue"] for row in rows if row["ok"]) == sorted(venues)

    await_that(connected, "market data, order entry and order events connected at every venue")
    for venue in venues:
        await_that(lambda v=venue: desk.venue_truth("fills", at=v) != [], f"a fill at {venue}")
        await_that(
            lambda v=venue: any(o["status"] == "NEW" for o in desk.venue_truth("orders", at=v)),
            f"a resting order at {venue}",
        )

    def agreed() -> bool:
        rows = desk.look("positions")["positions"]
        return sorted(row["venue"] for row in rows) == sorted(venues) and all(
            Decimal(row["quantity"]) == Decimal(row["venue_quantity"] or "NaN") > 0 for row in rows
        )

    await_that(agreed, "books and every venue tell the same position")
    orders = desk.run("orders").document["orders"]
    assert sorted((order["venue"], order["own"]) for order in orders) == [
        (venue, True) for venue in sorted(venues)
    ]

    assert all(row["sim_url"] for row in desk.status()["venues"])
    closed = desk.run("down", "--yes").document
    assert closed["outcome"] == "verified", closed
    for venue in venues:
        (log,) = (desk.folder / "state" / "services" / f"sim-{venue}").glob("*.jsonl")
        assert_flat_by_the_venues_log(log)


def assert_flat_by_the_venues_log(log: Path) -> None:
    """From the venue's own record: every order ended, none came twice, buys equal sells."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    accepted = {e["order_id"]: e for e in events if e["event"] == "accept"}
    ended = {e["order_id"] for e in events if e["event"] in ("cancel", "expire")}
    filled: Counter[int] = Counter()
    net = Decimal(0)
    for event in events:
        if event["event"] == "fill":
            order = accepted[event["order_id"]]
            filled[event["order_id"]] += Decimal(event["qty"])
            net += Decimal(event["qty"]) * (1 if order["side"] == "BUY" else -1)
    open_left = [
        order_id
        for order_id, order in accepted.items()
        if order_id not in ended and filled[order_id] < Decimal(order["order_qty"])
    ]
    assert open_left == []
    names = Counter(order["cl_ord_id"] for order in accepted.values())
    assert names and set(names.values()) == {1}
    assert abs(net) < Decimal(next(iter(accepted.values()))["order_qty"]) / 100, net
