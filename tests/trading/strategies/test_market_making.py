"""Market making: quotes in, orders out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openbell.domain.orders import Side
from openbell.trading.strategies.market_making import MarketMaking
from openbell.trading.strategy import Cancel, Submit

D = Decimal
BTC = ("BTC/USDT",)
PARAMS = {
    "quantity": "0.01",
    "max_position": "0.05",
    "half_spread_bps": "5",
    "skew_bps": "10",
    "requote_bps": "1",
}


def by_side(actions: list[Any]) -> dict[Side, Submit]:
    return {action.side: action for action in actions if isinstance(action, Submit)}


def test_it_quotes_both_sides_around_the_mid_post_only(bench: Any) -> None:
    market = bench(MarketMaking, BTC, **PARAMS)
    quotes = by_side(market.quote("BTC/USDT", "59990", "60010"))
    assert quotes[Side.BUY].price == D("59970.00")
    assert quotes[Side.SELL].price == D("60030.00")
    assert all(quote.post_only and quote.quantity == D("0.01") for quote in quotes.values())


def test_a_market_that_stays_leaves_its_orders_alone(bench: Any) -> None:
    market = bench(MarketMaking, BTC, **PARAMS)
    market.quote("BTC/USDT", "59990", "60010")
    assert market.quote("BTC/USDT", "59990", "60011") == []


def test_a_market_that_moves_is_requoted_once_the_old_orders_are_gone(bench: Any) -> None:
    market = bench(MarketMaking, BTC, **PARAMS)
    market.quote("BTC/USDT", "59990", "60010")
    moved = market.quote("BTC/USDT", "60090", "60110")
    assert [type(action) for action in moved] == [Cancel, Cancel]
    assert by_side(market.quote("BTC/USDT", "60090", "60110"))[Side.BUY].price == D("60069.95")


def test_a_long_inventory_lowers_both_quotes(bench: Any) -> None:
    market = bench(MarketMaking, BTC, **PARAMS)
    market.positions["BTC/USDT"] = D("0.025")
    quotes = by_side(market.quote("BTC/USDT", "59990", "60010"))
    assert quotes[Side.BUY].price < D("59970")
    assert quotes[Side.SELL].price < D("60030")


def test_at_its_limit_it_quotes_only_the_side_that_reduces(bench: Any) -> None:
    market = bench(MarketMaking, BTC, **PARAMS)
    market.positions["BTC/USDT"] = D("0.05")
    assert list(by_side(market.quote("BTC/USDT", "59990", "60010"))) == [Side.SELL]
    short = bench(MarketMaking, BTC, **PARAMS)
    short.positions["BTC/USDT"] = D("-0.045")
    assert list(by_side(short.quote("BTC/USDT", "59990", "60010"))) == [Side.BUY]


def test_its_own_best_price_does_not_move_what_it_takes_for_fair(bench: Any) -> None:
    """Alone at the best bid, with an inventory, it used to follow its own skewed quote down."""
    market = bench(MarketMaking, BTC, **(PARAMS | {"half_spread_bps": "1", "skew_bps": "20"}))
    market.positions["BTC/USDT"] = D("0.02")
    quotes = by_side(market.quote("BTC/USDT", "59000", "60100"))
    ask = quotes[Side.SELL].price
    again = market.quote("BTC/USDT", quotes[Side.BUY].price, ask, bid_qty="0.01", ask_qty="0.01")
    assert again == []


def test_quotes_never_cross_the_market(bench: Any) -> None:
    market = bench(MarketMaking, BTC, **(PARAMS | {"half_spread_bps": "0", "skew_bps": "500"}))
    market.positions["BTC/USDT"] = D("-0.04")
    quotes = by_side(market.quote("BTC/USDT", "59999.99", "60000.00"))
    assert quotes[Side.BUY].price == D("59999.99")


def test_it_waits_for_the_instruments_rules(bench: Any) -> None:
    market = bench(MarketMaking, BTC, **PARAMS)
    market.rules.clear()
    assert market.quote("BTC/USDT", "59990", "60010") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.integers(50_000, 70_000), st.integers(1, 50), st.booleans()), max_size=40)
)
def test_whatever_the_market_does_the_inventory_stays_within_its_limit(
    bench: Any, moves: list[tuple[int, int, bool]]
) -> None:
    market = bench(MarketMaking, BTC, **PARAMS)
    for bid, spread, fill in moves:
        for action in market.quote("BTC/USDT", str(bid), str(bid + spread)):
            if isinstance(action, Submit):
                assert action.price is not None
                crossing = action.price * action.side.sign
                best = bid + spread if action.side is Side.BUY else -bid
                assert crossing < best
        sides = [order.new.side for order in market.orders.values()]
        assert len(sides) == len(set(sides)), "two orders on one side could fill twice"
        if fill:
            market.fill_all()
        assert abs(market.positions.get("BTC/USDT", D(0))) <= D("0.05")
