"""Ends the processes of a desk after its orders are gone, and sees them gone.

What is frozen is killed with its whole group: SIGTERM to a stopped process is not delivered until it
is continued, and then it would act once more. Everything else is asked first, by the ladder that an
ordinary stop climbs. Services that are the outside world (simulated venues) stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openbell.config.layout import DeskLayout
from openbell.kill.emergency_statement import EndedService
from openbell.kill.freezing import cgroup_of
from openbell.kill.marker import OUTSIDE
from openbell.kill.own_processes import OwnProcesses, OwnService
from openbell.runtime.signalling import signal_each

if TYPE_CHECKING:  # loads the desk's models, while every millisecond counts
    from openbell.runtime.host import Host

KILL_TIMEOUT_S = 5.0
"""What outlives SIGKILL so long hangs in the kernel."""
OUTLIVED = "it outlived SIGKILL"
_LOOK_EVERY_S = 0.005
_STOP_SIGNAL, _STOP_TIMEOUT_S = "TERM", 10.0
"""As the defaults of `stop` in desk.toml."""


async def kill_frozen(own: OwnProcesses, names: Iterable[str]) -> list[EndedService]:
    """SIGKILL to all that belongs to these services, until none of it is seen."""
    wanted = set(names)
    found = {n: each for n, each in own.look().items() if n in wanted}
    seen: dict[str, set[int]] = {name: set(each.pids) for name, each in found.items()}
    now_s = asyncio.get_running_loop().time
    deadline_s = now_s() + KILL_TIMEOUT_S
    why: dict[str, str] = {}
    while found and now_s() < deadline_s:
        for name, each in found.items():
            seen.setdefault(name, set()).update(each.pids)
            why[name] = _kill(each)
        await asyncio.sleep(_LOOK_EVERY_S)
        found = {n: each for n, each in own.look().items() if n in wanted}
    return [
        EndedService(
            service=name,
            result="left" if name in found else "killed",
            pids=found[name].pids if name in found else tuple(sorted(pids)),
            why=(why.get(name) or OUTLIVED) if name in found else "",
        )
        for name, pids in sorted(seen.items())
    ]


def longest_end_s(own: OwnProcesses) -> float:
    """How long `stop_others` and the kills around it take at most."""
    asked_s = _STOP_TIMEOUT_S
    for each in own.look().values():
        settings: Mapping[str, Any] = {} if each.record is None else each.record.settings
        with contextlib.suppress(TypeError, ValueError):
            asked_s = max(asked_s, float((settings.get("stop") or {}).get("timeout", 0.0)))
    return asked_s + 3 * KILL_TIMEOUT_S


async def stop_others(layout: DeskLayout, own: OwnProcesses) -> list[EndedService]:
    """Asks every other service of the desk to end, all at once, and kills what does not."""
    others = [
        each for each in own.look().values() if not each.may_send and each.role not in OUTSIDE
    ]
    if not others:
        return []
    from openbell.runtime.host import Host

    host = Host.of(layout, lambda _: None)
    return list(await asyncio.gather(*(_stop(host, each) for each in others)))


def _kill(service: OwnService) -> str:
    """Why it could not be signalled, or nothing."""
    if service.record is not None and service.record.cgroup and service.leader is not None:
        folder = cgroup_of(service)
        if folder is not None:
            with contextlib.suppress(OSError):
                (folder / "cgroup.kill").write_text("1")
    return signal_each(service.members, signal.SIGKILL)


async def _stop(host: Host, service: OwnService) -> EndedService:
    from openbell.runtime.limits import ServiceCgroup

    if service.leader is None:
        return await _killed(host, service, "its first process is gone")
    process = host.watch.other(service.leader.pid)
    if process is None or process.start != service.leader.start:
        if process is not None:
            process.close()
        return await _killed(host, service, "its first process is gone")
    settings: Mapping[str, Any] = {} if service.record is None else service.record.settings
    asked = settings.get("stop") or {}
    record = service.record
    cgroup = ServiceCgroup(Path(record.cgroup)) if record is not None and record.cgroup else None
    try:
        number = signal.Signals[f"SIG{asked.get('signal', _STOP_SIGNAL)}"]
        ladder = host.ladder(process, service.leader, cgroup)
        result = await ladder.stop(number, float(asked.get("timeout", _STOP_TIMEOUT_S)))
    except (KeyError, TypeError, ValueError):
        return await _killed(host, service, "its record does not say how it is stopped")
    finally:
        process.close()
    if result.survivors:
        return EndedService(service=service.name, result="left", pids=result.survivors)
    killed = any(rung.action.startswith("KILL") for rung in result.rungs)
    return EndedService(
        service=service.name,
        result="killed" if killed else "stopped",
        pids=service.pids,
        why="it did not end when it was asked" if killed else "",
    )


async def _killed(host: Host, service: OwnService, why: str) -> EndedService:
    (ended,) = await kill_frozen(OwnProcesses(host.layout), [service.name]) or [
        EndedService(service=service.name, result="stopped", pids=service.pids)
    ]
    return EndedService(
        service=ended.service, result=ended.result, pids=ended.pids, why=ended.why or why
    )
