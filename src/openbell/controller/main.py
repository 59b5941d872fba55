"""The controller's life: lock, adopt, serve, let go.

Services that run are adopted before anything heavy is loaded: a controller that was killed is back
at their side within a fraction of a second. Ending it ends none of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from openbell.config.layout import DeskLayout
from openbell.errors import OpenbellError
from openbell.runtime.spec import ServiceEvent
from openbell.state.lock import FileLock

HOUSEKEEPING_EVERY_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after an orderly end, 5 where another controller has the desk, else that of
    the error."""
    parser = argparse.ArgumentParser(prog="openbell.controller", description=__doc__)
    parser.add_argument("--desk", type=Path, required=True, help="desk.toml or its folder")
    parser.add_argument("--foreground", action="store_true", help="log to standard output")
    parser.add_argument("--open", metavar="JSON", help="the body of an opening to begin at once")
    parser.add_argument("--actor", default="api", help="who asks for it, for the audit log")
    options = parser.parse_args(arguments)
    layout = DeskLayout.for_desk(options.desk.parent if options.desk.is_file() else options.desk)
    lock = FileLock(layout.controller_lock)
    try:
        layout.make()
        lock.acquire()
        if not options.foreground:
            _log_to(layout.controller_log)
        # What loading makes stays: to look through it for garbage again and again is a tenth of
        # it. Until all is loaded: `Hosted.serve_until`.
        gc.disable()
        return asyncio.run(_live(layout, options.open, options.actor))
    except OpenbellError as error:
        with contextlib.suppress(OSError):  # a log on a full disk must not hide the exit status
            print(f"openbell controller: {error.message}\n{error.hint}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    finally:
        lock.release()


def _log_to(path: Path) -> None:
    """Standard output and error into the controller's log: a terminal that goes must not matter."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    sys.stdout.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


async def _live(layout: DeskLayout, opening: str | None, actor: str) -> int:
    began = time.monotonic()
    from openbell.config.loader import load_desk
    from openbell.config.secrets import load_secrets
    from openbell.runtime.supervisor import Supervisor

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loaded = load_desk(layout.desk)
    secrets = load_secrets(loaded, layout)
    early: list[ServiceEvent] = []
    hear = early.append

    def on_event(event: ServiceEvent) -> None:
        hear(event)

    from openbell.controller.specs import (
        Adopted,
        is_new,
        keep_nothing_sent_since,
        specs_of,
        why_not_started,
    )

    new = is_new(layout, loaded.file)
    supervisor = Supervisor(
        layout,
        specs_of(loaded, layout, secrets),
        logs=loaded.file.logs,
        on_event=on_event,
        hold=lambda spec: why_not_started(layout, spec),
    )
    adoption = await supervisor.adopt()
    if new and not (adoption.adopted or adoption.orphans):
        keep_nothing_sent_since(layout, "")
    adopted = Adopted(in_s=time.monotonic() - began, at_ns=time.time_ns())

    # Only now what takes long to load. Names of procedures and their steps are checked with it.
    from openbell.procedures.settings import load_checked, procedure_problems
    from openbell.venues.making import setting_problems

    # Venues only where a desk is to be opened: one that runs is watched, and closed, all the same.
    if procedure_problems(loaded.file) or (opening and setting_problems(loaded.file)):
        load_checked(layout.desk)  # raises, with the lines
    from openbell.controller.hosting import Hosted
    from openbell.controller.opening_parts import OpenWishes
    from openbell.service.logging import configure

    configure("controller")
    hosted = Hosted.of(layout, loaded, secrets, supervisor, adoption, ended)
    for event in early:
        hosted.desk.on_service_event(event)
    hear = hosted.desk.on_service_event
    await hosted.serve_until(
        ended,
        adopted=adopted,
        housekeeping_s=HOUSEKEEPING_EVERY_S,
        open_at_once=None if opening is None else msgspec.json.decode(opening, type=OpenWishes),
        actor=actor,
    )
    return 0
