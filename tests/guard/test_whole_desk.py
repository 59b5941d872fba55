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
from tests.harness.paper_desk import (
    PaperDesk,
    await_condition,
    copy_paper_desk,
    end_everything,
    end_guard,
)
from tests.harness.venue_desk import make_desk
from tests.venues.subjects import Subject
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


@pytest.mark.parametrize(
    ("subject", "tick"), [(KRAKEN, "0.1"), (USDM, "0.1")], ids=lambda s: str(s)[:6]
)
def test_the_venues_timer_withdraws_what_a_hung_engine_left(
    desks: list[PaperDesk], tmp_path: Path, subject: Subject, tick: str
) -> None:
    desk = make_desk(tmp_path / "desk", subject, tick)
    desks.append(desk)
    file = desk.folder / "desk.toml"
    file.write_text(file.read_text() + _GUARD)
    desk.run("up")
    url = desk.status()["venues"][0]["sim_url"]

    def switch() -> dict[str, Any]:
        return dict(desk.run("dead-man", "status").document["venues"][0])

    await_condition(lambda: resting(url) > 0, "an order rests")
    await_condition(lambda: switch()["state"] == "armed", "the timer runs")
    time.sleep(7)  # longer than the time-out
    assert resting(url) > 0, "nothing fires while the engine is well"
    engine = desk.service("execution-engine")["pid"]
    os.kill(engine, signal.SIGSTOP)
    try:
        await_condition(lambda: resting(url) == 0, "the timer has fired")
        await_condition(lambda: switch()["state"] == "fired", "and the guard has seen to it")
    finally:
        os.kill(engine, signal.SIGCONT)
    assert switch()["fired"]["result"] == "verified"
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
