"""The paper desk: from `openbell up` to trading, against its own services' start times.

The bound is 1.5 times the longest chain of dependent services, each of whose start was measured
alone: what a perfect opening could not beat.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import tomllib
from collections.abc import Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.harness.paper_desk import PaperDesk, copy_paper_desk, end_everything

from bench.measurement import Measurement

_RUNS = 3


def run() -> list[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        openings = [_opening_s(Path(folder) / f"open-{i}") for i in range(_RUNS)]
        started = [_starts_alone_s(Path(folder) / f"alone-{i}") for i in range(_RUNS)]
    opening = statistics.median(whole for whole, _ in openings)
    run = statistics.median(alone for _, alone in openings)
    starts = {name: statistics.median(each[name] for each in started) for name in started[0]}
    chain, seconds = longest_chain(_dependencies(), starts)
    return [
        Measurement(
            "up to trading",
            opening,
            "s",
            method=f"`openbell up` as a whole process, median of {_RUNS}",
        ),
        Measurement(
            "longest chain of starts",
            seconds,
            "s",
            method=f"{' → '.join(chain)}, each with `openbell up --only` on a desk that holds what it needs: "
            + ", ".join(f"{name} {value:.2f} s" for name, value in starts.items()),
        ),
        Measurement(
            "the run, from its first step to trading / longest chain",
            run / seconds,
            "x",
            bound=1.5,
            method=f"median {run:.2f} s of the run that `openbell up` begins and follows",
        ),
        Measurement(
            "up to trading / longest chain",
            opening / seconds,
            "x",
            bound=1.5,
            limited_by="the command's and the controller's own start, before the first service can "
            "be started; the guard, without which no engine is started, and which is in no chain of "
            "services; and programs that load at once on two cores where each was measured with both "
            "to itself",
        ),
    ]


def _opening_s(folder: Path) -> tuple[float, float]:
    """Of the whole command, and of its run."""
    desk = copy_paper_desk(folder)
    try:
        began = time.monotonic()
        opened = desk.run("up").document
        took = time.monotonic() - began
        assert opened["outcome"] == "trading", opened
        desk.run("down", "--yes")
        return took, float(opened["seconds"])
    finally:
        end_everything(desk)


def _starts_alone_s(folder: Path) -> dict[str, float]:
    """Seconds until ready of each service, nothing else starting at the time."""
    desk = copy_paper_desk(folder)
    try:
        return {name: _start_s(desk, name) for name in _in_order(_dependencies())}
    finally:
        desk.run("down", "--yes", "--force", expect=None)
        end_everything(desk)


def _start_s(desk: PaperDesk, service: str) -> float:
    opened = desk.run("up", "--safe-mode", "--only", service).document
    seconds = next(s["seconds"] for s in opened["services"] if s["name"] == service)
    assert isinstance(seconds, float)
    return seconds


@cache
def _dependencies() -> Mapping[str, tuple[str, ...]]:
    file = Path(__file__).parents[1] / "desks" / "paper" / "desk.toml"
    services = tomllib.loads(file.read_text())["services"]
    return {name: tuple(service.get("depends_on", ())) for name, service in services.items()}


def _in_order(dependencies: Mapping[str, tuple[str, ...]]) -> list[str]:
    return list(TopologicalSorter(dependencies).static_order())


def longest_chain(
    dependencies: Mapping[str, tuple[str, ...]], seconds: Mapping[str, float]
) -> tuple[list[str], float]:
    """The chain of dependent services that takes longest, first service first, and its seconds."""

    def chain_to(name: str) -> tuple[list[str], float]:
        chain, before = max(
            (chain_to(needed) for needed in dependencies[name]),
            key=lambda c: c[1],
            default=([], 0.0),
        )
        return [*chain, name], before + seconds[name]

    return max((chain_to(name) for name in dependencies), key=lambda c: c[1])
