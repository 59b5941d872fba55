"""The controller as a whole process, with 100 idle services.

The supervisor alone is measured in `supervision`; this is what it costs with the API, the database
and the audit log around it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.harness.paper_desk import PaperDesk, end_everything
from tests.harness.ports import free_ports

from bench.measurement import Measurement
from openbell.cli.client import Client
from openbell.config.layout import DeskLayout

_SERVICES = 100
_IDLE_S = 20.0


def run() -> list[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        desk = _desk_of_sleepers(Path(folder) / "desk")
        try:
            began = time.monotonic()
            desk.run("up")
            opened = time.monotonic() - began
            controller = psutil.Process(desk.status()["controller"]["pid"])
            idle = _cpu_percent(controller, _IDLE_S)
            memory = controller.memory_info().rss / 1e6
            adoption = _kill_and_adopt(desk)
        finally:
            end_everything(desk)
    return [
        Measurement("open 100 services", opened, "s", method="`openbell up` as a whole process"),
        Measurement(
            "idle CPU, 100 services without probes",
            idle,
            "% of a core",
            bound=0.2,
            method=f"user and system time of the controller over {_IDLE_S:.0f} s",
        ),
        Measurement(
            "memory, 100 services", memory, "MB", bound=100, method="resident set of the controller"
        ),
        Measurement(
            "controller killed and started again: 100 services adopted and probed",
            adoption.adopted_s * 1000,
            "ms",
            bound=300,
            method="from starting `python -m openbell.controller`, interpreter and imports included",
        ),
        Measurement(
            "the same, until the API answers",
            adoption.answers_s * 1000,
            "ms",
            method="to the first answered request; loading the API comes after the adoption",
        ),
        Measurement(
            "services adopted without a restart",
            adoption.kept,
            f"of {_SERVICES}",
            bound=_SERVICES,
            at_most=False,
        ),
    ]


def _desk_of_sleepers(folder: Path) -> PaperDesk:
    folder.mkdir(parents=True)
    (port,) = free_ports(1)
    sleeper = f'command = ["{_sleep()}", "86400"]'
    services = "\n".join(f"[services.s{i:03d}]\n{sleeper}" for i in range(_SERVICES))
    (folder / "desk.toml").write_text(
        f'[desk]\nname = "sleepers"\n[controller]\nport = {port}\n{services}\n'
    )
    return PaperDesk(folder, {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")})


def _sleep() -> str:
    return shutil.which("sleep") or "/bin/sleep"


def _cpu_percent(process: psutil.Process, seconds: float) -> float:
    def used() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    time.sleep(2)  # the opening's own work ends
    before, began = used(), time.monotonic()
    time.sleep(seconds)
    return (used() - before) / (time.monotonic() - began) * 100


@dataclass(frozen=True)
class Adoption:
    adopted_s: float
    answers_s: float
    kept: int
    """Services that run on under the same pid."""


def _kill_and_adopt(desk: PaperDesk) -> Adoption:
    layout = DeskLayout.for_desk(desk.folder, {})
    before = {s["name"]: s["pid"] for s in desk.status()["services"]}
    os.kill(desk.status()["controller"]["pid"], signal.SIGKILL)
    client = Client(layout)
    began_ns = time.time_ns()
    subprocess.Popen(
        [sys.executable, "-m", "openbell.controller", "--desk", str(desk.folder)],
        env=desk.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not client.is_running():
        time.sleep(0.005)
    answers_s = (time.time_ns() - began_ns) / 1e9
    after = {s["name"]: s["pid"] for s in client.get("status")["services"] if s["state"] == "ready"}
    lines = [json.loads(line) for line in layout.controller_log.read_text().splitlines()]
    adopted_ns = next(line["adopted_at_ns"] for line in reversed(lines) if "adopted_at_ns" in line)
    kept = sum(after.get(name) == pid for name, pid in before.items())
    return Adoption((adopted_ns - began_ns) / 1e9, answers_s, kept)
