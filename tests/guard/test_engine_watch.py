"""Of which engine a beat is a sign."""

from __future__ import annotations

from openbell.domain.dead_man import EngineIs
from openbell.guard.engine_watch import EngineWatch
from openbell.kill.beats import ACTIVE, STOPPED, Beat


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def watched() -> tuple[EngineWatch, Clock]:
    clock = Clock()
    return EngineWatch(1.0, clock_s=clock), clock


def beat(epoch: int, pid: int, stage: str = ACTIVE) -> Beat:
    return Beat(sender="engine", service=f"engine-{pid}", pid=pid, epoch=epoch, stage=stage)


def test_one_that_was_replaced_is_no_sign_of_its_successor_that_is_silent() -> None:
    """It was stopped for longer than its lease, and beats once more before it sees that it is fenced: the
    successor's silence began anew with it, and the epoch went back."""
    engine, clock = watched()
    engine.hear(beat(1, 11), clock.now_s)
    clock.now_s += 5
    engine.hear(beat(2, 12), clock.now_s)
    clock.now_s += 5
    assert engine.state is EngineIs.SILENT
    engine.hear(beat(1, 11), clock.now_s)
    assert (engine.state, engine.epoch, engine.silent_s) == (EngineIs.SILENT, 2, 5)
    engine.hear(beat(3, 11), clock.now_s)
    assert (engine.state, engine.epoch) == (EngineIs.WELL, 3), "it took office again"
    clock.now_s += 5
    engine.hear(beat(2, 12), clock.now_s)
    assert engine.state is EngineIs.SILENT


def test_one_of_an_earlier_epoch_that_was_never_heard_is_the_engine_of_a_restored_database() -> (
    None
):
    engine, clock = watched()
    engine.hear(beat(7, 11), clock.now_s)
    engine.hear(beat(3, 12), clock.now_s)
    assert engine.epoch == 7, "while the other one is well it is none"
    clock.now_s += 5
    engine.hear(beat(3, 12), clock.now_s)
    assert (engine.state, engine.epoch) == (EngineIs.WELL, 3)


def test_a_desk_that_is_opened_anew_knows_of_none_that_was_replaced() -> None:
    engine, clock = watched()
    engine.hear(beat(1, 11), clock.now_s)
    engine.hear(beat(2, 12), clock.now_s)
    clock.now_s += 5
    engine.forget()
    assert engine.state is EngineIs.UNHEARD
    engine.hear(beat(1, 11), clock.now_s)
    assert engine.state is EngineIs.WELL


def test_how_long_one_is_away_counts_from_its_first_word_of_it_whatever_it_repeats() -> None:
    engine, clock = watched()
    engine.hear(beat(1, 11), clock.now_s)
    engine.hear(beat(1, 11, STOPPED), clock.now_s)
    clock.now_s += 5
    engine.hear(beat(1, 11, STOPPED), clock.now_s)
    assert (engine.state, engine.away_s) == (EngineIs.LEFT, 5)
    engine.forgive(2)
    assert engine.away_s == 3, "the guard itself was stopped for so long"
    engine.hear(beat(2, 12), clock.now_s)
    assert (engine.state, engine.away_s) == (EngineIs.WELL, 0)
    engine.hear(beat(2, 12, STOPPED), clock.now_s)
    clock.now_s += 1
    assert engine.away_s == 1
    assert engine.spells == 2


def test_of_one_that_left_under_an_earlier_guard_the_time_goes_on() -> None:
    engine, clock = watched()
    engine.expect(clock.now_s - 30)
    assert (engine.state, engine.away_s) == (EngineIs.LEFT, 30)
    engine.expect(clock.now_s + 30)
    assert engine.away_s == 0, "no time of this boot"


def test_what_a_closing_that_is_over_has_stopped_is_waited_for_anew() -> None:
    """It was forgotten as the desk was opened again, and its orders rested with nobody to withdraw them."""
    engine, clock = watched()
    for stage, after in ((STOPPED, EngineIs.LEFT), (ACTIVE, EngineIs.SILENT)):
        engine.hear(beat(1, 11), clock.now_s)
        engine.hear(beat(1, 11, stage), clock.now_s)
        clock.now_s += 100
        assert engine.state is after
        engine.expect_anew()
        assert max(engine.silent_s, engine.away_s) == 0
        clock.now_s += 5
        assert engine.state is after and max(engine.silent_s, engine.away_s) == 5
    engine.end_by_stop()
    engine.expect_anew()
    assert engine.state is EngineIs.UNHEARD, "a stop sees to what that left"
