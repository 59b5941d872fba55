"""Openings and closings of a desk that trades, killed in the middle and gone on with by the same command:
an opened desk trades, with each service once, and of a closed one nothing is left.

Judged from the venue's own log and from the table of processes, never from what the desk says alone. Who
is killed: the controller, which carries the run, and the command, whose run goes on without it.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
from collections.abc import Callable

import psutil
from tests.harness.paper_desk import PaperDesk, await_condition
from tests.harness.venue_log import require_flat

from openbell.procedures.registry import PROCEDURES

IN_A_CLOSING = (
    "halt_strategies", "cancel_orders", "flatten", "reconcile", "checkpoint", "stop_market_data",
    "disconnect", "stop_services",
)  # fmt: skip
"""Those of which something would be left behind."""
NOT_RUNNING = 3


def steps_of(procedure: str) -> list[str]:
    """In their order."""
    return [spec.name for spec in PROCEDURES[procedure].steps]


def close_killed_in_a_step(desk: PaperDesk, chance: random.Random) -> None:
    step = chance.choice(IN_A_CLOSING)
    print(f"killed in {step}")
    close_killed(desk, in_step(desk, "close", step), chance)


def in_step(desk: PaperDesk, procedure: str, step: str) -> Callable[[], bool]:
    """Whether its run is in this step, or beyond: some are over before anybody has looked."""
    order = steps_of(procedure)

    def there() -> bool:
        run = desk.status()["run"]
        at = run and run["step"]
        return run is None or (at in order and order.index(at) >= order.index(step))

    return there


def close_killed(desk: PaperDesk, there: Callable[[], bool], chance: random.Random) -> None:
    """Closes the desk, kills command, controller or both once it is `there`, and closes it again."""
    victims = _kill_in("close", ("down", "--yes"), desk, there, chance)
    if victims == "command":
        # Nobody goes on with it: the controller does, to its end, and leaves.
        await_condition(
            lambda: not controllers_of(desk), "the controller leaves a closed desk", 180
        )
    done = desk.run("down", "--yes", expect=None)
    if done.status != NOT_RUNNING:
        assert done.status == 0 and done.document["outcome"] == "verified", done
    require_flat(desk.folder / "state" / "services" / "venue-sim" / "venue.jsonl")
    await_condition(lambda: desk.own_processes() == [], "no process of the desk is left")


def open_killed(desk: PaperDesk, there: Callable[[], bool], chance: random.Random) -> None:
    """Opens a closed desk, kills command, controller or both once it is `there`, and opens it again."""
    _kill_in("open", ("up",), desk, there, chance)
    # Where a controller carries it, or one that the guard started, a second command would be refused.
    await_condition(lambda: not desk.status()["run"], "the opening has come to its end", 180)
    opened = desk.run("up", expect=None)
    assert opened.status == 0 and opened.document["opened"], opened
    status = desk.status()
    assert status["state"] == "trading", status
    pids = {service["name"]: service["pid"] for service in status["services"]}
    assert all(pids.values()), pids
    alone = [status["controller"]["pid"], status["guard"]["pid"], *pids.values()]
    await_condition(
        lambda: {each.pid for each in desk.own_processes()} <= set(alone),
        "no process runs beside them",
    )


def _kill_in(
    procedure: str,
    arguments: tuple[str, ...],
    desk: PaperDesk,
    there: Callable[[], bool],
    chance: random.Random,
) -> str:
    """Who was killed."""
    command = subprocess.Popen(
        desk.command(*arguments, "--json"), env=desk.environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await_condition(
            lambda: command.poll() is not None or _is_under_way(procedure, desk),
            f"the {procedure} begins",
        )
        await_condition(lambda: command.poll() is not None or there(), "the moment to kill")
        victims = chance.choice(["command", "controller", "both"])
        print(f"{procedure}: killed: {victims}")
        if victims != "controller":
            command.kill()
        if victims != "command":
            for process in controllers_of(desk):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        if victims == "controller":
            # A closing without its controller ends; an opening goes on with the one that the guard
            # starts, or ends.
            command.wait(300)
    finally:
        command.kill()
        command.wait()
    return victims


def _is_under_way(procedure: str, desk: PaperDesk) -> bool:
    return (desk.status()["run"] or {}).get("procedure") == procedure


def controllers_of(desk: PaperDesk) -> list[psutil.Process]:
    """Those that live."""
    pid = desk.status()["controller"]["pid"]
    try:
        process = psutil.Process(pid) if pid else None
        if process is not None and process.status() != psutil.STATUS_ZOMBIE:
            return [process]
    except psutil.NoSuchProcess:
        pass
    return []
