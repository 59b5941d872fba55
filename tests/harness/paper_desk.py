"""A whole paper desk for tests and benchmarks: a copy with ports of its own, driven by the
command line alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from tests.harness.ports import free_ports

from openbell.cli.client import Client
from openbell.config.layout import DeskLayout
from openbell.errors import NotRunningError, UnverifiedError

REPOSITORY = Path(__file__).parents[2]
PAPER = REPOSITORY / "desks" / "paper"
COMMAND_TIMEOUT_S = 300
"""A closing that nothing answers goes through all of its time-outs: two minutes on a quiet machine."""
LOOK_EVERY_S = 0.25
"""A look costs the desk's processes far more than it costs the test, and others run beside it."""


@dataclass(frozen=True)
class Ran:
    status: int
    document: Any
    """The JSON document on standard output."""
    text: str
    """Standard error."""


@dataclass(frozen=True)
class PaperDesk:
    """One desk in a folder of its own."""

    folder: Path
    environ: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "openbell", "--desk", str(self.folder), *arguments]

    def run(self, *arguments: str, expect: int | None = 0) -> Ran:
        """Runs `openbell ... --json`; fails the test on another exit status than expected."""
        done = subprocess.run(
            self.command(*arguments, "--json"),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert expect is None or done.returncode == expect, (
            f"openbell {' '.join(arguments)} exited with {done.returncode}, not {expect}\n"
            f"{done.stdout}\n{done.stderr}\n{self.controller_log()}"
        )
        lines = done.stdout.strip().splitlines()
        assert len(lines) == 1, f"one JSON document expected, got: {done.stdout!r}\n{done.stderr}"
        return Ran(done.returncode, json.loads(lines[0]), done.stderr)

    def controller_log(self) -> str:
        log = self.folder / "state" / "logs" / "controller.log"
        return log.read_text()[-4000:] if log.exists() else "(no controller log)"

    def look(self, what: str) -> dict[str, Any]:
        """`GET /api/v1/<what>`: what `openbell <what>` shows, without a process for each look: those
        who wait for something look many times. A desk without a controller is asked by the command.
        """
        try:
            document = Client(DeskLayout.for_desk(self.folder, {})).get(what)
        except (NotRunningError, UnverifiedError):
            document = self.run(what).document
        assert isinstance(document, dict)
        return document

    def status(self) -> dict[str, Any]:
        return self.look("status")

    def service(self, name: str) -> dict[str, Any]:
        return next(s for s in self.status()["services"] if s["name"] == name)

    def venue_truth(self, what: str, at: str | None = None) -> list[dict[str, Any]]:
        """`orders`, `fills` or `positions` as the simulated venue itself tells them; `at` names one
        that is not the first."""
        venues = tomllib.loads((self.folder / "desk.toml").read_text())["venues"]
        url = venues[at or next(iter(venues))]["url"]
        with urllib.request.urlopen(f"{url}/sim/v1/{what}", timeout=10) as answer:
            items = json.load(answer)[what]
        assert isinstance(items, list)
        return items

    def own_processes(self) -> list[psutil.Process]:
        """Every process that carries this desk's marker, its controller and its guard."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.environ().get("OPENBELL_STATE") == str(self.folder / "state") or (
                    {"openbell.controller", "openbell.guard"} & set(process.cmdline())
                    and str(self.folder) in " ".join(process.cmdline())
                ):
                    found.append(process)
        return found


def await_condition(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    """Returns when the condition holds; fails the test if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f}s: {what}"
        time.sleep(LOOK_EVERY_S)


def end_everything(desk: PaperDesk) -> None:
    """Kills what is left of a desk, by pid; the guard first, as it would start a controller."""
    end_guard(desk)
    for process in desk.own_processes():
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)


def end_guard(desk: PaperDesk) -> None:
    """SIGKILL to the guard, seen to be gone: for tests of what a desk is without one. The controller
    would start another, so it is killed at the same time."""
    ours = ("openbell.guard", "openbell.controller")
    gone = []
    for process in desk.own_processes():
        with contextlib.suppress(psutil.Error):
            if set(ours) & set(process.cmdline()):
                process.send_signal(signal.SIGSTOP)  # neither starts the other meanwhile
                gone.append(process)
    for process in gone:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(gone, timeout=10)


def recording(name: str) -> Path | None:
    """A recording of a real market in `$OPENBELL_RECORDINGS`, or in a folder `shared/data` beside
    the project; None where there is none."""
    beside = REPOSITORY.parent / "shared" / "data"
    file = Path(os.environ.get("OPENBELL_RECORDINGS", beside)) / name
    return file if file.is_file() else None


def copy_paper_desk(folder: Path, market: Path | None = None) -> PaperDesk:
    """The paper desk with ports of its own in `folder`; `market` is replayed by its venue."""
    shutil.copytree(PAPER, folder, ignore=shutil.ignore_patterns("state", ".env", "__pycache__"))
    file = folder / "desk.toml"
    # Without its comments: a test that changes a table must not find one that is only proposed.
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.M)
    ports = sorted(set(re.findall(r"\b(?:8000|7001|80[0-2][1-9])\b", text)))
    for port, free in zip(ports, free_ports(len(ports)), strict=True):
        text = re.sub(rf"\b{port}\b", str(free), text)
    if market is not None:
        text = text.replace(
            '"-m", "openbell_sim",', f'"-m", "openbell_sim", "--market", "{market}",'
        )
    file.write_text(text)
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OPENBELL_") or name == "OPENBELL_RECORDINGS"
    }
    return PaperDesk(folder, environ)


STANDBY = "execution-engine-standby"
ENGINE = "execution-engine"


def add_standby(desk: PaperDesk) -> None:
    """Gives the desk's engine a standby, as its comment in desk.toml would."""
    file = desk.folder / "desk.toml"
    (port,) = free_ports(1)
    file.write_text(
        file.read_text()
        + f"""
[services.{STANDBY}]
command = ["{{python}}", "-m", "openbell.services.execution_engine"]
port = {port}
venues = ["binance"]
role = "standby"
standby_for = "{ENGINE}"
group = "trading"
depends_on = ["venue-sim"]
ready = {{ kind = "http", path = "/ready" }}
health = {{ every = "5s" }}
stop = {{ timeout = "15s" }}
restart = {{ policy = "always", backoff = "100ms", limit = 10, window = "60s" }}
"""
    )
