"""The controller as a whole process, with 100 idle services.

The supervisor alone is measured in `supervision`; this is what it costs with the API, the database
and the audit log around it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from tests.harness.paper_desk import PaperDesk, end_everything, free_ports

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
            adopted, kept = _kill_and_adopt_s(desk)
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
            "kill -9 of the controller to a new one that answers, 100 services adopted",
            adopted * 1000,
            "ms",
            method="from starting `python -m openbell.controller` to the first answered request",
        ),
        Measurement(
            "services adopted without a restart",
            kept,
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


def _kill_and_adopt_s(desk: PaperDesk) -> tuple[float, int]:
    before = {s["name"]: s["pid"] for s in desk.status()["services"]}
    os.kill(desk.status()["controller"]["pid"], signal.SIGKILL)
    client = Client(DeskLayout.for_desk(desk.folder, {}))
    began = time.monotonic()
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
    took = time.monotonic() - began
    after = {s["name"]: s["pid"] for s in client.get("status")["services"] if s["state"] == "ready"}
    return took, sum(after.get(name) == pid for name, pid in before.items())
