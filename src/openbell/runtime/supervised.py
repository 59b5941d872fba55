"""One supervised service: its state, its current run, and the jobs around it.

At any time at most one job (a task) moves the service: bringing it up, probing it, handling its
exit, or stopping it. Beginning another ends the one before, except that a stop is never cut short.
Every move goes through the table in `openbell.domain.service_state`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine

import msgspec

from openbell.config.services import LogReady
from openbell.domain.restart_policy import Leave, Restart
from openbell.domain.service_state import UP, ServiceMove, ServiceState, after
from openbell.errors import OpenbellError, RefusedError, StorageError
from openbell.runtime import logs
from openbell.runtime.figures import figures
from openbell.runtime.host import Host
from openbell.runtime.ladder import KILL_TIMEOUT_S, sweep
from openbell.runtime.members import Mark
from openbell.runtime.prober import FIRST_LOOK_S, Prober
from openbell.runtime.probes import ProbeResult
from openbell.runtime.records import Record
from openbell.runtime.run import Run, describe_exit, spawn_run
from openbell.runtime.spec import (
    Proven,
    ReplaceResult,
    Rung,
    ServiceEvent,
    ServiceSpec,
    ServiceView,
    StartResult,
    StopResult,
)
from openbell.runtime.starting import Restarts, StartUnderWay, clear_port
from openbell.runtime.surge import Surge, release

LOG_TAIL_LINES = 20

_UNTIL_IT_ANSWERS_S = 2.0
"""Between the probes of a degraded service whose desk file asks for no health probe."""


class SupervisedService:
    """Not thread-safe: everything happens on the loop it was first used on."""

    def __init__(self, spec: ServiceSpec, host: Host) -> None:
        self.spec = spec
        self.state = ServiceState.STOPPED
        self._host = host
        self._reason = ""
        self._run: Run | None = None
        self._job: asyncio.Task[None] | None = None
        self._start = StartUnderWay(spec.name)
        self._stopping: asyncio.Task[StopResult] | None = None
        self._generation = 0
        self._left_open: Record | None = None
        """Of a run that crashed: a controller that dies before its restart is to tell of it."""
        self._restarts = Restarts()
        self._prober: Prober | None = None
        """Of the present run."""
        self._failures = 0
        """Failed health probes in a row."""
        self._surge = Surge(host, lambda: self._run)

    # ------------------------------------------------------------------ asked from outside

    async def start(self) -> StartResult:
        """Returns when ready or failed; joins a start that is under way."""
        while self._stopping is not None:
            await asyncio.shield(self._stopping)
        if self.state is ServiceState.READY:
            return StartResult(self.spec.name, ready=True, seconds=0.0)
        if self.state is ServiceState.DEGRADED:
            return StartResult(self.spec.name, ready=False, seconds=0.0, reason=self._reason)
        if self.state is not ServiceState.STARTING:
            if self._run is not None:  # failed, and some of it could not be killed
                return StartResult(self.spec.name, ready=False, seconds=0.0, reason=self._reason)
            if held := self._host.hold(self.spec):
                return StartResult(self.spec.name, ready=False, seconds=0.0, reason=held)
            self._restarts.asked_for()
            self._begin_start("asked to start")
        return await self._start.result()

    async def stop(self, reason: str) -> StopResult:
        """Climbs the ladder; joins a stop that is under way. A replacement is ended with it."""
        await self._surge.withdraw()
        if self._stopping is not None:
            joined = await asyncio.shield(self._stopping)
            if self._run is None and self.state is not ServiceState.STOPPED:  # being withdrawn
                await self._stop_what_does_not_run(reason)
            return joined
        if self._run is None:
            return await self._stop_what_does_not_run(reason)
        self._end_job()
        self._start.answer(ready=False, reason=f"stopped while starting: {reason}")
        self._move(ServiceMove.STOP, reason)
        return await asyncio.shield(self._begin_descent(self._run, None))

    async def kill(self) -> None:
        """SIGKILL for a group that hangs; what follows is what follows a crash."""
        if (run := self._run) is not None and run.process.signal_group(signal.SIGKILL):
            await asyncio.wait({run.process.exit}, timeout=KILL_TIMEOUT_S)

    async def replace(self, proven: Proven) -> ReplaceResult:
        """Starts a second process of it, and ends the first once the second is ready, healthy and
        `proven`. Raises RefusedError for a service that does not run well enough to be replaced."""
        if self.state not in UP:
            raise RefusedError(
                f"{self.spec.name} is {self.state}, so it cannot be replaced",
                hint=f"start it: openbell start {self.spec.name}",
                service=self.spec.name,
            )
        generation = max(self._generation + 1, time.time_ns())
        return await self._surge.replace(self.spec, generation, proven, self._succeed)

    def reload(self) -> None:
        """Sends the reload signal. Raises RefusedError when it does not run."""
        if self._run is None or not self._run.process.signal(
            signal.Signals[f"SIG{self._run.spec.reload_signal}"]
        ):
            raise RefusedError(
                f"{self.spec.name} is {self.state}, so it cannot reload",
                hint=f"start it: openbell start {self.spec.name}",
                service=self.spec.name,
            )

    def adopt(self, run: Run) -> None:
        """Takes over a process of an earlier controller. It is probed before it counts as ready,
        and is never restarted for not answering: it may hold orders."""
        self._generation = run.record.generation
        self._restarts = Restarts.of(run.record)
        self._start.begin()
        prober = self._take(run)
        self._move(ServiceMove.ADOPT, "found running, not probed yet")
        self._begin_job(self._prove_adopted(run, prober))

    def adopt_stopping(self, run: Run) -> None:
        """Takes over a process whose end an earlier controller had begun, and goes on with it: half
        stopped it may answer nobody for ever. A start waits for that."""
        self._generation = run.record.generation
        self._take(run)
        self._move(ServiceMove.ADOPT, "found running, and being stopped")
        self._move(ServiceMove.STOP, "an earlier controller had begun to stop it")
        self._begin_descent(run, None)

    def end_beside(self, run: Run) -> None:
        """Of an earlier controller that died while it replaced the service."""
        self._surge.end(run)

    def found_gone(self) -> None:
        """Its recorded process is no more."""
        self._reason = "was running under an earlier controller; found gone"

    async def first_answer(self) -> None:
        """Waits until the start or adoption under way is decided."""
        await self._start.decided()

    async def probe_now(self) -> None:
        """Probes at once and lets the result count."""
        run, prober = self._run, self._prober
        if run is None or prober is None or self.state not in UP:
            return
        result = await prober.health()
        if self._run is not run or self.state not in UP:
            return
        self._judge(run, result)
        if self._job is None or self._job.done():  # nobody would see it recover
            self._begin_job(self._watch_health(run, prober))

    @property
    def mark(self) -> Mark | None:
        """Of its present run; None: nothing of it runs."""
        return self._run.leader.mark if self._run is not None else None

    def rotate_needed(self, rotate_at: int) -> bool:
        return self._run is not None and logs.size_of(self.spec.log_path) > rotate_at

    def detach(self) -> None:
        """Stops watching; the service goes on running."""
        self._end_job()
        self._surge.detach()
        if self._stopping is not None:
            self._stopping.cancel()
        self._start.detach()
        if self._run is not None:
            self._run.process.close()
            self._run = None

    def view(self) -> ServiceView:
        run = self._run
        cpu, memory = figures(run, self._host) if run is not None else (None, None)
        drift = run.drift(self.spec, self._host) if run is not None else ()
        return ServiceView(
            name=self.spec.name,
            state=self.state,
            pid=run.process.pid if run else None,
            port=run.spec.port if run else self.spec.port,
            restarts=self._restarts.count,
            started_ns=run.record.started_ns if run else None,
            uptime_s=run.uptime_s if run else None,
            response_ms=self._prober.response_ms if run and self._prober else None,
            cpu_percent=cpu,
            memory_bytes=memory,
            critical=self.spec.critical,
            drifted=bool(drift),
            reason=self._reason,
            adopted=run is not None and run.adopted,
            drift=drift,
        )

    # ------------------------------------------------------------------ coming up

    def _begin_start(self, reason: str) -> None:
        self._start.begin()
        self._move(ServiceMove.SPAWN, reason)
        self._begin_job(self._bring_up())

    async def _bring_up(self) -> None:
        spec = self.spec
        try:
            await clear_port(spec, self._host)
            await self._host.turns.take()
            if held := self._host.hold(spec):
                self._held(held)
                return
            first = self._generation == 0
            self._generation = max(self._generation + 1, time.time_ns())
            kept = (self._restarts.count, self._restarts.at_s)
            run = spawn_run(self._host, spec, self._generation, *kept)
        except OpenbellError as error:
            self._missed_start(error.message)
            return
        prober = self._take(run)
        try:
            await asyncio.sleep(FIRST_LOOK_S)
            run.settle()
            ready = await prober.until_ready()
        except StorageError as error:
            self._begin_descent(run, error.message, again=True)
            return
        if ready.passed:
            self._became_ready(run)
            if not first:
                await self._sweep(self._generation - 1)
            await self._watch_health(run, prober)
            return
        reason = f"not ready within {run.ready_timeout_s:g}s: {ready.reason}"
        self._begin_descent(run, reason)

    def _take(self, run: Run) -> Prober:
        """From here on there is a process to answer for."""
        self._run = run
        self._prober = Prober(run, self._host)
        self._left_open = None
        run.process.exit.add_done_callback(lambda _: self._exited(run))
        return self._prober

    def _became_ready(self, run: Run) -> None:
        reason = ""
        if isinstance(run.spec.ready, LogReady) and not run.record.was_ready:
            run.record = msgspec.structs.replace(run.record, was_ready=True)
            try:
                self._host.records.add(run.record)
            except StorageError as error:  # only a restarted controller would miss it
                reason = error.message
        self._failures = 0
        self._move(ServiceMove.BECOME_READY, reason, seconds=self._start.seconds)
        self._start.answer(ready=True, reason="")

    def _succeed(self, run: Run) -> None:
        """Its replacement is the service from now on."""
        before = self._run.process.pid if self._run is not None else 0
        self._end_job()
        self._generation = run.record.generation
        self._failures = 0
        prober = self._take(run)
        reason = f"took over from pid {before}"
        self._move(ServiceMove.REPLACED, reason, seconds=run.uptime_s)
        self._begin_job(self._watch_health(run, prober))

    def _failed_to_start(self, reason: str, tail: tuple[str, ...] = ()) -> None:
        self._move(ServiceMove.GIVE_UP, reason)
        self._start.answer(ready=False, reason=reason, tail=tail)

    def _held(self, reason: str, tail: tuple[str, ...] = ()) -> None:
        """It does not run, and is not to: whoever holds it is to let it go first."""
        if self._left_open is not None:
            self._host.records.close(self._left_open)
            self._left_open = None
        self._move(ServiceMove.HOLD, reason)
        self._start.answer(ready=False, reason=reason, tail=tail)

    def _missed_start(self, reason: str, tail: tuple[str, ...] = ()) -> None:
        """A start that could not be attempted: one that nobody waits for is tried again."""
        decision = self._restarts.after_missed(self.spec)
        if decision is None:
            self._failed_to_start(reason, tail)
            return
        if isinstance(decision, Restart):
            self._move(ServiceMove.MISS_START, f"{reason}; tried again in {decision.after_s:g}s")
            self._start.answer(ready=False, reason=reason, tail=tail)
            self._begin_job(self._start_after(decision.after_s, f"tried again: {reason}"))
        else:
            self._failed_to_start(f"{reason}; {decision.why}", tail)

    async def _start_after(self, seconds: float, reason: str) -> None:
        await asyncio.sleep(seconds)
        self._begin_start(reason)

    async def _prove_adopted(self, run: Run, prober: Prober) -> None:
        result = await prober.until_ready()
        if result.passed:
            self._became_ready(run)
        else:
            self._move(ServiceMove.PROBE_FAILED, f"found running, but {result.reason}")
            self._start.answer(ready=False, reason=result.reason)
        await self._watch_health(run, prober)

    # ------------------------------------------------------------------ health

    async def _watch_health(self, run: Run, prober: Prober) -> None:
        """The slow probe; death is heard of without it, so a service without one costs nothing."""
        health = run.spec.health
        if health is None and self.state is not ServiceState.DEGRADED:
            return
        every = health.every if health is not None else _UNTIL_IT_ANSWERS_S
        while health is not None or self.state is ServiceState.DEGRADED:
            await asyncio.sleep(every)
            self._judge(run, await prober.health())

    def _judge(self, run: Run, result: ProbeResult) -> None:
        if result.passed:
            self._failures = 0
            if self.state is ServiceState.DEGRADED:
                self._move(ServiceMove.PROBE_PASSED, "")
            return
        self._failures += 1
        allowed = run.spec.health.failures if run.spec.health is not None else 1
        if self.state is ServiceState.READY and self._failures >= allowed:
            self._move(ServiceMove.PROBE_FAILED, result.reason)

    # ------------------------------------------------------------------ going down

    def _exited(self, run: Run) -> None:
        """The leader ended; unasked, unless somebody else took the run over to end it."""
        if run is not self._run or self._stopping is not None or run.process.exit.cancelled():
            return
        self._begin_job(self._after_exit(run, run.process.exit.result()))

    async def _after_exit(self, run: Run, status: int | None) -> None:
        now = time.monotonic()
        reason = f"{describe_exit(status)} after {run.uptime_s:.1f}s"
        tail = self._log_tail(run)
        await self._surge.withdraw()  # its restart takes the place of a replacement
        # What it forked would hold its port against the next run.
        rest = await self._host.ladder(run.process, run.leader, run.cgroup).kill_rest()
        if rest.survivors:
            self._reason = f"{reason}; pids {rest.survivors} of its group cannot be killed"
        else:
            release(run)
            self._run = None
            self._left_open = run.record
        held = self._host.hold(run.spec)
        if held and not rest.survivors:
            self._held(f"{reason}; {held}", tail)
            await self._sweep(self._generation)
            return
        decision = self._restarts.after_exit(run.spec, status, now)
        if isinstance(decision, Restart) and not rest.survivors:
            # Callers of start() are told at once; the restarts go on behind their back.
            self._move(ServiceMove.EXIT_TO_RESTART, reason)
            self._start.answer(ready=False, reason=reason, tail=tail)
            if decision.after_s > 0:
                await asyncio.sleep(decision.after_s)
            self._restarts.begun(run.spec, time.monotonic())
            self._begin_start(f"restarted: {reason}")
            return
        if isinstance(decision, Leave):
            self._host.records.close(run.record)
            self._left_open = None
            self._move(ServiceMove.EXIT_CLEANLY, reason)
        else:
            why = "" if isinstance(decision, Restart) else f"; {decision.why}"
            self._move(ServiceMove.EXIT_FOR_GOOD, self._reason if rest.survivors else reason + why)
        self._start.answer(ready=False, reason=reason, tail=tail)
        await self._sweep(self._generation)

    async def _stop_what_does_not_run(self, reason: str) -> StopResult:
        began = time.monotonic()
        job_pending = self._job is not None and not self._job.done()
        settled = self.state is ServiceState.STOPPED and not job_pending
        self._end_job()
        self._start.answer(ready=False, reason=f"stopped while starting: {reason}")
        if self.state is ServiceState.STARTING:  # waiting for its turn to be spawned
            self._move(ServiceMove.STOP, reason)
            self._move(ServiceMove.GONE, reason)
        elif self.state is ServiceState.BACKOFF:
            self._move(ServiceMove.STOP, reason)
        elif self.state is ServiceState.FAILED:
            self._move(ServiceMove.GONE, reason)
        if self._left_open is not None:
            self._host.records.close(self._left_open)
            self._left_open = None
        if settled:
            return StopResult(self.spec.name, True, 0.0, (), exit_status=None)
        # The job that was ended may have been about to do this. A start that comes now has a later
        # generation and is not touched.
        swept = await self._sweep(self._generation)
        seconds = time.monotonic() - began
        rungs = (Rung("KILL what earlier runs left", seconds, f"pids {swept}"),) if swept else ()
        return StopResult(self.spec.name, True, seconds, rungs, exit_status=None)

    def _begin_descent(
        self, run: Run, failure: str | None, *, again: bool = False
    ) -> asyncio.Task[StopResult]:
        """From here on nothing but the ladder moves the service; its exit is expected."""
        # Unwritten, a controller that finds it takes it for one that is to run: no worse than not
        # ending it.
        with contextlib.suppress(StorageError):
            run.settle()
            run.record = msgspec.structs.replace(run.record, stopping=True)
            run.records.add(run.record)
        self._stopping = asyncio.create_task(
            self._climb_down(run, failure, again), name=f"stop {self.spec.name}"
        )
        return self._stopping

    async def _climb_down(self, run: Run, failure: str | None, again: bool) -> StopResult:
        """Stops it because that was asked (`failure` is None), or withdraws a start that failed;
        `again`: through no fault of the service."""
        began = time.monotonic()
        tail = self._log_tail(run) if failure is not None else ()
        try:
            ladder = self._host.ladder(run.process, run.leader, run.cgroup)
            timeout_s = run.spec.stop.timeout
            result = await ladder.stop(run.stop_signal, timeout_s, ask_where=True)
            seconds = time.monotonic() - began
            status = run.process.exit.result() if run.process.exit.done() else None
            if not result.survivors:
                release(run)
                self._run = None
                self._host.records.close(run.record)
        finally:
            self._stopping = None
        if result.survivors:
            outlived = f"did not stop: pids {result.survivors} outlived SIGKILL"
            self._failed_to_start(f"{failure}; {outlived}" if failure else outlived, tail)
        elif failure is not None:
            (self._missed_start if again else self._failed_to_start)(failure, tail)
        else:
            self._move(ServiceMove.GONE, self._reason, seconds=seconds)
        return StopResult(
            self.spec.name,
            stopped=not result.survivors,
            seconds=seconds,
            rungs=result.rungs,
            exit_status=status,
            survivors=result.survivors,
        )

    # ------------------------------------------------------------------ small things

    async def _sweep(self, up_to_generation: int | None) -> tuple[int, ...]:
        return await sweep(self.spec.name, up_to_generation, self._host.scanner, self._host.watch)

    def _begin_job(self, job: Coroutine[object, object, None]) -> None:
        self._end_job()
        self._job = asyncio.create_task(job, name=f"supervise {self.spec.name}")
        self._job.add_done_callback(self._job_ended)

    def _job_ended(self, job: asyncio.Task[None]) -> None:
        """A defect must not leave the callers of start() waiting for ever; the loop reports it."""
        if not job.cancelled() and (error := job.exception()) is not None:
            self._start.answer(ready=False, reason=f"internal error: {type(error).__name__}")
            job.get_loop().call_exception_handler(
                {"message": f"supervising {self.spec.name} failed", "exception": error, "task": job}
            )

    def _end_job(self) -> None:
        # A job may begin its successor as its last act; it must not cancel itself.
        if self._job is not None and self._job is not asyncio.current_task():
            self._job.cancel()
        self._job = None

    def _move(self, move: ServiceMove, reason: str, *, seconds: float | None = None) -> None:
        previous, self.state = self.state, after(self.state, move)
        self._reason = reason
        self._host.on_event(
            ServiceEvent(
                at_ns=time.time_ns(),
                service=self.spec.name,
                state=self.state,
                previous=previous,
                reason=reason,
                pid=self._run.process.pid if self._run is not None else None,
                seconds=seconds,
            )
        )

    def _log_tail(self, run: Run) -> tuple[str, ...]:
        return logs.tail(run.spec.log_path, LOG_TAIL_LINES, run.record.log_offset)
