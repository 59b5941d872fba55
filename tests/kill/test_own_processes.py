"""Whose processes are the desk's, where the environment does not tell."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.ports import free_ports
from tests.kill.small_desk import ROOT

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.errors import StorageError
from openbell.kill import holding, own_processes
from openbell.kill.ending import kill_frozen
from openbell.kill.freezing import freeze
from openbell.kill.holding import Holding
from openbell.kill.own_processes import OwnProcesses
from openbell.kill.request import EmergencyRequest
from openbell.runtime.host import Host
from openbell.runtime.plan import build_specs
from openbell.runtime.processes import LinuxProcesses, system_processes
from openbell.runtime.run import Run, find_recorded, spawn_run

linux = pytest.mark.skipif(sys.platform != "linux", reason="it is about /proc")
WIPES = """
import ctypes, sys, time
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
first = ctypes.cast(environ, ctypes.POINTER(ctypes.c_void_p))[0]
ctypes.memset(first, 0, sum(len(v) + 1 for v in open("/proc/self/environ", "rb").read().split(b"\\0")[:-1]))
open(sys.argv[1], "w").close()
time.sleep(600)
"""
PR_SET_DUMPABLE = 4


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[tuple[DeskLayout, Run]]:
    """An engine that has written over its own environment, as programs do that set their title."""
    (tmp_path / "engine.py").write_text(WIPES)
    (tmp_path / "desk.toml").write_text(
        '[desk]\nname = "small"\n[services.engine]\nrole = "engine"\n'
        'command = ["{python}", "{desk}/engine.py", "{desk}/wiped"]\n'
        f"port = {free_ports(1)[0]}\n"
    )
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    specs = build_specs(load_desk(tmp_path), layout, {**os.environ, "PYTHONPATH": str(ROOT)}, {})
    run = spawn_run(Host.of(layout, lambda _: None), specs["engine"], time.time_ns(), 0, ())
    try:
        deadline_s = time.monotonic() + 60
        while not (tmp_path / "wiped").exists():
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.01)
        run.settle()
        yield layout, run
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.process.pid, signal.SIGKILL)
        await asyncio.wait([run.process.exit], timeout=60)
        run.process.close()


@linux
async def test_an_engine_whose_mark_cannot_be_read_is_frozen_and_killed(
    desk: tuple[DeskLayout, Run],
) -> None:
    """It was told as not running, so that the venues were verified while it sent on."""
    layout, run = desk
    pid = run.process.pid
    assert system_processes().mark(pid) is None
    own = OwnProcesses(layout)
    (frozen,) = freeze(own, 30.0)
    assert (frozen.service, frozen.result, frozen.pids) == ("engine", "frozen", (pid,))
    facts = system_processes().facts(pid)
    assert facts is not None and facts.frozen
    (ended,) = await kill_frozen(own, ["engine"])
    assert (ended.result, ended.pids) == ("killed", (pid,))


@linux
@pytest.mark.parametrize(
    ("latched", "records_come", "is_quiet"),
    [(True, False, True), (False, False, False), (False, True, True)],
)
async def test_one_whose_record_cannot_be_read_either_is_never_told_as_not_running(
    desk: tuple[DeskLayout, Run],
    monkeypatch: pytest.MonkeyPatch,
    latched: bool,
    records_come: bool,
    is_quiet: bool,
) -> None:
    """It was, and its venues verified, while it sent on: without a latch even."""
    layout, run = desk
    answers = threading.Event()
    read_all = own_processes.Records.read_all

    def slow(records: own_processes.Records) -> object:
        answers.wait(60)
        return read_all(records)

    def fails(*_: object) -> None:
        raise StorageError("no space")

    monkeypatch.setattr(own_processes.Records, "read_all", slow)
    monkeypatch.setattr(own_processes, "DISK_S", 0.05)
    monkeypatch.setattr(holding, "REGISTERS_S", 60.0 if records_come else 0.05)
    if not latched:
        monkeypatch.setattr(holding.Latches, "set", fails)
    problems: list[str] = []
    held = Holding(layout, EmergencyRequest(), OwnProcesses(layout), problems)
    try:
        await held.begin()
        await held.settled()
        assert held.frozen == () and not (held.quiet.is_set() and not latched)
        if records_come:
            answers.set()
        async with asyncio.timeout(60):
            while not (held.quiet.is_set() or any("from sending" in each for each in problems)):
                await asyncio.sleep(0.01)
        assert held.quiet.is_set() == is_quiet
        if records_come:
            assert [(each.result, each.pids) for each in held.frozen] == [
                ("frozen", (run.process.pid,))
            ]
        else:
            assert any("shows no mark" in each for each in problems)
    finally:
        answers.set()
        held.close()


@linux
async def test_another_process_under_a_recorded_pid_is_not_the_desks(
    desk: tuple[DeskLayout, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, run = desk
    monkeypatch.setattr(
        "openbell.kill.own_processes.Records.read_all",
        lambda _: ([_with(run.record, start=run.record.start + 1)], []),
    )
    assert OwnProcesses(layout).look() == {}


@linux
async def test_an_engine_that_may_not_be_read_is_adopted_and_not_started_a_second_time(
    desk: tuple[DeskLayout, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, run = desk
    host = Host.of(layout, lambda _: None)
    assert find_recorded(host, run.record, run.process.pid) is None, "it may be read, and has none"
    monkeypatch.setattr(host.table, "hides_mark", lambda _: True)
    found = find_recorded(host, run.record, run.process.pid)
    assert found is not None
    found.process.close()
    assert find_recorded(host, _with(run.record, start=1), run.process.pid) is None


@linux
def test_a_process_that_made_itself_undumpable_hides_its_mark_from_an_ordinary_user() -> None:
    """Of two processes of an ordinary user; root may read all."""
    table = LinuxProcesses()
    ready, told = os.pipe()
    hidden = os.fork()
    if hidden == 0:
        if os.getuid() == 0:
            os.setuid(65534)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        os.write(told, b"x")
        signal.pause()
        os._exit(1)
    try:
        assert os.read(ready, 1) == b"x"
        looking = os.fork()
        if looking == 0:
            if os.getuid() == 0:
                os.setuid(65534)
            os._exit(10 + table.hides_mark(hidden) + 2 * (table.mark(hidden) is not None))
        assert os.waitstatus_to_exitcode(os.waitpid(looking, 0)[1]) == 11
    finally:
        os.kill(hidden, signal.SIGKILL)
        os.waitpid(hidden, 0)
        os.close(ready)
        os.close(told)
    assert not table.hides_mark(os.getpid())
    assert not table.hides_mark(hidden), "it has ended"


def _with(record: object, **changes: object) -> object:
    import msgspec

    return msgspec.structs.replace(record, **changes)  # type: ignore[type-var]
