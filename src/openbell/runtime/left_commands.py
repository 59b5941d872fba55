"""Commands that a controller was carrying out when it was killed, found and ended by the next one.

    1. spawned, in a session of its own
    2. noted: `state/run/commands/STEP-PID-START.json`, with the controller that awaits it
    3. ended, and the note is taken away

A command is ended with the controller that awaits it (`runtime.commands`), but for a controller that is
killed with -9: it cannot. What is noted and lives is then still at work, while its run is gone on with.
Known by pid, start time and boot id, and its session, as services are; never by name. A controller that
is killed between 1 and 2 leaves one that nobody finds: of it there is only the intent in the journal.

A plan, which anybody may ask for beside a run, looks by the same verifications. Each has a note of its
own, so that none hides another's, and is left only where who awaited it is gone: until then no run ends
it, waits for it or takes it for something that was left.

Not fsynced: it has to outlive the controller, not a power cut, after which nothing runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from openbell.runtime.processes import ProcessFacts, system_processes
from openbell.runtime.signalling import signal_each
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
    plan: bool
    """Its run is being planned: it is a look, and nothing was begun."""
    by_pid: int
    by_start: int
    """The process that awaits it."""

    def told(self) -> str:
        return f"the command of step {self.step} of {self.run}"


@contextlib.contextmanager
def noted(
    folder: Path, name: str, run: str, *, plan: bool = False
) -> Iterator[Callable[[int], None]]:
    """For as long as a command is carried out; what it yields takes its pid, once it is spawned. A disk
    that takes no note costs the note."""
    paths: list[Path] = []

    def note(pid: int) -> None:
        table = system_processes()
        facts, own = table.facts(pid), table.facts(os.getpid())
        if facts is None or own is None:
            return
        left = LeftCommand(
            step=name, run=run, pid=pid, start=facts.start, boot_id=table.boot_id(), plan=plan,
            by_pid=own.pid, by_start=own.start,
        )  # fmt: skip
        path = folder / f"{name}-{pid}-{facts.start}.json"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(left))
            new.replace(path)
        except OSError as error:
            log.warning("a command is not noted", step=name, why=str(error))
        paths.append(path)

    try:
        yield note
    finally:
        for path in paths:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class AtWork:
    """What lives of the commands that are noted."""

    left: Mapping[LeftCommand, tuple[ProcessFacts, ...]]
    """Not to be there when a run begins, or ends: with the command, whatever it started in its session."""
    of_plans: frozenset[int]
    """Pids of what somebody who lives plans by."""


def left_commands(folder: Path) -> Mapping[LeftCommand, tuple[ProcessFacts, ...]]:
    """Those of which something lives, with what does. Raises OSError: it is not known."""
    return commands_at_work(folder).left


def commands_at_work(folder: Path) -> AtWork:
    """Raises OSError where the notes cannot be listed: it is not known."""
    notes = _notes(folder)
    if not notes:
        return AtWork({}, frozenset())
    table = system_processes()
    boot_id, processes = table.boot_id(), {facts.pid: facts for facts in table.everything()}
    found: dict[LeftCommand, tuple[ProcessFacts, ...]] = {}
    of_plans: set[int] = set()
    for note in notes:
        holder = processes.get(note.pid)
        # No process gets the number of a session that somebody is in: another start is another session.
        if note.boot_id != boot_id or (holder is not None and holder.start != note.start):
            continue
        living = tuple(
            each for each in processes.values() if each.alive and each.session == note.pid
        )
        planner = processes.get(note.by_pid)
        if note.plan and planner is not None and planner.alive and planner.start == note.by_start:
            of_plans |= {each.pid for each in living}
        elif living:
            # Of a run that was broken off here it is left too, where nothing could end it.
            found[note] = living
    return AtWork(found, frozenset(of_plans))


def _notes(folder: Path) -> list[LeftCommand]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - unlike glob it hides no error
    except FileNotFoundError:
        return []
    notes = []
    for path in (folder / name for name in names if name.endswith(".json")):
        try:
            notes.append(msgspec.json.decode(path.read_bytes(), type=LeftCommand))
        except FileNotFoundError:
            continue
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the note of a command cannot be read", path=str(path), why=str(error))
    return notes


def end_left_commands(folder: Path) -> Mapping[LeftCommand, bool]:
    """Kills what an earlier controller left, and says of each whether it has ended. None is asked first:
    its output goes nowhere, and nobody awaits what it comes to. Blocks, for as long as the disk does
    besides. Raises OSError: whether there is any is not known."""
    found = left_commands(folder)
    for living in found.values():
        signal_each(living, signal.SIGKILL)  # what cannot be signalled is found again, and told
    there, until = found, time.monotonic() + KILL_S
    while there and time.monotonic() < until:
        time.sleep(_POLL_S)  # the kernel tells nobody
        there = left_commands(folder)
    return {note: note not in there for note in found}
