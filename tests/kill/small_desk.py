"""A desk of real processes: simulated venues in the test's own loop, engines that send to them, and
the emergency stop as a process of its own; without a controller, unless a test starts one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tests.harness.ports import free_ports
from tests.kill.house import KEY, SECRET, House, house

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.domain.ids import is_own
from openbell.kill.course import courses, read_course
from openbell.kill.own_processes import OwnProcesses
from openbell.runtime.host import Host
from openbell.runtime.plan import build_specs
from openbell.runtime.processes import system_processes
from openbell.runtime.run import Run, spawn_run
from openbell_sim.ledger import Order

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
WAITS_FOR_THE_GUARD = """
import sys
if "openbell.kill" in sys.orig_argv:
    from openbell.kill.guard_client import ask_guard
    ask_guard.__kwdefaults__["first_within_s"] = 60.0
"""
"""A sitecustomize: a press then goes without the guard only where the guard does not do it, and not where it
has no turn within a tenth of a second on a machine that is busy."""


@dataclass(frozen=True)
class Pressed:
    """What a press came to."""

    status: int
    statement: dict[str, Any]
    """Empty where it was killed."""
    events: list[dict[str, Any]]
    errors: str
    took_s: float

    def venue(self, name: str) -> dict[str, Any]:
        return next(each for each in self.statement["venues"] if each["venue"] == name)

    def heard(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]


@dataclass
class SmallDesk:
    folder: Path
    houses: dict[str, House]
    """By the venue's name in desk.toml."""
    port: int
    """Of its controller, should one be started."""
    runs: dict[str, Run] = field(default_factory=dict)
    pressing: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def layout(self) -> DeskLayout:
        return DeskLayout.for_desk(self.folder, {})

    @property
    def desk_id(self) -> str:
        return self.layout.desk_id

    # --- its venues ----------------------------------------------------------------------------

    def rest(self, count: int, **fields: Any) -> None:
        """Orders of this desk at every venue."""
        for here in self.houses.values():
            here.rest(count, desk=self.desk_id, **fields)

    def own_open(self) -> list[Order]:
        """By the venues' own books."""
        return [
            order
            for here in self.houses.values()
            for order in here.open()
            if is_own(here.kind.from_the_wire(order.cl_ord_id), self.desk_id)
        ]

    # --- its services --------------------------------------------------------------------------

    async def start(self, *names: str) -> None:
        """Spawned and recorded as the supervisor does it; then nobody watches them."""
        desk = load_desk(self.folder)
        environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        specs = build_specs(desk, self.layout, environ, {})
        host = Host.of(self.layout, lambda _: None)
        for name in names:
            spec = specs[name]
            run = spawn_run(host, spec, time.time_ns(), 0, ())
            await asyncio.sleep(0.02)  # its start time is slow to read while it is executed
            run.settle()
            self.runs[name] = run

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {what}"
            await asyncio.sleep(0.02)

    async def until_sending(self, *names: str) -> None:
        for name in names or tuple(self.runs):
            log = self.layout.service_log(name)
            await self.until(lambda log=log: "sending" in log.read_text(), f"{name} sends")  # type: ignore[misc]

    def alive(self) -> dict[str, tuple[int, ...]]:
        return {name: each.pids for name, each in OwnProcesses(self.layout).look().items()}

    def is_frozen(self, name: str) -> bool:
        found = OwnProcesses(self.layout).look().get(name)
        return found is not None and all(facts.frozen for facts in found.members)

    # --- the stop ------------------------------------------------------------------------------

    async def begin(self, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "openbell.kill", "--desk", str(self.folder), "--events",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 26,
            env={**plain_environment(), **environ},
        )  # fmt: skip
        self.pressing.append(process)
        return process

    async def end(self, process: asyncio.subprocess.Process) -> Pressed:
        began_s = time.monotonic()
        async with asyncio.timeout(120):
            output, errors = await process.communicate()
        events = [msgspec.json.decode(line) for line in output.splitlines() if line]
        last = events[-1] if events else {}
        statement = last.get("statement", {}) if last.get("event") == "done" else {}
        assert process.returncode is not None
        took_s = time.monotonic() - began_s
        return Pressed(process.returncode, statement, events, errors.decode(), took_s)

    async def press(self, *arguments: str, **environ: str) -> Pressed:
        return await self.end(await self.begin(*arguments, **environ))

    def course(self, name: str = "") -> list[dict[str, Any]]:
        folder = self.layout.emergency
        return read_course(folder, name or courses(folder)[-1])

    def events(self) -> list[str]:
        """Of the newest course, as far as it is written; empty before there is one."""
        names = courses(self.layout.emergency)
        return [each["event"] for each in self.course(names[-1])] if names else []

    async def close(self) -> None:
        for process in self.pressing:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        for each in OwnProcesses(self.layout).look().values():
            for facts in each.members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(facts.pid, signal.SIGKILL)
        for run in self.runs.values():
            if not run.process.exit.done():
                await asyncio.wait([run.process.exit], timeout=5)
            run.process.close()


