"""What the runtime is told of a service, and what it tells of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openbell.config.services import (
    ExecReady,
    Health,
    HttpReady,
    Limits,
    LogReady,
    Restart,
    Stop,
    TcpReady,
)
from openbell.domain.service_state import ServiceState


@dataclass(frozen=True)
class ServiceSpec:
    """One service, ready to be spawned: placeholders filled in, paths absolute."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str] = field(repr=False)
    """The child's whole environment, secrets included: never logged, never in `digest` in clear."""
    log_path: Path
    port: int | None
    ready: HttpReady | TcpReady | ExecReady | LogReady | None
    health: Health | None
    stop: Stop
    restart: Restart
    limits: Limits
    critical: bool
    depends_on: tuple[str, ...]
    reload_signal: str
    digest: str
    """SHA-256 over what the desk says of it: tells whether a running process is of this
    specification. The base environment (PATH, HOME, ...) does not count."""
    role: str = "other"
    """As in desk.toml: what it is to the desk."""
    venues: tuple[str, ...] = ()
    """Venues whose credentials it is given."""
    can_send: bool = True
    """It may have something to send an order with."""
    trial: tuple[str, ...] = ()
    """Tries what it would be started with, beside the one that runs; empty: there is no such command."""
    trial_timeout_s: float = 60.0
    alternate: ServiceSpec | None = None
    """The same on its second port (the same digest); None: it has no second one."""

    @property
    def ports(self) -> tuple[int, ...]:
        """On any of which it may listen."""
        second = None if self.alternate is None else self.alternate.port
        return tuple(port for port in (self.port, second) if port is not None)

    def on_port(self, port: object) -> ServiceSpec:
        """The one of the two that listens on this port; itself where neither does."""
        other = self.alternate
        return other if other is not None and other.port == port else self

    def beside(self, port: int | None) -> ServiceSpec:
        """The one of the two that can run beside a process that listens on this port."""
        return self.alternate if self.alternate is not None and port == self.port else self


@dataclass(frozen=True)
class ServiceView:
    """A service at one moment."""

    name: str
    state: ServiceState
    pid: int | None
    port: int | None
    restarts: int
    """Since the desk was opened."""
    started_ns: int | None
    """Wall clock, nanoseconds."""
    uptime_s: float | None
    response_ms: float | None
    """Of the last probe."""
    cpu_percent: float | None
    memory_bytes: int | None
    """Of the whole process group; None where it cannot be read."""
    critical: bool
    drifted: bool
    """Runs under an older table of desk.toml, or older code, than there is now."""
    reason: str
    """Why it is in this state, in a sentence; empty when all is well."""
    adopted: bool
    """Found running by a restarted controller."""
    drift: tuple[str, ...] = ()
    """In what it is older: `table`, `code`."""


@dataclass(frozen=True)
class ServiceEvent:
    """A change of a service's state."""

    at_ns: int
    service: str
    state: ServiceState
    previous: ServiceState
    reason: str
    pid: int | None
    seconds: float | None = None
    """How long it took: a start until ready, a stop until the group was empty."""


@dataclass(frozen=True)
class StartResult:
    service: str
    ready: bool
    seconds: float
    reason: str = ""
    """Why not: "exited with status 1 after 0.2s", "not ready within 30s", ..."""
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rung:
    """One rung of the stop ladder."""

    action: str
    """`TERM`, `KILL group`, ..."""
    seconds: float
    outcome: str
    """`group empty`, `timed out`, ..."""


@dataclass(frozen=True)
class StopResult:
    service: str
    stopped: bool
    """The whole process group is seen to be empty."""
    seconds: float
    rungs: tuple[Rung, ...]
    exit_status: int | None
    """None where it is unknown (an adopted process on an old kernel). Negative: killed by signal."""
    survivors: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial."""

    service: str
    refused: str = ""
    """Why the service must not be restarted with what lies on the disk now; empty: nothing was found
    that speaks against it, or there was nothing to try."""
    seconds: float = 0.0
    log_tail: tuple[str, ...] = ()
    """What a trial that refused it printed last."""


@dataclass(frozen=True)
class ReplaceResult:
    """What became of a replacement."""

    service: str
    replaced: bool
    """The replacement is the service now; False: the old one still is."""
    reason: str = ""
    """Why it was not replaced, or what is left of the old one."""
    log_tail: tuple[str, ...] = ()
    pid: int | None = None
    """Of the service as it is now."""
    ready_s: float = 0.0
    """From the replacement's spawn until it was ready."""
    left_s: float = 0.0
    """What the old one took to stop."""


Proven = Callable[[int | None], Awaitable[str]]
"""Asked of a replacement that is ready, with its port: why it is not good enough to take over;
empty: it is. May wait for it."""


@dataclass(frozen=True)
class Orphan:
    """A process of an earlier run, or a foreign holder of a port, found before opening."""

    service: str
    pid: int
    found_by: str
    """`record`, `marker` or `port`"""
    command: str
    ours: bool
    """Carries this desk's marker: may be ended. Others are only ever named."""
    start: int = 0
    """Its start time, as the system counts it: tells it from a later process under the same pid."""


@dataclass(frozen=True)
class AdoptionReport:
    adopted: tuple[str, ...]
    gone: tuple[str, ...]
    """Recorded, but no such process now."""
    orphans: tuple[Orphan, ...]
    seconds: float
    unreadable: tuple[Path, ...] = ()
    """Record files that are none; left alone. What they told of is found by its marker."""
    doubled: tuple[str, ...] = ()
    """Services that were being replaced: of each the one that is not the service was told to end."""
    stopping: tuple[str, ...] = ()
    """Services whose end an earlier controller had begun: it is gone on with."""
