"""What lives of a desk, by the process table: whatever carries its mark, and commands that were left at
work. Each call blocks."""

from __future__ import annotations

from contextlib import suppress

from openbell.config.layout import DeskLayout
from openbell.kill.aside import within
from openbell.runtime.left_commands import commands_at_work, left_commands
from openbell.runtime.members import scan
from openbell.runtime.processes import system_processes

LOOK_S = 10.0
"""For the disk to say what was left at work, each time; nobody waits for it longer."""


def marked_processes(layout: DeskLayout) -> dict[int, str]:
    """Living processes that carry the desk's mark, by pid, each with its service."""
    found = scan(system_processes(), layout.desk_id)
    alive = {pid: mark for pid, mark in found.marks.items() if found.processes[pid].alive}
    plans: frozenset[int] = frozenset()
    if any(mark.is_step for mark in alive.values()):
        # What somebody plans by meanwhile changes nothing, and is not left.
        with suppress(OSError):
            plans = within(lambda: commands_at_work(layout.commands), LOOK_S).of_plans
    return {pid: mark.service for pid, mark in alive.items() if pid not in plans}


def commands_left(layout: DeskLayout) -> dict[int, str]:
    """Living processes of commands of the desk's own that were left at work, by pid, each in words.
    Raises OSError: it is not known."""
    found = within(lambda: left_commands(layout.commands), LOOK_S)
    return {facts.pid: note.told() for note, all_ in found.items() for facts in all_}
