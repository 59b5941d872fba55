"""A controller that died, and what the next one makes of what it left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from dataclasses import replace

import msgspec
import pytest

from openbell.domain.service_state import ServiceState
from openbell.runtime.members import Mark
from openbell.runtime.ports import is_taken
from openbell.runtime.process_watch import PollWatch
from openbell.runtime.processes import system_processes
from openbell.runtime.records import Records


def is_alive(pid: int) -> bool:
    facts = system_processes().facts(pid)
    return facts is not None and facts.alive


def records_of(bench):
    return Records(bench.layout.records)


def only_record(bench):
    (record,), unreadable = records_of(bench).read_all()
    assert unreadable == []
    return record


async def test_services_outlive_a_killed_controller_and_are_adopted(bench, port, another_port):
    """Also one that never stops writing: its log is a file, not a pipe that died with the reader."""
    bench.add("web", "serve", port, port=port, ready={"kind": "http"}, critical=True)
    bench.add("other", "serve", another_port, port=another_port)
    bench.add("chatty", "say", "ready", "chat", ready={"kind": "log", "pattern": "ready"})
    bench.killed_controller()
    before = {record.service: record.pid for record in records_of(bench).read_all()[0]}
    chatted = bench.layout.service_log("chatty").stat().st_size

    supervisor = bench.supervisor()
    report = await supervisor.adopt()

    assert set(report.adopted) == {"web", "other", "chatty"}
    assert report.gone == () and report.orphans == () and report.unreadable == ()
    for view in supervisor.views():
        assert view.state is ServiceState.READY, view
        assert view.adopted and view.pid == before[view.name] and view.restarts == 0
        assert not view.drifted
    assert bench.layout.service_log("chatty").stat().st_size > chatted

    assert (await supervisor.start("web")).ready
    assert supervisor.view("web").pid == before["web"]
    stopped = await supervisor.stop("web", reason="test")
    assert stopped.stopped and not is_alive(before["web"])


async def test_an_adopted_service_that_dies_is_restarted(bench, port, until):
    bench.add("web", "serve", port, port=port, restart={"backoff": "0ms"})
    bench.killed_controller()
    supervisor = bench.supervisor()
    await supervisor.adopt()
    pid = supervisor.view("web").pid

    os.kill(pid, signal.SIGKILL)
    await until(lambda: bench.states("web")[-3:] == ["backoff", "starting", "ready"])

    view = supervisor.view("web")
    assert view.pid != pid and not view.adopted and view.restarts == 1


async def test_a_service_that_died_without_a_controller_is_found_gone(bench, port, until):
    bench.add("web", "serve", port, port=port)
    bench.killed_controller()
    pid = only_record(bench).pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not is_alive(pid))

    supervisor = bench.supervisor()
    report = await supervisor.adopt()

    assert report.adopted == () and report.gone == ("web",)
    assert supervisor.view("web").state is ServiceState.STOPPED
    assert "found gone" in supervisor.view("web").reason
    assert (await supervisor.start("web")).ready


async def test_an_adopted_service_that_does_not_answer_is_degraded_and_left_running(
    bench, port, until
):
    """It may hold orders: it is neither killed nor restarted for not answering."""
    bench.add("web", "serve", port, port=port, ready={"kind": "http", "timeout": "5s"})
    bench.killed_controller()
    (bench.folder / "status").write_text("503")

    supervisor = bench.supervisor()
    await supervisor.adopt()
    await until(lambda: supervisor.view("web").state is ServiceState.DEGRADED)

    pid = supervisor.view("web").pid
    assert is_alive(pid)
    (bench.folder / "status").write_text("200")
    await until(lambda: supervisor.view("web").state is ServiceState.READY)
    assert supervisor.view("web").pid == pid


@pytest.mark.parametrize("words", [("ignore-term", "serve"), ("slow-stop", 60, "serve")])
async def test_a_service_that_was_being_stopped_is_stopped_and_a_start_starts_it_anew(
    bench, port, words
):
    """It listens still and would pass for running, or answers nobody and would be waited for until
    its time to be ready is over, and ever after: whoever began to stop it is dead."""
    bench.add("web", *words, port, port=port, ready={"kind": "http"}, stop={"timeout": "300ms"})
    bench.killed_controller("stopping")
    dying = only_record(bench).pid
    assert is_alive(dying)
    supervisor = bench.supervisor()

    report = await supervisor.adopt()
    assert report.stopping == ("web",) and report.adopted == () and report.orphans == ()
    started = await supervisor.start("web")

    assert started.ready, started
    assert not is_alive(dying)
    view = supervisor.view("web")
    assert view.state is ServiceState.READY and view.pid != dying and not view.adopted
    assert bench.states("web") == ["starting", "stopping", "stopped", "starting", "ready"]
    assert (await supervisor.stop("web", reason="test")).stopped


async def test_a_service_that_answers_nobody_is_told_with_a_time_that_a_probe_had(bench, port):
    """The last probe was cut to what was left of the time to be ready: `within 0.001s`."""
    ready = {"kind": "http", "timeout": "2s"}
    bench.add("web", "listen", port, port=port, ready=ready)
    supervisor = bench.supervisor()
    started = await supervisor.start("web")
    assert not started.ready
    told = re.search(r"no answer on port \d+ within ([\d.]+)s", started.reason)
    assert told is not None, started.reason
    assert float(told[1]) >= 0.25


async def test_a_crash_between_spawn_and_record_is_recovered_by_the_mark(bench, until):
    bench.add("worker", "pid-file", "up", "sleep")
    bench.killed_controller(die_at="spawn")
    assert only_record(bench).phase == "intent"
    await until((bench.folder / "up").exists)

    supervisor = bench.supervisor()
    report = await supervisor.adopt()

    assert report.adopted == ("worker",)
    assert supervisor.view("worker").pid == int((bench.folder / "up").read_text())
    assert only_record(bench).phase == "running"


async def test_a_crash_before_the_spawn_leaves_nothing_to_adopt(bench):
    bench.add("worker", "sleep")
    bench.killed_controller()
    record = only_record(bench)
    os.kill(record.pid, signal.SIGKILL)
    records_of(bench).add(
        msgspec.structs.replace(
            record, phase="intent", pid=0, start=0, mark=f"{record.mark}9", generation=9
        )
    )
    report = await bench.supervisor().adopt()
    assert report.adopted == () and report.gone == ("worker",)


@pytest.fixture
def stranger():
    """A process that has nothing to do with the desk."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("forged", ["pid", "pid and start time", "everything but the boot"])
