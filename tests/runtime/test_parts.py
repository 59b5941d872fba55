"""The parts of the runtime by themselves: watches, ports, logs, limits, scans."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.harness.cgroups import delegated_cgroup

from openbell.config.services import Limits
from openbell.errors import StorageError
from openbell.runtime import ports as ports_module
from openbell.runtime.limits import ServiceCgroup, support
from openbell.runtime.logs import NewLines, open_for_append, rotate, tail
from openbell.runtime.ports import PortHolder, holder_of, is_taken, listener_among, listener_inodes
from openbell.runtime.process_watch import PidfdWatch, PollWatch, choose_watch
from openbell.runtime.processes import (
    LinuxProcesses,
    PsutilProcesses,
    system_processes,
)
from openbell.runtime.records import Records
from openbell.runtime.run import describe_exit

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
WATCHES = [pytest.param(PidfdWatch, marks=needs_linux), PollWatch]


# ---------------------------------------------------------------------- watching


@pytest.fixture(params=WATCHES)
def watch(request):
    return request.param(system_processes())


@pytest.mark.parametrize(("words", "status"), [("exit 5", 5), ("kill -USR1 $$", -signal.SIGUSR1)])
async def test_the_exit_status_of_a_child_is_known(watch, words, status):
    child = subprocess.Popen(["sh", "-c", words], start_new_session=True)
    process = watch.child(child.pid)
    assert await asyncio.wait_for(process.exit, 60) == status
    assert not process.signal(0)
    process.close()
    process.close()
    child.returncode = 0


@pytest.fixture
def grandchild(tmp_path: Path):
    """A process that is not a child of this one: pid, and the file that makes it exit with 9."""
    words = (
        "import os,sys,time\nif os.fork(): sys.exit()\nos.setsid()\n"
        f"open({str(tmp_path / 'pid')!r},'w').write(str(os.getpid())+chr(10))\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-S", "-E", "-c", words], check=True)
    deadline = time.monotonic() + 20
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    pid = int((tmp_path / "pid").read_text())
    yield pid, tmp_path / "go"
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def test_a_process_of_another_parent_is_watched(watch, grandchild):
    """Its status is known where the kernel tells (PIDFD_GET_INFO, Linux 6.15) and None elsewhere:
    never a guess."""
    pid, go = grandchild
    process = watch.other(pid)
    assert process.start == system_processes().facts(pid).start
    assert process.signal(0)
    go.touch()
    assert await asyncio.wait_for(process.exit, 60) in (9, None)
    assert not process.signal(signal.SIGTERM)
    process.close()


async def test_a_pid_that_nobody_has_is_not_watched(watch):
    child = subprocess.Popen(["true"])
    child.wait()
    assert watch.other(child.pid) is None


async def test_a_group_is_signalled_also_after_its_leader_ended(watch):
    child = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo $!"], start_new_session=True, stdout=subprocess.PIPE
    )
    process = watch.child(child.pid)
    member = int(child.stdout.readline())
    await asyncio.wait_for(process.exit, 60)
    assert process.signal_group(0)
    assert process.signal_group(signal.SIGKILL)
    async with asyncio.timeout(60):
        while (facts := system_processes().facts(member)) is not None and facts.alive:
            await asyncio.sleep(0.005)
    process.close()
    child.stdout.close()


@needs_linux
async def test_a_group_is_not_signalled_by_number_once_another_has_the_leaders_pid():
    """The fallback for kernels that cannot signal a group through a pidfd."""
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    process = PollWatch(system_processes()).other(stranger.pid)
    process._start -= 1  # as if it had been watched when another process had the pid
    assert not process.signal_group(signal.SIGKILL)
    assert not process.signal(signal.SIGKILL)
    assert stranger.poll() is None
    process.close()
    stranger.kill()
    stranger.wait()


def test_the_chosen_watch_uses_pidfds_where_there_are_some():
    expected = PidfdWatch if hasattr(os, "pidfd_open") else PollWatch
    assert isinstance(choose_watch(system_processes()), expected)


# ---------------------------------------------------------------------- facts


@needs_linux
def test_psutil_and_proc_tell_the_same():
    ours, theirs = LinuxProcesses().facts(os.getpid()), PsutilProcesses().facts(os.getpid())
    for name in ("pid", "parent", "group", "session", "alive", "frozen"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert LinuxProcesses().command(os.getpid()) == PsutilProcesses().command(os.getpid())
    assert abs(ours.memory_bytes - theirs.memory_bytes) < 32 << 20


@pytest.mark.parametrize(
    "table", [pytest.param(LinuxProcesses, marks=needs_linux), PsutilProcesses]
)
def test_a_zombie_is_not_alive_and_nobody_is_nobody(table):
    child = subprocess.Popen(["sleep", "600"], env={"OPENBELL_MARK": "a:b:1", "X": "OPENBELL"})
    processes = table()
    facts = processes.facts(child.pid)
    deadline = time.monotonic() + 20
    while processes.mark(child.pid) != "a:b:1":  # until it has executed its program
        assert time.monotonic() < deadline
    assert facts.alive and not facts.frozen and facts.parent == os.getpid()
    assert any(each.pid == child.pid for each in processes.everything())
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    after = processes.facts(child.pid)
    assert after is None or not after.alive
    child.wait()
    assert processes.facts(child.pid) is None
    assert processes.mark(child.pid) is None
    assert processes.command(child.pid) is None


# ---------------------------------------------------------------------- ports


@pytest.fixture(params=["kernel", "proc", "psutil"])
def way(request, monkeypatch):
    """Each way to find a listener: sock_diag, /proc/net/tcp, psutil."""
    if request.param != "psutil" and sys.platform != "linux":
        pytest.skip("needs Linux")
    if request.param == "proc":

        def closed(*_):
            raise ports_module.ListenersUnreadableError(1, "closed off")

        monkeypatch.setattr(ports_module, "_ask_kernel", closed)
    if request.param == "psutil":
        monkeypatch.setattr(ports_module, "_HAS_PROC_NET", False)
    return request.param


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_listener_is_found_by_its_port(way, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip(f"{host} is not available")
        listener.listen()
        port = listener.getsockname()[1]
        holder = holder_of(port)
        assert holder is not None and holder.pid == os.getpid()
        assert str(holder) == f"{holder.name} (pid {os.getpid()})"
        assert is_taken(port)
        probed = "::1" if host == "::1" else "127.0.0.1"
        assert listener_among(port, probed, (os.getpid(),)) == os.getpid()
        assert listener_among(port, probed, (os.getppid(),)) is None
    assert holder_of(port) is None and not is_taken(port)


@needs_linux
def test_a_connection_is_not_a_listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as connection:
            assert listener_inodes(connection.getsockname()[1]) == set()


def test_a_holder_that_cannot_be_read_is_still_a_holder():
    assert str(PortHolder(80, None, None, None)) == "a process of another user"


# ---------------------------------------------------------------------- logs


def test_a_tail_holds_only_what_was_written_since(tmp_path):
    log = tmp_path / "a.log"
    assert tail(log, 20) == ()
    log.write_text("old\n" * 50)
    offset = log.stat().st_size
    assert tail(log, 20, offset) == ()
    with log.open("a") as file:
        file.write("".join(f"line {number}\n" for number in range(30)))
    assert tail(log, 20, offset) == tuple(f"line {number}" for number in range(10, 30))
    log.write_text("after the cut\n")
    assert tail(log, 20, offset) == ("after the cut",)


def test_new_lines_come_once_whole_and_across_a_cut(tmp_path):
    log = tmp_path / "a.log"
    lines = NewLines(log, 0)
    assert list(lines.read()) == []
    log.write_text("one\ntw")
    assert list(lines.read()) == ["one"]
    with log.open("a") as file:
        file.write("o\nthree\n")
    assert list(lines.read()) == ["two", "three"]
    log.write_text("new\n")
    assert list(lines.read()) == ["new"]


def test_rotation_keeps_so_many_copies_and_the_writer_goes_on(tmp_path):
    log = tmp_path / "a.log"
    writer = open_for_append(log)
    for number in range(4):
        os.write(writer, f"part {number}\n".encode())
        rotate(log, keep=2, rotate_at=1 << 20)
    os.write(writer, b"part 4\n")
    os.close(writer)
    assert log.read_text() == "part 4\n"
    assert (tmp_path / "a.log.1").read_text() == "part 3\n"
    assert (tmp_path / "a.log.2").read_text() == "part 2\n"
    assert not (tmp_path / "a.log.3").exists()
    assert log.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a.log.1").stat().st_mode & 0o777 == 0o600


def test_a_copy_of_a_flooded_log_holds_its_end_and_says_what_it_leaves_out(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number:04}\n" for number in range(1000)))
    rotate(log, keep=1, rotate_at=100)
    first, *lines = (tmp_path / "a.log.1").read_text().splitlines()
    assert lines[-1] == "line 0999" and 0 < len(lines) <= 20
    assert first.startswith(f"[openbell: {10 * (1000 - len(lines))} bytes were left out")
    assert log.stat().st_size == 0


async def test_a_service_that_floods_its_log_is_rotated_and_neither_blocks_nor_fills_the_disk(
    bench, until
):
    from openbell.config.models import Logs

    bench.logs = Logs.model_validate({"rotate_at": "1M", "keep": 2})
    bench.add("flood", "flood")
    supervisor = bench.supervisor()
    await supervisor.start("flood")
    log = bench.layout.service_log("flood")
    copy = log.with_name("flood.log.2")
    await until(lambda: copy.exists())
    said = copy.read_text(errors="replace")
    assert len(said) < 6 << 20 and "flood flood" in said
    assert supervisor.view("flood").state == "ready"
    assert supervisor.view("flood").cpu_percent > 0
    await supervisor.stop("flood", reason="test")
    assert not log.with_name("flood.log.3").exists()


# ---------------------------------------------------------------------- records


def test_a_record_that_cannot_be_written_is_a_storage_error(tmp_path, bench):
    from openbell.runtime.records import Record

    record = Record(
        phase="intent",
        service="web",
        boot_id="b",
        generation=1,
        mark="a:web:1",
        digest="d",
        started_ns=0,
        started_monotonic_s=0.0,
        log_offset=0,
        settings={},
    )
    with pytest.raises(StorageError):
        Records(tmp_path / "nowhere").add(record)


async def test_without_a_record_nothing_is_spawned(bench, monkeypatch):
    bench.add("web", "pid-file", "up", "sleep")
    supervisor = bench.supervisor()

    def full(*_):
        raise StorageError("no space left on device")

    monkeypatch.setattr(Records, "add", full)
    result = await supervisor.start("web")
    assert not result.ready and "no space left" in result.reason
    monkeypatch.undo()
    assert not (bench.folder / "up").exists()
    assert supervisor.view("web").state == "failed"


# ---------------------------------------------------------------------- limits


def test_support_says_what_is_enforced_and_why_not():
    found = support({})
    assert found.memory in ("cgroup", "per process", "none")
    if found.cpu == "none" or found.memory != "cgroup":
        assert found.why_not
    assert "not a writable cgroup" in support({"OPENBELL_CGROUP": "/nowhere"}).why_not


@pytest.mark.skipif(
    support().memory != "per process", reason="here memory is not limited per process"
)
async def test_memory_is_limited_per_process_without_a_cgroup(bench, until):
    bench.add("hungry", "sleep", limits={"memory": "64M"})
    supervisor = bench.supervisor()
    await supervisor.start("hungry")
    process = psutil.Process(supervisor.view("hungry").pid)
    assert process.rlimit(psutil.RLIMIT_DATA) == (64 << 20, 64 << 20)


def test_a_cgroups_limits_are_written_as_the_kernel_wants_them(tmp_path):
    folder = tmp_path / "openbell-0a1b2c3d-web"
    folder.mkdir()
    for name in ("memory.max", "cpu.max", "cgroup.kill"):
        (folder / name).touch()
    cgroup = ServiceCgroup.make(
        tmp_path, "0a1b2c3d", "web", Limits.model_validate({"cpu": "50%", "memory": "2G"})
    )
    assert (folder / "memory.max").read_text() == str(2 << 30)
    assert (folder / "cpu.max").read_text() == "50000 100000"
    assert cgroup.kill() and (folder / "cgroup.kill").read_text() == "1"
    ServiceCgroup.make(tmp_path, "0a1b2c3d", "web", Limits())
    assert (folder / "memory.max").read_text() == "max"


async def test_a_cgroup_that_was_left_frozen_takes_a_new_run_once_it_is_empty(
    bench, own_cgroup, until
):
    bench.add(
        "web",
        "say",
        "ready",
        "sleep",
        ready={"kind": "log", "pattern": "ready"},
        stop={"timeout": "100ms"},
    )
    supervisor = bench.supervisor()
    await supervisor.start("web")
    (folder,) = (each for each in own_cgroup.iterdir() if each.name.endswith("-web"))
    (folder / "cgroup.freeze").write_text("1")
    await until(lambda: "frozen 1" in (folder / "cgroup.events").read_text())
    with pytest.raises(OSError, match="frozen by an emergency stop"):
        ServiceCgroup.make(own_cgroup, folder.name.split("-")[1], "web", Limits())
    assert (await supervisor.stop("web", reason="test")).stopped

    folder.mkdir()
    (folder / "cgroup.freeze").write_text("1")
    assert (await supervisor.start("web")).ready
    assert (await supervisor.stop("web", reason="test")).stopped


@pytest.fixture
def own_cgroup(monkeypatch):
    with delegated_cgroup(monkeypatch) as folder:
        yield folder


async def test_a_service_lives_and_ends_in_its_cgroup(bench, own_cgroup):
    bench.add(
        "parent",
        "daemon",
        "say",
        "ready",
        "sleep",
        ready={"kind": "log", "pattern": "ready"},
        stop={"timeout": "100ms"},
    )
    bench.add("lost", command=("no-such-program-anywhere",))
    supervisor = bench.supervisor()
    assert (await supervisor.start("parent")).ready
    (folder,) = (each for each in own_cgroup.iterdir() if each.name.endswith("-parent"))
    pids = {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
    assert pids == {supervisor.view("parent").pid, bench.child_pid()}
    stopped = await supervisor.stop("parent", reason="test")
    assert stopped.stopped and stopped.rungs[-1].action == "KILL cgroup and group"
    assert not folder.exists()
    assert "no program" in (await supervisor.start("lost")).reason


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with status 0"),
        (-9, "killed by SIGKILL"),
        (None, "exited (status unknown)"),
        (-200, "killed by signal 200"),
    ],
)
def test_an_exit_is_described_in_words(status, words):
    assert describe_exit(status) == words
