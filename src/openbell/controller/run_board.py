"""The runs of this controller: at most one at a time, each with its events from first to last."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

from openbell.errors import ConflictError, UsageError
from openbell.watch.log_line import iso

RUNS_KEPT = 20
"""Ended runs whose events can still be read; all runs stay in the desk database."""

BEGIN_S = 5.0
"""How long one who asks second is kept, until it is known under which run the first one begins."""

CLOSING_WAITS_S = 1.0
"""How long a closing waits for a single act under way, a resume say, whose effects would follow on its own.
No longer: what rests at the venues is not to wait for a service that takes its time."""

FINAL_EVENTS = frozenset({"done", "failed"})


@dataclass
class LiveRun:
    """A run of this controller, or one that has ended since it started."""

    id: str
    procedure: str
    actor: str
    parameters: Mapping[str, object]
    started_ns: int
    started_s: float = field(default_factory=time.monotonic)
    """Monotonic: how long it takes is no matter of the wall clock."""
    events: list[dict[str, object]] = field(default_factory=list)
    finished_ns: int | None = None
    step: str = ""
    reason: str = ""
    begun_by: str = ""
    """Of one that was gone on with: who had begun it; `actor` went on with it."""
    waiting: Mapping[str, object] | None = None
    """The newest request that waits for people, as its event has it."""
    approved: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """By the digest of a step as this run has it: its name, and who approved it."""
    cancelled_by: str = ""
    """Who ended it; it ends after the step under way."""
    followers: int = 0
    delivered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a follower was given the last event."""
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _pending: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def is_over(self) -> bool:
        return self.finished_ns is not None

    def emit(self, event: Mapping[str, object]) -> None:
        """Appends an event and wakes the followers."""
        self.events.append({"seq": len(self.events) + 1, "at_ns": time.time_ns(), **event})
        if event.get("event") == "step_started":
            self.step = str(event.get("step", ""))
            self.waiting = None
        if event.get("event") in ("waiting", "approved"):
            request = event.get("request")
            self.waiting = request if isinstance(request, Mapping) else None
        if event.get("event") in FINAL_EVENTS:
            self.finished_ns = time.time_ns()
            self.step = ""
            self.waiting = None
        task = asyncio.ensure_future(self._wake())
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    def cancel(self, actor: str, reason: str) -> None:
        """No further step begins."""
        self.cancelled_by = actor
        told = f"cancelled by {actor}" + (f": {reason}" if reason else "")
        ends = "ends now, as it waits" if self.waiting else f"ends after {self.step or 'this'}"
        self.emit({"event": "cancelling", "message": f"{told}; {ends}"})

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def follow(self, after: int) -> AsyncIterator[dict[str, object]]:
        """Events from number `after` + 1 to the last, as they come."""
        self.followers += 1
        place = after
        try:
            while True:
                while place < len(self.events):
                    event = self.events[place]
                    place += 1
                    yield event
                if self.is_over:
                    self.delivered.set()
                    return
                async with self._news:
                    # Whatever was emitted before the lock was had is seen by the loop's head.
                    if place == len(self.events) and not self.is_over:
                        await self._news.wait()
        finally:
            self.followers -= 1

    def brief(self) -> dict[str, object]:
        """`{"id", "procedure", "actor", "started", "step", "waiting"}`; `waiting`: what of it waits for
        people, `step` then being the last one that began."""
        return {
            "id": self.id,
            "procedure": self.procedure,
            "actor": self.actor,
            "started": iso(self.started_ns),
            "step": self.step,
            "waiting": None if self.waiting is None else dict(self.waiting),
        }

    def as_dict(self) -> dict[str, object]:
        """As `GET /api/v1/runs/{id}` shows it."""
        last = self.events[-1] if self.is_over else {}
        steps = [
            {
                "name": event["step"],
                "outcome": event["outcome"],
                "seconds": event["seconds"],
                "detail": event.get("message", ""),
            }
            for event in self.events
            if event["event"] == "step_done"
        ]
        state = "running" if not self.is_over else str(last["event"])
        return {
            **self.brief(),
            "state": state,
            "parameters": dict(self.parameters),
            "finished": None if self.finished_ns is None else iso(self.finished_ns),
            "outcome": last.get("outcome"),
            "steps": steps,
        }


