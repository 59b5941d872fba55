"""The native runtime against its bounds: 100 trivial services, started, stopped, killed, adopted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.fixtures.supervising import supervisor_of
from bench.measurement import Measurement
from openbell.domain.service_state import ServiceState
from openbell.runtime.processes import system_processes
from openbell.runtime.supervisor import Supervisor

SERVICES = 100
CHATTY = 10
_FIXTURES = Path(__file__).with_name("fixtures")
_IDLE_S = 10.0
_ROUNDS = 5


@dataclass(frozen=True)
class Ground:
    """A scratch folder, the tiny service and free ports."""

    folder: Path
    command: list[str]
    ports: list[int]
    language: str

    def fresh(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder


def run() -> list[Measurement]:
    """Every measurement of the native runtime; takes about a minute."""
    with _ground() as ground:
        return [
            *asyncio.run(_start_and_stop(ground)),
            asyncio.run(_recovery(ground)),
            _idle(ground, probe_every="", bound=0.2),
            _idle(ground, probe_every="1s", bound=15.0),
            *_adoption(ground),
        ]


# ---------------------------------------------------------------------- start and stop


async def _start_and_stop(ground: Ground) -> list[Measurement]:
    """Bare and supervised in turn, so that a slow moment of the machine hits both."""
    bare, supervised, stops = [], [], []
    for number in range(_ROUNDS):
        gc.collect()
        bare.append(await _bare_start(ground, ground.fresh(f"bare{number}")))
        gc.collect()
        started, stopped = await _supervised_round(ground, ground.fresh(f"supervised{number}"))
        supervised.append(started)
        stops.append(stopped)
    ratio = statistics.median(ours / floor for ours, floor in zip(supervised, bare, strict=True))
    shape = f"median of {_ROUNDS} rounds, trivial services in {ground.language}"
    return [
        Measurement(
            "start of 100 services to all ready, against a bare loop",
            ratio,
            "x",
            1.5,
            method=f"asyncio + subprocess.Popen + pidfd + HTTP probe without records, logs to a "
            f"file, or identity checks: {statistics.median(bare) * 1000:.0f} ms; {shape}, in turn",
        ),
        Measurement(
            "start of 100 services to all ready, identity verified",
            statistics.median(supervised) * 1000,
            "ms",
            method=shape,
        ),
        Measurement(
            "stop of 100 services, all groups empty",
            statistics.median(stops) * 1000,
            "ms",
            50.0,
            method=f"{shape}; includes the scans that show that no process of theirs is left",
        ),
    ]


async def _supervised_round(ground: Ground, folder: Path) -> tuple[float, float]:
    supervisor = supervisor_of(folder, ground.ports, 0, "", ground.command)
    try:
        await supervisor.adopt()
        names = [view.name for view in supervisor.views()]
        began = time.perf_counter()
        results = await asyncio.gather(*(supervisor.start(name) for name in names))
        started = time.perf_counter() - began
        _require(all(result.ready for result in results), f"not all ready: {results}")
        began = time.perf_counter()
        stops = await asyncio.gather(*(supervisor.stop(name, reason="bench") for name in names))
        stopped = time.perf_counter() - began
        _require(all(stop.stopped for stop in stops), f"not all stopped: {stops}")
        return started, stopped
    finally:
        await _end(supervisor)


async def _bare_start(ground: Ground, folder: Path) -> float:
    """The floor: spawn, watch, and probe until 200, with the probe rhythm of the runtime."""
    loop = asyncio.get_running_loop()
    children: list[tuple[subprocess.Popen[bytes], int]] = []

    async def bring_up(port: int) -> None:
        with (folder / f"{port}.log").open("ab") as log:
            child = subprocess.Popen(
                [*ground.command, str(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        watch = os.pidfd_open(child.pid)
        loop.add_reader(watch, lambda: None)
        children.append((child, watch))
        pause = 0.002
        while True:
            await asyncio.sleep(pause)
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                line = await reader.readline()
                writer.close()
                if b" 200 " in line:
                    return
            pause = min(pause * 1.5, 0.05)

    began = time.perf_counter()
    await asyncio.gather(*(bring_up(port) for port in ground.ports))
    took = time.perf_counter() - began
    for child, watch in children:
        loop.remove_reader(watch)
        os.close(watch)
        child.kill()
    for child, _ in children:
        child.wait()
    return took


# ---------------------------------------------------------------------- recovery


async def _recovery(ground: Ground) -> Measurement:
    ready = asyncio.Event()
    supervisor = supervisor_of(
        ground.fresh("recovery"),
        ground.ports[:1],
        0,
        "",
        ground.command,
        lambda event: ready.set() if event.state is ServiceState.READY else None,
    )
    took = []
    try:
        await supervisor.start("s0")
        for _ in range(20):
            # The sweep for what left the session follows each restart and is not part of the next.
            await asyncio.sleep(0.05)
            pid = supervisor.view("s0").pid
            assert pid is not None
            ready.clear()
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            await ready.wait()
            took.append(time.perf_counter() - began)
            _require(supervisor.view("s0").pid != pid, "the killed process is still there")
    finally:
        await _end(supervisor)
    return Measurement(
        "kill -9 of a service to healthy again, back-off 0",
        statistics.median(took) * 1000,
        "ms",
        10.0,
        method=f"median of {len(took)} kills, worst {max(took) * 1000:.1f} ms; healthy: HTTP 200 "
        "from the new process, identity verified",
    )


# ---------------------------------------------------------------------- idle


def _idle(ground: Ground, *, probe_every: str, bound: float) -> Measurement:
    name = f"idle{probe_every or 'quiet'}"
    with _supervising(ground, ground.fresh(name), probe_every=probe_every) as process:
        _answer(process)
        time.sleep(1)  # the last start's work is over
        before = _cpu_ns(process.pid)
        began = time.perf_counter()
        time.sleep(_IDLE_S)
        share = (_cpu_ns(process.pid) - before) / 1e9 / (time.perf_counter() - began) * 100
        memory = psutil.Process(process.pid).memory_info().rss / 1e6
    what = f"a probe every {probe_every} each" if probe_every else "no probes"
    return Measurement(
        f"supervisor with 100 idle services, {what}",
        share,
        "% of a core",
        bound,
        method=f"CPU time of the supervising process over {_IDLE_S:g} s; {memory:.0f} MB resident",
    )


# ---------------------------------------------------------------------- adoption


def _adoption(ground: Ground) -> list[Measurement]:
    """A supervisor in a process of its own is really killed, and started again."""
    took, inside = [], []
    folder = ground.fresh("adoption")
    with _supervising(ground, folder, chatty=CHATTY, leave=True) as process:
        pids = _answer(process)["pids"]
        process.kill()
    adopted = 0
    for number in range(_ROUNDS):
        began = time.perf_counter()
        with _supervising(ground, folder, chatty=CHATTY, leave=number < _ROUNDS - 1) as process:
            answer = _answer(process)
            took.append(time.perf_counter() - began)
            inside.append(float(answer["adoption_s"]))
            adopted = int(answer["adopted"])
            _require(
                answer["pids"] == pids and answer["restarts"] == 0 and answer["ready"] == SERVICES,
                f"not all re-adopted as they were: {answer}",
            )
            process.kill()
    return [
        Measurement(
            "controller kill -9, started again: all re-adopted and re-probed",
            statistics.median(took) * 1000,
            "ms",
            300.0,
            method=f"from exec of Python to the answer, median of {_ROUNDS}; of it "
            f"{statistics.median(inside) * 1000:.0f} ms adoption; {CHATTY} of the services write "
            "a line every millisecond and exit if they cannot; the same pids, no restart",
        ),
        Measurement(
            "services re-adopted", adopted, "services", SERVICES, at_most=False, method="as above"
        ),
    ]


# ---------------------------------------------------------------------- tools


@contextlib.contextmanager
def _ground() -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="openbell-bench-") as name:
        folder = Path(name)
        compiler = shutil.which("cc")
        if compiler is not None:
            binary = folder / "tiny_http"
            subprocess.run(
                [compiler, "-O2", "-o", str(binary), str(_FIXTURES / "tiny_http.c")], check=True
            )
            command, language = [str(binary)], "C"
        else:
            command = [sys.executable, "-S", "-E", str(_FIXTURES / "tiny_http.py")]
            language = "Python (no C compiler here)"
        yield Ground(folder, command, _free_ports(SERVICES), language)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]


@contextlib.contextmanager
def _supervising(
    ground: Ground,
    folder: Path,
    *,
    chatty: int = 0,
    probe_every: str = "",
    leave: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """A supervising process; with `leave` its services stay when it goes."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bench.fixtures.supervising",
            str(folder),
            json.dumps(ground.ports),
            str(chatty),
            probe_every,
            *ground.command,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    try:
        yield process
    except BaseException:
        leave = False
        raise
    finally:
        process.kill()
        process.communicate()
        if not leave:
            asyncio.run(_end(supervisor_of(folder, ground.ports, chatty, "", ground.command)))


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    _require(bool(line), "the supervising process ended without an answer")
    answer: dict[str, Any] = json.loads(line)
    return answer


async def _end(supervisor: Supervisor) -> None:
    """Ends whatever of this desk still runs."""
    await supervisor.adopt()
    for view in supervisor.views():
        await supervisor.stop(view.name, reason="bench is over")
    await supervisor.detach()


def _cpu_ns(pid: int) -> int:
    schedstat = Path(f"/proc/{pid}/schedstat")
    if schedstat.exists():  # nanoseconds, where the usual counters know ticks of 10 ms
        return int(schedstat.read_text().split()[0])
    facts = system_processes().facts(pid)
    assert facts is not None
    return round(facts.cpu_s * 1e9)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
