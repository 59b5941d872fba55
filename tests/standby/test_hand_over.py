"""The engine hands its epoch to its standby under load: judged by the venue's own orders."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from tests.harness.loaded_desk import ENGINE, QUIET, STANDBY, STEADY, LoadedDesk, now_ns
from tests.harness.paper_desk import await_condition

pytestmark = pytest.mark.timeout(400)

SEED = int(os.environ.get("OPENBELL_SEED", str(time.time_ns() % 1_000_000)))
INTERRUPTIONS = int(os.environ.get("OPENBELL_INTERRUPTIONS", "2"))


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
    before = len(desk.epochs())
    await_condition(
        lambda: len(desk.epochs()) > before or rolling.poll() is not None, "it is handed over", 120
    )
