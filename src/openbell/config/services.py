"""`[services.NAME]`: a process of the desk, how it is started, probed, stopped and restarted."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from openbell.config.base import EnvironmentName, Model, Name, Port
from openbell.config.soundness import Lasting
from openbell.config.units import Bytes, Cores, Seconds

SignalName = Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL"]

Phase = Literal["infrastructure", "core", "services", "console"]
"""Of a start-up, in their order: `openbell.config.phases`."""


class HttpReady(Model):
    kind: Literal["http"]
    path: Annotated[str, StringConstraints(pattern=r"^/")] = "/ready"
    """What is asked for; the answer must come from the service's own processes."""
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    """The one status that means ready; unset: any 2xx."""
    timeout: Lasting = 30.0
    """Of the whole wait until ready; a start that takes longer has failed."""


class TcpReady(Model):
    kind: Literal["tcp"]
    timeout: Lasting = 30.0
    """Of the whole wait until the port accepts a connection."""


class ExecReady(Model):
    kind: Literal["exec"]
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """Exit status 0 means ready."""
    every: Lasting = 0.25
    """Wait between two runs of the command."""
    timeout: Lasting = 30.0
    """Of the whole wait until ready."""


class LogReady(Model):
    kind: Literal["log"]
    pattern: str
    """Regular expression searched in each line the service writes after its start."""
    timeout: Lasting = 30.0
    """Of the whole wait until such a line."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern


Ready = Annotated[HttpReady | TcpReady | ExecReady | LogReady, Field(discriminator="kind")]


class Health(Model):
    """`[services.NAME.health]`: the slow probe of a ready service; death is seen without it."""

    path: Annotated[str, StringConstraints(pattern=r"^/")] = "/health"
    """2xx is healthy."""
    every: Lasting = 5.0
    """Wait between two probes."""
    timeout: Lasting = 2.0
    """Of one probe."""
    failures: Annotated[int, Field(ge=1)] = 3
    """So many failures in a row make the service degraded."""


class Stop(Model):
    signal: SignalName = "TERM"
    """Sent to the service's main process first."""
    timeout: Seconds = 10.0
    """Then the whole process group gets SIGKILL."""


class Restart(Model):
    policy: Literal["always", "on-failure", "never"] = "on-failure"
    """What an exit unasked for leads to; on-failure: any but status 0."""
    backoff: Seconds = 0.1
    """Wait before the first restart; doubled at each further one."""
    backoff_max: Seconds = 30.0
    """Longest wait between two restarts."""
    limit: Annotated[int, Field(ge=0)] = 5
    """So many restarts within `window`, then the service has failed and a person must act."""
    window: Seconds = 60.0
    """Within which restarts are counted."""


TRIAL_FLAG = "--trial"
"""Openbell's own services understand it: `openbell.service.launch`."""


class Trial(Model):
    """`[services.NAME.trial]`: tries what the service would be started with, beside the one that runs."""

    command: tuple[str, ...] | None = None
    """Program and arguments, as `command` of the service and in its environment. It loads what a start
    would load, takes and sends nothing, and ends with status 0 where a start may be tried. Unset: of
    Openbell's own services their command with `--trial`, of others none. `[]`: none."""
    timeout: Lasting = 60.0
    """A trial that takes longer has failed, and is killed."""


class Limits(Model):
    cpu: Cores | None = None
    """Most CPU the service may use, where the system enforces it (cgroup v2)."""
    memory: Bytes | None = None
    """Most memory the service may use, where the system enforces it."""


ServiceRole = Literal[
    "engine",
    "standby",
    "strategies",
    "risk",
    "order-management",
    "market-data",
    "venue",
    "agent",
    "monitoring",
    "other",
]


