"""Amended orders: what may change, what it costs, and whose turn it is afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim.exchange_kit import PERP, Clock, D, crowd, funded, printed, request

from openbell.domain.orders import OrdStatus, OrdType
from openbell_sim.account import FeeSchedule
from openbell_sim.exchange import Exchange
from openbell_sim.instruments import KNOWN
from openbell_sim.refusals import Reason, RefusedError


@pytest.fixture
def exchange() -> Exchange:
    exchange = Exchange(
        [PERP, KNOWN["BTCUSDT"]],
        now_ns=Clock().now_ns,
        fees=FeeSchedule(maker=D(0), taker=D(0)),
    )
    funded(exchange, "main", "other", USDT=1000, BTC=10)
    crowd(exchange, bid="100", ask="101", qty="50")
    printed(exchange, "100.5")
    return exchange


def test_a_smaller_order_keeps_its_place_and_any_other_goes_to_the_end(exchange: Exchange) -> None:
    first = exchange.submit(request("BUY", "2", "100.5", cl_ord_id="a"))
    second = exchange.submit(request("BUY", "2", "100.5", cl_ord_id="b"))
    exchange.amend(first, qty=D(1))
    exchange.submit(request("SELL", "1", account="other", cl_ord_id="c"))
    assert (first.status, second.cum_qty) == (OrdStatus.FILLED, D(0))
    third = exchange.submit(request("BUY", "1", "100.5", cl_ord_id="d"))
    exchange.amend(second, qty=D(3))
    exchange.submit(request("SELL", "2", account="other", cl_ord_id="e"))
    assert (third.status, second.cum_qty, second.leaves_qty) == (OrdStatus.FILLED, D(1), D(2))
    exchange.amend(second, price=D(99))
    assert second.order_id < third.order_id
    assert exchange.ledger.account("main").balance("USDT").locked == D(198)


def test_an_order_amended_across_the_market_takes(exchange: Exchange) -> None:
    order = exchange.submit(request("BUY", "2", "99"))
    assert exchange.amend(order, price=D("101.5")) is order
    assert (order.status, order.cum_quote) == (OrdStatus.FILLED, D(202))
    assert exchange.ledger.account("main").free("USDT") == D(798)


def test_what_was_filled_counts_in_the_quantity(exchange: Exchange) -> None:
    order = exchange.submit(request("BUY", "4", "100.5"))
    exchange.submit(request("SELL", "3", account="other", cl_ord_id="b"))
    with pytest.raises(RefusedError) as refusal:
        exchange.amend(order, qty=D(3))
    assert refusal.value.reason is Reason.QUANTITY_GRID
    # A rest may be smaller than what a new order must be worth.
    exchange.amend(order, qty=D("3.01"))
    assert order.leaves_qty == D("0.01")
    assert exchange.ledger.account("main").balance("USDT").locked == D("1.005")


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"price": D("99.001")}, Reason.PRICE_GRID),
        ({"price": D(1)}, Reason.PRICE_COLLAR),
        ({"qty": D("0.0000001")}, Reason.QUANTITY_GRID),
        ({"qty": D("0.01")}, Reason.NOTIONAL),
        ({"qty": D(11)}, Reason.INSUFFICIENT_FUNDS),
        ({"price": D(600)}, Reason.PRICE_COLLAR),
        ({"stop_price": D(90)}, Reason.MALFORMED),
        ({"cl_ord_id": "taken"}, Reason.DUPLICATE_CL_ORD_ID),
    ],
)
def test_a_refused_amendment_leaves_the_order_as_it_was(
    exchange: Exchange, terms: dict[str, Any], reason: Reason
) -> None:
    order = exchange.submit(request("BUY", "2", "99"))
    exchange.submit(request("BUY", "0.1", "98", cl_ord_id="taken"))
    before = repr(order)
    with pytest.raises(RefusedError) as refusal:
        exchange.amend(order, **terms)
    assert refusal.value.reason is reason
    assert repr(order) == before


def test_money_held_for_the_order_itself_may_be_used_again(exchange: Exchange) -> None:
    order = exchange.submit(request("BUY", "9", "100"))
    exchange.amend(order, qty=D(10))
    balance = exchange.ledger.account("main").balance("USDT")
    assert (balance.free, balance.locked) == (D(0), D(1000))
    exchange.amend(order, qty=D(5), price=D(90))
    assert balance.locked == D(450)


def test_margin_held_for_the_order_itself_may_be_used_again(exchange: Exchange) -> None:
    crowd(exchange, symbol="PERP", bid="100", ask="100.1", qty="50")
    order = exchange.submit(request("BUY", "150", "99", symbol="PERP"))
    exchange.amend(order, qty=D(200))
    assert exchange.margin("main", "USDT").used == D(990)
    with pytest.raises(RefusedError) as refusal:
        exchange.amend(order, qty=D(210))
    assert refusal.value.reason is Reason.INSUFFICIENT_FUNDS


def test_a_new_name_finds_the_order_and_frees_the_old_one(exchange: Exchange) -> None:
    order = exchange.submit(request("BUY", "1", "99", cl_ord_id="old"))
    exchange.amend(order, cl_ord_id="new")
    assert exchange.ledger.by_cl_ord_id("main", "BTCUSDT", "new") is order
    other = exchange.submit(request("BUY", "1", "99", cl_ord_id="old"))
    assert exchange.ledger.by_cl_ord_id("main", "BTCUSDT", "old") is other


def test_a_stop_may_be_moved_until_it_triggers(exchange: Exchange) -> None:
    order = exchange.submit(
        request("SELL", "1", "90", ord_type=OrdType.STOP_LIMIT, stop_price=D(95))
    )
    exchange.amend(order, stop_price=D(97))
    with pytest.raises(RefusedError) as refusal:
        exchange.amend(order, stop_price=D(101))
    assert refusal.value.reason is Reason.WOULD_TRIGGER
    crowd(exchange, bid="80", ask="81", qty="50")
    printed(exchange, "96")
    assert (order.triggered, order.status) == (True, OrdStatus.NEW)
    with pytest.raises(RefusedError) as refusal:
        exchange.amend(order, stop_price=D(94))
    assert refusal.value.reason is Reason.MALFORMED


def test_an_ended_order_cannot_be_amended(exchange: Exchange) -> None:
    order = exchange.submit(request("BUY", "1", "99"))
    exchange.cancel(order)
    with pytest.raises(RefusedError) as refusal:
        exchange.amend(order, qty=D(2))
    assert refusal.value.reason is Reason.UNKNOWN_ORDER
