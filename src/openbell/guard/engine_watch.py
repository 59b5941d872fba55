"""What the guard knows of the engine: when it was heard last, and whether it left on purpose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from openbell.config.layout import DeskLayout
from openbell.domain.dead_man import EngineIs
from openbell.kill.aside import aside
from openbell.kill.beats import STANDBY, STOPPED, Beat
from openbell.kill.marker import is_begun


@dataclass
class EngineWatch:
    """Hears the beats of engines; of two, the one of the later epoch is the engine."""

    silent_after_s: float
    on_change: Callable[[], None] = lambda: None
    clock_s: Callable[[], float] = time.monotonic
    heard_s: float | None = None
    epoch: int = 0
    service: str = ""
    pid: int = 0
    left: bool = False
    left_s: float = 0.0
    """When it said so."""
    spells: int = 0
    """How often one began to be well: what was withdrawn in one says nothing of the next."""
    ended_by_stop: bool = False
    """An emergency stop of the desk was begun, and nothing was heard since."""
    standbys: dict[str, float] = field(default_factory=dict)
    """When each standby was heard last."""
    _replaced: set[tuple[str, int]] = field(default_factory=set)
    """Service and pid of engines after which one of a later epoch was heard."""

    def hear(self, beat: Beat, at_s: float) -> None:
        if beat.stage == STANDBY:
            self.standbys[beat.service] = at_s
            return
        before, sender = self.state, (beat.service, beat.pid)
        if beat.epoch < self.epoch and (
            before in (EngineIs.WELL, EngineIs.LEFT) or sender in self._replaced
        ):
            # Of an engine that was replaced, and perhaps only stopped: it is no sign of its successor,
            # whose silence counts on. One that was not heard before may be of a restored database.
            return
        if beat.epoch > self.epoch:
            self._replaced.discard(sender)
            if self.pid and sender != (self.service, self.pid):
                self._replaced.add((self.service, self.pid))
        self.heard_s = max(at_s, self.heard_s or 0.0)
        leaves = beat.stage == STOPPED
        if leaves and not (self.left and sender == (self.service, self.pid)):
            self.left_s = at_s
        self.epoch, self.service, self.pid = beat.epoch, beat.service, beat.pid
        self.left, self.ended_by_stop = leaves, False
        if self.state is EngineIs.WELL is not before:
            self.spells += 1
        if self.state is not before:
            self.on_change()

    def end_by_stop(self) -> None:
        """An emergency stop of the desk was begun. It freezes engines and kills them: the silence
        from now on is meant, and outlasts the stop's marker until an engine is heard again."""
        if self.state not in (EngineIs.WELL, EngineIs.SILENT) or self.ended_by_stop:
            return
        self.ended_by_stop = True
        self.on_change()

    def expect(self, left_s: float | None = None) -> None:
        """One was heard by an earlier guard: its silence counts from now on. `left_s`: when it left on
        purpose; that it is to be back counts from then, whoever heard it."""
        self.heard_s = self.clock_s()
        if left_s is not None:
            # Of this boot's monotonic clock: what lies ahead of it is no time of the past.
            self.left, self.left_s = True, min(left_s, self.heard_s)

    def expect_anew(self) -> None:
        """A closing that was to withdraw the orders is over without that: what was heard before counts from
        now on, for whoever stopped it has not seen to what it left."""
        if self.ended_by_stop:
            self.forget()
        elif self.state in (EngineIs.SILENT, EngineIs.LEFT):
            self.heard_s = self.left_s = self.clock_s()

    def forget(self) -> None:
        """The desk is opened anew: what was heard before says nothing."""
        if self.state is not EngineIs.WELL:
            self.heard_s, self.epoch, self.left, self.ended_by_stop = None, 0, False, False
            self._replaced.clear()

    def forgive(self, seconds: float) -> None:
        """This process itself was stopped for so long: nobody was silent for that."""
        if self.heard_s is not None:
            self.heard_s = min(self.heard_s + seconds, self.clock_s())
            self.left_s = min(self.left_s + seconds, self.clock_s())

    @property
    def silent_s(self) -> float:
        return 0.0 if self.heard_s is None else self.clock_s() - self.heard_s

    @property
    def away_s(self) -> float:
        """Since it left on purpose."""
        return self.clock_s() - self.left_s if self.state is EngineIs.LEFT else 0.0

    @property
    def state(self) -> EngineIs:
        if self.heard_s is None:
            return EngineIs.UNHEARD
        if self.left:
            return EngineIs.LEFT
        well = self.silent_s < self.silent_after_s and not self.ended_by_stop
        return EngineIs.WELL if well else EngineIs.SILENT

    def as_dict(self) -> dict[str, object]:
        return {
            "state": str(self.state),
            "service": self.service,
            "pid": self.pid or None,
            "epoch": self.epoch or None,
            "silent_s": None if self.heard_s is None else round(self.silent_s, 3),
            "away_s": round(self.away_s, 3) if self.state is EngineIs.LEFT else None,
            "ended_by_stop": self.ended_by_stop,
            "standbys": sorted(self.standbys),
        }


async def watch_for_stops(engine: EngineWatch, layout: DeskLayout, beat_every_s: float) -> None:
    """For ever: of an engine that falls silent, whether an emergency stop has ended it. Before any
    silence counts, and from the disk: whoever pressed may have done it without this guard."""
    while True:
        await asyncio.sleep(beat_every_s / 2)
        silent = engine.silent_s > beat_every_s * 1.5
        if not silent or engine.ended_by_stop or engine.state is EngineIs.LEFT:
            continue
        heard_s = engine.heard_s
        if await aside(lambda: is_begun(layout)) and engine.heard_s == heard_s:
            engine.end_by_stop()
