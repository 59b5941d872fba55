"""A closing with live orders, killed in the middle, and closed again: of it nothing may be left.

Judged from the venue's own log and from the table of processes, never from what the desk says alone. Who
is killed: the controller, which carries the closing, and the command, whose run goes on without it.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
from collections.abc import Callable

import psutil
from tests.harness.paper_desk import PaperDesk, await_condition
from tests.harness.venue_log import require_flat

STEPS = (
    "halt_strategies", "cancel_orders", "flatten", "reconcile", "checkpoint", "stop_market_data",
    "disconnect", "stop_services",
)  # fmt: skip
NOT_RUNNING = 3


def close_killed_in_a_step(desk: PaperDesk, chance: random.Random) -> None:
    step = chance.choice(STEPS)
    print(f"killed in {step}")

    def there() -> bool:
        run = desk.status()["run"]
        return run is None or not _is_before(run["step"], step)

    close_killed(desk, there, chance)


def _is_before(step: str, other: str) -> bool:
    """Steps that are none of those count as before: what they do leaves nothing behind."""
    return step not in STEPS or STEPS.index(step) < STEPS.index(other)


def close_killed(
    desk: PaperDesk,
    there: Callable[[], bool],
    chance: random.Random,
) -> None:
    """Closes the desk, kills command, controller or both once it is `there`, and closes it again."""
    controller = psutil.Process(desk.status()["controller"]["pid"])
    command = subprocess.Popen(
        desk.command("down", "--yes", "--json"), env=desk.environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await_condition(
            lambda: command.poll() is not None or _is_closing(desk), "the closing begins"
        )
        await_condition(lambda: command.poll() is not None or there(), "the moment to kill")
        victims = chance.choice(["command", "controller", "both"])
        print(f"killed: {victims}")
        if victims != "controller":
            command.kill()
        if victims != "command":
            with contextlib.suppress(psutil.NoSuchProcess):
                controller.send_signal(signal.SIGKILL)
    finally:
        command.kill()
        command.wait()
    if victims == "command":
        # Nobody goes on with it: the controller does, to its end, and leaves.
        await_condition(lambda: not _runs(controller), "the controller leaves a closed desk", 180)
    done = desk.run("down", "--yes", expect=None)
    if done.status != NOT_RUNNING:
        assert done.status == 0 and done.document["outcome"] == "verified", done
    require_flat(desk.folder / "state" / "services" / "venue-sim" / "venue.jsonl")
    await_condition(lambda: desk.own_processes() == [], "no process of the desk is left")


def _is_closing(desk: PaperDesk) -> bool:
    return (desk.status()["run"] or {}).get("procedure") == "close"


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
