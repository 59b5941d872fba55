"""Real processes for the tests of the runtime: every one is ended with its test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.harness.ports import free_port

from openbell.config.layout import DeskLayout
from openbell.config.models import Desk, DeskFile, LoadedDesk, Logs
from openbell.config.services import Service
from openbell.runtime.members import scan
from openbell.runtime.plan import build_specs
from openbell.runtime.processes import system_processes
from openbell.runtime.spec import ServiceEvent, ServiceSpec
from openbell.runtime.supervisor import Supervisor

SERVICE = Path(__file__).with_name("service.py")
PATIENCE_S = 60.0


@dataclass
class Bench:
    """A desk in a folder of its own, and what was started in it."""

    folder: Path
    layout: DeskLayout
    events: list[ServiceEvent] = field(default_factory=list)
    supervisors: list[Supervisor] = field(default_factory=list)
    services: dict[str, Service] = field(default_factory=dict)
    logs: Logs = field(default_factory=Logs)

    def add(self, name: str, *words: object, command: tuple[str, ...] = (), **keys: Any) -> None:
        """A service that does what `words` say (see service.py), or runs `command`."""
        self.services[name] = Service.model_validate(
            {
                "command": command
                or ("{python}", "-S", "-E", str(SERVICE), *(str(word) for word in words)),
                **keys,
            },
            strict=False,
        )

    def specs(self) -> dict[str, ServiceSpec]:
        file = DeskFile(desk=Desk(name="test"), services=self.services)
        desk = LoadedDesk(file=file, path=self.folder / "desk.toml", digest="")
        return build_specs(desk, self.layout, dict(os.environ), {})

    def supervisor(self, **keys: Any) -> Supervisor:
        made = Supervisor(
            self.layout, self.specs(), logs=self.logs, on_event=self.events.append, **keys
        )
        self.supervisors.append(made)
        return made

    def states(self, service: str) -> list[str]:
        return [str(event.state) for event in self.events if event.service == service]

    def killed_controller(self, die_at: str = "", after_s: float = 0.0) -> None:
        """Starts every service under a supervisor in another process, and kills that with -9,
        `after_s` after all are up."""
        process = subprocess.Popen(
            [
                sys.executable,
                str(SERVICE.with_name("supervising.py")),
                str(self.folder),
                json.dumps(
                    {
                        name: each.model_dump(mode="json", exclude_unset=True)
                        for name, each in self.services.items()
                    }
                ),
                die_at,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            said = process.stdout.readline()
            assert said == ("" if die_at == "spawn" else "up\n"), said
            if die_at == "stopping":
                assert process.stdout.readline() == "stopping\n"
            time.sleep(after_s)
        finally:
            process.kill()
            process.communicate()

    def child_pid(self) -> int:
        return int((self.folder / "child.pid").read_text())

    def log(self, service: str) -> str:
        return self.layout.service_log(service).read_text()

    def leaders(self, service: str) -> dict[int, int]:
        """Live processes that were spawned for a service, by the process table: pid to generation."""
        found = scan(system_processes(), self.layout.desk_id)
        return {
            facts.pid: mark.generation
            for facts, mark in found.marked(service)
            if facts.session == facts.pid
        }

    def end_everything(self) -> None:
        """By mark: exactly the processes of this desk."""
        table = system_processes()
        for facts in list(table.everything()):
            mark = table.mark(facts.pid)
            if mark is not None and mark.startswith(f"{self.layout.desk_id}:"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(facts.pid, signal.SIGKILL)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    desk = Bench(tmp_path, DeskLayout.for_desk(tmp_path, {}))
    yield desk
    for supervisor in desk.supervisors:
        await supervisor.detach()
    desk.end_everything()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def another_port(port: int) -> int:
    return next(found for found in iter(free_port, None) if found != port)


@pytest.fixture
def until() -> Callable[..., Any]:
    """`await until(lambda: condition)`; fails when it does not come true."""

    async def wait(condition: Callable[[], object], what: str = "") -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def python() -> str:
    return sys.executable
