"""The engine hands its epoch to its standby under load: judged by the venue's own orders."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.harness.loaded_desk import ENGINE, QUIET, STANDBY, STEADY, LoadedDesk, now_ns
from tests.harness.paper_desk import await_condition

pytestmark = pytest.mark.timeout(400)

SEED = int(os.environ.get("OPENBELL_SEED", str(time.time_ns() % 1_000_000)))
INTERRUPTIONS = int(os.environ.get("OPENBELL_INTERRUPTIONS", "3"))


def test_a_rolling_restart_moves_trading_over_and_back_loses_nothing_and_two_at_once_are_one(
    make_desk: Callable[..., LoadedDesk],
) -> None:
    desk = make_desk()
    desk.open()
    before = desk.until_paired()
    plan = desk.desk.run("restart", "--rolling", "--plan", ENGINE).document
    assert [step["name"] for step in plan["steps"]] == [f"restart_{STANDBY}", f"restart_{ENGINE}"]

    done = desk.desk.run("restart", "--rolling", "--yes", "--hand-back", ENGINE).document
    assert done["outcome"] == "restarted", done
    assert [each["way"] for each in done["restarted"]] == ["standby", "hand_over"]
    after = desk.until_paired()
    assert after["engine"]["name"] == ENGINE, "it was handed back"
    assert after["engine"]["pid"] != before["engine"]["pid"]
    assert after["standby"]["pid"] != before["standby"]["pid"]
    assert len(epochs(desk)) == 3, "over and back again"
    assert refused(desk) == [], "who asked meanwhile waited"
    acts = [line["action"] for line in desk.desk.run("audit", "show").document]
    assert acts.count("engine.promoted") == 3
    desk.until_orders_after(now_ns())

    command = desk.desk.command("restart", "--rolling", "--yes", ENGINE, "--json")
    first, second = (
        subprocess.Popen(
            command,
            env=desk.desk.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    ended = sorted((first, second), key=lambda each: each.wait(120) != 0)
    assert [each.returncode for each in ended] == [0, 5]
    desk.until_paired()
    desk.require_books_agree()
    desk.require_no_order_twice()


def test_a_standby_that_may_not_take_over_stops_the_restart_with_the_desk_trading(
    make_desk: Callable[..., LoadedDesk],
) -> None:
    """Its new code does not start: the engine is never touched."""
    desk = make_desk(
        orders_per_s=QUIET, watched=("[desk]\n", '[rolling]\ntrading_within = "3s"\n[desk]\n')
    )
    desk.open()
    pair = desk.until_paired()
    file = desk.desk.folder / "desk.toml"
    text = file.read_text()
    head, _, tail = text.partition(f"[services.{STANDBY}]")
    broken = 'ready = { kind = "exec", command = ["false"], timeout = "2s" }'
    tail = tail.replace('ready = { kind = "http", path = "/ready" }', broken, 1)
    file.write_text(f"{head}[services.{STANDBY}]{tail}")

    ran = desk.desk.run("restart", "--rolling", "--yes", ENGINE, expect=None)
    assert ran.status == 1, ran.text
    assert ran.document["outcome"] == "failed"
    assert ran.document["failed"]["service"] == STANDBY
    assert desk.pair()["engine"]["pid"] == pair["engine"]["pid"]
    desk.until_orders_after(now_ns())


def test_a_controller_killed_in_the_middle_of_it_leaves_one_engine_that_trades(
    make_desk: Callable[..., LoadedDesk],
) -> None:
    print(f"OPENBELL_SEED={SEED} OPENBELL_INTERRUPTIONS={INTERRUPTIONS}")
    chance = random.Random(SEED)
    desk = make_desk(orders_per_s=STEADY)
    desk.open()
    desk.until_paired()
    for turn in range(INTERRUPTIONS):
        rolling = subprocess.Popen(
            desk.desk.command("restart", "--rolling", "--yes", "--hand-back", ENGINE, "--json"),
            env=desk.desk.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        # At the hand-over itself, or anywhere on the way there.
        if turn % 2 == 0:
            until_handed_over(desk, rolling)
        else:
            time.sleep(chance.uniform(0, 8))
        os.kill(int(json.loads(desk.layout.controller_record.read_text())["pid"]), signal.SIGKILL)
        rolling.wait(60)
        killed_ns = now_ns()
        desk.desk.run("up")
        desk.until_paired()
        desk.until_orders_after(killed_ns)
        states = [row["phase"] for row in desk.pair().values()]
        assert sorted(states) == ["ready", "standby"]
    desk.require_books_agree()
    desk.require_no_order_twice()


def until_handed_over(desk: LoadedDesk, rolling: subprocess.Popen[bytes]) -> None:
    before = len(epochs(desk))
    await_condition(
        lambda: len(epochs(desk)) > before or rolling.poll() is not None, "it is handed over", 120
    )


def epochs(desk: LoadedDesk) -> list[str]:
    """Under which orders were sent, in order."""
    rows = sorted(desk.orders(), key=lambda row: row["received_ns"])
    return list(dict.fromkeys(row["cl_ord_id"].split("-")[1] for row in rows))


def refused(desk: LoadedDesk) -> list[dict[str, Any]]:
    """Intents that the engines refused or did not answer."""
    lines = desk.layout.service_log("market-analysis").read_text().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [
        line
        for line in told
        if line.get("event") in ("intent refused", "intent without an answer")
        and line.get("code") != "never_sent"  # it waited for its turn while the machine was busy
    ]
