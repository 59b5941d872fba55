"""The restart of a whole desk: the paper desk trades, is closed, proven, opened again, and trades.

By `openbell restart` and `openbell restart --quick`, each the whole command, positions kept.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.harness.paper_desk import PaperDesk, copy_paper_desk, end_everything

from bench.measurement import Measurement

ROUNDS = 3
KINDS: dict[str, tuple[str, ...]] = {"restart": (), "restart --quick": ("--quick",)}


@dataclass(frozen=True)
class Restarted:
    took_s: float
    """Of the command."""
    closing_s: float
    opening_s: float
    """Of the two runs."""


def run() -> list[Measurement]:
    with tempfile.TemporaryDirectory(prefix="ob-") as folder:
        desk = copy_paper_desk(Path(folder) / "desk")
        try:
            assert desk.run("up").document["outcome"] == "trading"
            seen = {
                kind: [_restarted(desk, *how) for _ in range(ROUNDS)] for kind, how in KINDS.items()
            }
            assert desk.run("down", "--yes").document["outcome"] == "verified"
        finally:
            end_everything(desk)
    return [_measured(kind, each) for kind, each in seen.items()]


def _restarted(desk: PaperDesk, *how: str) -> Restarted:
    began = time.monotonic()
    done = desk.run("restart", *how, "--yes").document
    took_s = time.monotonic() - began
    assert done["restarted"] and done["opening"]["outcome"] == "trading", done
    return Restarted(took_s, float(done["closing"]["seconds"]), float(done["opening"]["seconds"]))


def _measured(kind: str, seen: list[Restarted]) -> Measurement:
    closing = statistics.median(each.closing_s for each in seen)
    opening = statistics.median(each.opening_s for each in seen)
    return Measurement(
        f"`openbell {kind}`, from trading to trading",
        statistics.median(each.took_s for each in seen),
        "s",
        method=f"the whole command, median of {ROUNDS} ({', '.join(f'{r.took_s:.2f}' for r in seen)}); "
        f"its closing {closing:.2f} s, its opening {opening:.2f} s",
        limited_by=f"{os.cpu_count()} cores, on which every service of the desk is started",
    )
