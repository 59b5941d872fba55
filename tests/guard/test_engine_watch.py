"""Of which engine a beat is a sign."""

from __future__ import annotations

from openbell.domain.dead_man import EngineIs
from openbell.guard.engine_watch import EngineWatch
from openbell.kill.beats import Beat


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def watched() -> tuple[EngineWatch, Clock]:
    clock = Clock()
    return EngineWatch(1.0, clock_s=clock), clock


def beat(epoch: int, pid: int) -> Beat:
    return Beat(sender="engine", service=f"engine-{pid}", pid=pid, epoch=epoch)


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
