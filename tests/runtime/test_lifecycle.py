"""Starting, stopping and restarting real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import sys

import psutil
import pytest
from tests.harness.ports import free_port

from openbell.domain.service_state import ServiceState
from openbell.errors import RefusedError, StorageError, UsageError
from openbell.runtime.prober import STAYED_UP_S
from openbell.runtime.processes import system_processes
from openbell.runtime.records import Records

SPOKEN = "2s"
"""A time-out after which an interpreter has started and said its first word, on a busy machine too."""


def is_alive(pid: int) -> bool:
    facts = system_processes().facts(pid)
    return facts is not None and facts.alive


async def test_a_service_is_started_probed_and_stopped(bench, port):
    bench.add("web", "serve", port, port=port, ready={"kind": "http", "path": "/ready"})
    supervisor = bench.supervisor()
    await supervisor.adopt()

    started = await supervisor.start("web")
    view = supervisor.view("web")

    assert started.ready, started
    assert view.state is ServiceState.READY
    assert view.port == port and view.pid is not None and view.response_ms is not None
    assert view.memory_bytes and view.cpu_percent is not None
    assert os.getsid(view.pid) == view.pid

    stopped = await supervisor.stop("web", reason="test")

    assert stopped.stopped and stopped.exit_status == -signal.SIGTERM
    assert [rung.action for rung in stopped.rungs] == ["TERM"]
    assert not is_alive(view.pid)
    assert bench.states("web") == ["starting", "ready", "stopping", "stopped"]
    assert Records(bench.layout.records).read_all() == ([], [])


async def test_a_service_without_a_probe_is_ready_once_it_stayed_up(bench):
    """One that ended at once was ready for milliseconds, or had failed to start, as it came."""
    bench.add("flaky", "exit", 1, restart={"policy": "never"})
    bench.add("again", "exit", 1, restart={"policy": "always", "backoff": "5m"})
    bench.add("steady", "sleep")
    supervisor = bench.supervisor()
    flaky, again, steady = await asyncio.gather(
        *(supervisor.start(name) for name in ("flaky", "again", "steady"))
    )
    for started in (flaky, again):
        assert not started.ready and "exited with status 1" in started.reason
    assert bench.states("flaky") == ["starting", "failed"]
    assert bench.states("again") == ["starting", "backoff"]
    assert steady.ready and steady.seconds >= STAYED_UP_S
    assert bench.states("steady") == ["starting", "ready"]


async def test_starting_twice_and_stopping_twice_is_harmless(bench, port):
    bench.add("web", "serve", port, port=port)
    supervisor = bench.supervisor()

    first, second = await asyncio.gather(supervisor.start("web"), supervisor.start("web"))
    pid = supervisor.view("web").pid
    third = await supervisor.start("web")

    assert first.ready and second.ready and third.ready
    assert supervisor.view("web").pid == pid
    one, two = await asyncio.gather(
        supervisor.stop("web", reason="a"), supervisor.stop("web", reason="b")
    )
    again = await supervisor.stop("web", reason="c")
    assert one.stopped and two.stopped and again.stopped and again.rungs == ()
    assert bench.states("web").count("starting") == 1


async def test_a_service_that_ignores_sigterm_is_killed(bench, until):
    bench.add(
        "deaf",
        "ignore-term",
        "say",
        "ready",
        "sleep",
        ready={"kind": "log", "pattern": "^ready$"},
        stop={"timeout": "200ms"},
    )
    supervisor = bench.supervisor()
    assert (await supervisor.start("deaf")).ready

    stopped = await supervisor.stop("deaf", reason="test")

    assert stopped.stopped and stopped.exit_status == -signal.SIGKILL
    first, *looked, last = stopped.rungs
    assert (first.action, first.outcome) == ("TERM", "timed out") and first.seconds >= 0.2
    assert (last.action, last.outcome) == ("KILL group", "group empty")
    if sys.platform == "linux":
        (look,) = looked
        assert look.action == "look what it waits for"
        assert re.match(r"python\S* S", look.outcome), "its thread sleeps"


async def test_a_service_that_hangs_is_asked_where_it_stands_before_it_is_killed(bench):
    bench.add(
        "deaf",
        "ignore-term",
        "stack-on-quit",
        "say",
        "ready",
        "sleep",
        ready={"kind": "log", "pattern": "^ready$"},
        stop={"timeout": "200ms"},
    )
    supervisor = bench.supervisor()
    assert (await supervisor.start("deaf")).ready

    stopped = await supervisor.stop("deaf", reason="test")

    assert stopped.stopped and stopped.exit_status == -signal.SIGKILL
    assert [(rung.action, rung.outcome) for rung in stopped.rungs] == [
        ("TERM", "timed out"),
        ("QUIT for its stack", "taken: see its log"),
        ("KILL group", "group empty"),
    ]
    assert "most recent call first" in bench.log("deaf"), "its stack"


@pytest.mark.parametrize("kind", ["child", "daemon"])
async def test_a_stop_waits_for_children_and_then_kills_them(bench, kind):
    """A leader that exits is not a stopped service: its child may hold the port. One that called
    setsid is out of reach of killpg, and is found by the mark it inherited."""
    bench.add(
        "parent",
        kind,
        "say",
        "ready",
        "sleep",
        ready={"kind": "log", "pattern": "ready"},
        stop={"timeout": "200ms"},
    )
    supervisor = bench.supervisor()
    assert (await supervisor.start("parent")).ready
    child = bench.child_pid()
    assert is_alive(child)

    stopped = await supervisor.stop("parent", reason="test")

    assert stopped.stopped, stopped
    assert [rung.action for rung in stopped.rungs] == ["TERM", "KILL group"]
    assert not is_alive(child)


async def test_a_frozen_service_is_continued_to_see_its_sigterm(bench, port, until):
    bench.add("web", "serve", port, port=port, stop={"timeout": "10s"})
    supervisor = bench.supervisor()
    assert (await supervisor.start("web")).ready
    pid = supervisor.view("web").pid
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: system_processes().facts(pid).frozen)

    stopped = await supervisor.stop("web", reason="test")

    assert stopped.exit_status == -signal.SIGTERM
    assert [rung.action for rung in stopped.rungs] == ["TERM and CONT (it was frozen)"]


async def test_an_exit_during_start_is_reported_at_once_with_its_log(bench, port):
    bench.add(
        "broken",
        "say",
        "cannot open the book",
        "exit",
        7,
        port=port,
        ready={"kind": "tcp", "timeout": "60s"},
        restart={"policy": "never"},
    )
    supervisor = bench.supervisor()

    result = await asyncio.wait_for(supervisor.start("broken"), 60)

    assert not result.ready
    assert result.reason.startswith("exited with status 7 after ")
    assert result.log_tail == ("cannot open the book",)
    assert supervisor.view("broken").state is ServiceState.FAILED
    assert "its restart policy is never" in supervisor.view("broken").reason


async def test_a_service_that_is_never_ready_is_withdrawn(bench, port):
    bench.add(
        "slow", "say", "warming up", "sleep", port=port, ready={"kind": "tcp", "timeout": SPOKEN}
    )
    supervisor = bench.supervisor()

    result = await supervisor.start("slow")

    assert not result.ready
    assert result.reason == f"not ready within 2s: nobody listens on port {port}"
    assert result.log_tail == ("warming up",)
    view = supervisor.view("slow")
    assert view.state is ServiceState.FAILED and view.pid is None
    assert (await supervisor.stop("slow", reason="tidy")).stopped
    assert supervisor.view("slow").state is ServiceState.STOPPED


async def test_a_service_that_accepts_but_says_nothing_is_not_ready_over_http(bench, port):
    bench.add("mute", "listen", port, port=port, ready={"kind": "http", "timeout": SPOKEN})
    result = await bench.supervisor().start("mute")
    assert not result.ready
    assert "no answer on port" in result.reason


async def test_a_missing_program_or_folder_is_named(bench):
    bench.add("lost", command=("no-such-program-anywhere",))
    bench.add("homeless", "sleep", cwd="no-such-folder")
    supervisor = bench.supervisor()
    assert (await supervisor.start("lost")).reason == "there is no program no-such-program-anywhere"
    assert "no-such-folder does not exist" in (await supervisor.start("homeless")).reason
    assert Records(bench.layout.records).read_all() == ([], [])


async def test_a_killed_service_is_restarted_and_counted(bench, port, until):
    bench.add("web", "serve", port, port=port, restart={"backoff": "0ms"})
    supervisor = bench.supervisor()
    assert (await supervisor.start("web")).ready
    pid = supervisor.view("web").pid

    os.kill(pid, signal.SIGKILL)
    await until(lambda: bench.states("web").count("ready") == 2)

    view = supervisor.view("web")
    assert view.restarts == 1 and view.pid != pid
    assert bench.states("web") == ["starting", "ready", "backoff", "starting", "ready"]
    backoff = next(e for e in bench.events if e.state is ServiceState.BACKOFF)
    assert backoff.reason.startswith("killed by SIGKILL")


async def test_what_a_crashed_service_forked_is_ended_before_its_restart(bench, until):
    bench.add(
        "parent",
        "child",
        "say",
        "ready",
        "sleep",
        ready={"kind": "log", "pattern": "ready"},
        restart={"backoff": "0ms"},
    )
    supervisor = bench.supervisor()
    assert (await supervisor.start("parent")).ready
    child = bench.child_pid()

    os.kill(supervisor.view("parent").pid, signal.SIGKILL)
    await until(lambda: bench.states("parent").count("ready") == 2)

    assert not is_alive(child)
    assert bench.child_pid() != child and is_alive(bench.child_pid())


async def test_a_daemon_of_a_crashed_run_that_holds_the_port_is_ended(bench, port, until):
    bench.add("web", "daemon-serving", port, "sleep", port=port, restart={"backoff": "0ms"})
    supervisor = bench.supervisor()
    assert (await supervisor.start("web")).ready
    daemon = bench.child_pid()

    os.kill(supervisor.view("web").pid, signal.SIGKILL)
    await until(lambda: bench.states("web").count("ready") == 2)

    assert not is_alive(daemon)
    assert is_alive(bench.child_pid())


async def test_a_stop_right_after_a_crash_ends_the_daemon_of_the_run_before(bench, until):
    """The sweep for it follows the restart; a stop that came in between reported `stopped` while
    the daemon of the crashed run lived on."""
    bench.add(
        "c",
        "daemon",
        "say",
        "ready",
        "sleep",
        restart={"backoff": "0ms"},
        ready={"kind": "log", "pattern": "ready"},
    )
    supervisor = bench.supervisor()
    assert (await supervisor.start("c")).ready
    daemon = bench.child_pid()
    os.kill(supervisor.view("c").pid, signal.SIGKILL)
    while bench.states("c").count("starting") < 2:
        await asyncio.sleep(0)
    assert (await supervisor.stop("c", reason="test")).stopped
    assert not is_alive(daemon)


async def test_restarts_end_at_the_limit(bench, until):
    bench.add("broken", "exit", 3, restart={"backoff": "1ms", "limit": 2})
    supervisor = bench.supervisor()
    await supervisor.start("broken")
    await until(lambda: bench.states("broken")[-1] == "failed")
    assert bench.states("broken").count("starting") == 3
    view = supervisor.view("broken")
    assert view.restarts == 2
    assert "restarted 2 times within 60s" in view.reason


@pytest.mark.parametrize("limit", [1, 5])
async def test_a_restart_that_could_not_be_attempted_is_tried_until_it_can(
    bench, port, until, limit
):
    """It was failed for good, though its policy is `always` and the port became free again."""
    restart = {"policy": "always", "backoff": "300ms", "limit": limit}
    bench.add("web", "serve", port, port=port, restart=restart)
    supervisor = bench.supervisor()
    assert (await supervisor.start("web")).ready
    os.kill(supervisor.view("web").pid, signal.SIGKILL)
    await until(lambda: supervisor.view("web").state is ServiceState.BACKOFF)
    with socket.create_server(("127.0.0.1", port)):
        await until(lambda: "is held by" in supervisor.view("web").reason)
        assert supervisor.view("web").state is ServiceState.BACKOFF
    await until(lambda: supervisor.view("web").state is ServiceState.READY)
    assert supervisor.view("web").restarts == 1


async def test_a_restart_whose_record_cannot_be_written_is_tried_until_it_can(
    bench, port, until, monkeypatch
):
    bench.add("web", "serve", port, port=port, restart={"backoff": "1ms"})
    supervisor = bench.supervisor()
    assert (await supervisor.start("web")).ready
    add, full = Records.add, [True]

    def on_a_full_disk(self, record):
        if full:
            raise StorageError("cannot write the record: No space left on device")
        add(self, record)

    monkeypatch.setattr(Records, "add", on_a_full_disk)
    os.kill(supervisor.view("web").pid, signal.SIGKILL)
    await until(lambda: "No space left" in supervisor.view("web").reason)
    assert supervisor.view("web").state is ServiceState.BACKOFF
    full.clear()
    await until(lambda: supervisor.view("web").state is ServiceState.READY)


async def test_a_clean_exit_is_left_alone_under_on_failure(bench, until):
    bench.add("batch", "exit", 0)
    supervisor = bench.supervisor()
    await supervisor.start("batch")
    await until(lambda: supervisor.view("batch").state is ServiceState.STOPPED)


async def test_a_stop_ends_the_wait_for_a_restart(bench, until):
    bench.add("broken", "exit", 3, restart={"backoff": "1h", "backoff_max": "2h"})
    supervisor = bench.supervisor()
    await supervisor.start("broken")
    await until(lambda: supervisor.view("broken").state is ServiceState.BACKOFF)
    assert (await supervisor.stop("broken", reason="test")).stopped
    assert supervisor.view("broken").state is ServiceState.STOPPED


async def test_a_stop_during_a_start_answers_both(bench, port):
    bench.add("slow", "sleep", port=port)
    supervisor = bench.supervisor()
    starting = asyncio.create_task(supervisor.start("slow"))
    while supervisor.view("slow").pid is None:
        await asyncio.sleep(0)
    stopped = await supervisor.stop("slow", reason="changed my mind")
    started = await starting
    assert stopped.stopped
    assert not started.ready and "changed my mind" in started.reason


async def test_a_stop_while_a_failed_start_is_withdrawn_ends_stopped(bench, port, until):
    bench.add(
        "slow",
        "ignore-term",
        "sleep",
        port=port,
        stop={"timeout": "300ms"},
        ready={"kind": "tcp", "timeout": "50ms"},
    )
    supervisor = bench.supervisor()
    starting = asyncio.create_task(supervisor.start("slow"))
    service = supervisor._services["slow"]
    # On a slow machine it may not have come to ignoring the signal, and be gone by now.
    await until(lambda: service._stopping or service.state is ServiceState.FAILED)
    stopped = await supervisor.stop("slow", reason="test")
    started = await starting
    assert stopped.stopped and not started.ready
    assert supervisor.view("slow").state is ServiceState.STOPPED


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_asked_in_whatever_order_ends_with_nothing_left(bench, seed):
    """Starts, stops and kills of three services at random moments, many at once: no move that the
    table does not hold, no process and no descriptor left behind."""
    dice = random.Random(seed)
    ports = [free_port() for _ in range(3)]
    for name, port in zip("abc", ports, strict=True):
        bench.add(
            name,
            "daemon" if name == "c" else "say",
            *(() if name == "c" else ("hello",)),
            "serve",
            port,
            port=port,
            restart={"backoff": "1ms", "limit": 1000},
            stop={"timeout": "50ms"},
        )
    supervisor = bench.supervisor()
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    await supervisor.adopt()
    descriptors = psutil.Process().num_fds()

    async def one() -> None:
        await asyncio.sleep(dice.random() * 1.5)
        name = dice.choice("abc")
        match dice.choice(["start", "start", "stop", "kill"]):
            case "start":
                await supervisor.start(name)
            case "stop":
                await supervisor.stop(name, reason="dice")
            case "kill":
                if (pid := supervisor.view(name).pid) is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    await asyncio.gather(*(one() for _ in range(60)))
    stops = await asyncio.gather(*(supervisor.stop(name, reason="end") for name in "abc"))

    assert failures == []
    assert all(stop.stopped for stop in stops), stops
    assert all(view.state is ServiceState.STOPPED for view in supervisor.views())
    table = system_processes()
    assert [
        facts
        for facts in table.everything()
        if (table.mark(facts.pid) or "").startswith(bench.layout.desk_id) and facts.alive
    ] == []
    assert psutil.Process().num_fds() <= descriptors + 1
    assert Records(bench.layout.records).read_all() == ([], [])


async def test_a_port_held_by_another_process_is_named_before_the_spawn(bench, port, python, until):
    bench.add("neighbour", "serve", port)
    bench.add("web", "serve", port, port=port)
    supervisor = bench.supervisor()
    await supervisor.start("neighbour")
    await until(lambda: "neighbour" in bench.services and _listens(port))
    pid = supervisor.view("neighbour").pid

    result = await supervisor.start("web")

    assert result.reason.startswith(f"port {port} is held by python")
    assert f"(pid {pid})" in result.reason
    assert is_alive(pid)


async def test_a_neighbour_that_answers_on_the_port_does_not_make_a_service_ready(
    bench, port, until
):
    """100 dead services were once "healthy" in 22 ms because somebody else answered 200."""
    bench.add("neighbour", "wait", 0.3, "serve", port)
    bench.add("web", "sleep", port=port, ready={"kind": "http", "timeout": "4s"})
    supervisor = bench.supervisor()

    # At the same time: without a probe the neighbour is ready after a second, and would be there first.
    _, result = await asyncio.gather(supervisor.start("neighbour"), supervisor.start("web"))

    pid = supervisor.view("neighbour").pid
    assert not result.ready
    assert f"port {port} answered by pid {pid} (" in result.reason
    assert "not by this service" in result.reason


async def test_an_exec_probe_gates_readiness(bench):
    bench.add(
        "worker",
        "wait",
        0.2,
        "pid-file",
        "up",
        "sleep",
        ready={"kind": "exec", "command": ("test", "-e", "up"), "every": "20ms"},
    )
    assert (await bench.supervisor().start("worker")).ready
    assert (bench.folder / "up").exists()


async def test_a_log_probe_reads_only_what_this_start_wrote(bench):
    bench.layout.make()
    bench.layout.service_log("talker").write_text("ready\n")
    bench.add(
        "talker",
        "say",
        "not yet",
        "sleep",
        ready={"kind": "log", "pattern": "^ready$", "timeout": SPOKEN},
    )
    result = await bench.supervisor().start("talker")
    assert not result.ready
    assert result.log_tail == ("not yet",)


async def test_a_failing_health_probe_degrades_and_recovers(bench, port, until):
    bench.add(
        "web", "serve", port, port=port, health={"every": "20ms", "failures": 2, "path": "/health"}
    )
    supervisor = bench.supervisor()
    assert (await supervisor.start("web")).ready
    (bench.folder / "status").write_text("503")
    await until(lambda: supervisor.view("web").state is ServiceState.DEGRADED)
    assert supervisor.view("web").reason == "GET /health answered 503"
    (bench.folder / "status").write_text("200")
    await until(lambda: supervisor.view("web").state is ServiceState.READY)
    assert supervisor.view("web").restarts == 0


async def test_probe_now_answers_with_what_it_found(bench, port):
    bench.add("web", "serve", port, port=port, health={"every": "1h", "failures": 1})
    supervisor = bench.supervisor()
    assert (await supervisor.start("web")).ready
    (bench.folder / "status").write_text("503")
    assert (await supervisor.probe_now("web")).state is ServiceState.DEGRADED


async def test_reload_signals_and_is_refused_when_not_running(bench, until):
    bench.add("web", "on-hup", "say", "ready", "sleep", ready={"kind": "log", "pattern": "ready"})
    supervisor = bench.supervisor()
    with pytest.raises(RefusedError):
        await supervisor.reload("web")
    await supervisor.start("web")
    await supervisor.reload("web")
    await until(lambda: "reloaded" in bench.log("web"))


async def test_an_unknown_service_gets_the_nearest_names(bench):
    bench.add("market-data", "sleep")
    with pytest.raises(UsageError) as error:
        await bench.supervisor().start("marketdata")
    assert "market-data" in error.value.hint


async def test_a_changed_specification_shows_as_drift_until_the_next_start(bench):
    bench.add("web", "sleep")
    supervisor = bench.supervisor()
    await supervisor.start("web")
    pid = supervisor.view("web").pid
    bench.add("web", "sleep", env={"LEVEL": "debug"})
    supervisor.replace_spec(bench.specs()["web"])
    assert supervisor.view("web").drifted and supervisor.view("web").pid == pid
    await supervisor.stop("web", reason="new configuration")
    await supervisor.start("web")
    assert not supervisor.view("web").drifted


def _listens(port: int) -> bool:
    from openbell.runtime.ports import is_taken

    return is_taken(port)
