"""The guard while idle, with warm connections to a Binance and a Kraken venue"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from tests.harness.guarded_desk import GuardedDesk, guarded_desk

from bench.measurement import Measurement

IDLE_S = 30.0
TIMEOUT_S = 20.0
SPACING_MAX = 0.25
"""Of the time-out, between two refreshes: what Kraken advises."""
CPU_MAX, MEMORY_MAX_MB = 1.0, 150.0


def run() -> list[Measurement]:
    with (
        TemporaryDirectory(prefix="openbell-bench-") as folder,
        guarded_desk(
            Path(folder) / "desk", "binance", "kraken",
            timeout=f"{TIMEOUT_S:g}s", silent="5s", watch="5s", apart=True, logs=Path(folder),
        ) as desk,
    ):  # fmt: skip
        desk.open()
        desk.engine()
        desk.until_switch("kraken", "armed")
        desk.until_switch("binance", "watching")
        return [*_measured(desk), _spacing(Path(folder) / "kraken.log")]


def _measured(desk: GuardedDesk) -> list[Measurement]:
    process = psutil.Process(desk.guard_pid())
    time.sleep(2)  # what the opening began ends
    before, began = _cpu_s(process), time.monotonic()
    time.sleep(IDLE_S)
    share = (_cpu_s(process) - before) / (time.monotonic() - began) * 100
    method = (
        f"over {IDLE_S:g} s: beats of an engine ten times a second and of a controller, a status "
        "each second, Kraken's timer of {TIMEOUT_S:g} s refreshed, both connections kept warm"
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


def _spacing(log: Path) -> Measurement:
    """By the venue's own log: when each refresh arrived there, and until when it then ran."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    at_ns = [e["at_ns"] for e in events if e["event"] == "dead_man" and e.get("expires_ns")]
    gaps_s = [(later - at) / 1e9 for at, later in itertools.pairwise(at_ns)]
    if not gaps_s:
        raise RuntimeError("the venue saw no two refreshes")
    return Measurement(
        "dead man's timer: longest time between two refreshes at the venue / time-out",
        max(gaps_s) / TIMEOUT_S,
        "x",
        SPACING_MAX,
        method=f"{len(at_ns)} refreshes of Kraken's timer of {TIMEOUT_S:g} s, by the venue's own log",
    )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
