"""Freezes what could send an order, and sees it frozen.

By the cgroup freezer where the service has a cgroup of its own, else by SIGSTOP to each of its
processes. What is frozen catches no signal but SIGKILL: it is killed later, never asked.

    look ─▶ all frozen? ─▶ look once more: none new ─▶ frozen
     ▲          │ no
     └── stop ◀─┘          one that forks while it is stopped is met in the next round
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from pathlib import Path

from openbell.config.duties import ENGINES
from openbell.kill.emergency_statement import FrozenService
from openbell.kill.own_processes import OwnProcesses, OwnService
from openbell.runtime.processes import system_processes
from openbell.runtime.signalling import signal_each

FREEZE_TIMEOUT_S = 1.0
"""A process in the middle of a disk access stops when that is through; one that hangs there sends
nothing either, but that is not proven."""
_CGROUP_TIMEOUT_S = 0.05
"""The kernel freezes a cgroup in its own time: 2 ms where a process in it computes. Signals go to
those that take longer, and it is looked at again."""
_LOOK_EVERY_S = 0.002


def freeze(own: OwnProcesses, timeout_s: float = FREEZE_TIMEOUT_S) -> tuple[FrozenService, ...]:
    """Every service that may send orders, and of which there is a process or that desk.toml calls
    an engine; of one that is not found while no record could be read (`own.unread`) nothing is said.
    Returns when each is seen to be frozen, or is known not to be. For a thread of its own: the venues
    are asked meanwhile."""
    deadline_s = time.monotonic() + timeout_s
    told: dict[str, FrozenService] = {}
    sure = False
    while not sure:
        senders = [service for service in own.look().values() if service.may_send]
        rounds = [_freeze(service) for service in senders]
        # The same processes as were told to stop: nothing was forked before that reached them.
        sure = all(
            each.result == "frozen"
            and each.service in told
            and told[each.service].pids == each.pids
            for each in rounds
        )
        told |= {each.service: each for each in rounds}
        for name in set(told) - {service.name for service in senders}:
            told[name] = FrozenService(service=name, result="not_running")
        if time.monotonic() > deadline_s:
            break
        if not sure:
            awaited = {each.service for each in rounds if each.result != "frozen"}
            _wait_until_stopped((each for each in senders if each.name in awaited), deadline_s)
    for name, role in own.declared_roles().items():
        if role in ENGINES and name not in told and not own.unread:
            told[name] = FrozenService(service=name, result="not_running")
    return tuple(told[name] for name in sorted(told))


def _wait_until_stopped(senders: Iterable[OwnService], deadline_s: float) -> None:
    """Of those that were told to: cheaper than to look at the whole table again and again."""
    table = system_processes()
    members = [facts for service in senders for facts in service.members]
    while time.monotonic() < deadline_s:
        now = [table.facts(facts.pid) for facts in members]
        if all(facts is None or facts.frozen or not facts.alive for facts in now):
            return
        time.sleep(_LOOK_EVERY_S)


def _freeze(service: OwnService) -> FrozenService:
    """One round: what it is like now, after it was told to stop."""
    why = ""
    if all(facts.frozen for facts in service.members):
        return FrozenService(service=service.name, result="frozen", pids=service.pids, how="signal")
    cgroup = cgroup_of(service)
    if cgroup is not None:
        why = _freeze_cgroup(cgroup)
        if not why:
            return FrozenService(
                service=service.name, result="frozen", pids=service.pids, how="cgroup"
            )
    why = signal_each((f for f in service.members if not f.frozen), signal.SIGSTOP) or why
    return FrozenService(
        service=service.name,
        result="not_frozen",
        pids=service.pids,
        how="signal",
        why=why or "its processes are not seen to be stopped",
    )


def cgroup_of(service: OwnService) -> Path | None:
    """Its own, as recorded, if its leader is in it and so is nothing that is not its."""
    if service.record is None or not service.record.cgroup or service.leader is None:
        return None
    folder = Path(service.record.cgroup)
    try:
        inside = {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    except (OSError, ValueError):
        return None
    return folder if service.leader.pid in inside <= set(service.pids) else None


def _freeze_cgroup(folder: Path) -> str:
    """Why it is not seen to be frozen, or nothing."""
    deadline_s = time.monotonic() + _CGROUP_TIMEOUT_S
    try:
        (folder / "cgroup.freeze").write_text("1")
        while not _says_frozen(folder):
            if time.monotonic() > deadline_s:
                return "its cgroup is not seen to be frozen"
            time.sleep(_LOOK_EVERY_S)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return ""


def _says_frozen(folder: Path) -> bool:
    """By the kernel's word for the whole of it; its processes look as if they slept. Raises
    OSError."""
    events = (folder / "cgroup.events").read_text().split()
    return dict(zip(events[::2], events[1::2], strict=False)).get("frozen") == "1"