def plain_environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")}
    return {**kept, "OPENBELL_ACTOR": "alice"}


@contextlib.asynccontextmanager
async def small_desk(
    folder: Path,
    faces: Sequence[str] = ("mt5",),
    *,
    engines: Sequence[str] = ("engine",),
    rate: float = 50,
    obeys: bool = True,
    more: str = "",
    venue_more: str = "",
) -> AsyncIterator[SmallDesk]:
    """`engines`: an engine, and others that hold the first venue's key; each sends to that venue.
    `more` is added to desk.toml, `venue_more` to each venue."""
    folder.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        houses = {
            f"{face}-{n}": await stack.enter_async_context(house(face))
            for n, face in enumerate(faces)
        }
        (port,) = free_ports(1)
        (folder / "desk.toml").write_text(
            _desk_file(houses, port, engines, rate, obeys, venue_more) + more
        )
        env = folder / ".env"
        env.write_text(f"THE_KEY={KEY}\nTHE_SECRET={SECRET}\n")
        env.chmod(0o600)
        desk = SmallDesk(folder, houses, port)
        desk.layout.make()
        try:
            yield desk
        finally:
            await desk.close()


def _desk_file(
    houses: dict[str, House],
    port: int,
    engines: Sequence[str],
    rate: float,
    obeys: bool,
    venue_more: str,
) -> str:
    text = f'[desk]\nname = "small"\n[controller]\nport = {port}\n'
    for name, here in houses.items():
        options = ", ".join(f'{k} = "{v}"' for k, v in here.kind.options.items())
        text += (
            f'[venues.{name}]\nadapter = "{here.kind.face}"\nurl = "{here.sim.url}"\n'
            f'symbols = {json.dumps(list(here.kind.symbols))}\ntimeout = "3s"\n'
            f'key_env = "THE_KEY"\nsecret_env = "THE_SECRET"\noptions = {{ {options} }}\n'
            f'web = "https://{name}.example/orders"\nphone = "+44 20 0000"\n{venue_more}'
        )
    first = next(iter(houses.values()))
    for number, name in enumerate(engines):
        command = [
            sys.executable, str(ROOT / "tests/kill/stand_in.py"), first.kind.face, first.sim.url,
            "{desk}/state", str(rate),
        ]  # fmt: skip
        if not obeys:
            command.append("ignore-latch")
        text += (
            f"[services.{name}]\ncommand = {json.dumps(command)}\n"
            f'env = {{ PYTHONPATH = "{ROOT}:{ROOT / "src"}" }}\n'
            + ('role = "engine"\n' if number == 0 else f'venues = ["{next(iter(houses))}"]\n')
            + f"port = {free_ports(1)[0]}\n"
            + 'ready = { kind = "log", pattern = "sending" }\n'
        )
    text += '[services.helper]\ncommand = ["sleep", "600"]\n'
    text += '[services.outside]\ncommand = ["sleep", "600"]\nrole = "venue"\n'
    return text


def is_alive(pid: int) -> bool:
    facts = system_processes().facts(pid)
    return facts is not None and facts.alive
