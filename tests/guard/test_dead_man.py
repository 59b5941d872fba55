"""Orders without an engine that is well are withdrawn, by the venue's own timer or by the guard; and
never otherwise. Judged by the venue."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from openbell.cli.commands.status import status_text
from openbell.config.loader import load_desk
from openbell.guard.record import read_record
from openbell.procedures.uncontrolled import status_without_controller

SEED = int(os.environ.get("OPENBELL_SEED", str(random.SystemRandom().randrange(1 << 32))))
OWN_TIMER = ("kraken", "binance-usdm")
BOTH_KINDS = ("kraken", "binance")
"""A venue with a timer of its own, and one where the guard is the timer: of one desk."""
EVERY_VENUE = ("kraken", "binance-usdm", "binance")
ALERT_S = 5.0
BACK_WITHIN_S = 20
"""Time enough for the next one to start on a busy machine."""


def watched(venue: str) -> str:
    """The state of its switch while an engine is well."""
    return "armed" if venue in OWN_TIMER else "watching"


async def rest_under_watch(desk: Any) -> None:
    """Three orders at each of both kinds, once their switches are on."""
    for venue in BOTH_KINDS:
        desk.until_switch(venue, watched(venue))
        await desk.rest(venue)


def resting(desk: Any, venues: tuple[str, ...] = BOTH_KINDS) -> dict[str, int]:
    return {venue: desk.resting(venue) for venue in venues}


async def test_a_stopped_engine_lets_it_fire_and_one_that_is_well_does_not(
    make_guarded: Any,
) -> None:
    desk = make_guarded(*EVERY_VENUE)
    desk.open()
    engine = desk.engine()
    for venue in EVERY_VENUE:
        row = desk.until_switch(venue, watched(venue))
        assert row["applies"] == ("venue" if venue in OWN_TIMER else "guard")
        await desk.rest(venue)
    time.sleep(3)  # longer than the time-out: nothing happens to it while the engine is well
    assert resting(desk, EVERY_VENUE) == dict.fromkeys(EVERY_VENUE, 3)
    engine.send_signal(signal.SIGSTOP)
    stopped_s, some_left = time.monotonic(), set(EVERY_VENUE)
    while some_left := {venue for venue in some_left if desk.resting(venue)}:
        # After the time-out and the silence that comes before it; the rest is what a busy machine takes.
        assert time.monotonic() - stopped_s < 2 + 0.6 + 30, f"{some_left} have some left"
        time.sleep(0.05)
    for venue in EVERY_VENUE:
        fired = desk.until_switch(venue, "fired")
        assert fired["fired"]["result"] == "verified"
    desk.until(
        lambda: recorded(desk, "dead_man.fired") == set(EVERY_VENUE), "all are in the audit log"
    )
    engine.send_signal(signal.SIGCONT)
    for venue in EVERY_VENUE:
        desk.until_switch(venue, watched(venue))
        await desk.rest(venue, 1)
    time.sleep(2.5)
    assert resting(desk, EVERY_VENUE) == dict.fromkeys(EVERY_VENUE, 1)


async def test_with_a_position_it_withdraws_the_orders_trades_nothing_and_tells_at_once(
    make_guarded: Any,
) -> None:
    """What is held is a person's to decide: no order is sent for it, and the alert does not wait."""
    desk = make_guarded(*EVERY_VENUE)
    desk.open()
    engine = desk.engine()
    before = {}
    for venue in EVERY_VENUE:
        desk.until_switch(venue, watched(venue))
        await desk.buy(venue)
        await desk.rest(venue)
        before[venue] = traded(desk, venue)
        assert before[venue][0] == 4 and before[venue][1] > 0
    engine.kill()
    for venue in EVERY_VENUE:
        desk.until(lambda venue=venue: desk.resting(venue) == 0, f"{venue} has none left")
        assert desk.until_switch(venue, "fired")["fired"]["result"] == "verified"
        assert traded(desk, venue) == before[venue], "something was traded"
    for action in ("dead_man.fires", "dead_man.fired"):
        desk.until(
            lambda action=action: recorded(desk, action) == set(EVERY_VENUE),
            "the alerts are recorded",
        )
    for venue in EVERY_VENUE:
        fires = next(
            each
            for each in desk.audit()
            if (each["action"], each["subject"]) == ("dead_man.fires", venue)
        )
        line = next(
            each
            for each in desk.guard_lines()
            if (each["event"], each.get("venue")) == ("dead man fires", venue)
        )
        assert line["alert"] is True
        told_s = parse_utc(fires["at"]).timestamp() - parse_utc(line["ts"]).timestamp()
        assert told_s < ALERT_S, "RTS 6 Art. 16(5)"


