"""Procedures: what the machinery costs beside the work of the steps.

A run of steps that do nothing, with the real journal on a real disk (desk database, record chained by
hashes), its events kept as the controller keeps them, and the approvals' gate asked before each step.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measurement import Measurement
from openbell.controller.journal import DeskDatabase, RunJournal
from openbell.controller.run_board import LiveRun
from openbell.procedures.report import report_of
from openbell.procedures.run import Runner
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.state.new_run import NewRun

STEPS = 200
BOUND_MS = 10.0
FACTS = {f"service-{n}": {"state": "ready", "pid": 1000 + n, "port": 8000 + n} for n in range(40)}
"""As much as a desk of forty services observes."""


@dataclass
class Idle:
    """A step that has one action and does nothing."""

    name: str
    title: str = "Do nothing"
    timeout_s: float = 5.0
    on_failure: OnFailure = OnFailure.WARN

    async def observe(self) -> dict[str, dict[str, object]]:
        return FACTS

    def plan(self, facts: object) -> Plan[str]:
        return Plan(("do nothing",))

    async def act(self, plan: Plan[str], say: Say) -> None:
        say("doing nothing", 1, 1)

    async def verify(self, say: Say) -> Verification:
        return Verification(Outcome.DONE, "it is so", {"services": FACTS})


@dataclass
class Stopwatch:
    """When each step ended."""

    at: list[float] = field(default_factory=list)

    def __call__(self, _report: object) -> None:
        self.at.append(time.perf_counter())


def run() -> list[Measurement]:
    with tempfile.TemporaryDirectory(prefix="ob-") as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Measurement]:
    database = DeskDatabase(folder / "desk.db")
    steps = [Idle(f"step_{number}") for number in range(STEPS)]
    names = [step.name for step in steps]
    number = await database.begin(NewRun(kind="open", who="bench", version=1, plan=tuple(names)))
    live = LiveRun(f"open-{number}", "open", "bench", {}, time.time_ns())
    stopwatch = Stopwatch([time.perf_counter()])
    runner = Runner(RunJournal(database, number), live.emit, on_report=stopwatch)
    used = time.process_time()
    reports = await runner.run(steps)
    cpu_ms = (time.process_time() - used) * 1000 / STEPS
    assert all(report.outcome is Outcome.DONE for report in reports)
    took = [
        (after - before) * 1000
        for before, after in zip(stopwatch.at, stopwatch.at[1:], strict=False)
    ]
    await database.finish(number, "done")
    store = await database.open()
    begun = time.perf_counter()
    report = await asyncio.to_thread(report_of, store, number, folder / "audit.jsonl")
    read_ms = (time.perf_counter() - begun) * 1000
    assert report["chain"]["whole"] is True
    database.close()
    return _told(took, cpu_ms, read_ms, len(report["steps"]))


def _told(took: Sequence[float], cpu_ms: float, read_ms: float, steps: int) -> list[Measurement]:
    method = (
        f"a run of {STEPS} steps that do nothing, each with facts of 40 services before and after: "
        "STARTED, what was observed and planned, DONE (three durable commits, each with its line of "
        "the record), and five events"
    )
    return [
        Measurement(
            "overhead of a step, median", statistics.median(took), "ms", BOUND_MS, method=method
        ),
        Measurement(
            "overhead of a step, 99th percentile",
            sorted(took)[int(len(took) * 0.99)],
            "ms",
            BOUND_MS,
        ),
        Measurement("overhead of a step, processor", cpu_ms, "ms", method="of this process alone"),
        Measurement(
            f"report of {steps} steps, chain checked", read_ms, "ms", method="read and judged once"
        ),
    ]
