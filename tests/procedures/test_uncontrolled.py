"""What is told of a desk without a controller: closed is said only of one that was closed, and proven."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.config.models import LoadedDesk
from openbell.controller.targets import Targets
from openbell.domain.desk_state import DeskCommand
from openbell.kill.marker import set_marker
from openbell.procedures.uncontrolled import services_alive, status_without_controller
from openbell.procedures.uncontrolled_health import health_without_controller
from openbell.runtime.members import Mark, scan
from openbell.runtime.processes import MARK_VARIABLE, system_processes
from openbell.state.database import open_database
from openbell.state.new_run import NewRun
from openbell.state.not_proven import NotProven
from openbell.state.nothing_sent import keep_nothing_sent
from openbell.state.runs import RunStore

C = DeskCommand
DESK = """[desk]
name = "x"
[venues.sim]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[services.engine]
command = ["true"]
role = "engine"
port = 4000
"""


@pytest.fixture
def layout(tmp_path: Path) -> DeskLayout:
    (tmp_path / "desk.toml").write_text(DESK)
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    return layout


@pytest.fixture
def desk(layout: DeskLayout) -> LoadedDesk:
    return load_desk(layout.desk)


def begun(layout: DeskLayout, kind: str, *, ended: bool) -> None:
    database = open_database(layout.database)
    try:
        store = RunStore(database)
        run = store.begin(NewRun(kind=kind, who="ann", why="w", params={"flatten": "keep"}))
        store.step_started(run, 0, "cancel_orders")
        if ended:
            store.finish(run, "done")
    finally:
        database.close()


def test_a_desk_that_was_trading_when_everything_was_killed_is_not_closed(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    """After a power cut: it said `offline (closed)`, and nothing else."""
    Targets(layout).command(C.OPEN)
    begun(layout, "open", ended=True)
    told = status_without_controller(desk, layout)
    assert told["state"] == "unwatched"
    assert told["why"] == (
        "not closed: nothing of it runs, and it is meant to be trading; orders may rest"
    )
    (advice,) = told["recommendations"]
    assert advice["severity"] == "critical" and "openbell down" in advice["action"]
    assert told["interrupted_run"] is None


def test_a_closing_that_was_cut_off_with_the_power_is_named_with_its_step(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    targets = Targets(layout)
    targets.command(C.OPEN)
    targets.command(C.CLOSE)
    begun(layout, "close", ended=False)
    told = status_without_controller(desk, layout)
    assert told["state"] == "unwatched"
    assert "close-1 was cut off at cancel_orders; orders may rest" in told["why"]
    run = told["interrupted_run"]
    assert (run["id"], run["procedure"], run["step"]) == ("close-1", "close", "cancel_orders")
    assert run["parameters"] == {"flatten": "keep"}
    assert run["waits_because"] is None and told["closing"] is None, "no controller could be asked"
    assert told["recommendations"][-1]["action"] == "openbell procedure resume close-1"


def test_where_nothing_can_have_been_sent_no_order_is_said_to_rest(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    Targets(layout).command(C.OPEN)
    keep_nothing_sent(layout.nothing_sent, "close-1", "then")
    told = status_without_controller(desk, layout)
    assert told["state"] == "unwatched" and "may rest" not in told["why"]


def test_what_cannot_be_read_is_not_taken_for_closed(layout: DeskLayout, desk: LoadedDesk) -> None:
    layout.target.write_bytes(b"{")
    layout.database.write_bytes(b"no database")
    told = status_without_controller(desk, layout)
    assert told["state"] == "unwatched" and "cannot be read" in told["why"]
    assert any(
        "whether a run was cut off is not known" in r["text"] for r in told["recommendations"]
    )


def test_a_closed_desk_is_offline_and_one_that_was_not_proven_says_so(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    told = status_without_controller(desk, layout)
    assert (told["state"], told["why"], told["not_proven"]) == ("offline", "closed", None)
    targets = Targets(layout)
    targets.command(C.OPEN)
    targets.command(C.CLOSE)
    targets.command(C.CLOSED, not_proven=NotProven("close-2", "failed: wire", "ann", "then"))
    told = status_without_controller(desk, layout)
    assert (told["state"], told["why"]) == ("offline", "closed, not proven: close-2: failed: wire")
    assert told["not_proven"]["run"] == "close-2"
    (advice,) = told["recommendations"]
    assert advice["severity"] == "critical" and "openbell down" in advice["action"]


def test_a_command_of_the_desks_own_is_no_service(layout: DeskLayout) -> None:
    mark = str(Mark.of_step(layout.desk_id, "wire"))
    process = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK_VARIABLE: mark})
    try:
        assert scan(system_processes(), layout.desk_id).marks[process.pid].is_step
        assert services_alive(layout) == {}
    finally:
        process.kill()
        process.wait()


def test_only_a_desk_that_is_proven_closed_is_said_not_to_run(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    """`health` said `not running`, with 3, over a desk that had been trading when everything was killed."""

    def health() -> tuple[str, int, list[str]]:
        told = health_without_controller(desk, layout)
        return told["verdict"], told["exit_code"], told["reasons"]

    assert health() == ("not_running", 3, ["the desk is not running"])
    targets = Targets(layout)
    targets.command(C.OPEN)
    rests = "not closed: nothing of it runs, and it is meant to be trading; orders may rest"
    assert health() == ("unhealthy", 2, [rests])
    targets.command(C.CLOSE)
    targets.command(C.CLOSED, not_proven=NotProven("close-2", "failed: wire", "ann", "then"))
    assert health() == ("unhealthy", 2, ["closed, not proven: close-2: failed: wire"])
    targets.command(C.CLOSE)
    targets.command(C.CLOSED)
    assert health()[0] == "not_running"
    layout.target.write_bytes(b"{")
    assert health()[0] == "unhealthy"


def test_a_service_that_outlived_its_controller_is_not_said_not_to_run(
    layout: DeskLayout, desk: LoadedDesk
) -> None:
    mark = str(Mark(layout.desk_id, "engine", 1))
    process = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK_VARIABLE: mark})
    try:
        told = health_without_controller(desk, layout)
        assert (told["verdict"], told["services"][0]["pid"]) == ("unhealthy", process.pid)
        assert "nobody watches" in told["reasons"][0]
    finally:
        process.kill()
        process.wait()


def test_an_emergency_stop_that_is_not_proven_is_told(layout: DeskLayout, desk: LoadedDesk) -> None:
    set_marker(layout, "fat finger", "ann")
    told = health_without_controller(desk, layout)
    assert (told["verdict"], told["state"]) == ("unhealthy", "emergency")
    assert "an emergency stop was begun and has no end" in told["reasons"][0]
    advice = status_without_controller(desk, layout)["recommendations"][0]
    assert (advice["severity"], advice["action"]) == ("critical", "openbell emergency-stop")
