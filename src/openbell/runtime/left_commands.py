"""Commands that a controller was carrying out when it was killed, found and ended by the next one.

    1. spawned, in a session of its own
    2. noted: `state/run/commands/STEP.json`, pid, start time and boot id
    3. ended, and the note is taken away

A command is ended with the controller that awaits it (`runtime.commands`), but for a controller that is
killed with -9: it cannot. What is noted and lives is then still at work, while its run is gone on with.
Known by pid, start time and boot id, and its session, as services are; never by name. A controller that
is killed between 1 and 2 leaves one that nobody finds: of it there is only the intent in the journal.

Not fsynced: it has to outlive the controller, not a power cut, after which nothing runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from openbell.runtime.processes import ProcessFacts, system_processes
from openbell.service.logging import get_logger

log = get_logger()

KILL_S = 5.0
"""For the kernel to end what was killed."""
_POLL_S = 0.02


class LeftCommand(msgspec.Struct, frozen=True, kw_only=True):
    """One that is being carried out. Holds no secret: neither its arguments nor its environment."""

    step: str
    run: str
    pid: int
    start: int
    boot_id: str

    def told(self) -> str:
        return f"the command of step {self.step} of {self.run}"


@contextlib.contextmanager
def noted(folder: Path, name: str, run: str) -> Iterator[Callable[[int], None]]:
    """For as long as a command is carried out; what it yields takes its pid, once it is spawned. A disk
    that takes no note costs the note."""
    path = folder / f"{name}.json"

    def note(pid: int) -> None:
        table = system_processes()
        facts = table.facts(pid)
        if facts is None:
            return
        left = LeftCommand(step=name, run=run, pid=pid, start=facts.start, boot_id=table.boot_id())
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(left))
            new.replace(path)
        except OSError as error:
            log.warning("a command is not noted", step=name, why=str(error))

    try:
        yield note
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def left_commands(folder: Path) -> Mapping[LeftCommand, tuple[ProcessFacts, ...]]:
    """Those of which something lives, with what does: the command, and whatever it started in its
    session."""
    notes = _notes(folder)
    if not notes:
        return {}
    table = system_processes()
    boot_id, processes = table.boot_id(), {facts.pid: facts for facts in table.everything()}
    found = {}
    for note in notes:
        holder = processes.get(note.pid)
        # No process gets the number of a session that somebody is in: another start is another session.
        if note.boot_id != boot_id or (holder is not None and holder.start != note.start):
            continue
        living = tuple(
            each for each in processes.values() if each.alive and each.session == note.pid
        )
        if living:
            found[note] = living
    return found


def _notes(folder: Path) -> list[LeftCommand]:
    notes = []
    for path in sorted(folder.glob("*.json")):
        try:
            notes.append(msgspec.json.decode(path.read_bytes(), type=LeftCommand))
        except FileNotFoundError:
            continue
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the note of a command cannot be read", path=str(path), why=str(error))
    return notes


async def end_left_commands(folder: Path) -> Mapping[LeftCommand, bool]:
    """Kills what an earlier controller left, and says of each whether it has ended. None is asked first:
    its output goes nowhere, and nobody awaits what it comes to."""
    found = await asyncio.to_thread(left_commands, folder)
    if not found:
        return {}
    for living in found.values():
        for facts in living:
            _kill(facts)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_S):
            while await asyncio.to_thread(left_commands, folder):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(_POLL_S)
    there = await asyncio.to_thread(left_commands, folder)
    return {note: note not in there for note in found}


def _kill(found: ProcessFacts) -> None:
    """Exactly this process, seen again to be the one that was found."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(found.pid) if hasattr(os, "pidfd_open") else None
        try:
            now = system_processes().facts(found.pid)
            if now is None or now.start != found.start:
                return
            if descriptor is None:
                os.kill(found.pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            if descriptor is not None:
                os.close(descriptor)
