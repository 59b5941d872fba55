"""When the kill switch is set without a person, and when not."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.kill_rules import Judge, Judgement, Memory, Now, Reading, Rule, State
from openbell.domain.scopes import DESK, Scope, ScopeKind

D = Decimal
S = 1_000_000_000
DAY = 20_000
DAY_NS = 86_400 * S
LIMIT = D(100)
UNSOUND = (
    Reading(None, "no price"),
    Reading(D("NaN")),
    Reading(D("sNaN")),
    Reading(D("Infinity")),
    Reading(D("-Infinity")),
)


@dataclass
class Desk:
    """A judge, its clock and its latches."""

    judge: Judge = field(default_factory=Judge)
    now_s: float = 0.0
    latches: set[str] = field(default_factory=set)
    lasting_s: float = 0.0
    scope: Scope = DESK

    def at(self) -> Now:
        ns = int(self.now_s * S)
        return Now(DAY * DAY_NS + ns, ns, frozenset(self.latches))

    def daily(self, net: Reading | str, **more: object) -> Judgement:
        return self.seen(
            self.judge.daily_loss(
                self.scope, _reading(net), self.at(),
                limit=LIMIT, currency="USDT", lasting_s=self.lasting_s, **more,  # type: ignore[arg-type]
            )
        )  # fmt: skip

    def drawdown(self, net: Reading | str) -> Judgement:
        return self.seen(
            self.judge.drawdown(
                self.scope, _reading(net), self.at(),
                limit=LIMIT, currency="USDT", lasting_s=self.lasting_s,
            )
        )  # fmt: skip

    def rejects(self, rejected: int, outcomes: int) -> Judgement:
        return self.seen(
            self.judge.reject_rate(
                self.scope, rejected, outcomes, self.at(), share=D("0.5"), at_least=10
            )
        )

    def stale(self, age: Reading | str) -> Judgement:
        return self.seen(
            self.judge.age(
                Rule.STALE_MARKET_DATA, self.scope, _reading(age), self.at(), limit_s=100
            )
        )

    def seen(self, judgement: Judgement) -> Judgement:
        """As the keeper does: what triggers is latched."""
        if judgement.state is State.TRIGGERED and judgement.since_ns is None:
            latch = f"latch-{len(self.latches)}-{self.now_s}"
            self.latches.add(latch)
            self.judge.latched(judgement, (latch,), self.at())
        return judgement

    def release(self) -> None:
        self.latches.clear()

    def die(self) -> None:
        """kill -9, and a new process that reads what was kept."""
        kept = msgspec.json.encode(self.judge.memory)
        self.judge = Judge(msgspec.json.decode(kept, type=Memory))


def _reading(value: Reading | str) -> Reading:
    return value if isinstance(value, Reading) else Reading(D(value))


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.daily("0")
    made.drawdown("0")
    return made


def test_a_loss_at_its_limit_triggers_at_once_and_says_the_numbers(desk: Desk) -> None:
    assert desk.daily("-99.99").state is State.ARMED
    found = desk.daily("-100")
    assert found.state is State.TRIGGERED
    assert found.text == ("max_daily_loss: today's P&L of desk is -100 USDT; the limit is 100")


@pytest.mark.parametrize("reading", UNSOUND)
def test_what_is_no_number_triggers_nothing_and_says_why(desk: Desk, reading: Reading) -> None:
    for found in (desk.daily(reading), desk.drawdown(reading), desk.stale(reading)):
        assert found.state is State.NOT_JUDGED
        assert found.text in ("no price", "the number is not finite")


def test_a_loss_must_last_as_long_as_it_says(desk: Desk) -> None:
    desk.lasting_s = 5.0
    assert desk.daily("-500").state is State.LASTING
    desk.now_s = 3
    assert desk.daily("0").state is State.ARMED  # one wrong price
    desk.now_s = 4
    assert desk.daily("-500").state is State.LASTING
    desk.now_s = 8
    assert desk.daily(Reading(None, "stale")).state is State.NOT_JUDGED
    desk.now_s = 9
    assert desk.daily("-500").state is State.TRIGGERED


def test_it_stays_triggered_while_its_latch_is_there(desk: Desk) -> None:
    desk.daily("-150")
    desk.now_s = 60
    found = desk.daily("50")
    assert (found.state, found.since_ns) == (State.TRIGGERED, DAY * DAY_NS)
    assert len(desk.latches) == 1


def test_a_released_loss_does_not_latch_again_at_once_and_the_same_amount_more_does(
    desk: Desk,
) -> None:
    desk.daily("-150")
    desk.release()
    found = desk.daily("-160")
    assert found.state is State.RELEASED
    assert found.limit == 260
    assert "released by a person" in found.text
    assert desk.daily("-259").state is State.RELEASED
    assert desk.daily("-260").state is State.TRIGGERED


def test_back_inside_a_released_loss_is_guarded_as_before(desk: Desk) -> None:
    desk.daily("-150")
    desk.release()
    desk.daily("-150")
    assert desk.daily("-20").state is State.ARMED
    assert desk.daily("-100").state is State.TRIGGERED


def test_another_day_begins_anew(desk: Desk) -> None:
    desk.daily("-150")
    desk.release()
    desk.daily("-150")
    desk.now_s = 86_400
    assert desk.daily("-170").state is State.ARMED  # -20 since midnight
    assert desk.daily("-250").state is State.TRIGGERED


def test_at_midnight_the_day_begins_with_what_was_seen_last(desk: Desk) -> None:
    desk.now_s = 86_399
    desk.daily("-50")
    desk.now_s = 86_401
    desk.daily(Reading(None, "stale"))
    desk.now_s = 86_500
    assert desk.daily("-149").state is State.ARMED
    assert desk.daily("-150").state is State.TRIGGERED


def test_a_desk_that_was_not_there_at_midnight_counts_from_what_the_journal_says() -> None:
    desk = Desk()
    assert desk.daily("-120", day_open=D("-30")).state is State.ARMED
    assert desk.daily("-130").state is State.TRIGGERED


def test_a_drawdown_is_measured_from_the_highest(desk: Desk) -> None:
    desk.drawdown("300")
    assert desk.drawdown("201").state is State.ARMED
    found = desk.drawdown("200")
    assert found.state is State.TRIGGERED
    assert "100 USDT below its highest of 300" in found.text


def test_one_wrong_price_up_makes_no_high(desk: Desk) -> None:
    desk.lasting_s = 5.0
    desk.drawdown("10000")
    desk.now_s = 1
    assert desk.drawdown("20").state is State.ARMED
    desk.now_s = 2
    desk.drawdown("30")
    desk.now_s = 8
    desk.drawdown("40")
    desk.now_s = 20
    found = desk.drawdown("-65")
    assert "highest of 30" in found.text or "highest of 20" in found.text


def test_a_kill_loses_neither_the_high_nor_the_start_of_the_day(desk: Desk) -> None:
    desk.now_s = 86_400
    desk.daily("-40")
    desk.drawdown("300")
    desk.die()
    desk.now_s = 86_500
    assert desk.drawdown("200").state is State.TRIGGERED
    assert desk.daily("-99").state is State.ARMED
    assert desk.daily("-140").state is State.TRIGGERED


def test_a_kill_loses_no_trip_and_no_release(desk: Desk) -> None:
    desk.daily("-150")
    desk.die()
    assert desk.daily("-150").state is State.TRIGGERED
    assert len(desk.latches) == 1
    desk.release()
    desk.daily("-150")
    desk.die()
    assert desk.daily("-150").state is State.RELEASED
    assert desk.latches == set()


def test_a_latch_folder_that_cannot_be_read_releases_nothing(desk: Desk) -> None:
    desk.daily("-150")
    at = Now(DAY * DAY_NS, 1, None)
    found = desk.judge.daily_loss(DESK, Reading(D("-150")), at, limit=LIMIT, currency="USDT")
    assert found.state is State.TRIGGERED and found.since_ns is not None


def test_what_was_kept_in_another_currency_says_nothing() -> None:
    desk = Desk()
    desk.drawdown("300")
    found = desk.judge.drawdown(DESK, Reading(D("10")), desk.at(), limit=LIMIT, currency="EUR")
    assert found.state is State.ARMED
    assert "highest of 10" in found.text


def test_rejections_are_judged_from_enough_outcomes_on(desk: Desk) -> None:
    assert desk.rejects(9, 9).state is State.NOT_JUDGED
    assert desk.rejects(4, 10).state is State.ARMED
    found = desk.rejects(5, 10)
    assert found.state is State.TRIGGERED
    assert "5 of 10 orders of desk were rejected" in found.text


def test_after_a_release_only_newer_outcomes_count(desk: Desk) -> None:
    desk.rejects(10, 10)
    desk.release()
    desk.now_s = 50
    desk.rejects(0, 0)
    assert desk.judge.counted_from_ns(Rule.REJECT_RATE, DESK) == DAY * DAY_NS + 50 * S
    assert desk.rejects(10, 10).state is State.TRIGGERED


def test_stale_data_that_was_released_is_judged_again_once_it_was_fresh(desk: Desk) -> None:
    assert desk.stale("100").state is State.TRIGGERED
    desk.release()
    assert desk.stale("200").state is State.RELEASED
    assert desk.stale("9000").state is State.RELEASED
    assert desk.stale("1").state is State.ARMED
    assert desk.stale("100").state is State.TRIGGERED


def test_scopes_are_judged_apart() -> None:
    one = Desk(scope=Scope(ScopeKind.STRATEGY, "a"))
    one.daily("0")
    one.daily("-150")
    other = Desk(judge=one.judge, latches=one.latches, scope=Scope(ScopeKind.STRATEGY, "b"))
    other.daily("0")
    assert other.daily("-99").state is State.ARMED


# Histories.

numbers = st.decimals(-1000, 1000, places=2)
unsound = st.sampled_from(UNSOUND)
steps = st.tuples(
    st.floats(0, 5000),
    st.one_of(numbers.map(Reading), unsound),
    st.sampled_from(["look", "look", "look", "release", "die"]),
)


@given(st.lists(st.tuples(st.floats(0, 5000), unsound), min_size=1, max_size=40))
def test_no_history_of_unsound_numbers_ever_triggers(
    history: list[tuple[float, Reading]],
) -> None:
    desk = Desk()
    desk.daily("0")
    desk.drawdown("0")
    for step_s, reading in history:
        desk.now_s += step_s
        for found in (desk.daily(reading), desk.drawdown(reading), desk.stale(reading)):
            assert found.state is State.NOT_JUDGED
    assert desk.latches == set()


@given(st.lists(steps, min_size=1, max_size=60))
def test_every_real_breach_triggers_at_the_first_look_and_nothing_else_does(
    history: list[tuple[float, Reading, str]],
) -> None:
    """Against an oracle of a few lines, over releases, midnights and kills. A process that is killed
    between midnight and its next look counts the new day from that look."""
    desk = Desk()
    start = last = None
    day, latched, pending, allowed = -1, False, False, LIMIT
    for step_s, reading, act in history:
        if act == "release":
            desk.release()
        if act == "die":
            desk.die()
            last = None
        desk.now_s += step_s
        was_released, latched = latched and not desk.latches, latched and bool(desk.latches)
        found = desk.daily(reading)
        if not reading.is_sound:
            assert found.state is (State.TRIGGERED if latched else State.NOT_JUDGED)
            pending |= was_released
            continue
        was_released, pending = was_released or pending, False
        assert reading.value is not None
        if int(desk.now_s // 86_400) > day:
            day = int(desk.now_s // 86_400)
            start = reading.value if last is None else last
            allowed = LIMIT
        last = reading.value
        loss = start - reading.value
        if latched:
            assert found.state is State.TRIGGERED and found.since_ns is not None
            continue
        if loss < LIMIT:
            allowed = LIMIT
        elif was_released:
            allowed = loss + LIMIT
        expected = loss >= allowed
        assert (found.state is State.TRIGGERED) is expected, (found, loss, allowed)
        latched = expected


@given(st.lists(numbers, min_size=1, max_size=60), st.data())
def test_kills_at_any_moment_change_no_drawdown(nets: list[Decimal], data: st.DataObject) -> None:
    killed, living = Desk(), Desk()
    for net in nets:
        killed.now_s += 1
        living.now_s += 1
        one, other = killed.drawdown(Reading(net)), living.drawdown(Reading(net))
        assert (one.state, one.value, one.limit) == (other.state, other.value, other.limit)
        if data.draw(st.booleans()):
            killed.die()
        if data.draw(st.integers(0, 9)) == 0:
            killed.release()
            living.release()