async def test_a_foreign_process_under_a_recorded_pid_is_never_touched(bench, stranger, forged):
    """32,768 pids wrap in seconds, so a recorded pid may be anybody's by now."""
    bench.add("web", "sleep")
    bench.killed_controller()
    record = only_record(bench)
    if forged != "everything but the boot":
        os.kill(record.pid, signal.SIGKILL)
        record = msgspec.structs.replace(record, pid=stranger.pid)
    if forged == "pid and start time":
        start = system_processes().facts(stranger.pid).start
        record = msgspec.structs.replace(record, start=start)
    if forged == "everything but the boot":
        record = msgspec.structs.replace(record, boot_id="another boot")
    records_of(bench).add(record)

    supervisor = bench.supervisor()
    report = await supervisor.adopt()
    stopped = await supervisor.stop("web", reason="test")

    assert report.adopted == () and report.gone == ("web",)
    assert stopped.stopped
    assert stranger.poll() is None
    assert stranger.pid not in {orphan.pid for orphan in report.orphans}


async def test_a_changed_desk_file_is_reported_and_does_not_bounce_the_service(
    bench, port, another_port
):
    bench.add("web", "serve", port, port=port, stop={"signal": "INT"})
    bench.killed_controller()
    pid = only_record(bench).pid
    bench.add("web", "serve", another_port, port=another_port)

    supervisor = bench.supervisor()
    await supervisor.adopt()

    view = supervisor.view("web")
    assert view.drifted and view.pid == pid and view.state is ServiceState.READY
    assert view.port == port, "probed and shown on the port it was started with"
    stopped = await supervisor.stop("web", reason="test")
    assert stopped.rungs[0].action == "INT", "stopped the way it was started"
    assert (await supervisor.start("web")).ready
    assert supervisor.view("web").port == another_port and not supervisor.view("web").drifted


async def test_a_piece_of_a_line_and_a_file_of_rubbish_do_not_stop_the_adoption(bench):
    bench.add("web", "sleep")
    bench.killed_controller()
    path = bench.layout.records / "web.json"
    path.write_bytes(path.read_bytes() + b'\n{"phase": "running", "serv')
    rubbish = bench.layout.records / "rubbish.json"
    rubbish.write_bytes(b"\x00\x01")

    report = await bench.supervisor().adopt()

    assert report.adopted == ("web",) and report.unreadable == (rubbish,)