def recorded(desk: Any, action: str) -> set[str]:
    """The venues of which the audit log has it."""
    return {each["subject"] for each in desk.audit() if each["action"] == action}


def traded(desk: Any, venue: str) -> tuple[int, Decimal]:
    """How many orders ever reached the venue, and how much of them was filled."""
    rows = desk.truth(venue)
    return len(rows), sum((Decimal(row["cum_qty"]) for row in rows), Decimal(0))


def parse_utc(text: str) -> datetime:
    """Of a log's line or the audit log; nanoseconds are cut off."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z?", r"\1", text)).replace(tzinfo=UTC)


async def test_an_engine_killed_and_back_within_seconds_keeps_its_orders(make_guarded: Any) -> None:
    # The next one has time to start, on a busy machine too.
    desk = make_guarded(*BOTH_KINDS, timeout="8s", silent="1s")
    desk.open()
    engine = desk.engine(epoch=1)
    await rest_under_watch(desk)
    engine.kill()
    engine.wait()
    time.sleep(1.5)  # a restart
    desk.engine(epoch=2)
    time.sleep(8.5)
    assert resting(desk) == dict.fromkeys(BOTH_KINDS, 3)
    assert [desk.switch(venue)["fired_at"] for venue in BOTH_KINDS] == [None, None]


async def test_an_engine_that_ends_as_told_keeps_its_orders_for_as_long_as_stated_and_no_longer(
    make_guarded: Any,
) -> None:
    """A restart says that it will be back. Where the new code did not start, or the SIGTERM was anybody's,
    they rested without end. A guard that is started meanwhile goes on counting."""
    desk = make_guarded(
        *BOTH_KINDS, timeout="4s", silent="1s", guard=f'back_within = "{BACK_WITHIN_S}s"\n'
    )
    desk.open()
    engine = desk.engine(epoch=1)
    await rest_under_watch(desk)
    left_ns = _end_as_told(desk, engine)
    died_s = 4 + 1 + 0.5
    for venue in BOTH_KINDS:
        desk.until(
            lambda venue=venue: desk.switch(venue)["runs_out_in_s"] < BACK_WITHIN_S - died_s,
            "one that died would be withdrawn from",
        )
    assert resting(desk) == dict.fromkeys(BOTH_KINDS, 3)
    engine = desk.engine(epoch=2)
    for venue in BOTH_KINDS:
        desk.until_switch(venue, watched(venue))
    over_ns = left_ns + int((BACK_WITHIN_S + 1.5) * 1e9)  # of the one before
    time.sleep(max(0.0, (over_ns - time.time_ns()) / 1e9))
    assert resting(desk) == dict.fromkeys(BOTH_KINDS, 3)
    assert [desk.switch(venue)["fired_at"] for venue in BOTH_KINDS] == [None, None]

    left_ns = _end_as_told(desk, engine)
    # One that is killed before it wrote that down leaves an engine that is taken for dead, as it should be.
    desk.until(lambda: _kept_as_left(desk), "the next guard will know of it")
    guard = desk.guard_pid()
    os.kill(guard, signal.SIGKILL)
    assert desk.other_than(guard, "guard")
    for venue in BOTH_KINDS:
        desk.until(lambda venue=venue: desk.resting(venue) == 0, f"{venue} has none left")
        assert desk.until_switch(venue, "fired")["fired"]["result"] == "verified"
    # Kraken's own timer of four seconds may run out while no guard is there to refresh it.
    ended = [int(row["updated_ns"]) for row in desk.truth("binance")]
    assert len(ended) == 3 and (min(ended) - left_ns) / 1e9 > BACK_WITHIN_S - 1
    desk.until(
        lambda: recorded(desk, "dead_man.fired") == set(BOTH_KINDS), "both are in the audit log"
    )


def _end_as_told(desk: Any, engine: Any) -> int:
    """When it was, wall clock."""
    engine.send_signal(signal.SIGTERM)
    assert engine.wait(30) == 0
    left_ns = time.time_ns()
    for venue in BOTH_KINDS:
        row = desk.until_switch(venue, "away")
        assert 0 < row["runs_out_in_s"] <= BACK_WITHIN_S and "however long" not in str(
            row["not_covered"]
        )
    return left_ns


def _kept_as_left(desk: Any) -> bool:
    record = read_record(desk.layout.guard_record)
    return record is not None and record.left_s is not None


async def test_with_guard_and_controller_gone_the_venues_own_timer_fires(make_guarded: Any) -> None:
    desk = make_guarded("kraken")
    desk.open()
    desk.engine()
    desk.until_switch("kraken", "armed")
    await desk.rest("kraken")
    guard, controller = desk.guard_pid(), desk.processes[-1]
    for pid in (guard, controller.pid):
        os.kill(pid, signal.SIGSTOP)  # so that neither starts the other
    os.kill(guard, signal.SIGKILL)
    controller.kill()
    desk.until(lambda: desk.resting("kraken") == 0, "the venue has none left")


def _assert_told_that_both_are_gone(desk: Any) -> None:
    """By `openbell status`, which has nobody to ask."""
    loaded = load_desk(desk.folder)
    document = status_without_controller(loaded, desk.layout)
    assert (document["state"], document["guard"]["state"]) == ("unwatched", "gone")
    assert "nobody watches" in document["why"]
    told = status_text(document)
    assert "guard       GONE" in told
    assert f"permit runs out within {loaded.file.permit.ttl:g} s" in told
    assert "emergency-stop withdraws every order" in told


async def test_with_both_gone_whoever_brings_them_back_finds_the_orders_withdrawn(
    make_guarded: Any,
) -> None:
    """Where the venue has no timer of its own nobody is left who could cancel: `up` starts both
    again, and the guard knows from its predecessor's record that an engine had been heard."""
    desk = make_guarded("binance")
    desk.open()
    engine = desk.engine()
    desk.until_switch("binance", "watching")
    await desk.rest("binance")
    guard, controller = desk.guard_pid(), desk.processes[-1]
    for pid in (guard, controller.pid):
        os.kill(pid, signal.SIGSTOP)  # so that neither starts the other
    engine.kill()
    os.kill(guard, signal.SIGKILL)
    controller.kill()
    desk.until(lambda: desk.nobody_watches(), "both are gone")
    assert desk.resting("binance") == 3
    _assert_told_that_both_are_gone(desk)
    desk.start()
    assert desk.run("open")[-1]["event"] == "done"
    desk.until(lambda: desk.resting("binance") == 0, "the new guard has cancelled them")
    assert desk.until_switch("binance", "fired")["fired"]["result"] == "verified"


