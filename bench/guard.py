"""The guard while idle, with warm connections to a Binance and a Kraken venue"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from tests.harness.guarded_desk import GuardedDesk, guarded_desk

from bench.measurement import Measurement

IDLE_S = 20.0
CPU_MAX, MEMORY_MAX_MB = 1.0, 150.0


def run() -> list[Measurement]:
    with (
        TemporaryDirectory(prefix="openbell-bench-") as folder,
        guarded_desk(
            Path(folder) / "desk",
            "binance",
            "kraken",
            timeout="60s",
            silent="5s",
            watch="5s",
            apart=True,
        ) as desk,
    ):
        desk.open()
        desk.engine()
        desk.until_switch("kraken", "armed")
        desk.until_switch("binance", "watching")
        return _measured(desk)


def _measured(desk: GuardedDesk) -> list[Measurement]:
    process = psutil.Process(desk.guard_pid())
    time.sleep(2)  # what the opening began ends
    before, began = _cpu_s(process), time.monotonic()
    time.sleep(IDLE_S)
    share = (_cpu_s(process) - before) / (time.monotonic() - began) * 100
    method = (
        f"over {IDLE_S:g} s: beats of an engine ten times a second and of a controller, a status "
        "each second, Kraken's timer of 60 s refreshed, both connections kept warm"
    )
    return [
        Measurement("CPU of the guard while idle", share, "% of a core", CPU_MAX, method=method),
        Measurement(
            "memory of the guard while idle",
            process.memory_info().rss / (1 << 20),
            "MB",
            MEMORY_MAX_MB,
            method="resident; most of it is the client library that signs for both venues",
        ),
    ]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