async def test_adopting_twice_and_detaching_leave_everything_running(bench, port):
    bench.add("web", "serve", port, port=port)
    first = bench.supervisor()
    await first.adopt()
    await first.start("web")
    pid = first.view("web").pid
    again = await first.adopt()
    assert again.adopted == () and again.gone == () and again.orphans == ()
    await first.detach()
    assert is_alive(pid)
    second = bench.supervisor()
    assert (await second.adopt()).adopted == ("web",)
    assert second.view("web").pid == pid


async def test_a_process_whose_record_is_lost_is_an_orphan_that_can_be_ended(bench):
    bench.add("web", "daemon", "say", "ready", "sleep", ready={"kind": "log", "pattern": "ready"})
    bench.killed_controller()
    pid = only_record(bench).pid
    (bench.layout.records / "web.json").unlink()

    supervisor = bench.supervisor()
    report = await supervisor.adopt()

    assert {orphan.pid for orphan in report.orphans} == {pid, bench.child_pid()}
    assert all(o.ours and o.found_by == "marker" and o.service == "web" for o in report.orphans)
    leader = next(orphan for orphan in report.orphans if orphan.pid == pid)
    assert "service.py" in leader.command
    assert not await supervisor.end_orphan(replace(leader, start=leader.start + 1))
    assert is_alive(pid)
    bench_stop = asyncio.create_task(supervisor.end_orphan(leader))
    os.kill(bench.child_pid(), signal.SIGKILL)  # it ignores SIGTERM; the ladder would wait for it
    assert await bench_stop
    assert not is_alive(pid)


async def test_a_service_that_left_the_desk_file_is_an_orphan_by_its_record(bench):
    bench.add("old", "sleep")
    bench.add("new", "sleep")
    bench.killed_controller()
    pid = next(r.pid for r in records_of(bench).read_all()[0] if r.service == "old")
    del bench.services["old"]
    supervisor = bench.supervisor()
    report = await supervisor.adopt()
    assert report.adopted == ("new",)
    assert [(o.service, o.pid, o.found_by) for o in report.orphans] == [("old", pid, "record")]
    assert await supervisor.end_orphan(report.orphans[0])
    assert not is_alive(pid)


async def test_a_foreign_holder_of_a_port_is_named_and_not_ended(bench, port, python, until):
    bench.add("web", "serve", port, port=port)
    holder = subprocess.Popen(
        [python, "-S", "-E", "-m", "http.server", "--bind", "127.0.0.1", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await until(lambda: is_taken(port))
        supervisor = bench.supervisor()
        (orphan,) = (await supervisor.adopt()).orphans
        assert orphan.pid == holder.pid and orphan.found_by == "port" and not orphan.ours
        assert "http.server" in orphan.command
        assert not await supervisor.end_orphan(orphan)
        # Not even when it is asked to believe that it is ours.
        assert not await supervisor.end_orphan(replace(orphan, ours=True))
        assert holder.poll() is None
    finally:
        holder.kill()
        holder.wait()


async def test_two_desks_do_not_meet(bench, tmp_path_factory, port):
    bench.add("web", "serve", port, port=port)
    supervisor = bench.supervisor()
    await supervisor.start("web")
    stranger = type(bench)(
        tmp_path_factory.mktemp("another"), replace(bench.layout, state=bench.folder / "state2")
    )
    stranger.add("web", "sleep")
    other = stranger.supervisor()
    report = await other.adopt()
    assert report.orphans == ()
    await other.detach()


async def test_adoption_works_without_pidfds(bench, port):
    from openbell.runtime.host import Host

    bench.add("web", "serve", port, port=port)
    bench.killed_controller()
    table = system_processes()
    host = Host.of(bench.layout, bench.events.append, table=table, watch=PollWatch(table))
    supervisor = bench.supervisor(host=host)
    assert (await supervisor.adopt()).adopted == ("web",)
    pid = supervisor.view("web").pid
    stopped = await supervisor.stop("web", reason="test")
    assert stopped.stopped and not is_alive(pid)
    assert (await supervisor.start("web")).ready
    assert (await supervisor.stop("web", reason="test")).exit_status == -signal.SIGTERM


def test_a_mark_survives_being_written_and_read():
    mark = Mark("0a1b2c3d", "market-data", 17)
    assert Mark.parse(str(mark)) == mark
    for text in (None, "", "x", "a:b", "a:b:c", ":b:1", "a::1"):
        assert Mark.parse(text) is None
