"""Rules set the kill switch by themselves: on whole desks, judged from the venue's own record.

A loss that is real, market data that falls silent while orders rest, a storm of rejections. After the
latch no order reaches the venue, whatever the strategy wants.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.desk.test_venue_limits import quoting_desk
from tests.harness.paper_desk import PaperDesk, end_everything
from tests.harness.venue_desk import make_desk
from tests.venues.subjects import binance

from openbell.config.layout import DeskLayout
from openbell.domain.orders import OrderIntended
from openbell.state.journal_reader import JournalReader
from openbell.state.latch import Latches

pytestmark = [pytest.mark.desk, pytest.mark.timeout(400)]

WATCHED_S = 6.0
"""As long as a strategy has had to send one more."""
CLOCK_NS = 10_000_000
"""The kernel stamps a file by a clock that it moves on at each tick, of ten milliseconds at most."""


def ruled_desk(folder: Path, rules: str) -> PaperDesk:
    """A market maker that quotes both sides all the time."""
    # Two per cent of each fill: what is lost is fees, whatever the market does.
    fees = ("--maker-fee", "0.02", "--taker-fee", "0.02")
    desk = quoting_desk(folder, binance.SUBJECT, ("--no-limits", *fees, "--deposit", "BTC=5"))
    add(desk, rules, 'holdings = { BTC = "5" }\n')
    return desk


def add(desk: PaperDesk, rules: str, of_venue: str = "") -> None:
    file = desk.folder / "desk.toml"
    venue = "[venues.the-venue]\n"
    file.write_text(file.read_text().replace(venue, venue + of_venue) + rules)


def control(desk: PaperDesk, path: str, body: dict[str, Any] | None = None) -> Any:
    url = desk.status()["venues"][0]["sim_url"]
    data = json.dumps(body or {}).encode()
    with urllib.request.urlopen(f"{url}{path}", data=data, timeout=10) as answer:
        return json.load(answer)


def resting(desk: PaperDesk) -> list[dict[str, Any]]:
    return [order for order in desk.venue_truth("orders") if order["status"] == "NEW"]


def latches(desk: PaperDesk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = desk.look("kill-switch")["latches"]
    return found


def rule(desk: PaperDesk, name: str) -> dict[str, Any]:
    rows = desk.look("kill-switch")["rules"]
    return next(row for row in rows if row["rule"] == name)


def assert_no_order_after(desk: PaperDesk, latch: dict[str, Any], before: int = 3) -> None:
    """Of the orders that ever arrived, each was intended before the latch was there: the engine looks for it
    once the intent is journaled, and again before the first byte. How long such an order is on its way is a
    matter of the machine, and not asserted here; that the engine itself is soon enough is, by
    tests/trading/engine/test_kill_switch_process.py."""
    since_ns = int(datetime.fromisoformat(latch["since"]).timestamp() * 1e9)
    layout = DeskLayout.for_desk(desk.folder, {})
    (there_ns,) = (
        each.path.stat().st_ctime_ns
        for each in Latches(layout).read()
        if str(each.scope) == latch["scope"]
    )
    time.sleep(WATCHED_S)
    orders = desk.venue_truth("orders")
    assert sum(int(order["received_ns"]) < since_ns for order in orders) >= before
    with contextlib.closing(JournalReader.open(layout.database)) as journal:
        intended = {
            entry.event.cl_ord_id: entry.event.at_ns
            for entry in journal.read()
            if isinstance(entry.event, OrderIntended)
        }
    late = {
        name: (intended[name] - there_ns) / 1e6
        for name in (order["cl_ord_id"] for order in orders)
        if intended[name] > there_ns + CLOCK_NS
    }
    assert late == {}, f"orders intended so many milliseconds after the latch: {late}"


def lose(desk: PaperDesk, await_that: Callable[..., None], until: Callable[[], bool]) -> None:
    """The crowd takes resting orders: each costs a fee, and the loss is real."""

    def taken() -> bool:
        for order in resting(desk):
            try:
                control(desk, f"/sim/v1/orders/{order['order_id']}/fill")
            except urllib.error.HTTPError:
                continue  # cancelled meanwhile
        return until()

    await_that(taken, "a loss beyond the limit")


def test_a_real_loss_latches_and_a_release_is_not_undone_at_once(
    tmp_path: Path, await_that: Callable[..., None]
) -> None:
    desk = ruled_desk(
        tmp_path / "desk", '[kill_switch.rules.max_daily_loss]\namount = "30"\nscope = "desk"\n'
    )
    try:
        assert desk.run("up").document["opened"]
        await_that(lambda: len(desk.venue_truth("orders")) > 3, "orders at the venue")
        lose(desk, await_that, lambda: bool(latches(desk)))
        (latch,) = latches(desk)
        assert (latch["scope"], latch["by"]) == ("desk", "rule:max_daily_loss")
        assert "today's P&L of desk is -" in latch["reason"] and "USDT" in latch["reason"]
        status = desk.status()
        assert status["state"] == "emergency" and latch["reason"] in status["why"]
        assert rule(desk, "max_daily_loss")["state"] == "triggered"
        assert_no_order_after(desk, latch)
        audited = desk.run("audit", "show").document
        assert "rule:max_daily_loss" in json.dumps(audited)
        assert "rule:max_daily_loss" in (desk.folder / "state" / "kill-switch.jsonl").read_text()

        os.kill(desk.service("risk-management")["pid"], signal.SIGKILL)
        await_that(lambda: desk.service("risk-management")["state"] == "ready", "it is back")
        await_that(lambda: rule(desk, "max_daily_loss")["state"] == "triggered", "what it had kept")
        assert len(latches(desk)) == 1

        desk.run("kill-switch", "deactivate", "--reason", "looked at", "--yes")
        await_that(lambda: rule(desk, "max_daily_loss")["state"] == "released", "its release")
        limit = float(rule(desk, "max_daily_loss")["limit"])
        assert limit >= 60
        assert latches(desk) == []
        await_that(lambda: desk.run("resume", expect=None).status == 0, "the desk trades again")
        lose(desk, await_that, lambda: bool(latches(desk)))
        assert latches(desk)[0]["by"] == "rule:max_daily_loss"
    finally:
        end_everything(desk)


def test_market_data_that_falls_silent_while_orders_rest_latches(
    tmp_path: Path, await_that: Callable[..., None]
) -> None:
    desk = make_desk(tmp_path / "desk", binance.SUBJECT, tick=binance.SUBJECT.coarse_tick)
    add(desk, '[kill_switch.rules.stale_market_data]\nafter = "3s"\nscope = "symbol"\n')
    try:
        assert desk.run("up").document["opened"]
        await_that(lambda: resting(desk) != [], "a resting order")
        os.kill(desk.service("market-data")["pid"], signal.SIGSTOP)
        await_that(lambda: bool(latches(desk)), "the latch")
        (latch,) = latches(desk)
        assert (latch["scope"], latch["by"]) == ("symbol:BTC/USDT", "rule:stale_market_data")
        assert "no sound quote of the-venue BTC/USDT" in latch["reason"]
        assert_no_order_after(desk, latch, before=1)
        assert any(
            row["by"] == "rule:stale_market_data" for row in desk.status()["latch"]["latches"]
        )
    finally:
        end_everything(desk)


def test_a_storm_of_rejections_latches_its_strategy(
    tmp_path: Path, await_that: Callable[..., None]
) -> None:
    desk = ruled_desk(
        tmp_path / "desk",
        '[kill_switch.rules.reject_rate]\nshare = "60%"\nwithin = "10s"\nat_least = 4\n'
        'scope = "strategy"\n',
    )
    try:
        assert desk.run("up").document["opened"]
        await_that(lambda: len(desk.venue_truth("orders")) > 3, "orders at the venue")
        assert latches(desk) == []
        control(desk, "/sim/v1/control/faults", {"kind": "key_refused", "kinds": ["submit"]})
        await_that(lambda: bool(latches(desk)), "the latch")
        (latch,) = latches(desk)
        assert (latch["scope"], latch["by"]) == ("strategy:market_making", "rule:reject_rate")
        assert_no_order_after(desk, latch)
    finally:
        end_everything(desk)
