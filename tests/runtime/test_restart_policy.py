"""The decision to restart, as a pure function."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.restart_policy import (
    MISSED_START_MIN_S,
    GiveUp,
    Leave,
    Restart,
    RestartPolicy,
    after_missed_start,
    decide,
    still_counting,
)

POLICY = RestartPolicy("on-failure", backoff_s=0.1, backoff_max_s=30, limit=5, window_s=60)


def test_the_wait_doubles_until_its_maximum():
    waits = [
        decide(RestartPolicy("always", 1, 5, 10, 60), 1, [100.0] * count, 100.0)
        for count in range(5)
    ]
    assert waits == [Restart(1), Restart(2), Restart(4), Restart(5), Restart(5)]


def test_restarts_before_the_window_are_forgotten():
    assert decide(POLICY, 1, [1.0, 2.0, 3.0, 4.0, 5.0], 100.0) == Restart(0.1)


def test_the_limit_within_the_window_ends_it():
    decision = decide(POLICY, 1, [95.0, 96.0, 97.0, 98.0, 99.0], 100.0)
    assert isinstance(decision, GiveUp) and "5 times within 60s" in decision.why


def test_a_start_that_could_not_be_attempted_is_tried_again_for_ever_and_ever_slower():
    policy = RestartPolicy("always", 1, 30, limit=0, window_s=60)
    assert [after_missed_start(policy, n) for n in (1, 2, 5, 10_000)] == [
        Restart(2), Restart(4), Restart(30), Restart(30),
    ]  # fmt: skip
    at_once = RestartPolicy("always", 0, 0, limit=5, window_s=60)
    assert after_missed_start(at_once, 1) == Restart(MISSED_START_MIN_S)
    assert isinstance(after_missed_start(RestartPolicy("never", 1, 1, 5, 60), 1), GiveUp)


def test_a_clean_exit_is_left_alone_unless_the_policy_is_always():
    assert decide(POLICY, 0, [], 0.0) == Leave()
    assert decide(RestartPolicy("never", 0, 0, 5, 60), 0, [], 0.0) == Leave()
    assert decide(RestartPolicy("always", 0, 0, 5, 60), 0, [], 0.0) == Restart(0.0)


def test_an_unknown_exit_status_counts_as_a_failure():
    assert decide(POLICY, None, [], 0.0) == Restart(0.1)
    assert isinstance(decide(RestartPolicy("never", 0, 0, 5, 60), None, [], 0.0), GiveUp)


@given(
    policy=st.builds(
        RestartPolicy,
        st.sampled_from(["always", "on-failure", "never"]),
        backoff_s=st.floats(0, 1e6),
        backoff_max_s=st.floats(0, 1e6),
        limit=st.integers(0, 2000),
        window_s=st.floats(0, 1e6),
    ),
    status=st.none() | st.integers(-64, 255),
    restarted_at=st.lists(st.floats(0, 1e6), max_size=1500).map(sorted),
    now=st.floats(1e6, 2e6),
)
def test_no_decision_exceeds_what_the_policy_allows(policy, status, restarted_at, now):
    decision = decide(policy, status, restarted_at, now)
    recent = still_counting(restarted_at, policy.window_s, now)
    assert decide(policy, status, recent, now) == decision
    if isinstance(decision, Restart):
        assert policy.policy != "never"
        assert len(recent) < policy.limit
        assert 0 <= decision.after_s <= policy.backoff_max_s
    if isinstance(decision, Leave):
        assert status == 0
