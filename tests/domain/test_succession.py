"""Who trades, of an engine and its standby, and what is done where neither does."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.service_state import ServiceState
from openbell.domain.succession import (
    Decision,
    Holder,
    Keep,
    Kill,
    Member,
    Promote,
    Wait,
    decide,
)

READY, BACKOFF, FAILED = ServiceState.READY, ServiceState.BACKOFF, ServiceState.FAILED
PIDS = itertools.count(100)


def engine(**facts: object) -> Member:
    given_: dict[str, object] = {"service": "engine", "state": READY, "pid": 1, **facts}
    return Member(**given_)  # type: ignore[arg-type]


def standby(**facts: object) -> Member:
    given_: dict[str, object] = {
        "service": "standby", "state": READY, "pid": 2, "phase": "standby", **facts
    }  # fmt: skip
    return Member(**given_)  # type: ignore[arg-type]


def decided(one: Member, other: Member, holder: str = "engine pid 1", epoch: int = 7) -> Decision:
    return decide(one, other, epoch, Holder.parse(holder))


def test_an_engine_that_holds_the_epoch_is_kept() -> None:
    assert decided(engine(phase="ready", epoch=7), standby()) == Keep("engine")


def test_a_desk_that_opens_gets_its_declared_engine() -> None:
    opened = decided(engine(phase="standby"), standby(), holder="", epoch=0)
    assert opened == Promote("engine", 0, "")


def test_a_standby_that_is_ready_first_does_not_go_before_an_engine_that_starts() -> None:
    starting = engine(state=ServiceState.STARTING, phase=None)
    assert isinstance(decided(starting, standby(), holder="", epoch=0), Wait)


def test_a_dead_engine_is_replaced() -> None:
    dead = engine(state=BACKOFF, pid=None)
    assert decided(dead, standby()) == Promote("standby", 7, "engine")


def test_an_engine_that_came_back_before_anyone_looked_takes_its_own_place() -> None:
    back = engine(pid=3, restarts=1, phase="standby")
    assert decided(back, standby()) == Promote("engine", 7, "engine")


def test_one_that_starts_again_is_replaced_meanwhile() -> None:
    starting = engine(state=ServiceState.STARTING, pid=3, restarts=1)
    assert decided(starting, standby()) == Promote("standby", 7, "engine")


def test_what_a_person_stopped_is_not_replaced() -> None:
    stopped = engine(state=ServiceState.STOPPED, pid=None)
    assert isinstance(decided(stopped, standby()), Wait)


def test_a_dead_engine_waits_for_its_restart_where_the_standby_is_unlike_it() -> None:
    unlike = standby(unfit=("it runs other code",))
    assert isinstance(decided(engine(state=BACKOFF, pid=None), unlike), Wait)
    back = engine(pid=3, restarts=1, phase="standby")
    assert decided(back, unlike) == Promote("engine", 7, "engine")


def test_a_hung_engine_is_killed_and_only_its_end_lets_the_standby_in() -> None:
    assert decided(engine(hung=True), standby()) == Kill("engine")
    survivor = engine(state=FAILED, hung=True)
    assert decided(survivor, standby()) == Kill("engine"), "it is not gone while it has a pid"


def test_a_hung_engine_that_nobody_can_replace_is_left() -> None:
    assert isinstance(decided(engine(hung=True), standby(unfit=("no connection",))), Wait)
    assert isinstance(decided(engine(hung=True), standby(state=BACKOFF, pid=None)), Wait)


def test_one_that_does_not_answer_yet_is_waited_for() -> None:
    assert decided(engine(), standby()) == Keep("engine")


def test_after_a_hand_over_the_old_one_is_started_anew() -> None:
    acting = standby(phase="ready", epoch=8)
    kept = decided(engine(phase="retired", epoch=7), acting, holder="standby pid 2", epoch=8)
    assert kept == Keep("standby", restart="engine")


def test_the_epoch_decides_and_not_what_was_declared() -> None:
    dead = standby(state=BACKOFF, pid=None, phase=None)
    back = decided(engine(phase="standby"), dead, holder="standby pid 2", epoch=8)
    assert back == Promote("engine", 8, "standby")


def test_an_engine_under_an_older_epoch_is_not_the_one() -> None:
    stale = engine(phase="ready", epoch=6)
    acting = standby(phase="ready", epoch=7)
    assert decided(stale, acting, holder="standby pid 2") == Keep("standby")


def test_nobody_is_promoted_without_the_epoch() -> None:
    assert isinstance(decide(engine(state=BACKOFF, pid=None), standby(), None, None), Wait)


def members(service: str, pid: int) -> st.SearchStrategy[Member]:
    return st.builds(
        Member,
        service=st.just(service),
        state=st.sampled_from(list(ServiceState)),
        pid=st.sampled_from([None, pid, pid + 10]),
        restarts=st.integers(0, 2),
        phase=st.sampled_from([None, "standby", "retired", "ready", "reconciling"]),
        epoch=st.integers(5, 8),
        hung=st.booleans(),
        unfit=st.sampled_from([(), ("it runs other code",)]),
    )


@given(
    members("engine", 1),
    members("standby", 2),
    st.sampled_from(["", "engine pid 1", "standby pid 2", "engine pid 11", "other pid 4"]),
)
def test_nobody_is_promoted_while_the_one_in_office_is_not_seen_to_have_ended(
    one: Member, other: Member, holder: str
) -> None:
    chosen = decided(one, other, holder)
    signed = Holder.parse(holder)
    if not isinstance(chosen, Promote):
        return
    assert chosen.after_epoch == 7
    for member in (one, other):
        says_so = member.epoch == 7 and member.phase not in (None, "standby", "retired")
        assert not says_so
        if signed == Holder(member.service, member.pid or 0):
            assert member.phase in ("standby", "retired")
    promoted = one if chosen.service == "engine" else other
    assert promoted.phase == "standby" and promoted.pid is not None
    if promoted.unfit:
        assert chosen.predecessor in ("", promoted.service), "only its own place"