class Service(Model):
    """`[services.NAME]`: a process of the desk."""

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """Program and arguments, no shell. `{python}`, `{desk}`, `{port}` and `{state}` are replaced:
    this interpreter, the desk's folder, the service's port, its own state folder."""
    cwd: str = "."
    """Relative to the desk's folder."""
    env: dict[EnvironmentName, str] = {}
    """No secrets: those are named in `secrets`."""
    secrets: tuple[EnvironmentName, ...] = ()
    """Variables passed on from the environment or `.env`."""
    venues: tuple[Name, ...] = ()
    """Venues whose credentials the service is given."""
    port: Port | None = None
    """On loopback; asked by probes, and checked to be free before the start."""
    depends_on: tuple[Name, ...] = ()
    """Services that must be ready before this one is started."""
    ready: Ready | None = None
    """Unset: with a port, `{kind = "tcp"}`; without one, ready once it has run for a
    second."""
    health: Health | None = None
    """The slow probe of a ready service; unset: only its process is watched."""
    stop: Stop = Stop()
    """How it is stopped."""
    restart: Restart = Restart()
    """What happens when it ends by itself."""
    trial: Trial = Trial()
    """Before a service that runs is restarted in place; refused, it goes on as it is."""
    limits: Limits = Limits()
    """What it may use."""
    critical: bool = False
    """The desk does not trade while a critical service is not ready."""
    role: ServiceRole = "other"
    """What the service is to the desk; at most one engine, and at most one standby for it. By it a
    closing knows in which order to stop: strategies, engine, risk, order management, market data,
    agents and others, monitoring."""
    standby_for: Name | None = None
    """Of a standby: the engine whose work it takes over."""
    promote_after: Lasting = 3.0
    """Of a standby: an engine that does not answer for so long counts as hung; it is killed, and the
    standby takes over. A dead one is replaced at once."""
    phase: Phase | None = None
    """Where it belongs in a start-up. Named: it is started when everything of the phases before is
    ready (infrastructure, core, services, console). Unset: by its role and by what needs it, for the
    telling alone, and started as soon as what it depends on is ready."""
    group: Name | None = None
    """Name shared by services that belong together, for people."""
    reload_signal: SignalName = "HUP"
    """Sent by `openbell reload`."""
    surge: bool = False
    """A rolling restart starts its replacement before it leaves. For services of which two may run
    at once: they share the state folder, the log and the accounts, and bind nothing that only one
    can have."""
    surge_port: Port | None = None
    """The second port of a service with `surge` and `port`: it and its replacements alternate."""

    @model_validator(mode="after")
    def _can_surge(self) -> Service:
        if self.surge_port is not None and not (self.surge and self.port is not None):
            raise ValueError("surge_port needs surge = true and port")
        if not self.surge:
            return self
        if self.role in ("engine", "standby", "strategies", "venue"):
            raise ValueError(f"two at once of the role {self.role} would trade twice: no surge")
        if self.port is not None and self.surge_port is None:
            raise ValueError("a service with a port needs a surge_port for its replacement")
        if self.readiness() is None or isinstance(self.ready, LogReady):
            raise ValueError(
                "surge needs a ready probe of kind http, tcp or exec: the log is shared by the two"
            )
        return self

    @model_validator(mode="after")
    def _probe_needs_port(self) -> Service:
        if self.port is None and (
            self.health is not None or isinstance(self.ready, HttpReady | TcpReady)
        ):
            raise ValueError("an http or tcp probe needs the service's port")
        return self

    @model_validator(mode="after")
    def _stands_by_for_one(self) -> Service:
        if (self.role == "standby") != (self.standby_for is not None):
            raise ValueError('role = "standby" and standby_for belong together')
        if self.role == "standby" and self.critical:
            raise ValueError("a standby is not critical: the desk trades without it")
        return self

    @property
    def ports(self) -> tuple[int, ...]:
        """On any of which it may listen."""
        return tuple(port for port in (self.port, self.surge_port) if port is not None)

    def readiness(self) -> HttpReady | TcpReady | ExecReady | LogReady | None:
        """The probe that gates dependents; `None` means ready once it has run for a
        second."""
        if self.ready is None and self.port is not None:
            return TcpReady(kind="tcp")
        return self.ready
