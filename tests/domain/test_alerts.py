"""What a person is alerted of: facts in, alerts out."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.alerts import (
    AlertFacts,
    ClosingFacts,
    OpenOrder,
    Outcomes,
    Thresholds,
    Zombie,
    has_grown,
    judge,
    least_seen,
    news,
)

THRESHOLDS = Thresholds(
    order_open_s=60.0, loss=Decimal(500), reject_share=Decimal("0.05"),
    rejects_at_least=20, zombie_s=2.0,
)  # fmt: skip
QUIET = AlertFacts(closing=None, pnl_today=Decimal(0), outcomes=Outcomes(0, 0), zombies=())
BTC = ("binance", "BTC/USDT")
CLOSING = ClosingFacts(
    elapsed_s=61.0, keeps_orders=False, orders=(), positions={}, least={}
)  # fmt: skip


def rules(facts: AlertFacts, thresholds: Thresholds = THRESHOLDS) -> list[str]:
    return [alert.rule for alert in judge(facts, thresholds).alerts]


def test_a_quiet_desk_has_no_alert_and_nothing_that_is_not_judged() -> None:
    judged = judge(QUIET, THRESHOLDS)
    assert (judged.alerts, judged.not_judged) == ((), ())


@pytest.mark.parametrize(
    ("age_s", "elapsed_s", "alerted"),
    [
        (61.0, 61.0, True),
        (60.0, 61.0, False),
        (3600.0, 5.0, False),  # an old order is no news when a closing begins
        (None, 61.0, True),
        (None, 60.0, False),
    ],
)
def test_an_order_is_alerted_of_when_the_closing_has_left_it_open_for_too_long(
    age_s: float | None, elapsed_s: float, alerted: bool
) -> None:
    order = OpenOrder("binance", "BTC/USDT", "ob1", age_s)
    closing = replace(CLOSING, elapsed_s=elapsed_s, orders=(order,))
    assert rules(replace(QUIET, closing=closing)) == (["order_open"] if alerted else [])


def test_orders_that_are_meant_to_rest_are_not_alerted_of() -> None:
    order = OpenOrder("binance", "BTC/USDT", "ob1", 500.0)
    closing = replace(CLOSING, orders=(order,), keeps_orders=True, elapsed_s=500.0)
    assert rules(replace(QUIET, closing=closing)) == []


@pytest.mark.parametrize(
    ("least", "now", "grown"),
    [("1", "1", False), ("1", "1.1", True), ("-1", "-1.1", True), ("1", "0.5", False),
     ("1", "-0.5", True), ("0", "0.1", True), ("1", "0", False), ("1", "NaN", False)],
)  # fmt: skip
def test_a_position_grows_away_from_zero_or_across_it(least: str, now: str, grown: bool) -> None:
    assert has_grown(Decimal(least), Decimal(now)) is grown
    closing = replace(CLOSING, positions={BTC: Decimal(now)}, least={BTC: Decimal(least)})
    assert rules(replace(QUIET, closing=closing)) == (["position_grew"] if grown else [])


@given(st.lists(st.decimals(-100, 100, places=2), min_size=1))
def test_growth_is_told_exactly_when_a_position_is_larger_than_some_moment_before(
    history: list[Decimal],
) -> None:
    least = least_seen({}, {BTC: history[0]})
    for now in history[1:]:
        before = least[BTC]
        least = least_seen(least, {BTC: now})
        assert least[BTC] == (before if has_grown(before, now) else now)
        assert abs(least[BTC]) <= abs(before)


@pytest.mark.parametrize(("pnl", "alerted"), [("-500", False), ("-500.01", True), ("900", False)])
def test_a_loss_is_alerted_of_beyond_its_threshold(pnl: str, alerted: bool) -> None:
    assert rules(replace(QUIET, pnl_today=Decimal(pnl))) == (["loss"] if alerted else [])


def test_without_a_threshold_no_loss_is_judged_or_missed() -> None:
    judged = judge(replace(QUIET, pnl_today=None), replace(THRESHOLDS, loss=None))
    assert (judged.alerts, judged.not_judged) == ((), ())


@pytest.mark.parametrize(
    ("accepted", "rejected", "alerted"),
    [(95, 5, False), (94, 6, True), (0, 19, False), (0, 20, True), (0, 0, False)],
)
def test_rejects_are_judged_by_their_share_of_enough_orders(
    accepted: int, rejected: int, alerted: bool
) -> None:
    facts = replace(QUIET, outcomes=Outcomes(accepted, rejected))
    assert rules(facts) == (["rejects"] if alerted else [])


def test_a_zombie_is_alerted_of_once_it_lasts() -> None:
    assert rules(replace(QUIET, zombies=(Zombie("engine", 7, 1.9),))) == []
    assert rules(replace(QUIET, zombies=(Zombie("engine", 7, 2.0),))) == ["zombie"]


def test_what_is_not_known_is_neither_an_alert_nor_its_absence() -> None:
    closing = replace(CLOSING, orders=None, positions=None)
    facts = AlertFacts(closing=closing, pnl_today=None, outcomes=None, zombies=None)
    judged = judge(facts, THRESHOLDS)
    assert judged.alerts == ()
    assert [text.partition(":")[0] for text in judged.not_judged] == [
        "orders", "positions", "loss", "rejects", "zombies",
    ]  # fmt: skip
    assert judge(replace(QUIET, pnl_today=Decimal("NaN")), THRESHOLDS).not_judged


def test_an_alert_is_news_once() -> None:
    standing = judge(replace(QUIET, pnl_today=Decimal(-501)), THRESHOLDS).alerts
    assert news(standing, []) == standing
    assert news(standing, [alert.key for alert in standing]) == ()
