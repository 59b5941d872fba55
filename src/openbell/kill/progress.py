"""Whether a stop moves on, told by its own process: whoever follows it sees only that its loop answers.

Each step of a stop says how long it takes at most, by its own time-outs. One that has not come to its end
DISK_S after that hangs, on a thread or in a task that nothing ends. That time is counted in beats of the
loop (`stuck.BEAT_S`), each of which gave the tasks of the step their turn as well: a loop that is starved
beats slowly, and is not what is found. What runs on a thread is not counted so: one that gets no processor,
or whose disk is merely slow, is found where the step takes DISK_S longer than its own time-outs while the
loop beats on. One whose loop does not beat at all others find (`stuck`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from openbell.kill.stuck import BEAT_S, DISK_S


class StandsStillError(Exception):
    """This stop was left unfinished, in this step; what it did is found by the next, as after a kill."""


@dataclass
class _Step:
    name: str
    within_s: float
    beats: int = 0


class Progress:
    """Of one stop. Pure, but for `watch`: steps begin and end, beats come, and a verdict goes out."""

    def __init__(self) -> None:
        self._open: list[_Step] = []

    @contextlib.contextmanager
    def step(self, name: str, within_s: float) -> Iterator[None]:
        """`within_s`: the longest that it takes while everything that can hang does. Steps may be open
        beside each other, and inside each other."""
        step = _Step(name, within_s)
        self._open.append(step)
        try:
            yield
        finally:
            self._open.remove(step)

    def beat(self) -> str:
        """The step that hangs, and for how long; empty: none does."""
        for step in self._open:
            step.beats += 1
            if step.beats * BEAT_S > step.within_s + DISK_S:
                return f"{step.name} has not ended for {step.beats * BEAT_S:.0f} s"
        return ""

    async def watch(self) -> str:
        """Returns once a step hangs. To wake is also what tells others that this process lives."""
        while not (told := self.beat()):  # noqa: ASYNC110 - to wake is what it is for
            await asyncio.sleep(BEAT_S)
        return told
