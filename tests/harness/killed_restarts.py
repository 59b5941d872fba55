"""Restarts of a desk that trades, killed at a given point and gone on with by the same command: the desk
then trades as one whose restart nobody killed.

Judged from the venue's own log and from the table of processes: no order was sent twice, none while the
desk was closed, each service that was to be restarted is another process and is there once.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import psutil
from tests.harness.killed_runs import controllers_of
from tests.harness.paper_desk import PaperDesk, await_condition

Victims = Literal["command", "controller", "both"]
COMMANDS = {
    "restart": ("restart", "--yes"),
    "quick-restart": ("restart", "--quick", "--yes"),
    "rolling-restart": ("restart", "--rolling", "--yes"),
}
PATIENCE_S = 240
LASTS = frozenset({"venue-sim"})
"""A rolling restart leaves simulated venues alone."""


def restart_killed(
    desk: PaperDesk,
    procedure: str,
    there: Callable[[], bool],
    victims: Victims,
    let_go: Callable[[], None] = lambda: None,
) -> None:
    """Restarts a desk that trades, kills `victims` once it is `there`, and goes on. Where it is over before
    that, it was not killed, and is judged all the same. `let_go`: nobody is to wait at a point any more."""
    before = pids_of(desk)
    accepted_before = len(venue_events(desk, "accept"))
    runs_before = newest_run(desk)
    command = subprocess.Popen(
        desk.command(*COMMANDS[procedure], "--json"), env=desk.environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        # A command that is killed before it has asked for anything leaves nothing to go on with.
        await_condition(
            lambda: command.poll() is not None or newest_run(desk) > runs_before,
            "the restart begins",
            PATIENCE_S,
        )
        await_condition(
            lambda: there() or command.poll() is not None, "the moment to kill", PATIENCE_S
        )
        if command.poll() is None:
            if victims != "controller":
                command.kill()
            if victims != "command":
                for process in controllers_of(desk):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
        let_go()
        if victims == "controller":
            command.wait(PATIENCE_S)
    finally:
        command.kill()
        command.wait()
        let_go()
    if victims == "command":
        # Its controller goes on: from the one half to the other as well.
        await_condition(
            lambda: is_restarted(desk, runs_before), "the run goes on to its end", PATIENCE_S
        )
    elif not is_restarted(desk, runs_before):
        go_on(desk, procedure)
    require_restarted(desk, procedure, before)
    await_condition(
        lambda: len(venue_events(desk, "accept")) > accepted_before, "an order after it", PATIENCE_S
    )
    require_orders_once(desk)


def go_on(desk: PaperDesk, procedure: str) -> None:
    """As a person does: with the command that began it."""
    done = desk.run(*COMMANDS[procedure], expect=None)
    assert done.status == 0, done


def newest_run(desk: PaperDesk) -> int:
    rows = desk.look("runs")["runs"]
    return max((int(str(row["run"]).rsplit("-", 1)[1]) for row in rows), default=0)


def is_restarted(desk: PaperDesk, before: int) -> bool:
    """A run was begun since, none is cut off or under way, and the desk trades."""
    status = desk.status()
    return (
        status["state"] == "trading"
        and status["run"] is None
        and status["interrupted_run"] is None
        and status.get("restart") is None
        and newest_run(desk) > before
    )


def pids_of(desk: PaperDesk) -> dict[str, int]:
    status = desk.status()
    pids = {service["name"]: service["pid"] for service in status["services"]}
    return {**pids, "(guard)": status["guard"]["pid"]}


def require_restarted(desk: PaperDesk, procedure: str, before: dict[str, int]) -> None:
    """Each service is another process than before, runs once, and nothing runs beside them."""
    status = desk.status()
    assert status["state"] == "trading", status["why"]
    after = pids_of(desk)
    assert all(after.values()), after
    same = {name for name in before if before[name] == after[name]}
    stays = {"restart": set(), "quick-restart": {"(guard)"}}.get(procedure, LASTS | {"(guard)"})
    # A guard that its controller missed for a while may be another one all the same.
    assert same - {"(guard)"} == stays - {"(guard)"}, f"not restarted: {sorted(same)}"
    if procedure == "restart":
        assert "(guard)" not in same, "the guard is restarted too"
    alone = {status["controller"]["pid"], *after.values()}
    await_condition(
        lambda: {each.pid for each in desk.own_processes()} <= alone, "no process runs beside them"
    )


def venue_events(desk: PaperDesk, kind: str) -> list[dict[str, Any]]:
    """As the simulated venue wrote them down itself."""
    log = desk.folder / "state" / "services" / "venue-sim" / "venue.jsonl"
    events = (json.loads(line) for line in log.read_text().splitlines() if line.endswith("}"))
    return [event for event in events if event["event"] == kind]


def require_orders_once(desk: PaperDesk) -> None:
    """No ClOrdID came twice, and none between a halt and the leave to trade after it."""
    seen = venue_events(desk, "accept")
    twice = [key for key, n in Counter(each["cl_ord_id"] for each in seen).items() if n > 1]
    assert twice == [], f"sent twice: {twice}"
    for halted_ns, let_ns in closed_times(desk):
        between = [each for each in seen if halted_ns <= each["received_ns"] < let_ns]
        assert between == [], f"sent while the desk was being restarted: {between}"


def closed_times(desk: PaperDesk) -> list[tuple[int, int]]:
    """From the halt of the newest closing to when its opening let the desk trade, where it is a restart's."""
    rows = desk.look("runs")["runs"]
    opening = next((row["run"] for row in rows if str(row["run"]).startswith("open-")), None)
    if opening is None:
        return []
    document = desk.look(f"runs/{opening}/report")
    closing = document["parameters"].get("restart_of")
    if not closing:
        return []
    closed = desk.look(f"runs/{closing}/report")
    halted = [
        step["finished"] for step in closed["steps"]
        if step["name"] == "halt_strategies" and step["finished"]
    ]  # fmt: skip
    let = [step["started"] for step in document["steps"] if step["name"] == "begin_trading"]
    return [(_ns(halted[-1]), _ns(let[0]))]


def _ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1e9)
