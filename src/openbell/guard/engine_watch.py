"""What the guard knows of the engine: when it was heard last, and whether it left on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from openbell.domain.dead_man import EngineIs
from openbell.kill.beats import STANDBY, STOPPED, Beat


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
    standbys: dict[str, float] = field(default_factory=dict)
    """When each standby was heard last."""

    def hear(self, beat: Beat, at_s: float) -> None:
        if beat.stage == STANDBY:
            self.standbys[beat.service] = at_s
            return
        before = self.state
        if beat.epoch < self.epoch and before in (EngineIs.WELL, EngineIs.LEFT):
            return  # of an engine that was replaced
        self.epoch, self.service, self.pid = beat.epoch, beat.service, beat.pid
        self.heard_s = max(at_s, self.heard_s or 0.0)
        self.left = beat.stage == STOPPED
        if self.state is not before:
            self.on_change()

    def expect(self) -> None:
        """One was heard by an earlier guard: its silence counts from now on."""
        self.heard_s = self.clock_s()

    def forget(self) -> None:
        """The desk is opened anew: what was heard before says nothing."""
        if self.state is not EngineIs.WELL:
            self.heard_s, self.epoch, self.left = None, 0, False

    def forgive(self, seconds: float) -> None:
        """This process itself was stopped for so long: nobody was silent for that."""
        if self.heard_s is not None:
            self.heard_s = min(self.heard_s + seconds, self.clock_s())

    @property
    def silent_s(self) -> float:
        return 0.0 if self.heard_s is None else self.clock_s() - self.heard_s

    @property
    def state(self) -> EngineIs:
        if self.heard_s is None:
            return EngineIs.UNHEARD
        if self.left:
            return EngineIs.LEFT
        return EngineIs.WELL if self.silent_s < self.silent_after_s else EngineIs.SILENT

    def as_dict(self) -> dict[str, object]:
        return {
            "state": str(self.state),
            "service": self.service,
            "pid": self.pid or None,
            "epoch": self.epoch or None,
            "silent_s": None if self.heard_s is None else round(self.silent_s, 3),
            "standbys": sorted(self.standbys),
        }
