"""What becomes of streamed events: lost, doubled, late, overtaken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary, ref

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
                lane.give(_Event(data))
            return
        if lane is None:
            lane = self._lanes[outbox] = _Lane(outbox)
        match fault:
            case MissingEvents():
                return
            case DuplicateEvents():
                lane.give(_Event(data))
                lane.give(_Event(data))
            case DelayedEvents():
                lane.give(_Event(data), fault.delay_s)
            case ReorderedEvents():
                lane.give(_Event(data, fault.by, fault.within_s))


@dataclass(eq=False)
class _Event:
    data: bytes
    by: int = 0
    """How many others must still overtake it."""
    within_s: float = 0.0
    """So long it waits for them."""


class _Lane:
    """The way to one outbox, on which events may have to wait."""

    def __init__(self, outbox: Outbox) -> None:
        # Weak, since the gate keeps lanes for as long as there are their outboxes.
        self._outbox = ref(outbox)
        self._late: deque[tuple[float, _Event]] = deque()
        """`(due, event)` in the order of the stream."""
        self._aside: list[_Event] = []
        """Those that are being overtaken."""

    def give(self, event: _Event, delay_s: float = 0.0) -> None:
        """After all that waits here already, and not before `delay_s` has gone by."""
        if not delay_s and not self._late:
            self._pass(event)
            return
        loop = asyncio.get_running_loop()
        due_s = loop.time() + delay_s
        if self._late:
            due_s = max(due_s, self._late[-1][0])
        else:
            loop.call_at(due_s, self._give_late)
        self._late.append((due_s, event))

    def _give_late(self) -> None:
        self._pass(self._late.popleft()[1])
        if self._late:
            asyncio.get_running_loop().call_at(self._late[0][0], self._give_late)

    def _pass(self, event: _Event) -> None:
        if event.by:
            self._aside.append(event)
            asyncio.get_running_loop().call_later(event.within_s, self._rejoin, event)
            return
        self._put(event.data)
        for other in list(self._aside):
            other.by -= 1
            if not other.by:
                self._rejoin(other)

    def _put(self, data: bytes) -> None:
        if (outbox := self._outbox()) is not None:
            outbox.put(data)

    def _rejoin(self, event: _Event) -> None:
        if event in self._aside:
            self._aside.remove(event)
            self._put(event.data)
