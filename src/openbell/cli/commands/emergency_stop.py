"""`openbell emergency-stop`

Works when nothing else does: the guard is asked first, and without it this very process does it,
from the desk file alone. What takes long to load is loaded after the latch and the freeze.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from openbell.cli.client import actor
from openbell.cli.command import Terminal, command
from openbell.cli.parameters import Seconds
from openbell.domain.scopes import DESK, Scope, parse_scopes
from openbell.errors import OpenbellError, UsageError
from openbell.kill.request import TIMEOUT_S, EmergencyRequest

_LOOK_S = 0.5
"""For a disk that hangs."""

if TYPE_CHECKING:
    from openbell.cli.emergency_text import InOrder
    from openbell.config.layout import DeskLayout
    from openbell.kill.emergency_statement import EmergencyStatement


@command("emergency-stop")
@click.option("--reason", default="", help="Why; kept with the latch, the course and the records.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="desk (default), venue:NAME, symbol:BASE/QUOTE or strategy:NAME; may be repeated.",
)
@click.option("--flatten", is_flag=True, help="Close positions too, by reduce-only market orders.")
@click.option(
    "--account-wide", is_flag=True, help="Cancel orders of others on the same accounts too."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=1, max=3600),
    default=TIMEOUT_S,
    metavar="S",
    show_default=True,
    help="What each venue is given.",
)
@click.option("--plan", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def emergency_stop(
    terminal: Terminal,
    reason: str,
    scopes: tuple[str, ...],
    flatten: bool,
    account_wide: bool,
    timeout_s: float,
    plan: bool,
    yes: bool,
) -> int:
    """Stop everything now: latch, freeze the engine, cancel at every venue, verify, end.

    Positions stay unless --flatten. Works without guard, controller and database. Exit status 0 only
    where every venue was seen to have no order of this desk left; 7 where something is unknown, 10
    where orders or positions remain. Pressed twice, the second joins the first.
    """
    wanted = _scopes(terminal, scopes)
    try:
        request = EmergencyRequest(
            reason=reason,
            actor=actor(),
            scopes=wanted,
            flatten=flatten,
            account_wide=account_wide,
            timeout_s=timeout_s,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    layout = _layout(terminal)
    if plan:
        from openbell.cli.plans import plan_text
        from openbell.kill.preview import emergency_plan

        document = emergency_plan(layout, request)
        terminal.show(document, plan_text(document))
        return 0
    if not yes:
        _ask(terminal, request)
    from openbell.kill.__main__ import leave_service, unstoppable
    from openbell.kill.front import latch_apart, leave, stand_in_front
    from openbell.kill.press import press
    from openbell.kill.printing import Printing, logged_by

    leave_service()
    request, answered = latch_apart(layout, request)
    if not answered:
        stand_in_front()
    # The stop does not wait for a terminal that takes no output.
    output, errors = Printing(sys.stdout), Printing(sys.stderr)
    lines = errors if terminal.as_json else output

    told_in_order: list[InOrder] = []

    def tell(event: Mapping[str, Any]) -> None:
        from openbell.cli.emergency_text import InOrder

        if not told_in_order:
            told_in_order.append(InOrder(lines.put, time.monotonic))
        told_in_order[0].hear(event)

    with unstoppable(), logged_by(errors):
        try:
            stop = press(layout, request, tell, latch=False)
            warn = partial(_put, terminal, errors.put)
            stated = asyncio.run(_uninterrupted(stop, layout, warn))
        except click.Abort:
            from openbell.cli.main import ABORTED

            errors.settle()
            leave(ABORTED)  # whoever waits in front of it does not know that it was left
            raise
        finally:
            for each in told_in_order:
                each.flush()
            errors.settle()
        from openbell.cli.emergency_text import statement_text

        told = stated.to_wire()
        output.end(terminal.shown(told, statement_text(told)))
    return leave(stated.exit_status)


def _put(terminal: Terminal, put: Callable[[str], None], text: str) -> None:
    put(terminal.of_this_desk(text))


async def _uninterrupted(
    stop: Coroutine[Any, Any, EmergencyStatement], layout: DeskLayout, warn: Callable[[str], None]
) -> EmergencyStatement:
    """A key pressed in fright must not end it; pressed twice, a person means it, and is told what is left."""
    task = asyncio.ensure_future(stop)
    pressed = 0

    def interrupt() -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 1:
            task.cancel()
        else:
            warn(
                "the stop goes on; Ctrl-C again ends this command: one that the guard carries out goes on, "
                "any other is left unfinished"
            )

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        warn(await _left(layout))
        raise click.Abort from None


async def _left(layout: DeskLayout) -> str:
    """How a stop is left that a person does not wait for. From files: a disk that hangs says nothing."""
    from openbell.kill.aside import aside
    from openbell.kill.course import under_way
    from openbell.state.latch import Latches

    def look() -> tuple[bool, bool]:
        return under_way(layout), bool(Latches(layout).scopes())

    try:
        going_on, latched = await aside(look, _LOOK_S)
    except (OSError, OpenbellError, TimeoutError):
        going_on = latched = False
    if going_on:
        return (
            "another process, as the guard, carries the stop on: `openbell status` shows it, "
            "`openbell emergency-stop` follows it again"
        )
    held = (
        "the kill switch stays set"
        if latched
        else "THE KILL SWITCH IS NOT KNOWN TO BE SET (`openbell kill-switch activate`)"
    )
    return (
        f"LEFT UNFINISHED: {held}, orders may still rest at the venues, and what was frozen stays frozen; "
        "press again, it goes on from what it finds: `openbell emergency-stop`"
    )


def _layout(terminal: Terminal) -> DeskLayout:
    """Of a desk whose desk.toml is gone too, as long as its state is there: it can be latched."""
    from openbell.config.layout import DeskLayout
    from openbell.errors import ConfigError

    try:
        return terminal.layout
    except ConfigError:
        path = terminal.desk_path
        layout = DeskLayout.for_desk(path if path.is_dir() else path.parent)
        if not layout.records.is_dir():
            raise
        return layout


def _scopes(terminal: Terminal, texts: tuple[str, ...]) -> tuple[Scope, ...]:
    """Raises UsageError for what is no scope, and for a name that the desk file does not have: it
    would stop nothing. A desk file that cannot be read stops nobody from stopping."""
    try:
        wanted = parse_scopes(texts)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if wanted == (DESK,):
        return wanted
    from openbell.config.loader import load_desk
    from openbell.domain.scopes import undeclared
    from openbell.errors import ConfigError

    try:
        problems = list(undeclared(wanted, load_desk(terminal.desk_path).file))
    except ConfigError as error:
        terminal.warn(f"desk.toml cannot be used: {error.message}")
        return wanted
    if problems:
        raise UsageError("; ".join(problems))
    return wanted


def _ask(terminal: Terminal, request: EmergencyRequest) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "an emergency stop is not begun unasked, and nobody is here to ask",
            hint="`openbell emergency-stop --yes` does it; "
            "`openbell kill-switch activate` stops new orders without a question",
        )
    what = ", ".join(str(scope) for scope in request.scopes)
    also = " and CLOSE POSITIONS" if request.flatten else ""
    others = ", OTHERS' ORDERS on the accounts too" if request.account_wide else ""
    terminal.confirm(f"EMERGENCY STOP of {what}: cancel all orders{others}{also}?", yes=False)
