"""Limits made tighter: never looser than desk.toml, whatever the changes and their order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.config.limit_values import COUNTS, LEAST
from openbell.config.models import Risk
from openbell.domain.risk_limits import (
    PLAIN,
    LimitError,
    digest,
    looser,
    read_change,
    reduced,
    tightened,
    values,
)

D = Decimal
RISK = Risk.model_validate(
    {
        "max_position": {"BTC/USDT": "2", "ETH/USDT": "10"},
        "max_total_exposure": "100000",
        "max_open_positions": 5,
        "price_collar": "5%",
    }
)
NAMES = (*PLAIN, "max_position:BTC/USDT", "max_position:LTC/USDT")


@st.composite
def changes(draw: Any) -> dict[str, Decimal]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return {
        name: D(draw(st.integers(LEAST.get(name, 0), 500)))
        if name in COUNTS
        else draw(st.decimals(0, 200_000, allow_nan=False, places=3))
        for name in names
    }


@given(st.lists(changes(), max_size=4))
def test_no_changes_let_more_through_than_the_desk_file(several: list[dict[str, Decimal]]) -> None:
    applied = tightened(RISK, *several)
    assert looser(RISK, applied) == ()
    for one in several:
        assert looser(tightened(RISK, one), applied) == (), "nor than any of them alone"
    assert applied == tightened(RISK, *reversed(several))
    assert digest(applied) == digest(tightened(applied, *several)), "again changes nothing"
    assert Risk.model_validate(applied.model_dump(exclude={"price_collar", "stale_quote_after"}))


@given(st.decimals(0, 100, allow_nan=False, places=2), changes())
def test_a_reduction_touches_limits_of_positions_and_makes_each_smaller(
    percent: Decimal, before: dict[str, Decimal]
) -> None:
    risk = tightened(RISK, before)
    smaller = reduced(risk, percent)
    was = values(risk)
    assert set(smaller) == {name for name in was if "position" in name or "exposure" in name}
    for name, value in smaller.items():
        assert 0 <= value <= was[name]
        assert was[name] * (100 - percent) / 100 - value < 1 if name in COUNTS else True
    assert looser(risk, tightened(risk, smaller)) == ()


def test_more_percent_is_never_looser() -> None:
    half, third = (tightened(RISK, reduced(RISK, D(each))) for each in (50, 30))
    assert looser(third, half) == ()
    assert "max_total_exposure" in looser(half, third)


def test_the_same_limits_have_the_same_digest_however_they_are_written() -> None:
    assert digest(tightened(RISK, {"max_total_exposure": D("50.0")})) == digest(
        tightened(RISK, {"max_total_exposure": D("5E+1")})
    )
    assert digest(RISK) != digest(tightened(RISK, {"max_total_exposure": D("99999")}))


def test_a_change_is_read_as_people_write_it() -> None:
    told = read_change(
        ["max_total_exposure=5000", "max_position:BTC/USDT=0.10", "price_collar=2%"],
        RISK, ["BTC/USDT"],
    )  # fmt: skip
    assert told == {
        "max_total_exposure": D(5000), "max_position:BTC/USDT": D("0.1"), "price_collar": D("0.02"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_total_exposure=100001", "at most"),
        ("max_position:DOGE/USDT=1", "does not trade"),
        ("stale_quote_after=1", "no limit"),
        ("max_total_exposure", "not a number"),
        ("max_total_exposure=NaN", "is no limit"),
        ("max_total_exposure=-1", "is no limit"),
        ("price_collar=500%", "100% at most"),
        ("max_open_positions=1.5", "whole number"),
        ("max_orders_per_second=0", "halt"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(LimitError, match=says):
        read_change([text], RISK, ["BTC/USDT"])
