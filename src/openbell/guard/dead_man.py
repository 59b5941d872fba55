"""One venue's dead-man's switch, carried out: what `domain.dead_man` decides, done one by one.

Everything is done by one task per venue, so a refresh that is under way is always awaited before
the switch is disarmed. A refresh whose answer was lost may still land: for `LATE_S` after it nothing
is called disarmed that was not disarmed again since.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from openbell.config.guard import Guard as GuardSettings
from openbell.config.layout import DeskLayout
from openbell.domain.dead_man import (
    FIRED_GRACE_S,
    LEFT_TO_RUN_OUT,
    Act,
    Applies,
    DeadManFacts,
    EngineIs,
    Mode,
    decide,
    is_late,
    what_becomes,
    within,
)
from openbell.errors import OpenbellError
from openbell.guard.closing_watch import ClosingWatch
from openbell.guard.dead_man_row import DeadManRow, runs_out_in_s, state_of
from openbell.guard.engine_watch import EngineWatch
from openbell.guard.visiting import given_s, visit_to
from openbell.guard.warm_venue import WarmVenue
from openbell.kill.aside import aside
from openbell.kill.live_orders import RegisterOnDisk
from openbell.kill.statement import VenueStatement
from openbell.kill.stop_seen import has_stopped
from openbell.kill.stop_venues import stop_venues
from openbell.venues.port import DeadMansSwitch, VenueThrottledError

_log = logging.getLogger(__name__)

LATE_S = 5.0
"""A request that left so long ago has arrived, or never will (Binance's window is five seconds)."""
TICK_S_MAX, TICK_SHARE = 0.5, 0.04
"""Between two looks, as seconds and as a share of the time-out: the lesser."""
RETRY_FIRST_S, RETRY_MAX_S = 0.2, 5.0
HELD_BACK_SHARE = 1 / 6
"""Of the time-out, the longest pause that a venue's rate limit is granted: five tries fit into it. Each
try counts there as well, so that asking sooner than it says keeps everybody out."""
DISK_S = 0.5
CANCEL_RETRY_S, CANCEL_RETRY_MAX_S = 1.0, 30.0
STATED_S = 2.0
"""Between two looks at what an emergency stop that has ended the engine states of this venue."""


class World(Protocol):
    """What the switches of all venues hang on."""

    mode: Mode
    engine: EngineWatch

    @property
    def closing(self) -> ClosingWatch: ...


class DeadMan:
    """The switch of one venue."""

    def __init__(
        self,
        warm: WarmVenue,
        settings: GuardSettings,
        layout: DeskLayout,
        world: World,
        tell: Callable[..., None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.warm = warm
        self.changed = asyncio.Event()
        """Set by whoever changes the world: look now."""
        self.armed: bool | None = None
        self.statement: VenueStatement | None = None
        """What came of the last time that it was acted on."""
        self.fired_at: datetime | None = None
        self.left_to_run_out = False
        """Not to be disarmed, nor refreshed: a closing could not prove what rests here."""
        self._settings = settings
        self._desk_id = layout.desk_id
        self._layout = layout
        self._world = world
        self._tell = tell
        self._clock_s = clock_s
        self._refreshed_s: float | None = None
        self._refreshed_at: datetime | None = None
        self._cancelled = False
        self._spell = 0
        """Of the engine, as of `EngineWatch.spells`: that for which it was cancelled."""
        self._stopped = False
        """An emergency stop has ended the engine, and verified zero here."""
        self._stated_s = 0.0
        """When its statement was looked for last."""
        self._cancelling = False
        self._unsure_until_s = clock_s() + LATE_S
        """An earlier guard's refresh may be under way as well."""
        self._retry_s = RETRY_FIRST_S
        self._not_before_s = 0.0
        self._cancel_retry_s = CANCEL_RETRY_S
        self._cancel_not_before_s = 0.0
        """Of cancels alone: an engine that is well again has its timer refreshed at once."""
        self._late = False
        self._problem = ""
        self._held_back_s: float | None = None
        self._disarmed = asyncio.Event()

    # --- what is so --------------------------------------------------------------------------

    @property
    def switch(self) -> DeadMansSwitch | None:
        """The venue's own timer, where it is to be used."""
        venue = self.warm.venue
        if venue is None or self.warm.config.dead_man != "venue":
            return None
        return venue.capabilities.dead_mans_switch

    @property
    def applies(self) -> Applies:
        if self.warm.config.dead_man == "off":
            return "none"
        return "guard" if self.switch is None else "venue"

    @property
    def timeout_s(self) -> float:
        wanted = self._settings.dead_man_timeout
        switch = self.switch
        return wanted if switch is None else within(wanted, switch.min_s, switch.max_s)

    @property
    def back_within_s(self) -> float:
        """The lease of an engine that left; a venue's timer cannot run out sooner than it takes."""
        return max(self._settings.back_within_s, self.timeout_s)

    @property
    def facts(self) -> DeadManFacts:
        since = None if self._refreshed_s is None else self._clock_s() - self._refreshed_s
        return DeadManFacts(
            applies=self.applies,
            mode=self._world.mode,
            engine=self._world.engine.state,
            engine_silent_s=self._world.engine.silent_s,
            engine_away_s=self._world.engine.away_s,
            back_within_s=self.back_within_s,
            closing_well=self._world.closing.is_well,
            closing_silent_s=self._world.closing.silent_s,
            timeout_s=self.timeout_s,
            armed=self.armed,
            since_refresh_s=since,
            cancelled=self._cancelled,
            stopped=self._stopped,
            left_to_run_out=self.left_to_run_out,
        )

    @property
    def is_to_cancel(self) -> bool:
        """It withdraws what rests here itself, now or at its next try."""
        return self._cancelling or decide(self.facts).act is Act.CANCEL

    @property
    def held_back(self) -> bool:
        """The venue answered the last request with its rate limit: it is well, and will take it."""
        return self._held_back_s is not None

    # --- what is done ------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever."""
        await self.warm.opened.wait()
        while True:
            # An adapter that could not be loaded is tried again by the one who keeps it warm.
            if self.warm.venue is not None:
                await self._look()
            self.changed.clear()
            tick_s = min(TICK_S_MAX, self.timeout_s * TICK_SHARE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(tick_s):
                    await self.changed.wait()

    async def _look(self) -> None:
        await self._hear_of_stop()
        facts = self.facts
        self._tell_lateness(facts)
        well = facts.engine is EngineIs.WELL and facts.mode is Mode.OPEN
        if self._spell != self._world.engine.spells:
            # One was well between two looks, and may have sent orders, though it is gone again.
            self._spell, self._cancelled = self._world.engine.spells, False
            facts = self.facts
        if well or (facts.mode is Mode.HOLD and facts.closing_well):
            self._cancelled, self._cancel_retry_s = False, CANCEL_RETRY_S
            # What an earlier silence was to wait for is over: the next one is not held up by it.
            soon_s = self._clock_s() + CANCEL_RETRY_S
            self._cancel_not_before_s = min(self._cancel_not_before_s, soon_s)
        act = decide(facts).act
        not_before_s = self._cancel_not_before_s if act is Act.CANCEL else self._not_before_s
        if act is Act.NOTHING or self._clock_s() < not_before_s:
            return
        if act is Act.REFRESH:
            await self._refresh(facts.timeout_s)
        elif act is Act.DISARM:
            await self._disarm()
        elif await self._is_stopped():
            # The engine was ended on purpose, after the venue said that nothing rests. Heard of here
            # only where the guard did not see the stop itself: it was begun by another, or is new.
            self._cancelled = True
            self._ran_out()
        else:
            await self._cancel()

    async def _hear_of_stop(self) -> None:
        """Long before the timer would have run out: until then it would look as if it were to fire."""
        if not self._world.engine.ended_by_stop:
            self._stopped = False
        elif self._stopped:
            since = self.facts.since_refresh_s
            if since is not None and since >= self.timeout_s + FIRED_GRACE_S:
                self._ran_out()  # and reached nothing
        else:
            await self._is_stopped()

    async def _is_stopped(self) -> bool:
        """Whether an emergency stop verified zero here, as its statement says; the disk is asked once in
        STATED_S, whoever wants to know."""
        if not self._stopped and self._clock_s() - self._stated_s >= STATED_S:
            self._stated_s = self._clock_s()
            with contextlib.suppress(TimeoutError):  # a disk that hangs must not hold it up
                look = aside(lambda: has_stopped(self._layout, self.warm.name), DISK_S)
                self._stopped = await look
        return self._stopped

    def _ran_out(self) -> None:
        """The venue's timer runs no more."""
        if self.applies == "venue":
            self.armed, self._refreshed_s = False, None

    async def _refresh(self, timeout_s: float) -> None:
        sent_s = self._clock_s()
        problem = await self._set_timer(timeout_s)
        if problem:
            if self.armed is False:
                self.armed = None
            self._unsure_until_s = self._clock_s() + LATE_S
            self._failed(f"the timer is not refreshed: {problem}")
            return
        if not self.armed:
            self._tell("dead_man_armed", venue=self.warm.name, timeout_s=timeout_s)
        self.armed, self._refreshed_s = True, sent_s
        self._refreshed_at = datetime.now(UTC)
        self._disarmed.clear()
        self._succeeded()

    async def _disarm(self) -> None:
        problem = await self._set_timer(0)
        unsure_s = self._unsure_until_s - self._clock_s()
        if problem:
            self.armed = None
            self._failed(f"the timer is not disarmed: {problem}")
        elif unsure_s > 0:
            self._not_before_s = self._clock_s() + unsure_s
        else:
            self.armed, self._refreshed_s, self._late = False, None, False
            self._disarmed.set()
            self._succeeded()
            self._tell("dead_man_disarmed", venue=self.warm.name)

    async def _set_timer(self, timeout_s: float) -> str:
        """Why the venue did not take it; empty where it did."""
        venue = self.warm.venue
        assert venue is not None
        limit_s = self._answer_within_s
        self._held_back_s = None
        try:
            async with asyncio.timeout(limit_s):
                await venue.arm_dead_mans_switch(timeout_s)
        except TimeoutError:
            return f"no answer within {limit_s:g} s"
        except OpenbellError as error:
            if isinstance(error, VenueThrottledError):
                self._held_back_s = error.retry_after_s
            return error.message
        except Exception as error:  # noqa: BLE001 - an adapter's defect must not end the guard
            _log.error("the adapter of %s raised %s", self.warm.name, type(error).__name__)
            return f"the adapter raised {type(error).__name__}"
        return ""

    async def _cancel(self) -> None:
        """Until it is proven, or there is no reason for it any more: the new orders of an engine that is
        well again are not to go."""
        if (
            self.fired_at is None
            or self.statement is None
            or self._cancel_retry_s == CANCEL_RETRY_S
        ):
            self.fired_at = datetime.now(UTC)
        by_venue = self.applies == "venue" and self._refreshed_s is not None
        self._tell(
            "dead_man_fires",
            venue=self.warm.name,
            by="venue" if by_venue else "guard",
            why=decide(self.facts).why,
        )
        self._cancelling = True
        visit = await visit_to(self.warm, self._layout, DISK_S)
        stopping = asyncio.create_task(
            stop_venues(
                [visit],
                desk_id=self._desk_id,
                timeout_s=given_s(visit, self._settings.cancel_timeout),
                register=RegisterOnDisk(self._layout.live_orders),
            )
        )
        try:
            while not stopping.done() and self._is_to_go_on:
                await asyncio.wait({stopping}, timeout=TICK_S_MAX)
        finally:
            self._cancelling = False
            if not stopping.done():
                stopping.cancel()
                await asyncio.gather(stopping, return_exceptions=True)
        if stopping.cancelled():
            heard = self._world.engine.state is EngineIs.WELL and self._world.mode is Mode.OPEN
            why = "the engine is heard again" if heard else decide(self.facts).why
            self._tell("dead_man_broken_off", venue=self.warm.name, why=why)
            self._retry_later()
            return
        (self.statement,) = stopping.result()
        # Of an engine that was back meanwhile, and is gone again, it says nothing: the next look cancels.
        self._cancelled = self.statement.result == "verified"
        self._ran_out()
        if not self._cancelled:
            self._retry_later()
        self._tell(
            "dead_man_fired",
            venue=self.warm.name,
            result=self.statement.result,
            remaining=len(self.statement.orders),
            why=self.statement.why if not self._cancelled else "",
            by_hand=self.statement.by_hand,
        )

    @property
    def _is_to_go_on(self) -> bool:
        """Of a cancel under way. A closing that withdraws the orders begins with `hold`, one that keeps them
        with `off`: the first is no reason to leave them, unless an engine that is well withdraws them."""
        facts = self.facts
        if facts.mode is Mode.HOLD and facts.engine is not EngineIs.WELL:
            return True
        return decide(facts).act is Act.CANCEL

    def _retry_later(self) -> None:
        self._cancel_not_before_s = self._clock_s() + self._cancel_retry_s
        self._cancel_retry_s = min(self._cancel_retry_s * 2, CANCEL_RETRY_MAX_S)

    @property
    def disarming_s(self) -> float:
        """How long a disarming may take: a refresh under way that gets no answer, the time in which
        it may still land, and as long again for the disarming's own request."""
        return 2 * self._answer_within_s + LATE_S + RETRY_MAX_S

    @property
    def _answer_within_s(self) -> float:
        return self.warm.config.timeout + 1

    @property
    def why_not_disarmed(self) -> str:
        if self.warm.venue is None:
            return "its adapter is not loaded"
        if self.left_to_run_out:
            return LEFT_TO_RUN_OUT
        return self._problem or "no answer yet"

    @property
    def is_known_disarmed(self) -> bool:
        """No timer runs, once the mode is off. Of a venue whose adapter is not loaded that is not
        known: an earlier guard may have armed it."""
        if self.warm.venue is None:
            return self.warm.config.dead_man != "venue"
        return self.applies != "venue" or self.armed is False

    async def disarmed(self) -> None:
        """Returns when nothing of it runs any more, which `Mode.OFF` leads to, or when no adapter
        is there to ask."""
        await self.warm.opened.wait()
        while self.applies == "venue" and self.armed is not False and not self.left_to_run_out:
            self.changed.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S_MAX):
                    await self._disarmed.wait()

    def _failed(self, why: str) -> None:
        if why != self._problem:
            self._tell("dead_man_problem", venue=self.warm.name, why=why)
        self._problem = why
        pause_s = min(self._held_back_s or 0.0, self.timeout_s * HELD_BACK_SHARE)
        self._not_before_s = self._clock_s() + max(self._retry_s, pause_s)
        self._retry_s = min(self._retry_s * 2, RETRY_MAX_S, max(self.timeout_s / 20, RETRY_FIRST_S))

    def _succeeded(self) -> None:
        self._problem, self._retry_s, self._not_before_s = "", RETRY_FIRST_S, 0.0

    def _tell_lateness(self, facts: DeadManFacts) -> None:
        late = is_late(facts)
        if late and not self._late:
            self._tell(
                "dead_man_late",
                venue=self.warm.name,
                since_s=round(facts.since_refresh_s or 0.0, 3),
                timeout_s=facts.timeout_s,
            )
        self._late = late

    # --- for people --------------------------------------------------------------------------

    def as_dict(self, resting: int | None = None) -> dict[str, object]:
        """`resting`: own orders at the venue now, where that was asked."""
        facts = self.facts
        switch = self.switch
        return DeadManRow(
            venue=self.warm.name,
            config=self.warm.config,
            switch=switch,
            applies=facts.applies if self.warm.venue is not None else "unknown",
            timeout_s=facts.timeout_s,
            state=self._state(facts),
            why=self._problem or decide(facts).why,
            not_covered=self._not_covered(facts, switch, resting),
            refreshed_at=self._refreshed_at,
            refreshed_ago_s=facts.since_refresh_s,
            runs_out_in_s=runs_out_in_s(facts),
            fired_at=self.fired_at,
            fired=self.statement,
        ).as_dict()

    @property
    def runs_out(self) -> bool:
        """Nobody who is well stands behind what rests here: it is withdrawn soon, or now. Another guard
        would begin to count anew."""
        facts = self.facts
        return facts.mode is not Mode.OFF and self._state(facts) in ("running_out", "cancelling")

    def _state(self, facts: DeadManFacts) -> str:
        return state_of(
            facts,
            loaded=self.warm.venue is not None,
            cancelling=self._cancelling,
            fired=self.fired_at is not None,
        )

    def _not_covered(
        self, facts: DeadManFacts, switch: DeadMansSwitch | None, resting: int | None
    ) -> list[str]:
        if facts.applies == "none":
            return [f'everything: dead_man = "off" in [venues.{self.warm.name}]']
        gaps = []
        nobody = facts.mode is Mode.OFF or (
            facts.mode is Mode.OPEN and facts.engine is EngineIs.UNHEARD
        )
        if nobody and resting != 0:
            rests = "whatever rests" if resting is None else f"what rests ({resting})"
            gaps.append(f"{rests}: {decide(facts).why}{what_becomes(facts)}")
        if not self.warm.warm:
            gaps.append(f"the guard is not connected: {self.warm.why}")
        if switch is None:
            gaps.append("should guard and controller be gone at the same time, nobody cancels here")
        if switch is None or switch.scope == "symbol":
            gaps.append(f"orders in symbols that [venues.{self.warm.name}] does not name")
        if switch is not None and switch.conditional is None:
            gaps.append(
                "orders that wait for a trigger, as far as the venue says: the guard cancels them "
                "once the timer has run out"
            )
        return gaps
