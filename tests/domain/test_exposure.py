"""Exposure adds up, and what is not known breaches nothing and is named."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from openbell.config.models import Risk
from openbell.domain.books import WorstCase
from openbell.domain.exposure import breaches, exposure, worst_exposure
from openbell.domain.market import InstrumentRules
from openbell.domain.positions import Position

D = Decimal
BTC, ETH, CROSS = ("binance", "BTC/USDT"), ("binance", "ETH/USDT"), ("binance", "ETH/BTC")
RULES = InstrumentRules(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    tick_size=D("0.01"),
    lot_size=D("0.001"),
    min_qty=D("0.001"),
    max_qty=D(100),
    min_notional=D(5),
)


def held(instrument: tuple[str, str], quantity: str) -> Position:
    return Position(venue=instrument[0], symbol=instrument[1], quantity=D(quantity))


def test_longs_and_shorts_add_up_in_total_and_cancel_in_net() -> None:
    report = exposure(
        [held(BTC, "2"), held(ETH, "-3"), held(CROSS, "0")], {BTC: D(100), ETH: D(10)}
    )
    assert (report.total, report.net, report.open_positions) == (230, 170, 2)
    assert (report.currency, report.unpriced) == ("USDT", ())


@pytest.mark.parametrize("mark", [None, "NaN", "0", "-1", "Infinity"])
def test_a_position_without_a_sound_price_is_named_and_counts_as_open(mark: str | None) -> None:
    report = exposure([held(BTC, "2")], {} if mark is None else {BTC: D(mark)})
    assert (report.total, report.open_positions) == (0, 1)
    assert report.unpriced == ("binance BTC/USDT",)


def test_another_quote_currency_needs_a_rate() -> None:
    positions = [held(BTC, "1"), held(ETH, "0"), held(CROSS, "2")]
    marks = {BTC: D(100), CROSS: D("0.5")}
    assert exposure(positions, marks).unpriced == ("binance ETH/BTC",)
    assert exposure(positions, marks, conversion={"BTC": D(100)}).total == 200


def test_dust_is_shown_and_not_counted_as_open() -> None:
    report = exposure([held(BTC, "0.0001")], {BTC: D(100)}, rules={BTC: RULES})
    assert report.open_positions == 0
    assert report.positions[0].dust


def test_the_worst_case_counts_open_orders_and_leaves_out_the_one_that_is_weighed_apart() -> None:
    worst = {BTC: WorstCase(D(1), D(2), D(5)), ETH: WorstCase(D(0), D(0), D(3))}
    marks = {BTC: D(100), ETH: D(10)}
    assert worst_exposure(worst, marks) == 430
    assert worst_exposure(worst, marks, leave_out=BTC) == 30
    assert worst_exposure(worst, {BTC: D(100)}) is None
    assert worst_exposure(worst, {BTC: D(100)}, leave_out=ETH) == 400
    assert worst_exposure({}, {}) == 0


@pytest.mark.parametrize(
    ("limits", "pnl", "expected"),
    [
        ({}, D(-(10**6)), ()),
        ({"max_daily_loss": D(50)}, D("-49.99"), ()),
        ({"max_daily_loss": D(50)}, D(-50), ("max_daily_loss",)),
        ({"max_daily_loss": D(50)}, None, ()),
        ({"max_daily_loss": D(50)}, D("NaN"), ()),
        ({"max_total_exposure": D(229)}, D(0), ("max_total_exposure",)),
        ({"max_total_exposure": D(230)}, D(0), ()),
        ({"max_open_positions": 1}, D(0), ("max_open_positions",)),
        ({"max_position": {"BTC/USDT": D("1.9")}}, D(0), ("max_position:BTC/USDT",)),
        ({"max_position": {"ETH/USDT": D("2.9")}}, D(0), ("max_position:ETH/USDT",)),
        ({"max_notional_per_position": D(199)}, D(0), ("max_notional_per_position:BTC/USDT",)),
    ],
)
def test_breaches_name_the_limits(
    limits: dict[str, Any], pnl: Decimal | None, expected: tuple[str, ...]
) -> None:
    report = exposure([held(BTC, "2"), held(ETH, "-3")], {BTC: D(100), ETH: D(10)})
    assert breaches(report, pnl, Risk().model_copy(update=limits)) == expected


def test_a_price_that_is_not_a_number_breaches_nothing() -> None:
    report = exposure([held(BTC, "2")], {BTC: D("NaN")})
    assert breaches(report, D(0), Risk().model_copy(update={"max_total_exposure": D(1)})) == ()


def test_long_here_and_short_there_does_not_hide_a_position() -> None:
    here, there = ("binance", "BTC/USDT"), ("alpaca", "BTC/USDT")
    limits = Risk().model_copy(update={"max_position": {"BTC/USDT": D(10)}})
    marks = {here: D(1), there: D(1)}
    for quantities in (("11", "-11"), ("6", "6")):
        positions = [held(here, quantities[0]), held(there, quantities[1])]
        assert breaches(exposure(positions, marks), D(0), limits) == ("max_position:BTC/USDT",)
