"""`make bench`: measures everything, prints it, and writes docs/benchmarks.md.

`python -m bench NAME ...` runs only the named modules and writes nothing; with `--write` it puts
their sections, each with its own machine and date, in the place of the old ones.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.measurement import Measurement

MODULES = (
    "supervision",
    "controller",
    "engine",
    "desk",
    "venues",
    "emergency",
    "latch",
    "guard",
    "standby",
    "reconcile",
    "procedures",
    "closing",
    "restart",
)
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_ADDITIONS = 1_000_000


def main(arguments: Sequence[str]) -> int:
    """Runs the modules in order; status 1 where a bound was missed."""
    names = [name for name in arguments if name != "--write"]
    results: dict[str, list[Measurement]] = {}
    speeds: list[float] = []
    for name in names or MODULES:
        module = importlib.import_module(f"bench.{name}")
        speeds.append(additions_per_us())
        print(f"== {name}, at {speeds[-1]:.0f} additions a microsecond", flush=True)
        measurements = module.run()
        speeds.append(additions_per_us())
        results[(module.__doc__ or name).strip().splitlines()[0]] = measurements
        for measurement in measurements:
            print(f"   {_row_text(measurement)}", flush=True)
    if not names:
        PAGE.write_text(page(results, speeds))
    elif "--write" in arguments:
        PAGE.write_text(page_with(PAGE.read_text(), results, speeds))
    if not names or "--write" in arguments:
        print(f"written to {PAGE}")
    missed = [m.name for measurements in results.values() for m in measurements if m.met is False]
    print(f"missed: {', '.join(missed)}" if missed else "every bound was met")
    return 1 if missed else 0


def _row_text(m: Measurement) -> str:
    return f"{m.name}: {_number(m.value)} {m.unit} {_verdict(m)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _verdict(m: Measurement) -> str:
    if m.bound is None:
        return ""
    relation = "at most" if m.at_most else "at least"
    return f"({relation} {m.bound:g}: {'met' if m.met else 'MISSED'})"


def page(results: Mapping[str, Sequence[Measurement]], speeds: Sequence[float]) -> str:
    """docs/benchmarks.md. `speeds`: of `additions_per_us`, before and after each section."""
    head = [
        "# Benchmarks",
        "",
        "Measured by `make bench`, which writes this page. A number that is missed stands here as missed,",
        "with what limits it. Ratios compare two things measured in the same run on the same machine.",
        "",
        f"- Machine: {machine()}",
        f"- {speed(speeds)}",
        f"- Date: {datetime.now(UTC):%Y-%m-%d}",
        "",
    ]
    sections = (section(title, measurements) for title, measurements in results.items())
    return "\n".join([*head, *sections])


def page_with(
    old: str, results: Mapping[str, Sequence[Measurement]], speeds: Sequence[float]
) -> str:
    """The page with these sections in the place of those of the same titles, or at its end."""
    head, *sections = re.split(r"^(?=## )", old, flags=re.MULTILINE)
    by_title = {text.partition("\n")[0].removeprefix("## "): text for text in sections}
    alone = f"Measured by itself: {machine()}; {datetime.now(UTC):%Y-%m-%d}. {speed(speeds)}"
    for title, measurements in results.items():
        by_title[title] = section(title, measurements, alone)
    return "\n".join([head.rstrip() + "\n", *(text.rstrip() + "\n" for text in by_title.values())])


def section(title: str, measurements: Sequence[Measurement], note: str = "") -> str:
    lines = [f"## {title}", "", *([note, ""] if note else [])]
    lines += ["| what | measured | bound | |", "| --- | ---: | ---: | --- |"]
    for m in measurements:
        bound = "" if m.bound is None else f"{'≤' if m.at_most else '≥'} {m.bound:g} {m.unit}"
        verdict = {True: "met", False: "**missed**", None: ""}[m.met]
        lines.append(f"| {m.name} | {_number(m.value)} {m.unit} | {bound} | {verdict} |")
    lines.append("")
    lines += [f"- *{m.name}*: {m.method}" for m in measurements if m.method]
    lines += [f"- *{m.name}* is limited by: {m.limited_by}" for m in measurements if m.limited_by]
    lines.append("")
    return "\n".join(lines)


def additions_per_us() -> float:
    """How fast a core runs a plain loop of Python now: a virtual machine's own speed may change by
    a factor of three, and all other numbers with it."""
    began = time.perf_counter()
    total = 0
    for number in range(_ADDITIONS):
        total += number
    return _ADDITIONS / (time.perf_counter() - began) / 1e6


def speed(speeds: Sequence[float]) -> str:
    return (
        f"Speed of the machine meanwhile: {min(speeds):.0f} to {max(speeds):.0f} additions a "
        "microsecond in a plain Python loop"
    )


def machine() -> str:
    """Cores, memory, system and Python, as measured on."""
    memory = psutil.virtual_memory().total >> 30
    return (
        f"{os.cpu_count()} cores, {memory} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
