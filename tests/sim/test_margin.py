"""Margined instruments: positions, profit, margin, and orders that only close."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.sim.exchange_kit import PERP, USD_JPY, Clock, D, Kept, crowd, funded, printed, request

from openbell.domain.orders import OrdStatus
from openbell_sim.account import FeeSchedule
from openbell_sim.exchange import Exchange
from openbell_sim.instruments import KNOWN
from openbell_sim.margin import Margin
from openbell_sim.market.events import LevelsSet
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.rules import ReduceOnlyPolicy, VenueRules

FREE = FeeSchedule(maker=D(0), taker=D(0))


def make(
    rules: VenueRules | None = None, *, fees: FeeSchedule = FREE, record: Kept | None = None
) -> Exchange:
    return Exchange(
        [PERP, USD_JPY, KNOWN["BTCUSDT"]],
        now_ns=Clock().now_ns,
        rules=rules,
        fees=fees,
        record=record,
    )


def perp(side: str, qty: str, price: str | None = None, **more: Any) -> Any:
    return request(side, qty, price, **{"symbol": "PERP", **more})


def at(price: str) -> Exchange:
    """A market at one price, deep on both sides, with money for a few positions."""
    exchange = funded(make(), USDT=1000)
    move(exchange, price)
    return exchange


def move(exchange: Exchange, price: str, symbol: str = "PERP") -> None:
    tick = exchange.instruments[symbol].tick
    crowd(exchange, symbol=symbol, bid=price, ask=str(D(price) + tick), qty="100")
    printed(exchange, price, symbol=symbol)


def test_a_position_nets_and_its_lots_are_closed_first_in_first_out() -> None:
    exchange = at("100")
    exchange.submit(perp("BUY", "1", "100.1", cl_ord_id="a"))
    move(exchange, "110")
    exchange.submit(perp("BUY", "2", "110.1", cl_ord_id="b"))
    position = exchange.ledger.position("main", "PERP")
    assert (position.quantity, position.avg_price) == (D(3), (D("100.1") + 2 * D("110.1")) / 3)
    assert [lot.quantity for lot in position.lots] == [D(1), D(2)]
    opened_ns = position.opened_ns
    move(exchange, "120")
    order = exchange.submit(perp("SELL", "1.5", cl_ord_id="c"))
    # One at 19.9 and a half at 9.9.
    assert position.realized == D("19.9") + D("4.95")
    (fill,) = exchange.ledger.fills_of(order.order_id)
    assert [(part.quantity, part.left) for part in fill.closed] == [(1, 0), (D("0.5"), D("1.5"))]
    assert fill.realized == position.realized
    assert position.opened_ns == opened_ns
    assert exchange.ledger.account("main").free("USDT") == 1000 + position.realized
    # The next sale turns it round: what opens the short is one new lot.
    order = exchange.submit(perp("SELL", "2", cl_ord_id="d"))
    assert (position.quantity, position.avg_price) == (D("-0.5"), D(120))
    assert [lot.order_id for lot in position.lots] == [order.order_id]
    assert position.opened_ns > opened_ns
    assert exchange.positions("main") == [("PERP", position)]


def test_margin_follows_the_mark_and_the_fee_is_paid_in_the_settlement_currency() -> None:
    exchange = make(fees=FeeSchedule(maker=D(0), taker=D("0.001")))
    funded(exchange, USDT=1000)
    move(exchange, "100")
    exchange.submit(perp("SELL", "10"))
    assert exchange.margin("main", "USDT") == Margin(balance=D(999), unrealized=D(0), used=D(50))
    move(exchange, "90")
    margin = exchange.margin("main", "USDT")
    assert margin == Margin(balance=D(999), unrealized=D(100), used=D(45))
    assert (margin.equity, margin.available) == (D(1099), D(1054))
    assert "BTC" not in exchange.ledger.account("main").balances


def test_orders_hold_margin_only_for_what_they_could_enlarge() -> None:
    exchange = at("100")

    def used() -> Decimal:
        return exchange.margin("main", "USDT").used

    exchange.submit(perp("BUY", "10", "90", cl_ord_id="buy"))
    assert used() == D(45)
    # Either the one or the other enlarges the flat position most: they do not add up.
    exchange.submit(perp("SELL", "8", "110", cl_ord_id="sell"))
    assert used() == D(45)
    exchange.submit(perp("BUY", "4", cl_ord_id="market"))
    # 4 at the mark of 100.1, and 10 more at 90.
    assert used() == D("20.02") + D(45)
    exchange.cancel(next(iter(exchange.ledger.open["main"].values())))
    # Sales of 8 lead from 4 to -4, which is no larger.
    assert used() == D("20.02")
    exchange.submit(perp("SELL", "4", "120", cl_ord_id="close", reduce_only=True))
    assert used() == D("20.02")


def test_an_order_without_enough_margin_is_refused_but_never_one_that_closes() -> None:
    exchange = at("100")
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(perp("BUY", "201", "100"))
    assert refusal.value.reason is Reason.INSUFFICIENT_FUNDS
    exchange.submit(perp("BUY", "100", "100.1", cl_ord_id="a"))
    exchange.submit(perp("BUY", "80", "100.1", cl_ord_id="b"))
    move(exchange, "93")
    assert exchange.margin("main", "USDT").available < 0
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(perp("BUY", "0.1", "93"))
    assert refusal.value.reason is Reason.INSUFFICIENT_FUNDS
    closing = exchange.submit(perp("SELL", "100", "93", cl_ord_id="c"))
    assert closing.status is OrdStatus.FILLED
    move(exchange, "50")
    exchange.submit(perp("SELL", "80", "50", cl_ord_id="d"))
    # A loss may exceed the balance: there is no liquidation.
    assert exchange.margin("main", "USDT").balance < 0


def test_a_sale_is_measured_by_what_it_will_bring_not_by_its_limit() -> None:
    exchange = at("100")
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(perp("SELL", "220", "50"))
    assert refusal.value.reason is Reason.INSUFFICIENT_FUNDS


def test_an_instrument_settled_in_its_base_converts_by_its_own_price() -> None:
    exchange = funded(make(), USD=1000)
    move(exchange, "150.000", "USD/JPY")
    order = exchange.submit(request("SELL", "10000", symbol="USD/JPY"))
    assert order.status is OrdStatus.EXPIRED  # the crowd had 100
    assert exchange.margin("main", "USD") == Margin(balance=D(1000), unrealized=D(0), used=D(2))
    move(exchange, "149.000", "USD/JPY")
    # 100 JPY are gained, at 149.
    assert exchange.margin("main", "USD").unrealized == D("0.67114094")
    exchange.submit(request("BUY", "100", symbol="USD/JPY"))
    # Bought back one tick higher.
    assert exchange.ledger.account("main").free("USD") == D(1000) + D("0.67046530")


def test_a_spot_order_cannot_spend_what_margin_holds() -> None:
    exchange = at("100")
    move(exchange, "100", "BTCUSDT")
    exchange.submit(perp("BUY", "100"))
    assert exchange.margin("main", "USDT").available == D(1000) - D("500.5")
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(request("BUY", "6", "100"))
    assert refusal.value.reason is Reason.INSUFFICIENT_FUNDS
    order = exchange.submit(request("BUY", "4", "99"))
    assert exchange.margin("main", "USDT").available == D(1000) - D("500.5") - 396
    exchange.cancel(order)


@pytest.mark.parametrize("policy", ReduceOnlyPolicy)
def test_a_reduce_only_order_is_cut_or_refused(policy: ReduceOnlyPolicy) -> None:
    exchange = funded(make(VenueRules(reduce_only=policy)), USDT=1000)
    move(exchange, "100")
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(perp("SELL", "1", reduce_only=True))
    assert refusal.value.reason is Reason.REDUCE_ONLY
    exchange.submit(perp("BUY", "2", cl_ord_id="a"))
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(perp("BUY", "1", reduce_only=True))
    assert refusal.value.reason is Reason.REDUCE_ONLY
    if policy is ReduceOnlyPolicy.REJECT:
        with pytest.raises(RefusedError):
            exchange.submit(perp("SELL", "3", reduce_only=True))
        return
    order = exchange.submit(perp("SELL", "3", cl_ord_id="b", reduce_only=True))
    assert (order.order_qty, order.status) == (D(2), OrdStatus.FILLED)
    assert exchange.positions("main") == []


def test_resting_reduce_only_orders_shrink_with_the_position_and_go_with_it() -> None:
    exchange = at("100")
    exchange.submit(perp("BUY", "5", cl_ord_id="a"))
    first = exchange.submit(perp("SELL", "5", "110", cl_ord_id="b", reduce_only=True))
    behind = exchange.submit(perp("SELL", "1", "110", cl_ord_id="c"))
    exchange.submit(perp("SELL", "2", cl_ord_id="d"))
    assert (first.order_qty, first.leaves_qty, first.status) == (D(3), D(3), OrdStatus.NEW)
    # It keeps its place: the next 110 fill it before the order behind it.
    funded(exchange, "other", USDT=1000)
    exchange.submit(perp("BUY", "96", "110", account="other", cl_ord_id="x"))
    assert (first.cum_qty, behind.cum_qty) == (D(1), D(0))
    exchange.submit(perp("SELL", "2", cl_ord_id="e"))
    assert (first.status, first.reason) == (OrdStatus.EXPIRED, "reduce_only")
    assert behind.is_open


def test_one_sweep_through_plain_and_reduce_only_orders_does_not_flip() -> None:
    exchange = at("100")
    exchange.submit(perp("BUY", "5", cl_ord_id="a"))
    plain = exchange.submit(perp("SELL", "4", "101", cl_ord_id="b"))
    closing = exchange.submit(perp("SELL", "5", "102", cl_ord_id="c", reduce_only=True))
    funded(exchange, "other", USDT=1000)
    taker = exchange.submit(perp("BUY", "108", "102", account="other", cl_ord_id="d"))
    assert (plain.status, closing.cum_qty, closing.status) == (
        OrdStatus.FILLED,
        D(1),
        OrdStatus.EXPIRED,
    )
    assert exchange.positions("main") == []
    # What is cut from the reduce-only order the crowd gives.
    assert taker.cum_qty == D(95) + D(4) + D(5)
    assert exchange.ledger.position("other", "PERP").quantity == taker.cum_qty


def test_a_reduce_only_order_that_was_overtaken_ends_even_if_the_position_is_back() -> None:
    """One word of the market fills three orders: a sale that closes, a reduce-only sale for which
    nothing is left then, and a buy that opens the position again."""
    exchange = at("100")
    exchange.submit(perp("BUY", "5", cl_ord_id="a"))
    exchange.submit(perp("SELL", "5", "101", cl_ord_id="b"))
    closing = exchange.submit(perp("SELL", "5", "102", cl_ord_id="c", reduce_only=True))
    again = exchange.submit(perp("BUY", "5", "99", cl_ord_id="d"))
    exchange.play(LevelsSet("PERP", ((D(102), D(8)), (D(102), D(0))), ((D(99), D(5)),)))
    assert (closing.status, closing.cum_qty) == (OrdStatus.EXPIRED, D(0))
    assert again.status is OrdStatus.FILLED
    assert exchange.ledger.position("main", "PERP").quantity == D(5)
    assert not exchange.markets["PERP"].book.asks.total(1020)


def test_close_lot_closes_the_lot_it_names() -> None:
    exchange = at("100")
    for name in "abc":
        exchange.submit(perp("BUY", "2", cl_ord_id=name))
    position = exchange.ledger.position("main", "PERP")
    _, second, third = position.lots
    exchange.close_lot("main", "PERP", second.exec_id, D(1))
    assert [lot.quantity for lot in position.lots] == [D(2), D(1), D(2)]
    order = exchange.close_lot("main", "PERP", second.exec_id)
    assert (order.order_qty, order.reduce_only) == (D(1), True)
    assert second.exec_id not in [lot.exec_id for lot in position.lots]
    with pytest.raises(RefusedError) as refusal:
        exchange.close_lot("main", "PERP", second.exec_id)
    assert refusal.value.reason is Reason.REDUCE_ONLY
    exchange.close_lot("main", "PERP", third.exec_id, D(7))
    assert [lot.quantity for lot in position.lots] == [D(2)]
