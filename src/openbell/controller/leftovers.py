"""Processes of an earlier run that no controller knows, and foreign holders of a service's port."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from openbell.controller.desk import ControlledDesk
from openbell.errors import RefusedError
from openbell.procedures.wording import count_of
from openbell.runtime.ports import is_taken
from openbell.runtime.processes import system_processes
from openbell.runtime.spec import Orphan


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
    """For what an opening would be refused as things are, a sentence each."""
    return [
        f"pid {orphan.pid} of {orphan.service} is left over: `openbell up --force` ends it"
        if orphan.ours
        else f"pid {orphan.pid} ({orphan.command}) is in the way of {orphan.service}: end it, or give "
        f"{orphan.service} another port"
        for orphan in await _there(desk)
        if not (force and orphan.ours)
    ]


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
