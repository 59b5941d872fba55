"""What always holds of the decisions about a dead-man's switch, and about guard and controller."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain import mutual_watch
from openbell.domain.dead_man import (
    FIRED_GRACE_S,
    Act,
    DeadManFacts,
    EngineIs,
    Mode,
    decide,
    within,
)
from openbell.guard.dead_man import TICK_S_MAX, TICK_SHARE

seconds = st.floats(0, 200)


def _facts(more_s: float, **given_facts: Any) -> DeadManFacts:
    """`more_s`: by how much an engine may be away for longer than the time-out."""
    return DeadManFacts(back_within_s=given_facts["timeout_s"] + more_s, **given_facts)


facts = st.builds(
    _facts,
    more_s=st.just(0.0) | st.floats(0, 120),
    engine_away_s=seconds,
    applies=st.sampled_from(["venue", "guard", "none"]),
    mode=st.sampled_from(list(Mode)),
    engine=st.sampled_from(list(EngineIs)),
    engine_silent_s=seconds,
    closing_well=st.booleans(),
    closing_silent_s=seconds,
    timeout_s=st.floats(1, 60),
    armed=st.sampled_from([True, False, None]),
    since_refresh_s=st.none() | seconds,
    cancelled=st.booleans(),
    stopped=st.booleans(),
    left_to_run_out=st.booleans(),
)


@given(facts)
def test_nothing_is_armed_or_cancelled_once_it_was_disarmed(found: DeadManFacts) -> None:
    if found.mode is Mode.OFF:
        assert decide(found).act in (Act.NOTHING, Act.DISARM)
        if found.left_to_run_out:
            assert decide(found).act is Act.NOTHING


@given(facts)
def test_a_timer_is_refreshed_only_for_who_is_well(found: DeadManFacts) -> None:
    if decide(found).act is Act.REFRESH:
        well = found.engine is EngineIs.WELL and found.mode is Mode.OPEN
        away = found.engine is EngineIs.LEFT and found.mode is Mode.OPEN
        assert found.applies == "venue"
        if away:
            assert found.armed is not False and not found.cancelled
            assert found.engine_away_s < found.back_within_s
            return
        assert well or (found.mode is Mode.HOLD and found.closing_well and found.armed)


@given(facts)
def test_a_refresh_is_due_before_a_quarter_of_the_time_out_is_over(found: DeadManFacts) -> None:
    since = found.since_refresh_s
    if (
        found.applies == "venue"
        and found.mode is Mode.OPEN
        and found.engine is EngineIs.WELL
        and (since is None or since >= found.timeout_s / 4)
    ):
        assert decide(found).act is Act.REFRESH


@given(st.floats(1, 600))
def test_with_the_guards_looks_no_two_refreshes_are_more_than_a_quarter_apart(
    timeout_s: float,
) -> None:
    """Each look at the worst moment: just before a refresh is due."""
    look_s = min(TICK_S_MAX, timeout_s * TICK_SHARE)
    since = 0.0
    while True:
        found = DeadManFacts(
            applies="venue", mode=Mode.OPEN, engine=EngineIs.WELL, engine_silent_s=0.0,
            closing_well=True, closing_silent_s=0.0, timeout_s=timeout_s, armed=True,
            engine_away_s=0.0, back_within_s=timeout_s,
            since_refresh_s=since, cancelled=False,
        )  # fmt: skip
        if decide(found).act is Act.REFRESH:
            break
        since += look_s
    assert since <= timeout_s / 4


@given(facts)
def test_orders_are_cancelled_only_after_a_silence_as_long_as_the_time_out(
    found: DeadManFacts,
) -> None:
    if decide(found).act is Act.CANCEL:
        assert not found.cancelled and not found.stopped
        closes = found.mode is Mode.HOLD
        away = found.engine is EngineIs.LEFT and not closes
        silent_s = found.closing_silent_s if closes else found.engine_silent_s
        silent_s = found.engine_away_s if away else silent_s
        assert max(found.since_refresh_s or 0, silent_s) >= found.timeout_s
        assert not found.closing_well if closes else away or found.engine is EngineIs.SILENT


@given(facts)
def test_a_desk_whose_closing_was_cut_off_is_withdrawn_from_whatever_became_of_its_engine(
    found: DeadManFacts,
) -> None:
    """A guard that was told to hold did nothing for ever where it is the one who cancels, and kept a
    venue's timer up for ever where the controller had been started again."""
    if found.mode is not Mode.HOLD or found.closing_well or found.applies == "none":
        return
    act = decide(found).act
    assert act is not Act.REFRESH
    silent = found.closing_silent_s >= found.timeout_s
    runs = found.applies == "venue" and found.armed and found.since_refresh_s is not None
    if silent and not runs and not found.cancelled and not found.stopped:
        assert act is Act.CANCEL