async def test_another_guard_knows_that_an_engine_was_heard(make_guarded: Any) -> None:
    """Guard and engine are gone at once: whoever comes after finds orders that nobody watches."""
    desk = make_guarded("binance")
    desk.open()
    for epoch, end in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
        engine = desk.engine(epoch)
        desk.until_switch("binance", "watching")
        await desk.rest("binance")
        guard = desk.guard_pid()
        engine.kill()
        os.kill(guard, end)
        desk.until(lambda: desk.resting("binance") == 0, f"another guard has cancelled, {end!r}")
        assert desk.other_than(guard, "guard")


async def test_a_clean_shutdown_disarms_last_and_nothing_is_armed_again(make_guarded: Any) -> None:
    """Orders of another desk on the account rest on, long after the time-out."""
    desk = make_guarded(*OWN_TIMER, timeout="6s")
    desk.open()
    desk.engine()
    for venue in OWN_TIMER:
        desk.until_switch(venue, "armed")
        await desk.rest(venue, 1)
    last = desk.run("close")[-1]
    assert last["outcome"] == "verified", last
    disarmed = last["result"]["dead_man"]
    assert sorted(disarmed.pop("venues"), key=lambda row: OWN_TIMER.index(row["venue"])) == [
        {"venue": venue, "applies": "venue", "state": "disarmed"} for venue in OWN_TIMER
    ]
    assert disarmed == {"why": "", "disarmed": True, "unknown": [], "final": True}
    for venue in OWN_TIMER:
        assert desk.resting(venue) == 0, f"the closing withdrew it at {venue}"
        await desk.rest(venue, 2)
    desk.processes[-1].wait(30)
    time.sleep(7.5)  # the engine beats on, and the time-out passes
    assert [desk.resting(venue) for venue in OWN_TIMER] == [2, 2]


