"""The engine that trades dies or hangs, under load, and its standby takes over: judged by the venue.

`OPENBELL_KILLS=200` kills it so many times; `OPENBELL_SEED` repeats the moments of an earlier run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
from tests.harness.loaded_desk import QUIET, STEADY, LoadedDesk, now_ns
from tests.harness.paper_desk import await_condition

KILLS = int(os.environ.get("OPENBELL_KILLS", "4"))
pytestmark = pytest.mark.timeout(400 + 15 * KILLS)
SEED = int(os.environ.get("OPENBELL_SEED", str(time.time_ns() % 1_000_000)))


def test_killed_again_and_again_under_load_no_order_is_sent_twice_and_the_books_agree(
    make_desk: Callable[..., LoadedDesk],
) -> None:
    print(f"OPENBELL_SEED={SEED} OPENBELL_KILLS={KILLS}")
    chance = random.Random(SEED)
    many = 'restart = { policy = "always", backoff = "100ms", limit = 10, window = "60s" }'
    desk = make_desk(restarts=(many, many.replace("limit = 10", "limit = 1000")))
    desk.open()
    before = desk.until_paired()
    assert before["engine"]["name"] == "execution-engine"
    waits = []
    for _ in range(KILLS):
        pair = desk.until_paired()
        time.sleep(chance.uniform(0, 0.3))  # the moment of the kill is what is random
        killed_ns = now_ns()
        os.kill(pair["engine"]["pid"], signal.SIGKILL)
        waits.append((desk.until_orders_after(killed_ns + 20_000_000) - killed_ns) / 1e9)
        assert desk.pair()["engine"]["name"] == pair["standby"]["name"]
    print("seconds to the next order:", sorted(round(each, 2) for each in waits))
    desk.until_paired()
    desk.require_books_agree()
    desk.require_no_order_twice()
    desk.desk.run("resume")
    desk.desk.run("down", "--yes")


def test_stopped_for_longer_than_its_permit_and_then_continued_it_sends_nothing(
    make_desk: Callable[..., LoadedDesk],
) -> None:
    """It is killed before the other one is promoted; what is continued is already dead."""
    desk = make_desk(
        orders_per_s=STEADY,
        ttl=('ttl = "10s"', 'ttl = "2s"'),
        renew=('renew_every = "2s"', 'renew_every = "500ms"'),
    )
    desk.open()
    pair = desk.until_paired()
    stopped = pair["engine"]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    stopped_ns = now_ns()
    first_ns = desk.until_orders_after(stopped_ns + 100_000_000)
    assert desk.pair()["engine"]["name"] == "execution-engine-standby"
    with contextlib.suppress(ProcessLookupError):
        os.kill(stopped, signal.SIGCONT)
    stale = [
        row["cl_ord_id"] for row in desk.orders()
        if row["received_ns"] >= first_ns and epoch_of(row) != epoch_of(desk.orders()[-1])
    ]  # fmt: skip
    assert stale == []
    paired = desk.until_paired()
    assert paired["standby"]["name"] == "execution-engine" and paired["standby"]["pid"] != stopped
    desk.require_books_agree()
    desk.require_no_order_twice()


def test_a_blocked_event_loop_is_ended_before_the_standby_sends(
    make_desk: Callable[..., LoadedDesk],
) -> None:
    """Unlike a process that is stopped, its other threads live on, and what it has begun goes on when
    the ten seconds are over, if nobody has ended it by then."""
    desk = make_desk(orders_per_s=STEADY)
    folder = desk.desk.folder
    (folder / "blocking_engine.py").write_text(
        "import signal, time\n"
        "from openbell.services.execution_engine import main\n"
        "signal.signal(signal.SIGUSR1, lambda *_: time.sleep(10))\n"
        "raise SystemExit(main())\n"
    )
    file = folder / "desk.toml"
    module = '"-m", "openbell.services.execution_engine"'
    text = file.read_text()
    assert text.count(module) == 2
    file.write_text(text.replace(module, '"{desk}/blocking_engine.py"'))
    desk.open()
    pair = desk.until_paired()
    blocked = pair["engine"]["pid"]
    os.kill(blocked, signal.SIGUSR1)
    blocked_ns = now_ns()
    first_ns = desk.until_orders_after(blocked_ns + 100_000_000)
    assert desk.pair()["engine"]["name"] == pair["standby"]["name"]
    rows = desk.orders()
    epoch = epoch_of(max(rows, key=lambda row: int(row["received_ns"])))
    late = [r["cl_ord_id"] for r in rows if r["received_ns"] >= first_ns and epoch_of(r) != epoch]
    assert late == [], "the one that was blocked sent as well"
    assert desk.until_paired()["standby"]["pid"] != blocked
    assert "the engine hangs" in desk.layout.controller_log.read_text()
    desk.require_books_agree()
    desk.require_no_order_twice()


def test_a_killed_standby_costs_no_order_and_of_both_killed_the_one_that_traded_comes_back(
    make_desk: Callable[..., LoadedDesk],
) -> None:
    """And of one killed right after limits were changed, the other acts under the changed ones."""
    desk = make_desk(orders_per_s=STEADY)
    desk.open()
    pair = desk.until_paired()
    os.kill(pair["standby"]["pid"], signal.SIGKILL)
    dead = pair["standby"]["pid"]
    await_condition(
        lambda: desk.pair()["standby"]["pid"] not in (None, dead), "it is started again"
    )
    paired = desk.until_paired()
    assert paired["engine"]["pid"] == pair["engine"]["pid"]
    assert desk.api("status")["state"] == "trading"
    desk.require_no_order_twice()

    killed_ns = now_ns()
    for row in paired.values():
        os.kill(row["pid"], signal.SIGKILL)
    desk.until_orders_after(killed_ns + 20_000_000)
    paired = desk.until_paired()

    # What was made tighter while it stood by counts for the one that takes over.
    assert most_at_once(desk.orders()) > 3
    desk.desk.run("limits", "set", "max_open_orders=3", "--reason", "test")
    killed_ns = now_ns()
    os.kill(paired["engine"]["pid"], signal.SIGKILL)
    desk.until_orders_after(killed_ns + 20_000_000, count=30)
    assert desk.pair()["engine"]["name"] == paired["standby"]["name"]
    newest = max(epoch_of(row) for row in desk.orders())
    assert most_at_once([row for row in desk.orders() if epoch_of(row) == newest]) <= 3
    desk.until_paired()
    desk.require_books_agree()
    desk.require_no_order_twice()


def test_venue_that_drops_answers_while_the_standby_takes_over(
    make_desk: Callable[..., LoadedDesk],
) -> None:
    desk = make_desk(timeout=('fee_currency = "BNB"', 'fee_currency = "BNB"\ntimeout = "1s"'))
    desk.open()
    for fault in (
        {"kind": "drop_reply", "kinds": ["submit"], "count": 2},
        {"kind": "status_503_unknown", "kinds": ["submit", "order", "open_orders"], "count": 3},
    ):
        pair = desk.until_paired()
        desk.suffer(fault)
        time.sleep(0.05)  # so that some of it is met before the kill, and some after
        killed_ns = now_ns()
        os.kill(pair["engine"]["pid"], signal.SIGKILL)
        desk.until_orders_after(killed_ns + 20_000_000)
    desk.until_paired()
    desk.require_books_agree()
    desk.require_no_order_twice()


def test_a_standby_of_another_kind_is_never_promoted(make_desk: Callable[..., LoadedDesk]) -> None:
    """It was started by a desk file that has changed meanwhile: not promotable, said aloud, and the
    engine that dies is restarted as if there were none."""
    desk = make_desk(orders_per_s=QUIET)
    desk.open()
    pair = desk.until_paired()
    file = desk.desk.folder / "desk.toml"
    file.write_text(file.read_text().replace('max_daily_loss = "1000"', 'max_daily_loss = "999"'))
    os.kill(pair["standby"]["pid"], signal.SIGKILL)

    def drifted() -> bool:
        why = desk.pair()["standby"].get("why_not_promotable") or []
        return why == ["it applies other limits"]

    await_condition(drifted, "the standby is seen to be unlike")
    assert "not promotable" in desk.desk.controller_log()
    seen = desk.desk.run("health", expect=None).document
    assert any("other limits" in reason for reason in seen["reasons"]), seen["reasons"]
    standby = desk.pair()["standby"]["pid"]
    killed_ns = now_ns()
    os.kill(pair["engine"]["pid"], signal.SIGKILL)
    desk.until_orders_after(killed_ns + 20_000_000)
    after = desk.pair()
    assert after["engine"]["name"] == "execution-engine"
    assert after["standby"]["pid"] == standby
    desk.require_no_order_twice()


def most_at_once(rows: list[dict[str, Any]]) -> int:
    """Of these orders, how many rested at the venue at the same time."""
    steps = [(row["received_ns"], 1) for row in rows if row["ord_type"] == "LIMIT"]
    steps += [
        (row["updated_ns"], -1)
        for row in rows
        if row["ord_type"] == "LIMIT" and row["status"] not in ("NEW", "PARTIALLY_FILLED")
    ]
    return max(accumulate(step for _, step in sorted(steps)))


def epoch_of(row: dict[str, str]) -> str:
    """As it stands in a ClOrdID: `ob` and the desk, the epoch, a counter."""
    return row["cl_ord_id"].split("-")[1]
