"""What becomes of streamed events: lost, doubled, late, overtaken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from openbell_sim.faults.kinds import (
    DelayedEvents,
    DuplicateEvents,
    MissingEvents,
    ReorderedEvents,
    StreamFault,
)
from openbell_sim.outbox import Outbox


class Gate:
    """Between the faces and their outboxes. `pick(private)` tells the fault that strikes an
    event."""

    def __init__(self, pick: Callable[[bool], StreamFault | None]) -> None:
        self._pick = pick
        self._lanes: WeakKeyDictionary[Outbox, _Lane] = WeakKeyDictionary()

    def __call__(self, outbox: Outbox, data: bytes, private: bool) -> None:
        fault = self._pick(private)
        lane = self._lanes.get(outbox)
        if fault is None:
            if lane is None:
                outbox.put(data)
            else:
                lane.give(data)
            return
        if lane is None:
            lane = self._lanes[outbox] = _Lane(outbox.put)
        match fault:
            case MissingEvents():
                return
            case DuplicateEvents():
                lane.give(data)
                lane.give(data)
            case DelayedEvents():
                lane.give(data, fault.delay_s)
            case ReorderedEvents():
                lane.hold(data, fault.by, fault.within_s)


@dataclass(eq=False)
class _Held:
    data: bytes
    to_pass: int
    """How many others must still overtake it."""


class _Lane:
    """The way to one outbox, on which events may have to wait."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._late: deque[tuple[float, bytes]] = deque()
        """`(due, event)` in their order."""
        self._held: list[_Held] = []

    def give(self, data: bytes, delay_s: float = 0.0) -> None:
        """After all that waits here already, and not before `delay_s` has gone by."""
        if not delay_s and not self._late:
            self._pass(data)
            return
        loop = asyncio.get_running_loop()
        due_s = max(loop.time() + delay_s, self._late[-1][0] if self._late else 0.0)
        self._late.append((due_s, data))
        if len(self._late) == 1:
            loop.call_at(due_s, self._give_late)

    def _give_late(self) -> None:
        self._pass(self._late.popleft()[1])
        if self._late:
            asyncio.get_running_loop().call_at(self._late[0][0], self._give_late)

    def _pass(self, data: bytes) -> None:
        self._put(data)
        for held in list(self._held):
            held.to_pass -= 1
            if held.to_pass <= 0:
                self._release(held)

    def hold(self, data: bytes, to_pass: int, within_s: float) -> None:
        held = _Held(data, to_pass)
        self._held.append(held)
        asyncio.get_running_loop().call_later(within_s, self._release, held)

    def _release(self, held: _Held) -> None:
        if held in self._held:
            self._held.remove(held)
            self._put(held.data)
