"""A desk on each venue, from opening to a proven closing, judged from the venue's side.

What the adapters promise one by one, put to use: the feed's quotes reach a strategy, its orders
reach the venue through the engine, and closing leaves neither order nor position behind.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from tests.harness.paper_desk import PaperDesk, end_everything
from tests.harness.venue_desk import make_desk
from tests.venues.subjects import Subject, all_subjects

pytestmark = [pytest.mark.desk, pytest.mark.timeout(400)]


@pytest.mark.parametrize("subject", all_subjects(), ids=lambda subject: subject.name)
def test_a_desk_trades_there_and_closes_flat(
    subject: Subject, tmp_path: Path, await_that: Callable[..., None]
) -> None:
    desk = make_desk(tmp_path / "desk", subject, tick=subject.coarse_tick)
    try:
        trade_and_close(desk, await_that)
    finally:
        end_everything(desk)


def trade_and_close(desk: PaperDesk, await_that: Callable[..., None]) -> None:
    assert desk.run("up").document["opened"]

    def connected() -> bool:
        return all(row["ok"] for row in desk.look("connections")["connections"])

    await_that(connected, "market data, order entry and order events connected")
    await_that(lambda: len(desk.venue_truth("fills")) > 0, "a fill at the venue")
    await_that(
        lambda: any(o["status"] == "NEW" for o in desk.venue_truth("orders")), "a resting order"
    )

    def agreed() -> bool:
        (row,) = desk.look("positions")["positions"]
        return Decimal(row["quantity"]) == Decimal(row["venue_quantity"] or "NaN") > 0

    await_that(agreed, "books and venue tell the same position")
    orders = desk.run("orders").document["orders"]
    assert [order["own"] for order in orders] == [True]

    url = desk.status()["venues"][0]["sim_url"]
    assert url
    closed = desk.run("down", "--yes").document
    assert closed["outcome"] == "verified", closed
    log = list((desk.folder / "state" / "services" / "venue-sim").glob("*.jsonl"))
    assert_flat_by_the_venues_log(log[0])


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
