"""The faults that a venue suffers: which are in the plan, which of them strikes, what holds now.

Everything random is seeded, for each fault by itself: the same plan and the same requests give the
same faults, whatever else is in the plan.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from openbell_sim.arrivals import Arrival, Arrivals
from openbell_sim.faces.port import Answer, Asked
from openbell_sim.faults import requests
from openbell_sim.faults.document import PlanDocument
from openbell_sim.faults.ground import Ground, Holding, check, happen, settle
from openbell_sim.faults.kinds import (
    AnyFault,
    Condition,
    Happening,
    Occurrence,
    RequestFault,
    StreamFault,
    Streams,
)
from openbell_sim.faults.latency import Latency
from openbell_sim.faults.streams import Gate
from openbell_sim.refusals import RefusedError

T = TypeVar("T")


@dataclass(eq=False)
class Armed:
    """A fault in the plan."""

    number: int
    fault: AnyFault
    given_s: float
    chance: random.Random
    passed: int = 0
    """How many of the things it concerns it has seen, for `after`."""
    hits: int = 0
    began_s: float | None = None
    """Of what does not wait for a request, and of conditions: when it came about."""
    ended: bool = False
    refused: str = ""
    """Why the exchange refused what was to happen."""
    account: str = ""
    """Of a condition: whom it concerns; empty: nobody was named."""

    @property
    def from_s(self) -> float:
        return self.given_s + self.fault.from_s

    @property
    def until_s(self) -> float | None:
        """When nothing more comes of it; None: without end, as far as is known."""
        fault = self.fault
        ends = [] if fault.until_s is None else [self.given_s + fault.until_s]
        if isinstance(fault, Condition) and fault.lasts_s is not None and self.began_s is not None:
            ends.append(self.began_s + fault.lasts_s)
        return min(ends, default=None)

    @property
    def holds(self) -> bool:
        """A condition, now."""
        return isinstance(self.fault, Condition) and self.began_s is not None and not self.ended

    @property
    def spent(self) -> bool:
        return self.ended or (self.fault.count is not None and self.hits >= self.fault.count)

    def is_over(self, now_s: float) -> bool:
        return self.until_s is not None and now_s >= self.until_s

    def concerns(self, asked: Asked) -> bool:
        fault = self.fault
        return (
            not isinstance(fault, StreamFault)
            and (not fault.concerned or asked.kind in fault.concerned)
            and fnmatchcase(asked.method, fault.method)
            and fnmatchcase(asked.path, fault.path)
            and fault.account in ("", asked.account)
        )

    def strikes(self, now_s: float) -> bool:
        """Of one thing that it concerns: counts it, and draws."""
        if self.spent or now_s < self.from_s or self.is_over(now_s):
            return False
        self.passed += 1
        if self.passed <= self.fault.after:
            return False
        if self.fault.probability < 1 and self.chance.random() >= self.fault.probability:
            return False
        self.hits += 1
        return True


class FaultPlan:
    """To be given a `ground` before it is given faults. `now_s` is a monotonic clock."""

    def __init__(self, *, seed: int = 1, now_s: Callable[[], float] = time.monotonic) -> None:
        self.seed = seed
        self.armed: list[Armed] = []
        self.latency = Latency()
        self.arrivals = Arrivals()
        self.changed: Callable[[], None] = lambda: None
        """Called when `due_in_s` may have become less."""
        self.gate = Gate(self.pick_for_event)
        self._now_s = now_s
        self._numbers = 0
        self._latency_chance = random.Random(self.latency.seed)  # noqa: S311
        self._ground: Ground | None = None

    @property
    def ground(self) -> Ground:
        if self._ground is None:
            raise RuntimeError("the plan has no venue")
        return self._ground

    def serve(self, ground: Ground) -> None:
        self._ground = ground

    # What is in it

    async def load(self, document: PlanDocument) -> list[Armed]:
        """Adds to what is in the plan; what was added. Raises ConfigError, having added nothing,
        where a fault names an account or a symbol that the venue does not have."""
        for fault in document.faults:
            check(self.ground, fault)
        if document.seed is not None:
            self._reseed(document.seed)
        if document.latency is not None:
            self.set_latency(document.latency)
        return [await self.add(fault) for fault in document.faults]

    async def add(self, fault: AnyFault) -> Armed:
        self._numbers += 1
        armed = Armed(self._numbers, fault, self._now_s(), self._chance(self._numbers))
        self.armed.append(armed)
        await self.run_due()
        self.changed()
        return armed

    def clear(self) -> None:
        """An empty plan, whose chances begin anew. A request that was struck goes its way."""
        self.armed.clear()
        self._numbers = 0
        self._settle()
        self.changed()

    def set_latency(self, latency: Latency) -> None:
        self.latency = latency
        self._latency_chance = random.Random(latency.seed)  # noqa: S311

    def _reseed(self, seed: int) -> None:
        self.seed = seed
        for armed in self.armed:
            armed.chance = self._chance(armed.number)

    def _chance(self, number: int) -> random.Random:
        return random.Random(f"{self.seed}:{number}")  # noqa: S311 # to be repeatable is the point

    # Requests

    @property
    def idle(self) -> bool:
        """Nothing can become of a request."""
        return not self.armed and self.latency == _NO_LATENCY

    async def meet(self, asked: Asked, carry_out: Callable[[], Awaitable[T]]) -> T | Answer | None:
        """As `faces.port.Meet` says."""
        arrival = self.arrivals.note(asked, self.ground.exchange.now_ns())

        async def do() -> T:
            arrival.carried_out = True
            return await carry_out()

        outcome = await (do() if self.idle else self._suffer(asked, do, arrival))
        arrival.status = getattr(outcome, "status", None)
        return outcome

    async def _suffer(
        self, asked: Asked, carry_out: Callable[[], Awaitable[T]], arrival: Arrival
    ) -> T | Answer | None:
        # Everything is drawn on arrival, before anything waits, so that the order of arrival
        # alone decides what strikes whom.
        delay_s = self.latency.draw_s(self._latency_chance)
        armed = await self.pick(asked)
        if delay_s:
            await asyncio.sleep(delay_s)
        if armed is None or not isinstance(armed.fault, RequestFault):
            return await carry_out()
        arrival.fault = armed.fault.name
        say = self.ground.face.trouble
        return await requests.apply(armed.fault, asked, carry_out, say, armed.chance)

    async def pick(self, asked: Asked) -> Armed | None:
        """The fault that strikes this request. What the request sets off takes place first."""
        now_s = self._now_s()
        concerned = [armed for armed in self.armed if armed.concerns(asked)]
        for armed in concerned:
            if isinstance(armed.fault, Occurrence) and armed.fault.waits_for_request:
                await self._set_off(armed, asked, now_s)
        for armed in concerned:
            if isinstance(armed.fault, RequestFault) and armed.strikes(now_s):
                return armed
        return None

    async def _set_off(self, armed: Armed, asked: Asked, now_s: float) -> None:
        if armed.began_s is not None or not armed.strikes(now_s):
            return
        account = asked.account or ""
        if isinstance(armed.fault, Happening):
            await self._happen(armed, armed.fault, account)
        else:
            armed.began_s, armed.account = now_s, account
            self._settle()
            self.changed()

    async def _happen(self, armed: Armed, happening: Happening, account: str) -> None:
        try:
            await happen(self.ground, happening, account)
        except RefusedError as error:
            armed.refused = str(error)

    # Events of streams

    def pick_for_event(self, private: bool) -> StreamFault | None:
        if not self.armed:
            return None
        now_s = self._now_s()
        wanted = (Streams.BOTH, Streams.PRIVATE if private else Streams.PUBLIC)
        for armed in self.armed:
            fault = armed.fault
            if isinstance(fault, StreamFault) and fault.streams in wanted and armed.strikes(now_s):
                return fault
        return None

    # What comes with time

    def due_in_s(self) -> float | None:
        """As in `timer.DueWork`."""
        due_s = min(self._dues(), default=None)
        return None if due_s is None else due_s - self._now_s()

    def _dues(self) -> Iterator[float]:
        for armed in self.armed:
            if armed.holds and armed.until_s is not None:
                yield armed.until_s
            elif _waits_for_time(armed):
                yield armed.from_s

    async def run_due(self) -> None:
        """Begins and ends what has its time."""
        now_s = self._now_s()
        for armed in list(self.armed):
            fault = armed.fault
            if _waits_for_time(armed) and now_s >= armed.from_s:
                armed.began_s, armed.hits = armed.from_s, 1
                if isinstance(fault, Happening):
                    armed.ended = True
                    await self._happen(armed, fault, fault.account)
                elif isinstance(fault, Condition):
                    armed.account = fault.account
            if armed.holds and armed.is_over(now_s):
                armed.ended = True
        self._settle()

    def _settle(self) -> None:
        holding = [
            Holding(armed.fault, armed.account)
            for armed in self.armed
            if isinstance(armed.fault, Condition) and armed.holds
        ]
        settle(self.ground, holding)


_NO_LATENCY = Latency()


def _waits_for_time(armed: Armed) -> bool:
    fault = armed.fault
    return isinstance(fault, Occurrence) and not fault.waits_for_request and armed.began_s is None
