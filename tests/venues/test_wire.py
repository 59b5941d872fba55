"""What Binance says, in our words."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell.venues.binance import wire
from openbell.venues.ccxt_common import moved_to
from openbell.venues.problem import Meaning

SYMBOL = {
    "symbol": "BTCUSDT",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "quotePrecision": 8,
    "filters": [
        {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "stepSize": "0.00001", "minQty": "0.00001", "maxQty": "9000"},
        {"filterType": "NOTIONAL", "minNotional": "5.00000000"},
    ],
}
ORDER = {
    "symbol": "BTCUSDT",
    "orderId": 28,
    "clientOrderId": "ob00000000-1-1",
    "price": "0.10000000",
    "origQty": "123456789.12345678",
    "executedQty": "0.00000001",
    "status": "PARTIALLY_FILLED",
    "type": "LIMIT_MAKER",
    "side": "SELL",
    "time": 1507725176595,
    "updateTime": 1507725176596,
}


def decode(shape, payload):
    return msgspec.json.decode(msgspec.json.encode(payload), type=shape)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=0, max_value=10**10))
def test_a_number_written_for_the_venue_is_the_same_number(number):
    text = wire.plain(number)
    assert Decimal(text) == number
    assert "E" not in text.upper()
    assert not ("." in text and text.endswith("0"))


def test_amounts_keep_every_digit():
    order = decode(wire.Order, ORDER).to_port(lambda _: "BTC/USDT")
    assert order.order_qty == Decimal("123456789.12345678")  # a float would end in ...7.12345679
    assert order.cum_qty == Decimal("0.00000001")
    assert (order.side, order.ord_type) == (Side.SELL, OrdType.LIMIT)
    assert order.created_ns == 1_507_725_176_595_000_000


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_a_number_that_is_none_is_no_answer(bad):
    with pytest.raises(msgspec.ValidationError):
        decode(wire.Order, {**ORDER, "executedQty": bad})


def test_a_status_that_is_not_known_is_in_doubt():
    order = decode(wire.Order, {**ORDER, "status": "SUSPENDED_BY_MOON"})
    assert order.to_port(lambda s: s).status is OrdStatus.UNKNOWN


def test_a_market_order_has_no_price():
    order = decode(wire.Order, {**ORDER, "type": "MARKET", "price": "0.00000000"})
    port = order.to_port(lambda s: s)
    assert (port.ord_type, port.price) == (OrdType.MARKET, None)


@pytest.mark.parametrize(
    ("name", "ord_type"),
    [
        ("STOP_LOSS", OrdType.STOP),
        ("STOP_LOSS_LIMIT", OrdType.STOP_LIMIT),
        ("TAKE_PROFIT", OrdType.STOP),
        ("TAKE_PROFIT_LIMIT", OrdType.STOP_LIMIT),
    ],
)
def test_an_order_that_waits_for_a_price_is_a_stop_order(name, ord_type):
    order = decode(wire.Order, {**ORDER, "type": name, "stopPrice": "0.09000000"})
    port = order.to_port(lambda s: s)
    assert (port.ord_type, port.stop_px) == (ord_type, Decimal("0.09"))


def test_an_order_that_waits_for_none_has_no_stop_price():
    order = decode(wire.Order, {**ORDER, "stopPrice": "0.00000000"})
    assert order.to_port(lambda s: s).stop_px is None


def test_rules_come_from_the_filters():
    rules = decode(wire.SymbolInfo, SYMBOL).to_port()
    assert (rules.symbol, rules.tick_size, rules.lot_size) == (
        "BTC/USDT",
        Decimal("0.01"),
        Decimal("0.00001"),
    )
    assert rules.min_notional == 5


def test_a_tick_of_zero_means_that_any_price_of_the_precision_will_do():
    filters = [{"filterType": "PRICE_FILTER", "tickSize": "0.00"}, *SYMBOL["filters"][1:]]
    assert decode(wire.SymbolInfo, {**SYMBOL, "filters": filters}).to_port().tick_size == Decimal(
        "1E-8"
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"\xff\xfe", b'{"code":"x"}'])
def test_a_failure_without_the_venues_own_code_is_uncertain(body):
    problem = wire.problem_in(403, body)
    assert problem is not None
    assert (problem.meaning, problem.code) == (Meaning.UNCERTAIN, "http_403")


def test_an_error_in_an_answer_that_claims_success_is_still_an_error():
    problem = wire.problem_in(200, b'{"code":-2013,"msg":"Order does not exist."}')
    assert problem is not None
    assert problem.meaning is Meaning.NO_SUCH_ORDER


def test_every_address_moves_and_every_path_stays():
    urls = {"public": "https://api.x.com/api/v3", "ws": {"spot": "wss://s.x.com:9443/ws"}, "n": 1}
    assert moved_to("http://127.0.0.1:7001", urls) == {
        "public": "http://127.0.0.1:7001/api/v3",
        "ws": {"spot": "ws://127.0.0.1:7001/ws"},
        "n": 1,
    }
    assert moved_to("https://h", "wss://x/y") == "wss://h/y"
