"""Replacing a service that runs by a second process of it, proven before the first one leaves.

At every moment one line of the service's record says which of the two is the service:

    1. old, beside it the replacement (INTENT)     spawned or not: the mark tells
    2. old, beside it the replacement (RUNNING)    probed, and asked to prove itself
    3. replacement, beside it the old one          the commit point; the old one is told to end
    4. replacement                                 the old one's group was seen to be empty

Whatever goes wrong before line 3 ends the replacement, and the old one was never touched. A
controller that dies leaves one of these lines, and the next one ends what stands beside the service,
so that one process is left, the right one. Nothing here signals a process that was not spawned for
this service and seen to be the one recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from openbell.errors import OpenbellError, RefusedError, StorageError
from openbell.runtime import logs
from openbell.runtime.host import Host
from openbell.runtime.ladder import LadderResult
from openbell.runtime.ports import holder_of, is_taken
from openbell.runtime.prober import FIRST_LOOK_S, Prober
from openbell.runtime.records import BesideRecords
from openbell.runtime.run import Run, describe_exit, spawn_run
from openbell.runtime.spec import Proven, ReplaceResult, ServiceSpec

_LOG_TAIL_LINES = 20

T = TypeVar("T")


class Surge:
    """What stands beside one service: the replacement that is being proven, or the process that is
    being ended. At most one of each."""

    def __init__(self, host: Host, present: Callable[[], Run | None]) -> None:
        """`present` gives the run that is the service now."""
        self._host = host
        self._present = present
        self._candidate: _Candidate | None = None
        self._leaving: asyncio.Task[LadderResult] | None = None
        self._leaver: Run | None = None

    async def replace(
        self, spec: ServiceSpec, generation: int, proven: Proven, switch: Callable[[Run], None]
    ) -> ReplaceResult:
        """`switch` is called at the commit point: from then on its run is the service. Raises
        RefusedError where nothing runs, or a replacement is being proven already."""
        if self._leaving is not None:
            await asyncio.wait((self._leaving,))
        old = self._present()
        if old is None or self._candidate is not None:
            why = "does not run" if old is None else "is being replaced already"
            raise RefusedError(f"{spec.name} {why}", service=spec.name)
        candidate = self._candidate = _Candidate(self._host, old, spec, generation)
        committed = False
        try:
            why = await candidate.prove(proven)
            # Nothing is awaited between this look and the switch.
            if not why and self._present() is not old:
                why = f"pid {old.process.pid}, which it was to replace, is not the service any more"
            if not why:
                why = self._commit(candidate, old)
                committed = not why
            if committed and candidate.run is not None:
                switch(candidate.run)
        finally:
            if not committed:
                await asyncio.shield(candidate.withdrawn())
            self._candidate = None
        new = candidate.run
        if not committed or new is None:
            return ReplaceResult(
                spec.name,
                replaced=False,
                reason=why,
                log_tail=candidate.log_tail,
                pid=old.process.pid,
                ready_s=candidate.ready_s,
            )
        began = time.monotonic()
        left = await asyncio.shield(self.end(old))
        outlived = f"pids {left.survivors} of the one before outlived SIGKILL"
        return ReplaceResult(
            spec.name,
            replaced=True,
            reason=outlived if left.survivors else "",
            pid=new.process.pid,
            ready_s=candidate.ready_s,
            left_s=time.monotonic() - began,
        )

    async def withdraw(self) -> None:
        """Ends a replacement that is being proven; nothing where there is none."""
        if self._candidate is not None:
            await asyncio.shield(self._candidate.withdrawn())

    def end(self, run: Run) -> asyncio.Task[LadderResult]:
        """Ends what stands beside the service, and takes it out of the record."""
        self._leaver = run
        self._leaving = asyncio.create_task(self._end(run), name=f"end {run.spec.name} beside")
        return self._leaving

    def detach(self) -> None:
        """Both go on running; the record tells the next controller of them."""
        if self._leaving is not None:
            self._leaving.cancel()
        if self._leaver is not None:
            self._leaver.process.close()
        if self._candidate is not None:
            self._candidate.detach()

    # ------------------------------------------------------------------

    def _commit(self, candidate: _Candidate, old: Run) -> str:
        """The one line that makes the replacement the service; why not, where it cannot be
        written or the replacement has ended."""
        new = candidate.run
        if new is None or new.process.exit.done():
            return "it ended"
        try:
            self._host.records.add(msgspec.structs.replace(new.record, beside=old.record))
        except StorageError as error:
            return error.message
        new.records = self._host.records
        return ""

    async def _end(self, run: Run) -> LadderResult:
        present = self._present()
        # Earlier runs end with it, unless the service itself is one of them.
        is_older = present is None or run.record.generation < present.record.generation
        ladder = self._host.ladder(run.process, run.leader, run.cgroup, with_earlier_runs=is_older)
        result = await ladder.stop(run.stop_signal, run.spec.stop.timeout)
        if not result.survivors:
            release(run)
            self._leaver = None
            present = self._present()
            if present is not None and present.record.phase == "running":
                with contextlib.suppress(StorageError):  # found out by the next adoption
                    self._host.records.add(present.record)
        self._leaving = None
        return result


class _Candidate:
    """One replacement, from before its spawn until it is the service or gone."""

    def __init__(self, host: Host, old: Run, spec: ServiceSpec, generation: int) -> None:
        self.run: Run | None = None
        self.ready_s = 0.0
        self.log_tail: tuple[str, ...] = ()
        self._host = host
        self._old = old
        self._spec = spec.beside(old.spec.port)
        self._generation = generation
        self._proving: asyncio.Task[str] | None = None
        self._withdrawing: asyncio.Task[None] | None = None

    async def prove(self, proven: Proven) -> str:
        """Starts it; why it is not good enough, or nothing."""
        self._proving = asyncio.create_task(self._prove(proven), name=f"prove {self._spec.name}")
        try:
            await asyncio.wait((self._proving,))
        except asyncio.CancelledError:
            self._proving.cancel()
            raise
        if self._proving.cancelled() or self._withdrawing is not None:
            return "it was withdrawn"
        return self._proving.result()

    def withdrawn(self) -> asyncio.Task[None]:
        """It is ended, and the record tells of the old one alone; the same task when repeated."""
        if self._withdrawing is None:
            self._withdrawing = asyncio.create_task(
                self._withdraw(), name=f"withdraw {self._spec.name}"
            )
        return self._withdrawing

    def detach(self) -> None:
        for task in (self._proving, self._withdrawing):
            if task is not None:
                task.cancel()
        if self.run is not None:
            self.run.process.close()

    async def _prove(self, proven: Proven) -> str:
        spec, host = self._spec, self._host
        if spec.port is not None and is_taken(spec.port):
            return f"port {spec.port} is held by {holder_of(spec.port, host.table)}"
        await host.turns.take()
        if held := host.hold(spec):
            return held
        began = time.monotonic()
        records = BesideRecords(host.records, self._old.record)
        kept = (self._old.record.restarts, self._old.record.restarted_at_s)
        try:
            run = self.run = spawn_run(host, spec, self._generation, *kept, records)
            prober = Prober(run, host)
            await asyncio.sleep(FIRST_LOOK_S)
            run.settle()
        except OpenbellError as error:
            return error.message
        ready, ended = await self._unless_ended(run, prober.until_ready())
        if ended or ready is None:
            return ended
        if not ready.passed:
            return f"not ready within {run.ready_timeout_s:g}s: {ready.reason}"
        self.ready_s = time.monotonic() - began
        health, ended = await self._unless_ended(run, prober.health())
        if ended or health is None:
            return ended
        if not health.passed:
            return f"ready, but not healthy: {health.reason}"
        why, ended = await self._unless_ended(run, proven(spec.port))
        return ended or why or ""

    async def _unless_ended(self, run: Run, doing: Awaitable[T]) -> tuple[T | None, str]:
        """What it gives, or else how the replacement ended."""
        task = asyncio.ensure_future(doing)
        try:
            await asyncio.wait((task, run.process.exit), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result(), ""
            return None, f"{describe_exit(run.process.exit.result())} after {run.uptime_s:.1f}s"
        finally:
            task.cancel()

    async def _withdraw(self) -> None:
        if self._proving is not None:
            self._proving.cancel()
            await asyncio.wait((self._proving,))
        run = self.run
        if run is None:
            return
        self.log_tail = logs.tail(run.spec.log_path, _LOG_TAIL_LINES, run.record.log_offset)
        # Alone: the service itself is an earlier run than this one.
        ladder = self._host.ladder(run.process, run.leader, run.cgroup, with_earlier_runs=False)
        result = await ladder.stop(run.stop_signal, run.spec.stop.timeout)
        if not result.survivors:
            release(run)
            run.records.close(run.record)


def release(run: Run) -> None:
    """Nothing of it is left: lets go of what watched and held it."""
    run.process.close()
    if run.cgroup is not None:
        run.cgroup.remove()