async def test_orders_that_a_closing_keeps_are_cancelled_by_no_timer(make_guarded: Any) -> None:
    desk = make_guarded(*BOTH_KINDS)
    desk.open()
    engine = desk.engine()
    await rest_under_watch(desk)
    asked = desk.post("close", {"orders": "keep", "flatten": "keep"})[1]["run"]
    engine.send_signal(signal.SIGSTOP)  # it hangs as the desk is closed
    last = desk.get(f"runs/{asked}/events")[1][-1]
    assert last["outcome"] == "verified", last
    desk.processes[-1].wait(30)
    time.sleep(3)
    assert resting(desk) == dict.fromkeys(BOTH_KINDS, 3)


async def test_a_venue_that_hangs_delays_neither_the_others_nor_the_opening(
    make_guarded: Any,
) -> None:
    desk = make_guarded("kraken", "binance", apart=True)
    desk.venues["kraken"].process.send_signal(signal.SIGSTOP)
    try:
        desk.start()
        assert desk.run("open")[-1]["event"] == "done"
        desk.until_warm("kraken")
        engine = desk.engine()
        desk.until_switch("binance", "watching")
        await desk.rest("binance")
        engine.kill()
        desk.until(lambda: desk.resting("binance") == 0, "cancelled beside the one that hangs")
        assert desk.switch("kraken")["state"] in ("running_out", "not_armed", "cancelling")
        assert any("not connected" in gap for gap in desk.switch("kraken")["not_covered"])
        assert "not connected to kraken" in desk.status()["guard"]["why"] or any(
            not row["warm"] for row in desk.status()["guard"]["venues"]
        )
    finally:
        desk.venues["kraken"].process.send_signal(signal.SIGCONT)


async def test_what_is_stopped_at_random_moments_ends_with_nothing_resting(
    make_guarded: Any,
) -> None:
    """Engine, guard, controller: killed or stopped in any order, and the engine stays away. Where the
    second of guard and controller dies before it has started the first again, nobody is left: then a
    person brings them back. One that was started in time needs nobody."""
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    desk = make_guarded("kraken", "binance")
    for epoch in range(1, 3):
        desk.open() if epoch == 1 else desk.run("open")
        engine = desk.engine(epoch)
        desk.until_switch("kraken", "armed")
        desk.until_switch("binance", "watching")
        await desk.rest("kraken")
        await desk.rest("binance")
        acts: list[Any] = [
            lambda engine=engine: engine.send_signal(dice.choice([signal.SIGKILL, signal.SIGSTOP])),
            lambda: [os.kill(pid, signal.SIGKILL) for pid in desk.running("openbell.guard")],
            lambda: [os.kill(pid, signal.SIGKILL) for pid in desk.running("openbell.controller")],
        ]
        dice.shuffle(acts)
        for act in acts:
            act()
            time.sleep(dice.uniform(0, 0.4))
        if desk.nobody_watches():
            print(f"round {epoch}: guard and controller are both gone")
            desk.start()
            assert desk.run("open")[-1]["event"] == "done"
        for venue in ("kraken", "binance"):
            desk.until(lambda venue=venue: desk.resting(venue) == 0, f"{venue} has none left")
        desk.until(lambda: desk.controller_pid() is not None, "a controller is back")
