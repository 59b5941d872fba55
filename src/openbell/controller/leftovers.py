"""Processes of an earlier run that no controller knows, and foreign holders of a service's port."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from openbell.controller.desk import ControlledDesk
from openbell.controller.living import LOOK_S
from openbell.errors import RefusedError
from openbell.kill.aside import aside
from openbell.procedures.wording import count_of
from openbell.runtime.left_commands import left_commands
from openbell.runtime.ports import is_taken
from openbell.runtime.processes import system_processes
from openbell.runtime.spec import Orphan
from openbell.service.logging import get_logger

log = get_logger()


async def settle_leftovers(desk: ControlledDesk, force: bool, actor: str) -> None:
    """Ends our own when forced to. Raises RefusedError: nothing is opened beside any other."""
    if not desk.adoption.orphans:
        return
    alive = await _there(desk)
    left: list[Orphan] = []
    for orphan in alive:
        if force and orphan.ours:
            await desk.auditor.record(
                actor, "orphan.end", orphan.service, pid=orphan.pid, found_by=orphan.found_by
            )
            if await desk.supervisor.end_orphan(orphan):
                continue
        left.append(orphan)
    desk.adoption = replace(desk.adoption, orphans=tuple(left))
    if left:
        mine = any(orphan.ours for orphan in left)
        raise RefusedError(
            f"{count_of(len(left), 'process is', 'processes are')} in the way of the desk",
            hint="--force ends those of an earlier run of this desk"
            if mine
            else "end them, or give the services other ports",
            orphans=[_orphan_dict(orphan) for orphan in left],
        )


async def told_in_the_way(desk: ControlledDesk, force: bool) -> list[str]:
    """For what an opening would be refused as things are, a sentence each. What a killed controller left
    at work an opening ends itself."""
    there = await _there(desk)
    ended = await _to_be_ended(desk) if there else frozenset()
    return [
        f"pid {orphan.pid} of {orphan.service} is left over: `openbell up --force` ends it"
        if orphan.ours
        else f"pid {orphan.pid} ({orphan.command}) is in the way of {orphan.service}: end it, or give "
        f"{orphan.service} another port"
        for orphan in there
        if not (force and orphan.ours) and orphan.pid not in ended
    ]


async def _to_be_ended(desk: ControlledDesk) -> frozenset[int]:
    """None where the disk does not say."""
    try:
        found = await aside(lambda: left_commands(desk.layout.commands), LOOK_S)
    except OSError as error:
        log.error("what was left at work is not known", why=str(error) or type(error).__name__)
        return frozenset()
    return frozenset(facts.pid for living in found.values() for facts in living)


async def _there(desk: ControlledDesk) -> list[Orphan]:
    if not desk.adoption.orphans:
        return []
    ports = {name: each.ports for name, each in desk.desk.file.services.items()}
    return await asyncio.to_thread(_still_there, desk.adoption.orphans, ports)


def _still_there(orphans: Sequence[Orphan], ports: Mapping[str, tuple[int, ...]]) -> list[Orphan]:
    """Those that have not ended since they were found."""
    table = system_processes()
    there = []
    for orphan in orphans:
        own = ports.get(orphan.service, ())
        if orphan.found_by == "port" and own:
            if any(map(is_taken, own)):
                there.append(orphan)
            continue
        facts = table.facts(orphan.pid)
        if facts is not None and facts.alive and facts.start == orphan.start:
            there.append(orphan)
    return there


def _orphan_dict(orphan: Orphan) -> dict[str, object]:
    return {
        "service": orphan.service,
        "pid": orphan.pid,
        "found_by": orphan.found_by,
        "command": orphan.command,
        "ours": orphan.ours,
    }
