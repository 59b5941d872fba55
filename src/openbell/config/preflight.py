"""What desk.toml says of the look that is taken before anything is started."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator

from openbell.config.base import Model
from openbell.config.units import Bytes, Seconds


class Preflight(Model):
    """`[preflight]`: what is looked at before anything is started."""

    during_session: Literal["refuse", "warn", "allow"] = "refuse"
    """Of a venue that has `sessions` or a `calendar`, while a session is under way and the engine does
    not run yet. refuse: the desk is opened with `--force` alone. Venues without either trade all day
    and refuse nothing."""
    disk_free: Bytes = 256 << 20
    """Less than this free where the desk writes: the desk is not opened."""
    disk_free_warn: Bytes = 1024 << 20
    """Less than this is told."""
    memory_free: Bytes = 128 << 20
    """Less memory than this available: the desk is not opened."""
    memory_free_warn: Bytes = 512 << 20
    """Less than this is told."""
    max_clock_skew: Annotated[Seconds, Field(gt=0)] = 1.0
    """How far a venue's clock may be from ours."""
    timeout: Annotated[Seconds, Field(gt=0)] = 10.0
    """Of the questions to one venue: name, connection, credentials, clock."""

    @model_validator(mode="after")
    def _warns_first(self) -> Preflight:
        for name in ("disk_free", "memory_free"):
            if getattr(self, f"{name}_warn") < getattr(self, name):
                raise ValueError(f"{name}_warn is less than {name}: it would never be told")
        return self


_PORTS = {"postgres": 5432, "redis": 6379, "tcp": None, "http": None}


class Dependency(Model):
    """`[dependencies.NAME]`: what the desk needs and does not run itself. Its `kind` says how it is
    asked: `"postgres"` and `"redis"` in their own protocol, `"http"` (2xx), `"tcp"` (a connection), or
    `"command"` (exit status 0)."""

    kind: Literal["postgres", "redis", "http", "tcp", "command"]
    url: Annotated[str, StringConstraints(pattern=r"^[a-z]+://[^\s@/]+(@[^\s@/]+)?(/[^\s]*)?$")] | (
        None
    ) = None
    """Where it is: `"postgres://USER@HOST:5432/DATABASE"`, `"redis://HOST:6379"`, `"tcp://HOST:PORT"`,
    or the page that is asked for. No password: it is not logged in with one."""
    command: tuple[str, ...] = ()
    """Of the kind command: program and arguments, no shell, run in the desk's folder. `{python}`,
    `{desk}` and `{state}` are replaced."""
    timeout: Annotated[Seconds, Field(gt=0)] = 5.0
    """How long it is waited for."""
    required: bool = True
    """False: the desk is opened without it, and says so."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Dependency:
        if self.kind == "command":
            if not self.command or self.url is not None:
                raise ValueError("the kind command takes command, and no url")
            return self
        if self.command or self.url is None:
            raise ValueError(f"the kind {self.kind} takes url, and no command")
        parts = urlsplit(self.url)
        if parts.password is not None:
            raise ValueError("a password has no place in this file: leave it out of the url")
        wanted = ("http", "https") if self.kind == "http" else (self.kind,)
        if parts.scheme not in (*wanted, *(("postgresql",) if self.kind == "postgres" else ())):
            raise ValueError(f"the kind {self.kind} takes a url that begins with {wanted[0]}://")
        if not parts.hostname or (self.kind == "tcp" and parts.port is None):
            raise ValueError("the url names no host, or no port")
        return self

    @property
    def place(self) -> tuple[str, int]:
        """Host and port; not of the kind command."""
        parts = urlsplit(self.url or "")
        standard = _PORTS.get(self.kind) or (443 if parts.scheme == "https" else 80)
        return parts.hostname or "", parts.port or standard
