"""Probing one run of a service: fast until it is ready, then as the desk file asks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from openbell.config.services import ExecReady, HttpReady, LogReady, TcpReady
from openbell.runtime.host import Host
from openbell.runtime.ports import ListenersUnreadableError, listener_among, may_be_taken
from openbell.runtime.probes import (
    LogProbe,
    ProbeResult,
    probe_exec,
    probe_http,
    probe_tcp,
    stranger_on,
)
from openbell.runtime.processes import MARK_VARIABLE
from openbell.runtime.run import Run

FIRST_LOOK_S = 0.001
_LOOK_GROWTH = 1.4
_SLOWEST_LOOK_S = 0.05
"""Looks until ready: 1 ms after the spawn, then ever slower up to 50 ms. While nobody listens on
its port a look only asks the kernel, so many of them cost little."""
STAYED_UP_S = 1.0
"""A service without a readiness probe is ready when it has run so long: one that ends at once, as for a
word of its command that is wrong, never was. Ours: an interpreter has started by then."""
_ONE_PROBE_TIMEOUT_S = 2.0
"""Of one probe during a start: a service that accepts but does not answer yet is asked again."""
_SHORTEST_PROBE_S = 0.25
"""The last one may overrun the time to be ready: cut to what is left of it, it would fail whatever
the service does, and its reason is the one that is told."""


class Prober:
    """Asks one run whether it is ready or healthy."""

    def __init__(self, run: Run, host: Host) -> None:
        self._run = run
        self._host = host
        self.response_ms: float | None = None
        """Of the last probe; None where nobody answered."""
        self._listener: int | None = None
        """The member that was last seen to listen on the port: looked at first."""

    async def until_ready(self) -> ProbeResult:
        """Probes at once, then ever more slowly, until it passes or the time to be ready is over.
        Without a probe, waits until it has run for `STAYED_UP_S`; its end is heard of elsewhere."""
        ready = self._run.spec.ready
        if ready is None:
            await asyncio.sleep(max(0.0, STAYED_UP_S - self._run.uptime_s))
            return ProbeResult(True)
        if isinstance(ready, LogReady) and self._run.record.was_ready:
            return ProbeResult(True)
        log = (
            LogProbe(self._run.spec.log_path, self._run.record.log_offset, ready.pattern)
            if isinstance(ready, LogReady)
            else None
        )
        deadline = time.monotonic() + ready.timeout
        pause = ready.every if isinstance(ready, ExecReady) else FIRST_LOOK_S
        while True:
            left = max(deadline - time.monotonic(), _SHORTEST_PROBE_S)
            result = log.look() if log else await self._ready(left)
            if result.passed or time.monotonic() + pause >= deadline:
                return result
            await asyncio.sleep(pause)
            if not isinstance(ready, ExecReady):
                pause = min(pause * _LOOK_GROWTH, _SLOWEST_LOOK_S)

    async def health(self) -> ProbeResult:
        """One health probe; without one in the desk file, the readiness probe once more."""
        health = self._run.spec.health
        if health is None:
            if isinstance(self._run.spec.ready, LogReady):  # an event of the past, not a condition
                return ProbeResult(True)
            return await self._ready(_ONE_PROBE_TIMEOUT_S)
        assert self._run.spec.port is not None, "the models want a port for a health probe"
        result, host = await probe_http(self._run.spec.port, health.path, health.timeout)
        return self._identified(result, host)

    async def _ready(self, left_s: float) -> ProbeResult:
        ready, port = self._run.spec.ready, self._run.spec.port
        if port is not None and not isinstance(ready, ExecReady) and not may_be_taken(port):
            return ProbeResult(False, f"nobody listens on port {port}")
        timeout_s = min(left_s, _ONE_PROBE_TIMEOUT_S)
        if isinstance(ready, ExecReady):
            return await probe_exec(
                ready.command,
                self._run.spec.cwd,
                # With the mark it ends with the service, should we not live to end it.
                {MARK_VARIABLE: self._run.record.mark, **self._run.spec.environment},
                self._host.watch,
                left_s,
            )
        if isinstance(ready, HttpReady) and port is not None:
            result, host = await probe_http(port, ready.path, timeout_s, status=ready.status)
        elif isinstance(ready, TcpReady) and port is not None:
            result, host = await probe_tcp(port, timeout_s)
        else:
            return ProbeResult(True)
        return self._identified(result, host)

    def _identified(self, result: ProbeResult, host: str) -> ProbeResult:
        """The result, if the listener belongs to the service; a failure that names the stranger
        if not. The last known listener, or else the leader, is looked at before the others, which
        takes a scan of the process table."""
        self.response_ms = result.response_ms
        port = self._run.spec.port
        if not result.passed or port is None:
            return result
        try:
            self._listener = listener_among(port, host, (self._listener or self._run.process.pid,))
            if self._listener is None:
                members = self._host.scanner.recent(0.0).members(self._run.leader)
                self._listener = listener_among(port, host, [facts.pid for facts in members])
        except ListenersUnreadableError as error:
            reason = f"cannot verify who answers on port {port}: {error.strerror}"
            return replace(result, passed=False, reason=reason)
        if self._listener is None:
            return replace(result, passed=False, reason=stranger_on(port))
        return result