@given(facts)
def test_of_an_engine_that_was_never_heard_nothing_is_cancelled(found: DeadManFacts) -> None:
    if found.mode is Mode.OPEN and found.engine is EngineIs.UNHEARD:
        assert decide(found).act is Act.NOTHING


@given(facts)
def test_where_the_guard_cancels_an_engine_that_left_is_waited_for_exactly_as_long_as_stated(
    found: DeadManFacts,
) -> None:
    """Its orders rested for ever where nothing came after it: a stray SIGTERM, code that does not start."""
    if found.mode is Mode.OPEN and found.engine is EngineIs.LEFT and found.applies == "guard":
        over = found.engine_away_s >= found.back_within_s and not found.cancelled
        assert decide(found).act is (Act.CANCEL if over else Act.NOTHING)


@given(st.floats(1, 600), st.just(0.0) | st.floats(0, 300), st.floats(0, 1), st.floats(0, 1))
def test_a_venues_timer_runs_out_with_the_time_of_an_engine_that_left_and_no_sooner(
    timeout_s: float, more_s: float, refreshed_share: float, phase: float
) -> None:
    """Refreshed last at any moment before, and looked at from any moment on."""
    look_s = min(TICK_S_MAX, timeout_s * TICK_SHARE)
    since, away = refreshed_share * timeout_s / 4, phase * look_s
    since += away
    while True:
        act = decide(
            DeadManFacts(
                applies="venue", mode=Mode.OPEN, engine=EngineIs.LEFT, engine_silent_s=away,
                engine_away_s=away, back_within_s=timeout_s + more_s, closing_well=False,
                closing_silent_s=0.0, timeout_s=timeout_s, armed=True, since_refresh_s=since,
                cancelled=False,
            )
        ).act  # fmt: skip
        if act is Act.CANCEL:
            break
        if act is Act.REFRESH:
            since = 0.0
        since, away = since + look_s, away + look_s
    assert timeout_s + more_s <= away <= timeout_s + more_s + FIRED_GRACE_S + 3 * look_s


@given(facts)
def test_an_engine_is_called_late_only_once_its_time_is_over(found: DeadManFacts) -> None:
    """Where the venue could not be reached its timer ran out long before, and the alert said that the engine
    was not back within 600s."""
    decided = decide(found)
    if (decided.act, found.mode, found.engine) == (Act.CANCEL, Mode.OPEN, EngineIs.LEFT):
        late = found.engine_away_s >= found.back_within_s
        assert ("was not back within" in decided.why) is late
        assert ("could not be refreshed" in decided.why) is not late


@given(facts)
def test_where_it_is_off_nothing_is_done(found: DeadManFacts) -> None:
    if found.applies == "none":
        assert decide(found).act is Act.NOTHING


def test_a_time_out_is_brought_within_what_the_venue_takes() -> None:
    assert [within(wanted, 1, 60) for wanted in (0.5, 30, 90)] == [1, 30, 60]


peers = st.builds(
    mutual_watch.PeerFacts,
    wanted=st.booleans(),
    alive=st.sampled_from([True, False, None]),
    silent_s=seconds,
    silent_after_s=st.floats(0.1, 10),
    since_start_s=st.none() | seconds,
    started_s=st.lists(seconds, max_size=8),
    gone_s=seconds,
    frozen=st.booleans(),
)


@given(peers)
def test_another_is_started_only_when_the_one_before_is_not_known_to_live(
    found: mutual_watch.PeerFacts,
) -> None:
    act = mutual_watch.decide(found).act
    if act is mutual_watch.Act.START:
        assert found.wanted and found.alive is not True
        recent = [ago for ago in found.started_s if ago < mutual_watch.WINDOW_S]
        assert len(recent) < mutual_watch.LIMIT
    if act is mutual_watch.Act.KILL:
        assert found.wanted and found.alive is True
        share = mutual_watch.FROZEN_SHARE if found.frozen else 1.0
        assert max(found.silent_s, found.since_start_s or 0) >= found.silent_after_s * share


@given(peers)
def test_of_a_desk_that_is_not_meant_to_be_open_nothing_is_touched(
    found: mutual_watch.PeerFacts,
) -> None:
    if not found.wanted:
        assert mutual_watch.decide(found).act is mutual_watch.Act.NOTHING
