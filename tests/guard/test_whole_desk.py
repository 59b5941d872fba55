"""Guard and dead-man's switch of desks that trade, with a real engine. Judged from the venue's own list of
the orders that reached it."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.harness.command import run_here
from tests.harness.paper_desk import (
    PaperDesk,
    await_condition,
    copy_paper_desk,
    end_everything,
    end_guard,
)
from tests.harness.venue_desk import make_desk_of
from tests.venues.subjects.binance_usdm import SUBJECT as USDM
from tests.venues.subjects.kraken import SUBJECT as KRAKEN

pytestmark = [pytest.mark.desk, pytest.mark.timeout(400)]

_GUARD = '\n[guard]\ndead_man_timeout = "6s"\nengine_silent_after = "2s"\n'


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[list[PaperDesk]]:
    """What a test puts in here is ended, by pid."""
    made: list[PaperDesk] = []
    yield made
    for desk in made:
        end_everything(desk)


def orders_at(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/sim/v1/orders", timeout=10) as answer:
        return list(json.load(answer)["orders"])


def resting(url: str) -> int:
    return sum(order["status"] in ("NEW", "PARTIALLY_FILLED") for order in orders_at(url))


def test_the_venues_timer_withdraws_what_a_hung_engine_left(
    desks: list[PaperDesk], tmp_path: Path
) -> None:
    """At each of the venues that have one, of one desk."""
    desk = make_desk_of(tmp_path / "desk", {"kraken": KRAKEN, "usdm": USDM})
    desks.append(desk)
    file = desk.folder / "desk.toml"
    file.write_text(file.read_text() + _GUARD)
    desk.run("up")
    urls = {row["name"]: row["sim_url"] for row in desk.status()["venues"]}
    assert set(urls) == {"kraken", "usdm"}

    def switches() -> list[dict[str, Any]]:
        command = ("--desk", str(desk.folder), "--json", "dead-man", "status")
        status, out, err = run_here(*command)
        assert status == 0, out + err
        rows: list[dict[str, Any]] = json.loads(out)["venues"]
        assert {row["venue"] for row in rows} == set(urls)
        return rows

    def all_are(state: str) -> bool:
        return all(row["state"] == state for row in switches())

    await_condition(lambda: all(map(resting, urls.values())), "an order rests at each")
    await_condition(lambda: all_are("armed"), "the timers run")
    time.sleep(7)  # longer than the time-out
    assert all(map(resting, urls.values())), "nothing fires while the engine is well"
    engine = desk.service("execution-engine")["pid"]
    os.kill(engine, signal.SIGSTOP)
    try:
        await_condition(lambda: not any(map(resting, urls.values())), "the timers have fired")
        await_condition(lambda: all_are("fired"), "and the guard has seen to it")
    finally:
        os.kill(engine, signal.SIGCONT)
    assert [row["fired"]["result"] for row in switches()] == ["verified", "verified"]
    desk.run("down", "--yes")
    assert desk.own_processes() == []


def test_a_killed_controller_costs_no_trading_within_the_permits_life(
    desks: list[PaperDesk], tmp_path: Path
) -> None:
    """A life of 30 seconds: on a machine that is busy with other tests, a controller may take more
    than ten to load its API."""
    desk = permit_of(copy_paper_desk(tmp_path / "desk"), "30s", "2s")
    desks.append(desk)
    desk.run("up")
    seen = desk.status()
    url = seen["venues"][0]["sim_url"]
    await_condition(lambda: len(orders_at(url)) > 10, "it trades")
    killed_ns = time.time_ns()
    os.kill(seen["controller"]["pid"], signal.SIGKILL)
    await_condition(
        lambda: max(o["received_ns"] for o in orders_at(url)) > killed_ns + 31_000_000_000,
        "it trades on when the old permit would have run out",
    )
    after = desk.status()
    assert after["controller"]["pid"] != seen["controller"]["pid"]
    assert [s["pid"] for s in after["services"]] == [s["pid"] for s in seen["services"]]
    at_ns = sorted(o["received_ns"] for o in orders_at(url))
    assert max(late - early for early, late in pairwise(at_ns) if late > killed_ns) < 30_000_000_000
    log = (desk.folder / "state" / "logs" / "execution-engine.log").read_text()
    assert "the controller cannot be asked" not in log, "the permit ran out"
    desk.run("down", "--yes")


def permit_of(desk: PaperDesk, ttl: str, renew_every: str) -> PaperDesk:
    file = desk.folder / "desk.toml"
    text = file.read_text()
    changed = text.replace(
        'ttl = "10s"\nrenew_every = "2s"', f'ttl = "{ttl}"\nrenew_every = "{renew_every}"'
    )
    assert changed != text
    file.write_text(changed)
    return desk


def test_with_guard_and_controller_gone_the_permit_runs_out_and_no_order_is_sent(
    desks: list[PaperDesk], tmp_path: Path
) -> None:
    desk = permit_of(copy_paper_desk(tmp_path / "desk"), "3s", "1s")
    desks.append(desk)
    desk.run("up")
    url = desk.status()["venues"][0]["sim_url"]
    await_condition(lambda: len(orders_at(url)) > 10, "it trades")
    end_guard(desk)
    gone_ns = time.time_ns()
    time.sleep(10)
    last_ns = max(order["received_ns"] for order in orders_at(url))
    # Three seconds of a permit, and what an order is on its way on a busy machine.
    assert last_ns < gone_ns + 6_000_000_000
    assert not any("openbell.guard" in p.cmdline() for p in desk.own_processes())
    desk.run("down", "--yes")
    assert desk.own_processes() == []