@dataclass(frozen=True)
class Reservation:
    """A run that is about to begin: it has no number yet."""

    procedure: str
    actor: str


class RunBoard:
    """Admits one run at a time, and none once the controller is ending."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, LiveRun] = OrderedDict()
        self._reserved: Reservation | None = None
        self._acts = 0
        self._free = asyncio.Event()
        """Nothing is about to begin."""
        self._free.set()
        self._quiet = asyncio.Event()
        """No single act is under way."""
        self._quiet.set()
        self._ending = ""

    @property
    def current(self) -> LiveRun | None:
        return next((run for run in self._runs.values() if not run.is_over), None)

    @property
    def newest(self) -> LiveRun | None:
        """The run that was begun or gone on with last, whether it is over or not."""
        return next(reversed(self._runs.values()), None)

    def refuse_second(self) -> None:
        """Raises ConflictError naming the run under way, or saying that the controller is ending."""
        self._refuse_ending()
        run = self.current
        if run is not None:
            raise ConflictError(
                f"{_BEING_DONE.get(run.procedure, run.procedure)}: {run.id}, begun by {run.actor} "
                f"at {iso(run.started_ns)}, is under way",
                hint="wait for its end; `openbell status` shows where it is",
                run=run.id,
                actor=run.actor,
                procedure=run.procedure,
            )
        if self._reserved is not None:
            doing = _BEING_DONE.get(self._reserved.procedure, self._reserved.procedure)
            raise ConflictError(
                f"{doing}: {self._reserved.actor} is about to begin",
                hint="wait for its end; `openbell status` shows where it is",
                actor=self._reserved.actor,
                procedure=self._reserved.procedure,
            )

    async def reserve(self, procedure: str, actor: str) -> None:
        """Takes the one place, so that of two at once one wins. The other is refused once it is
        known under which run the first one began. A single act under way is waited for, none begins
        meanwhile; one that takes longer than `BEGIN_S` refuses every run but a closing, which it must
        not hold up (`CLOSING_WAITS_S`). Raises ConflictError."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_S):
                while self._reserved is not None:
                    await self._free.wait()
        # Nothing is awaited between this look and the taking.
        self.refuse_second()
        self._reserved = Reservation(procedure, actor)
        self._free.clear()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_WAITS_S if procedure == "close" else BEGIN_S):
                    await self._quiet.wait()
            if self._acts and procedure != "close":
                raise ConflictError(
                    "a single act is under way: a start, a stop, a resume, an adoption, or an announcement",
                    hint="wait for its end, then ask again",
                )
            # The controller may have begun to end meanwhile.
            self._refuse_ending()
        except BaseException:
            self.release()
            raise

    def _refuse_ending(self) -> None:
        if self._ending:
            raise ConflictError(
                f"this controller is ending: {self._ending}",
                hint="ask again in a moment: another one is started then",
            )

    def release(self) -> None:
        """What was about to begin does not."""
        self._reserved = None
        self._free.set()

    def add(self, run: LiveRun) -> None:
        self._runs.pop(run.id, None)
        self._runs[run.id] = run
        while len(self._runs) > RUNS_KEPT:
            self._runs.popitem(last=False)
        self.release()

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """A single act beside the runs: the controller does not leave in the middle of it. Raises
        ConflictError while a run is under way."""
        self.refuse_second()
        self._acts += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._acts -= 1
            if not self._acts:
                self._quiet.set()

    async def settled(self) -> None:
        """Returns, without giving way to anything else, at a moment when nothing is about to begin
        and no single act is under way."""
        while self._reserved is not None or self._acts:
            await self._free.wait()
            await self._quiet.wait()

    def end(self, why: str) -> None:
        """Nothing begins from now on: the controller is ending."""
        self._ending = self._ending or why

    def find(self, run: str) -> LiveRun | None:
        return self._runs.get(run)


_BEING_DONE = {
    "open": "the desk is being opened",
    "close": "the desk is being closed",
    "rolling-restart": "services are being restarted one by one",
}


def run_id(procedure: str, number: int) -> str:
    return f"{procedure}-{number}"


def run_number(run: str) -> int:
    """The number in a run's id. Raises UsageError."""
    _, _, number = run.rpartition("-")
    if not number.isdigit():
        raise UsageError(f'"{run}" is not a run', hint="a run is called for example close-12")
    return int(number)
