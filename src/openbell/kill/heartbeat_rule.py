"""The kill rule `heartbeat_lost`, for whoever hears the engine's beats.

It is judged apart from risk-management, which hears the engine over the bus: a rule about silence
belongs to a process that shares neither bus nor books with what may fall silent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial

from openbell.config.kill_rules import KillRules
from openbell.config.layout import DeskLayout
from openbell.domain.kill_rules import Judge, Judgement, Now, Reading, Rule, rules_document
from openbell.domain.scopes import DESK
from openbell.kill.aside import aside
from openbell.kill.rule_keeper import RuleKeeper, Tell, tell_controller

LOOK_EVERY_S = 0.25

Silence = Callable[[], float | None]
"""Seconds since the engine was heard last; None where none is expected to be heard: the desk is not
open, the engine left on purpose, or none was ever heard."""


class HeartbeatRule:
    """Does nothing where desk.toml has no such rule."""

    def __init__(
        self,
        layout: DeskLayout,
        rules: KillRules,
        silence: Silence,
        tell: Tell | None = None,
        *,
        beat_every_s: float = 1.0,
    ) -> None:
        self._beat_every_s = beat_every_s
        self._rule = rules.heartbeat_lost
        self._silence = silence
        self._judge = Judge()
        self._keeper = RuleKeeper(
            layout,
            layout.state / "heartbeat-rule.json",
            self._judge,
            self._gather,
            tell or partial(tell_controller, layout),
            rules=(Rule.HEARTBEAT_LOST,),
        )
        self._started = False

    async def run(self) -> None:
        """Looks for ever, and asks the disk on a thread: whoever hears the engine has timers to refresh
        too, and must not wait for a disk that hangs. Not right after this process itself was stopped:
        what the engine said meanwhile is not read yet, and that silence is nobody's."""
        if self._rule is None:
            await asyncio.Event().wait()
        since_s, wait_s = time.monotonic(), 0.0
        await aside(self._start)
        while True:
            # A thread costs more than all the rest of a look.
            needed = self._keeper.needs_latches
            latched = await aside(self._keeper.latched) if needed else frozenset[str]()
            if wait_s:
                since_s = time.monotonic()
                await asyncio.sleep(wait_s)
            if time.monotonic() - since_s - wait_s <= self._beat_every_s:
                await self._keeper.follow_aside(*self._keeper.judge(latched))
            wait_s = LOOK_EVERY_S

    def _start(self) -> None:
        if not self._started:
            self._keeper.start()
            self._started = True

    def look(self) -> None:
        if self._rule is not None:
            self._start()
            self._keeper.look()

    def document(self) -> list[dict[str, object]]:
        """As `kill-switch status` shows it."""
        return rules_document(dict(self._keeper.judgements))

    def _gather(self, now: Now) -> Iterable[Judgement]:
        assert self._rule is not None
        silent_s = self._silence()
        if silent_s is None:
            reading = Reading(None, "no engine is expected to be heard now")
        else:
            note = f"the engine was not heard for {silent_s:.1f} s while the desk is open"
            reading = Reading(Decimal(f"{silent_s:.3f}"), note=note)
        yield self._judge.age(Rule.HEARTBEAT_LOST, DESK, reading, now, limit_s=self._rule.after)
