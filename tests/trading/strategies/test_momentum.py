"""Momentum: quotes in, orders out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from openbell.domain.orders import Side
from openbell.trading.strategies.momentum import Momentum

D = Decimal
LTC = ("LTC/USDT",)
PARAMS = {"quantity": "2", "fast": 2, "slow": 5, "threshold_bps": "1", "stop_bps": "100"}


def run(market: Any, mids: list[float]) -> list[Any]:
    """Every order of a series of mids, each filled at once."""
    orders: list[Any] = []
    for mid in mids:
        orders += market.quote("LTC/USDT", f"{mid - 0.01:.2f}", f"{mid + 0.01:.2f}")
        market.fill_all()
    return orders


def test_nothing_is_traded_before_the_slow_average_has_its_samples(bench: Any) -> None:
    assert run(bench(Momentum, LTC, **PARAMS), [100, 101, 102, 103]) == []


def test_an_up_trend_is_bought_once(bench: Any) -> None:
    market = bench(Momentum, LTC, **PARAMS)
    (bought,) = run(market, [100, 100, 100, 100, 100, 101, 102, 103, 104])
    assert (bought.side, bought.quantity) == (Side.BUY, D(2))
    assert market.positions["LTC/USDT"] == 2


def test_a_down_trend_closes_and_only_where_allowed_goes_short(bench: Any) -> None:
    mids = [100, 100, 100, 100, 100, 101, 102, 102, 101, 100, 99, 98, 97]
    market = bench(Momentum, LTC, **(PARAMS | {"stop_bps": "5000"}))
    run(market, mids)
    assert market.positions["LTC/USDT"] == 0
    shorting = bench(Momentum, LTC, **(PARAMS | {"stop_bps": "5000"}), short=True)
    run(shorting, mids)
    assert shorting.positions["LTC/USDT"] == -2


def test_the_stop_closes_and_the_same_trend_is_not_entered_again(bench: Any) -> None:
    market = bench(Momentum, LTC, **(PARAMS | {"slow": 50}))
    rising = [100.0] * 50 + [100 + step for step in range(1, 11)]
    run(market, rising)
    assert market.positions["LTC/USDT"] == 2
    run(market, [108.5])
    assert market.positions["LTC/USDT"] == 0
    assert run(market, [109, 109.5, 110, 110.5]) == []


def test_noise_within_the_threshold_is_not_traded(bench: Any) -> None:
    market = bench(Momentum, LTC, **(PARAMS | {"threshold_bps": "20"}))
    assert run(market, [100, 100.05, 99.95, 100.05, 99.95] * 10) == []


def test_a_restored_strategy_decides_as_the_one_that_was_kept(bench: Any) -> None:
    market = bench(Momentum, LTC, **PARAMS)
    run(market, [100, 100, 100, 100, 100])
    other = bench(Momentum, LTC, **PARAMS)
    other.strategy.restore(market.strategy.state())
    other.at_s = market.at_s
    assert run(other, [101, 102]) == run(market, [101, 102])


def test_a_fast_average_must_be_faster_than_the_slow_one() -> None:
    with pytest.raises(ValidationError, match="shorter"):
        Momentum.Params.model_validate(PARAMS | {"fast": 5})


def test_after_a_long_silence_no_trend_is_known_and_the_position_is_closed(bench: Any) -> None:
    market = bench(Momentum, LTC, **PARAMS)
    run(market, [100, 100, 100, 100, 100, 101, 102, 103, 104])
    assert market.positions["LTC/USDT"] == 2
    market.at_s += 3600
    run(market, [104])
    assert market.positions["LTC/USDT"] == 0
