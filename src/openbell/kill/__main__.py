"""The emergency stop as a process of its own, without the command line's imports.

    python -m openbell.kill --desk DIR [--reason R] [--scope S ...] [--flatten] [--account-wide]
    python -m openbell.kill --desk DIR --request-on-stdin --events

It does not ask: whoever calls it has decided. Prints the statement as one JSON document, with
`--events` each event as a line before it; the exit status is the statement's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pwd
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import parse_scopes
from openbell.kill.front import latch_apart, leave, stand_in_front
from openbell.kill.press import press
from openbell.kill.printing import Printing, logged_by
from openbell.kill.request import TIMEOUT_S, EmergencyRequest
from openbell.runtime.processes import MARK_VARIABLE

_WRONG_USE = 2
_OF_A_TERMINAL = (signal.SIGTSTP, signal.SIGHUP, signal.SIGTTOU)


def main(arguments: Sequence[str] | None = None) -> int:
    leave_service()
    parser = argparse.ArgumentParser(prog="python -m openbell.kill", description=__doc__)
    parser.add_argument("--desk", type=Path, required=True, help="desk.toml or its folder")
    parser.add_argument("--reason", default="", help="why")
    parser.add_argument("--scope", action="append", default=[], help="desk, venue:NAME, ...")
    parser.add_argument("--flatten", action="store_true", help="close positions too")
    parser.add_argument("--account-wide", action="store_true", help="others' orders too")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds for each venue")
    parser.add_argument("--alone", action="store_true", help="do not ask the guard")
    parser.add_argument("--request-on-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--events", action="store_true", help="each event as a line of JSON")
    options = parser.parse_args(arguments)
    layout = DeskLayout.for_desk(options.desk.parent if options.desk.is_file() else options.desk)
    try:
        request = _request(options)
    except ValueError as error:
        print(f"openbell.kill: {error}", file=sys.stderr)  # noqa: T201
        return _WRONG_USE

    request, answered = latch_apart(layout, request)
    if not answered:
        stand_in_front()
    output, errors = Printing(sys.stdout), Printing(sys.stderr)

    def tell(event: Any) -> None:
        if options.events:
            output.put(json.dumps(event))

    with unstoppable(), logged_by(errors):
        pressing = press(layout, request, tell, ask_guard=not options.alone, latch=False)
        stated = asyncio.run(pressing)
        told = stated.to_wire()
        done = {"event": "done", "statement": told, "final": True} if options.events else told
        output.end(json.dumps(done))
        errors.settle()
    return leave(stated.exit_status)


def leave_service() -> None:
    """A strategy may press the button too: then this process carries its service's mark, and must
    not be killed with its session."""
    if MARK_VARIABLE in os.environ:
        with contextlib.suppress(PermissionError):  # it leads a session of its own already
            os.setsid()


@contextlib.contextmanager
def unstoppable() -> Iterator[None]:
    """Neither Ctrl-Z nor a terminal that is closed, nor one that takes no more output, stops a stop."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _OF_A_TERMINAL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _request(options: argparse.Namespace) -> EmergencyRequest:
    """Raises ValueError."""
    if options.request_on_stdin:
        return EmergencyRequest.from_wire(json.loads(sys.stdin.read()))
    return EmergencyRequest(
        reason=options.reason,
        actor=os.environ.get("OPENBELL_ACTOR") or _user(),
        scopes=parse_scopes(options.scope),
        flatten=options.flatten,
        account_wide=options.account_wide,
        timeout_s=options.timeout,
    )


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


if __name__ == "__main__":
    sys.exit(main())
