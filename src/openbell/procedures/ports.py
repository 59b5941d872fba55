"""What procedures need of the rest of the desk. Narrow, so that tests can stand in for each."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from openbell.domain.service_state import ServiceState
from openbell.runtime.spec import ServiceView, StartResult, StopResult
from openbell.venues.asking import VenueAnswer


class Services(Protocol):
    """The desk's processes; `openbell.runtime.supervisor.Supervisor` is one."""

    def view(self, name: str) -> ServiceView: ...

    def views(self) -> Sequence[ServiceView]: ...

    async def start(self, name: str) -> StartResult:
        """Returns when the service is ready or it is known why not. A service that runs is left
        as it is. Dependencies are the caller's business."""
        ...

    async def stop(self, name: str, *, reason: str) -> StopResult:
        """Returns when the process group is seen to be empty or the ladder has ended."""
        ...


class VenueTruth(Protocol):
    """The venues asked past the engine, by a process of its own (`openbell.venues.clerk`)."""

    async def look(
        self, *, timeout_s: float, but: Collection[str] = (), fills_since_ns: int | None = None
    ) -> Sequence[VenueAnswer]:
        """What each venue says now, those in `but` aside; with executions from a time on where one is
        given. Never raises for what a venue does."""
        ...

    async def cancel(self, *, timeout_s: float, but: Collection[str] = ()) -> Sequence[VenueAnswer]:
        """Withdraws the desk's own open orders, then looks again; not at those in `but`."""
        ...


class EarlierEffect(StrEnum):
    """What is known of an effect, in this run, before it is brought about."""

    NONE = "none"
    IN_DOUBT = "in_doubt"
    """It was intended, and nobody knows what became of it."""
    DONE = "done"
    FAILED = "failed"


class Effects(Protocol):
    """What a run has brought about that must not be brought about twice, in its journal."""

    async def intend(self, effect: str, what: str) -> bool:
        """On the disk before the effect is brought about. False: it could not be written, and the run
        goes on without; what must not happen twice must then not happen. Raises StorageError: it must
        not be brought about."""

    async def settle(self, effect: str, outcome: EarlierEffect) -> None:
        """What became of it is known."""

    async def earlier(self, effect: str) -> EarlierEffect: ...

    async def intended(self, effect: str) -> str:
        """What was intended last under this name, in this run; empty where nothing was, or where that
        is not known."""


class NoEffects:
    """Of a plan: nothing was brought about, and nothing will be."""

    async def intend(self, effect: str, what: str) -> bool:
        raise AssertionError("a plan brings nothing about")

    async def settle(self, effect: str, outcome: EarlierEffect) -> None:
        raise AssertionError("a plan brings nothing about")

    async def earlier(self, effect: str) -> EarlierEffect:
        return EarlierEffect.NONE

    async def intended(self, effect: str) -> str:
        return ""


class PlannedEffects(NoEffects):
    """Of the plan of a run that is gone on with: what it has brought about is known, and nothing
    more is brought about."""

    def __init__(self, of: Effects) -> None:
        self._of = of

    async def earlier(self, effect: str) -> EarlierEffect:
        return await self._of.earlier(effect)

    async def intended(self, effect: str) -> str:
        return await self._of.intended(effect)


class GuardPort(Protocol):
    """The desk's guard, as procedures speak to it; `controller.guard_keeper.GuardKeeper` is one."""

    def view(self) -> Mapping[str, Any] | None:
        """How it is; None: the desk has no venue, and so no guard."""

    def dead_man(self) -> Mapping[str, Mapping[str, Any]]:
        """Each venue's switch, as the guard said last; empty while none answers."""

    async def opened(self) -> str:
        """It is up and its switches follow the engine; else why not."""

    async def hold(self) -> None:
        """The engine is about to be stopped, and no order is to rest: its silence says nothing."""

    async def disarm(self, but: Collection[str] = ()) -> Mapping[str, Any]:
        """`{"disarmed", "unknown": [venue, ...], "why"}`: every timer is off and stays off,
        `but` those of these venues, which are left to run out."""


@dataclass(frozen=True)
class Facts:
    """A desk's processes at one moment, as every planner sees them."""

    views: Mapping[str, ServiceView]

    def state(self, name: str) -> ServiceState:
        return self.views[name].state

    def is_up(self, name: str | None) -> bool:
        """Whether the service can be asked something; False for a role nobody has."""
        return name is not None and self.views[name].state in (
            ServiceState.READY,
            ServiceState.DEGRADED,
        )


def facts_of(services: Services) -> Facts:
    return Facts({view.name: view for view in services.views()})


def run_folder_sockets(
    run: Path, keep: Collection[Path]
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Sockets in the desk's run folder besides those in `keep`: those on which somebody listens, and
    mere files of processes that were killed, which were taken away."""
    if not run.is_dir():
        return (), ()
    found = sorted(path for path in run.iterdir() if path.is_socket() and path not in keep)
    left = tuple(path for path in found if not _is_abandoned(path))
    removed = tuple(path for path in found if path not in left)
    for path in removed:
        path.unlink(missing_ok=True)
    return left, removed


def _is_abandoned(path: Path) -> bool:
    """Nobody listens; known only from a connection that was refused."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.settimeout(0.2)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                return True
            except OSError as error:
                if error.errno == errno.EPROTOTYPE:
                    continue  # a socket of the other kind
                return False
            return False
    return False
