"""A rolling restart of the whole paper desk while it trades, judged from the venue's own log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.harness.paper_desk import PaperDesk

pytestmark = [pytest.mark.desk, pytest.mark.timeout(400)]


def pids(desk: PaperDesk) -> dict[str, int]:
    return {row["name"]: row["pid"] for row in desk.status()["services"]}


def test_every_service_of_a_trading_desk_is_restarted_and_no_order_is_lost_or_repeated(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    paper_desk.run("up")
    await_that(lambda: bool(paper_desk.venue_truth("fills")), "a fill at the venue", timeout_s=150)
    before = pids(paper_desk)
    plan = paper_desk.run("restart", "--rolling", "--plan").document
    assert [step["name"] for step in plan["steps"]][-1] == "restart_market-analysis"
    assert pids(paper_desk) == before

    done = paper_desk.run("restart", "--rolling", "--yes", "--reason", "test").document

    assert done["done"] and done["outcome"] == "restarted", done
    after = pids(paper_desk)
    assert after["venue-sim"] == before["venue-sim"]
    assert all(after[name] != before[name] for name in before if name != "venue-sim")
    status = paper_desk.status()
    assert status["state"] == "trading" and status["permit"]["scope"] == "trade"
    fills = len(paper_desk.venue_truth("fills"))
    await_that(lambda: len(paper_desk.venue_truth("fills")) > fills, "a fill after it")
    orders = paper_desk.venue_truth("orders")
    repeated = [order for order, n in Counter(o["cl_ord_id"] for o in orders).items() if n > 1]
    assert repeated == []
    closed = paper_desk.run("down", "--yes").document
    assert closed["verified"], closed
    assert paper_desk.own_processes() == []


def run_of(desk: PaperDesk, *services: str) -> dict[str, Any]:
    document = desk.run("restart", "--rolling", "--yes", *services, expect=None).document
    assert isinstance(document, dict)
    return document
