"""One switch against a venue whose timer answers late, loses answers, or refuses."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.models import Guard, Venue
from openbell.domain.dead_man import EngineIs, Mode
from openbell.guard import dead_man
from openbell.guard.closing_watch import ClosingWatch
from openbell.guard.dead_man import HELD_BACK_SHARE, DeadMan
from openbell.guard.engine_watch import EngineWatch
from openbell.guard.warm_venue import WarmVenue
from openbell.kill.beats import STOPPED, Beat
from openbell.kill.course import Course
from openbell.kill.emergency_statement import EmergencyStatement, LatchSet
from openbell.kill.marker import clear_marker, set_marker
from openbell.kill.statement import Result, VenueStatement
from openbell.kill.stop_seen import has_stopped
from openbell.venues.port import DeadMansSwitch, VenueThrottledError, VenueUnavailableError

LATE_S = 0.4
THROTTLED_S = 1.0


@dataclass
class Timer:
    """Stands in for a venue: what it was asked for, when, and how it answers."""

    capabilities: Any = field(
        default_factory=lambda: SimpleNamespace(
            dead_mans_switch=DeadMansSwitch(scope="account", min_s=0.1, max_s=60)
        )
    )
    asked: list[tuple[float, float]] = field(default_factory=list)
    """Time-out, and when its answer came."""
    delay_s: float = 0.0
    lose: bool = False
    throttle: bool = False

    async def arm_dead_mans_switch(self, timeout_s: float, symbols: object = ()) -> None:
        await asyncio.sleep(self.delay_s)
        self.asked.append((timeout_s, time.monotonic()))
        if self.lose and timeout_s:
            raise VenueUnavailableError("its answer was lost")
        if self.throttle:
            raise VenueThrottledError("too many requests", retry_after_s=THROTTLED_S)


@dataclass
class World:
    engine: EngineWatch
    mode: Mode = Mode.OPEN
    closing: ClosingWatch = field(default_factory=lambda: ClosingWatch(math.inf, lambda: True))


@dataclass
class Tried:
    switch: DeadMan
    world: World
    timer: Timer
    told: list[str]
    beating: asyncio.Task[None]

    def beat(self) -> None:
        self.world.engine.hear(Beat(sender="engine", epoch=1), time.monotonic())

    def leave(self) -> None:
        """As an engine that was told to end."""
        self.world.engine.hear(Beat(sender="engine", epoch=1, stage=STOPPED), time.monotonic())


@pytest.fixture
async def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tried]:
    monkeypatch.setattr(dead_man, "LATE_S", LATE_S)
    timer, told = Timer(), []
    config = Venue(url="http://127.0.0.1:1", symbols=("BTC/USDT",))
    warm = WarmVenue("v", config, None, lambda *_, **__: None)
    warm.venue = timer  # type: ignore[assignment]
    warm.opened.set()
    settings = Guard(dead_man_timeout=1.0, engine_silent_after=0.3)
    world = World(EngineWatch(settings.engine_silent_after))
    switch = DeadMan(
        warm,
        settings,
        DeskLayout.for_desk(tmp_path, {}),
        world,
        lambda event, **_: told.append(event),
    )
    running = asyncio.create_task(switch.run())
    beating = asyncio.create_task(_beat(world))
    yield Tried(switch, world, timer, told, beating)
    for task in (running, beating):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _beat(world: World) -> None:
    while True:
        world.engine.hear(Beat(sender="engine", epoch=1), time.monotonic())
        await asyncio.sleep(0.05)


def cut_off() -> ClosingWatch:
    """A closing that is heard no more from now on."""
    return ClosingWatch(math.inf, lambda: False)


async def until(true: Any) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def test_it_is_refreshed_again_and_again_while_the_engine_is_well(tried: Tried) -> None:
    await until(lambda: len(tried.timer.asked) >= 6)
    assert {timeout_s for timeout_s, _ in tried.timer.asked} == {1.0}
    assert tried.switch.armed is True


async def test_a_refresh_that_is_under_way_is_awaited_before_it_is_disarmed(tried: Tried) -> None:
    """Else its answer, or the refresh itself, would come after the disarming."""
    await until(lambda: tried.timer.asked)
    tried.timer.delay_s = 0.3
    before = len(tried.timer.asked)
    await until(lambda: len(tried.timer.asked) > before)
    await asyncio.sleep(0.2)  # the next one has left by now, or is about to
    tried.world.mode = Mode.OFF
    await asyncio.wait_for(tried.switch.disarmed(), 20)
    assert tried.timer.asked[-1][0] == 0
    count = len(tried.timer.asked)
    await asyncio.sleep(1.0)  # the engine beats on
    assert len(tried.timer.asked) == count, "nothing is asked of the timer after it was disarmed"
    assert tried.switch.as_dict()["state"] == "disarmed"


async def test_after_a_refresh_whose_answer_was_lost_it_is_disarmed_once_more_when_that_is_over(
    tried: Tried,
) -> None:
    tried.timer.lose = True
    await until(lambda: tried.timer.asked)
    tried.world.mode = Mode.OFF
    await asyncio.wait_for(tried.switch.disarmed(), 20)
    lost_s = max(at_s for timeout_s, at_s in tried.timer.asked if timeout_s)
    offs = [at_s for timeout_s, at_s in tried.timer.asked if not timeout_s]
    assert len(offs) >= 2 and offs[-1] >= lost_s + LATE_S


async def test_a_venue_that_wants_fewer_requests_is_told_from_one_that_does_not_answer(
    tried: Tried,
) -> None:
    """The one is waited for: it takes the disarming as soon as its counter has fallen."""
    await until(lambda: tried.switch.armed is True)
    tried.timer.throttle = True
    tried.world.mode = Mode.OFF
    tried.switch.changed.set()
    await until(lambda: tried.switch.held_back)
    assert not tried.switch.is_known_disarmed
    tried.timer.throttle = False
    await tried.switch.disarmed()
    assert tried.switch.is_known_disarmed and not tried.switch.held_back


async def test_it_asks_no_sooner_than_the_venues_rate_limit_says_but_while_the_timer_still_runs(
    tried: Tried,
) -> None:
    """Kraken counts refused requests as well: asked every few seconds, its counter never falls."""
    tried.switch._settings = Guard(dead_man_timeout=3.0, engine_silent_after=0.3)
    await until(lambda: tried.switch.armed is True)
    refreshed = len(tried.timer.asked)
    tried.timer.throttle = True
    await until(lambda: len(tried.timer.asked) >= refreshed + 3)
    at_s = [at_s for _, at_s in tried.timer.asked[refreshed:]]
    pause_s = min(THROTTLED_S, tried.switch.timeout_s * HELD_BACK_SHARE)
    assert all(later - sooner >= pause_s for sooner, later in pairwise(at_s)), at_s


async def test_without_an_adapter_it_is_not_called_disarmed(tried: Tried) -> None:
    tried.world.mode = Mode.OFF
    await tried.switch.disarmed()
    assert tried.switch.is_known_disarmed
    tried.switch.warm.venue = None
    assert not tried.switch.is_known_disarmed
    config = tried.switch.warm.config
    tried.switch.warm.config = config.model_copy(update={"dead_man": "guard"})
    assert tried.switch.is_known_disarmed


async def test_a_timer_that_cannot_be_refreshed_is_told_once_and_tried_on(tried: Tried) -> None:
    await until(lambda: tried.timer.asked)
    tried.timer.lose = True
    await until(lambda: "dead_man_late" in tried.told)
    assert tried.told.count("dead_man_problem") == 1
    assert tried.told.count("dead_man_late") == 1
    tried.timer.lose = False
    await until(lambda: tried.switch.as_dict()["why"] == "")
    assert tried.switch.armed is True


async def stopped(layout: DeskLayout, result: Result) -> None:
    """As an emergency stop of the whole desk leaves it."""
    layout.make()
    began = datetime.now(UTC)
    set_marker(layout, "a drill", "somebody")
    course = await Course.begin(layout.emergency, lambda _: None)
    stated = EmergencyStatement(
        course=course.name, reason="a drill", actor="somebody", scopes=("desk",), flatten=False,
        account_wide=False, began=began.isoformat(), took_s=1.0, carrier_pid=1,
        latch=LatchSet(set=True, durable=True), venues=(VenueStatement(venue="v", result=result),),
    )  # fmt: skip
    course.add("ended", statement=stated.to_wire())
    await course.close(20)


async def test_after_an_emergency_stop_that_verified_zero_nothing_fires(
    tried: Tried, tmp_path: Path
) -> None:
    await until(lambda: tried.timer.asked)
    await stopped(DeskLayout.for_desk(tmp_path, {}), "verified")
    tried.beating.cancel()
    await until(lambda: tried.switch.as_dict()["state"] == "idle")
    assert "dead_man_fires" not in tried.told
    assert tried.switch.armed is False


async def test_of_a_stop_that_was_seen_it_is_idle_at_once_and_the_venues_timer_runs_out_by_itself(
    tried: Tried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_man, "STATED_S", 0.05)
    await until(lambda: tried.timer.asked)
    await stopped(DeskLayout.for_desk(tmp_path, {}), "verified")
    tried.beating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await tried.beating
    tried.world.engine.end_by_stop()
    assert tried.world.engine.state is EngineIs.SILENT  # no timer is refreshed for it any more
    await until(lambda: tried.switch.as_dict()["state"] == "idle")
    await until(lambda: tried.switch.armed is False)
    assert "dead_man_fires" not in tried.told and all(sent for sent, _ in tried.timer.asked)
    tried.beat()
    tried.switch.changed.set()
    await until(lambda: tried.switch.armed is True)


async def test_after_one_that_proved_nothing_it_fires(tried: Tried, tmp_path: Path) -> None:
    await until(lambda: tried.timer.asked)
    await stopped(DeskLayout.for_desk(tmp_path, {}), "unknown")
    tried.beating.cancel()
    await until(lambda: "dead_man_fires" in tried.told)


async def test_a_stop_of_before_the_desk_was_opened_again_says_nothing(tmp_path: Path) -> None:
    layout = DeskLayout.for_desk(tmp_path, {})
    assert not has_stopped(layout, "v")
    await stopped(layout, "verified")
    assert has_stopped(layout, "v") and not has_stopped(layout, "another")
    clear_marker(layout)
    assert not has_stopped(layout, "v")
    await asyncio.sleep(1.1)  # longer than that stop took, by its own word
    set_marker(layout, "another stop, which died", "somebody")
    assert not has_stopped(layout, "v")


@dataclass
class Stops:
    """Stands in for the stop of a venue: each takes as long as it is told to, and is verified."""

    begun: list[float] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, visits: Any, **_: object) -> list[VenueStatement]:
        self.begun.append(time.monotonic())
        await self.go_on.wait()
        return [VenueStatement(venue=visit.name, result="verified") for visit in visits]


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Stops:
    stops = Stops()
    monkeypatch.setattr(dead_man, "stop_venues", stops)
    return stops


async def test_where_the_controller_that_closes_the_desk_is_gone_an_engine_that_beats_ends_no_cancel(
    tried: Tried, stops: Stops
) -> None:
    """It was broken off at each look, as the engine is heard, and begun anew without a pause."""
    await until(lambda: tried.switch.armed is True)
    tried.world.mode, tried.world.closing = Mode.HOLD, cut_off()
    await until(lambda: stops.begun)
    assert tried.world.engine.state is EngineIs.WELL
    looks = len(stops.begun)
    tried.switch.changed.set()
    await asyncio.sleep(3 * dead_man.TICK_S_MAX)
    assert len(stops.begun) == looks == 1
    stops.go_on.set()
    await until(lambda: "dead_man_fired" in tried.told)
    assert tried.switch._cancelled
    assert "dead_man_broken_off" not in tried.told


async def test_a_cancel_is_broken_off_for_an_engine_that_is_back_and_its_timer_runs_at_once(
    tried: Tried, stops: Stops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_man, "CANCEL_RETRY_S", 30.0)
    tried.switch._cancel_retry_s = 30.0
    await until(lambda: tried.switch.armed is True)
    tried.beating.cancel()
    await until(lambda: stops.begun)
    refreshed = len(tried.timer.asked)
    back = asyncio.create_task(_beat(tried.world))
    await until(lambda: "dead_man_broken_off" in tried.told)
    await until(lambda: len(tried.timer.asked) > refreshed)  # long before the next cancel may go
    back.cancel()
    await until(lambda: tried.world.engine.state is EngineIs.SILENT)
    running_out_s = tried.switch.timeout_s + 1.0
    await asyncio.sleep(running_out_s)
    assert len(stops.begun) == 1, "one that flaps is not cancelled for without a pause"


@pytest.mark.parametrize("kept", [False, True])
async def test_a_closing_that_begins_breaks_off_a_cancel_only_where_orders_are_kept(
    tried: Tried, stops: Stops, kept: bool
) -> None:
    """The guard left off in the middle, and nobody was there who would go on: the engine is silent."""
    await until(lambda: tried.switch.armed is True)
    tried.beating.cancel()
    await until(lambda: stops.begun)
    tried.world.mode = Mode.OFF if kept else Mode.HOLD
    if kept:
        await until(lambda: "dead_man_broken_off" in tried.told)
        return
    await asyncio.sleep(3 * dead_man.TICK_S_MAX)
    stops.go_on.set()
    await until(lambda: "dead_man_fired" in tried.told)
    assert "dead_man_broken_off" not in tried.told
    assert len(stops.begun) == 1


async def test_what_an_earlier_silence_waited_for_holds_up_no_cancel_of_the_next_one(
    tried: Tried, stops: Stops
) -> None:
    """Half a minute after the last failure, though the engine was well for long in between."""
    tried.switch._cancel_not_before_s = time.monotonic() + 1000
    await until(lambda: tried.switch.armed is True)
    tried.beating.cancel()
    await until(lambda: stops.begun)


@pytest.mark.parametrize("by", ["venue", "guard"])
async def test_what_a_closing_leaves_that_was_cut_off_is_cancelled_though_its_engine_left_as_told(
    tried: Tried, stops: Stops, by: str
) -> None:
    """The controller was killed after the engine had been stopped, and started again: its run waits for a
    person, and the orders rested for ever."""
    tried.switch.warm.config = tried.switch.warm.config.model_copy(update={"dead_man": by})
    await until(
        lambda: tried.switch.as_dict()["state"] == ("armed" if by == "venue" else "watching")
    )
    tried.world.mode = Mode.HOLD
    tried.beating.cancel()
    tried.world.engine.hear(Beat(sender="engine", epoch=1, stage=STOPPED), time.monotonic())
    assert tried.world.engine.state is EngineIs.LEFT
    await asyncio.sleep(2 * tried.switch.timeout_s)
    assert not stops.begun, "while it goes on, nothing is"
    assert tried.switch.as_dict()["state"] == ("armed" if by == "venue" else "watching")
    tried.world.closing = cut_off()
    assert tried.switch.runs_out, "no other guard is to take its place now"
    await until(lambda: stops.begun)
    assert tried.switch.runs_out
    stops.go_on.set()
    await until(lambda: "dead_man_fired" in tried.told)
    await until(lambda: tried.switch.as_dict()["state"] == "fired")
    assert len(stops.begun) == 1
    # Somebody goes on with it, and it is cut off again: what was withdrawn then says nothing of now.
    tried.world.closing = ClosingWatch(math.inf, lambda: True)
    tried.switch.changed.set()
    await until(lambda: not tried.switch._cancelled)  # it has looked
    assert tried.switch.as_dict()["state"] == "watching"
    tried.world.closing = cut_off()
    await until(lambda: len(stops.begun) == 2)


@pytest.mark.parametrize("by", ["venue", "guard"])
async def test_what_an_engine_leaves_that_is_not_back_in_time_is_cancelled(
    tried: Tried, stops: Stops, by: str
) -> None:
    """New code that did not start, or a stray SIGTERM: the orders rested for ever."""
    on = "armed" if by == "venue" else "watching"
    switch = tried.switch
    switch.warm.config = switch.warm.config.model_copy(update={"dead_man": by})
    switch._settings = switch._settings.model_copy(update={"back_within": 2.0})
    stops.go_on.set()
    await until(lambda: switch.as_dict()["state"] == on)
    tried.beating.cancel()
    tried.leave()
    row: Any = switch.as_dict(3)
    assert row["state"] == "away" and 1.0 < row["runs_out_in_s"] <= 2.0
    assert not switch.runs_out
    assert "rest for 2s" in row["why"]
    left_s = time.monotonic()
    await until(lambda: "dead_man_fired" in tried.told)
    assert switch.as_dict()["state"] == "fired"
    if by == "venue":
        refreshed_s = tried.timer.asked[-1][1]
        assert refreshed_s > left_s, "it is kept up for an engine that may be back"
        assert stops.begun[0] - refreshed_s >= 1.0, "and then the venue itself acts first"
    else:
        assert stops.begun[0] - left_s >= 2.0 - 0.1
    # One that is back has its orders guarded as ever, also where it is gone again before anybody looks.
    assert len(stops.begun) == 1
    tried.beat()
    tried.leave()
    await until(lambda: len(stops.begun) == 2)


async def test_an_engine_that_is_back_in_time_keeps_its_orders(tried: Tried, stops: Stops) -> None:
    await until(lambda: tried.switch.armed is True)
    tried.beating.cancel()
    tried.leave()
    assert tried.switch.as_dict()["state"] == "away"
    again = asyncio.create_task(_beat(tried.world))
    try:
        await until(lambda: tried.switch.as_dict()["state"] == "armed")
        await asyncio.sleep(2 * tried.switch.timeout_s)
        assert not stops.begun
    finally:
        again.cancel()


async def test_what_rests_while_nothing_is_armed_and_nobody_cancels_is_named_as_not_covered(
    tried: Tried,
) -> None:

    def gaps(resting: int | None) -> list[str]:
        row: Any = tried.switch.as_dict(resting)
        return [gap for gap in row["not_covered"] if "nobody cancels, however long" in gap]

    await until(lambda: tried.switch.armed is True)
    assert not gaps(3)
    tried.beating.cancel()
    tried.leave()
    assert not gaps(3), "they are withdrawn, unless it is back"
    tried.world.engine.forget()
    assert tried.switch.as_dict()["state"] == "idle"
    assert gaps(3)[0].startswith("what rests (3): no engine was heard yet")
    assert gaps(None)[0].startswith("whatever rests: ")
    assert not gaps(0)
    tried.world.mode = Mode.OFF
    assert gaps(3)[0].startswith("what rests (3): disarmed")


async def test_a_timer_that_a_closing_leaves_to_run_out_is_neither_disarmed_nor_refreshed(
    tried: Tried,
) -> None:
    """A forced closing disarmed it where orders were known to rest, and nobody else withdrew them."""
    await until(lambda: tried.switch.armed is True)
    tried.switch.left_to_run_out, tried.world.mode = True, Mode.OFF
    await asyncio.wait_for(tried.switch.disarmed(), 20)
    await asyncio.sleep(tried.switch.timeout_s / 2)  # a refresh that was under way has its answer
    asked = list(tried.timer.asked)
    await asyncio.sleep(tried.switch.timeout_s)
    assert tried.timer.asked == asked and all(timeout_s for timeout_s, _ in asked)
    assert not tried.switch.is_known_disarmed
    assert tried.switch.as_dict()["state"] == "running_out"
    assert "not proven" in tried.switch.why_not_disarmed
    told = str(tried.switch.as_dict(3)["not_covered"])
    assert f"timer cancels it, {tried.switch.timeout_s:g}s after" in told
    assert "nobody cancels, however long" not in told
    tried.switch.left_to_run_out = False
    await asyncio.wait_for(tried.switch.disarmed(), 20)
    assert tried.timer.asked[-1][0] == 0
