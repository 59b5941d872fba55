"""The start of one service that callers wait for, and how often it was started again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from openbell.domain.restart_policy import (
    GiveUp,
    Leave,
    Restart,
    RestartPolicy,
    after_missed_start,
    decide,
    still_counting,
)
from openbell.errors import FailedError
from openbell.runtime.host import Host
from openbell.runtime.ladder import sweep
from openbell.runtime.ports import holder_of, is_taken
from openbell.runtime.records import Record
from openbell.runtime.spec import ServiceSpec, StartResult


async def clear_port(spec: ServiceSpec, host: Host) -> None:
    """Raises FailedError where another process listens on the service's port. What an earlier
    generation of this very service left there is ended first."""
    if spec.port is None or not is_taken(spec.port):
        return
    await sweep(spec.name, None, host.scanner, host.watch)
    if (holder := holder_of(spec.port, host.table)) is not None:
        raise FailedError(
            f"port {spec.port} is held by {holder}",
            service=spec.name,
            port=spec.port,
            pid=holder.pid,
        )


class StartUnderWay:
    """At most one at a time; whoever asks meanwhile gets its answer too."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._began_s = 0.0
        self._answer: asyncio.Future[StartResult] | None = None

    def begin(self) -> None:
        """Now. Those who wait already wait for this one: a restart goes on with a start."""
        self._began_s = time.monotonic()
        if self._answer is None or self._answer.done():
            self._answer = asyncio.get_running_loop().create_future()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began_s

    def answer(self, *, ready: bool, reason: str, tail: tuple[str, ...] = ()) -> None:
        """Nobody waits afterwards; harmless when repeated."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(
                StartResult(
                    self._service, ready=ready, seconds=self.seconds, reason=reason, log_tail=tail
                )
            )
        self._answer = None

    async def result(self) -> StartResult:
        """Of the start under way: there must be one."""
        assert self._answer is not None
        return await asyncio.shield(self._answer)

    async def decided(self) -> None:
        """Once it is answered, or at once where none is under way."""
        if self._answer is not None:
            await asyncio.wait((self._answer,))

    def detach(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.cancel()


@dataclass
class Restarts:
    """What one service's restart policy has to know."""

    count: int = 0
    """Since its controller, or the one before, knows it."""
    at_s: tuple[float, ...] = ()
    """Monotonic, of those that may still count against the limit."""
    missed: int | None = None
    """Restarts in a row that could not be attempted; None while a person's start is under way, who
    is told and may try again."""

    @classmethod
    def of(cls, record: Record) -> Restarts:
        return cls(record.restarts, record.restarted_at_s)

    def asked_for(self) -> None:
        """A person starts it: the limit counts anew."""
        self.at_s, self.missed = (), None

    def after_exit(
        self, spec: ServiceSpec, status: int | None, now_s: float
    ) -> Restart | GiveUp | Leave:
        return decide(_policy(spec), status, self.at_s, now_s)

    def begun(self, spec: ServiceSpec, now_s: float) -> None:
        """One more, because it exited."""
        self.count += 1
        self.missed = 0
        self.at_s = (*still_counting(self.at_s, _policy(spec).window_s, now_s), now_s)

    def after_missed(self, spec: ServiceSpec) -> Restart | GiveUp | None:
        """One could not be attempted. None: whoever asked for it is told instead."""
        if self.missed is None:
            return None
        self.missed += 1
        return after_missed_start(_policy(spec), self.missed)


def _policy(spec: ServiceSpec) -> RestartPolicy:
    of = spec.restart
    return RestartPolicy(of.policy, of.backoff, of.backoff_max, of.limit, of.window)
