"""Statistical arbitrage: quotes in, orders out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from openbell.domain.orders import Side, TimeInForce
from openbell.trading.strategies.stat_arb import StatArb
from openbell.trading.strategy import Submit

D = Decimal
PAIR = ("ETH/USDT", "BTC/USDT")
PARAMS = {"quantity": "1", "window": 6, "entry_z": "1.5", "exit_z": "0.5"}


def steady(market: Any, samples: int = 6) -> None:
    """A window of small, symmetrical noise around 3000."""
    market.quote("BTC/USDT", "59999", "60001", after_s=0)
    for index in range(samples):
        mid = 3000 + (1 if index % 2 else -1)
        assert market.quote("ETH/USDT", str(mid - 1), str(mid + 1)) == []


def test_a_rich_ratio_is_sold_and_hedged_for_the_same_value(bench: Any) -> None:
    market = bench(StatArb, PAIR, **PARAMS)
    steady(market)
    sold, bought = market.quote("ETH/USDT", "3029", "3031")
    assert (sold.symbol, sold.side, sold.quantity) == ("ETH/USDT", Side.SELL, D(1))
    assert sold.time_in_force is TimeInForce.IOC
    assert sold.price == D("3025.97")  # the bid less 10 bps
    assert (bought.symbol, bought.side) == ("BTC/USDT", Side.BUY)
    assert bought.quantity == D("0.05050")


def test_back_at_the_mean_both_legs_are_closed(bench: Any) -> None:
    market = bench(StatArb, PAIR, **PARAMS)
    steady(market)
    market.quote("ETH/USDT", "3029", "3031")
    market.fill_all()
    for _ in range(12):
        market.quote("ETH/USDT", "3003", "3005")
        market.fill_all()
        market.quote("ETH/USDT", "3004", "3006")
        market.fill_all()
    market.quote("ETH/USDT", "3004", "3005")
    market.fill_all()
    assert market.positions["ETH/USDT"] == 0
    assert abs(market.positions["BTC/USDT"]) < D("0.00001")


def test_a_cheap_ratio_is_bought_alone_where_it_may_not_sell(bench: Any) -> None:
    market = bench(StatArb, PAIR, **PARAMS, hedged=False, long_only=True)
    steady(market)
    assert market.quote("ETH/USDT", "3029", "3031") == []
    fresh = bench(StatArb, PAIR, **PARAMS, hedged=False, long_only=True)
    steady(fresh)
    (bought,) = fresh.quote("ETH/USDT", "2969", "2971")
    assert (bought.symbol, bought.side) == ("ETH/USDT", Side.BUY)


def test_a_leg_that_did_not_fill_is_tried_again_and_never_twice_at_once(bench: Any) -> None:
    market = bench(StatArb, PAIR, **PARAMS)
    steady(market)
    assert len(market.quote("ETH/USDT", "3029", "3031")) == 2
    assert market.quote("ETH/USDT", "3029", "3031", after_s=0.01) == []
    market.expire_all()
    again = market.quote("ETH/USDT", "3029", "3031", after_s=0.01)
    assert [action.symbol for action in again if isinstance(action, Submit)] == list(PAIR)


def test_a_trade_that_the_desk_closed_is_not_entered_again_at_once(bench: Any) -> None:
    """It used to buy back what a flatten had just sold."""
    market = bench(StatArb, PAIR, **PARAMS)
    steady(market)
    market.quote("ETH/USDT", "3029", "3031")
    market.fill_all()
    assert market.quote("ETH/USDT", "3029", "3031", after_s=0.01) == []
    market.positions.clear()
    assert market.quote("ETH/USDT", "3029", "3031", after_s=0.01) == []


def test_after_a_restart_it_goes_on_from_what_it_holds(bench: Any) -> None:
    market = bench(StatArb, PAIR, **PARAMS)
    market.positions |= {"ETH/USDT": D(-1), "BTC/USDT": D("0.0505")}
    steady(market)
    assert market.positions["ETH/USDT"] == -1


def test_nothing_is_sampled_faster_than_said(bench: Any) -> None:
    market = bench(StatArb, PAIR, **PARAMS)
    market.quote("BTC/USDT", "59999", "60001", after_s=0)
    for _ in range(50):
        market.quote("ETH/USDT", "2999", "3001", after_s=0.001)
    assert len(market.strategy.state()["samples"]) == 1


def test_after_a_long_silence_the_window_starts_anew(bench: Any) -> None:
    market = bench(StatArb, PAIR, **PARAMS)
    steady(market)
    market.quote("ETH/USDT", "4000", "4001", after_s=3600)
    assert len(market.strategy.state()["samples"]) == 1


def test_a_restored_strategy_decides_as_the_one_that_was_kept(bench: Any) -> None:
    market = bench(StatArb, PAIR, **PARAMS)
    steady(market)
    other = bench(StatArb, PAIR, **PARAMS)
    other.strategy.restore(market.strategy.state())
    other.quotes, other.at_s = dict(market.quotes), market.at_s
    assert other.quote("ETH/USDT", "3029", "3031") == market.quote("ETH/USDT", "3029", "3031")


@pytest.mark.parametrize(
    "wrong", [{"exit_z": "2"}, {"long_only": True}, {"window": 2}, {"quantity": 0.5}, {"qty": "1"}]
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StatArb.Params.model_validate(PARAMS | wrong)
