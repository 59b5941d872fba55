"""Stop orders: what triggers them, what they hold, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim.exchange_kit import PERP, Clock, D, Kept, crowd, funded, printed, request

from openbell.domain.orders import OrdStatus, OrdType, TimeInForce
from openbell_sim import truth
from openbell_sim.account import FeeSchedule
from openbell_sim.checks import OrderRequest
from openbell_sim.events import Trigger
from openbell_sim.exchange import Exchange, Report
from openbell_sim.instruments import KNOWN
from openbell_sim.refusals import Reason, RefusedError


def make(record: Kept | None = None) -> Exchange:
    return Exchange(
        [PERP, KNOWN["BTCUSDT"]],
        now_ns=Clock().now_ns,
        fees=FeeSchedule(maker=D(0), taker=D(0)),
        record=record,
    )


def stop(
    side: str, qty: str, stop_price: str, price: str | None = None, **more: Any
) -> OrderRequest:
    kind = OrdType.STOP if price is None else OrdType.STOP_LIMIT
    given = {"cl_ord_id": f"stop-{side}-{stop_price}", "ord_type": kind, **more}
    return request(side, qty, price, stop_price=D(stop_price), **given)


@pytest.fixture
def exchange() -> Exchange:
    exchange = funded(make(), USDT=1000, BTC=10)
    crowd(exchange, bid="100", ask="101", qty="50")
    printed(exchange, "100.5")
    return exchange


def test_a_stop_waits_outside_of_the_book_until_a_trade_reaches_it(exchange: Exchange) -> None:
    order = exchange.submit(stop("SELL", "2", "95"))
    assert (order.status, order.triggered) == (OrdStatus.NEW, False)
    assert list(exchange.ledger.open["main"].values()) == [order]
    assert exchange.ledger.account("main").balance("BTC").locked == D(2)
    # The price is what trades tell, not what quotes tell.
    crowd(exchange, bid="94", ask="95", qty="50")
    assert not order.triggered
    printed(exchange, "95.01")
    assert not order.triggered
    printed(exchange, "95")
    assert (order.status, order.triggered) == (OrdStatus.FILLED, True)
    assert [fill.price for fill in exchange.ledger.fills] == [D(94)]


def test_a_stop_limit_becomes_a_limit_order(exchange: Exchange) -> None:
    order = exchange.submit(stop("BUY", "2", "105", "106"))
    assert exchange.ledger.account("main").balance("USDT").locked == D(212)
    crowd(exchange, bid="107", ask="108", qty="50")
    printed(exchange, "107.5")
    assert (order.status, order.triggered) == (OrdStatus.NEW, True)
    assert exchange.markets["BTCUSDT"].book.bids.total(10600) == 200_000
    crowd(exchange, bid="104", ask="105.5", qty="50")
    assert order.status is OrdStatus.FILLED


def test_own_trades_trigger_stops_and_these_trigger_others(exchange: Exchange) -> None:
    """A cascade: each sale prints a lower price."""
    crowd(exchange, bid="90", ask="101", qty="1")
    funded(exchange, "other", USDT=1000)
    for price in ("99", "98", "97"):
        exchange.submit(request("BUY", "1", price, account="other"))
    first = exchange.submit(stop("SELL", "1", "99"))
    second = exchange.submit(stop("SELL", "1", "98"))
    third = exchange.submit(stop("SELL", "1", "96"))
    exchange.submit(request("SELL", "1"))
    assert [order.status for order in (first, second)] == [OrdStatus.FILLED] * 2
    assert [fill.price for fill in exchange.ledger.fills if not fill.is_maker] == [99, 98, 97]
    assert not third.triggered


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (stop("SELL", "1", "100.5"), Reason.WOULD_TRIGGER),
        (stop("BUY", "1", "100.5"), Reason.WOULD_TRIGGER),
        (stop("BUY", "1", "90"), Reason.WOULD_TRIGGER),
        (stop("SELL", "1", "90.001"), Reason.PRICE_GRID),
        (stop("SELL", "1", "0"), Reason.PRICE_GRID),
        (stop("SELL", "1", "90", "1"), Reason.PRICE_COLLAR),
        (stop("SELL", "11", "90"), Reason.INSUFFICIENT_FUNDS),
        (stop("BUY", "10", "101"), Reason.INSUFFICIENT_FUNDS),
        (stop("SELL", "0.01", "90"), Reason.NOTIONAL),
        (stop("SELL", "1", "90", ord_type=OrdType.LIMIT), Reason.MALFORMED),
        (request("SELL", "1", ord_type=OrdType.STOP), Reason.MALFORMED),
    ],
)
def test_a_stop_order_is_refused(exchange: Exchange, order: OrderRequest, reason: Reason) -> None:
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(order)
    assert refusal.value.reason is reason


def test_a_buy_that_triggers_above_its_stop_price_takes_what_is_free_and_no_more(
    exchange: Exchange,
) -> None:
    order = exchange.submit(stop("BUY", "9", "105"))
    assert exchange.ledger.account("main").balance("USDT").locked == D(945)
    crowd(exchange, bid="119", ask="120", qty="50")
    printed(exchange, "119.5")
    # 1000 USDT buy 8.33333 at 120.
    assert (order.cum_qty, order.status) == (D("8.33333"), OrdStatus.EXPIRED)
    assert order.reason == "insufficient_funds"
    balance = exchange.ledger.account("main").balance("USDT")
    assert (balance.free, balance.locked) == (D(1000) - D("8.33333") * 120, D(0))


def test_what_finds_no_other_side_expires(exchange: Exchange) -> None:
    order = exchange.submit(stop("SELL", "9", "95"))
    crowd(exchange, bid="94", ask="95", qty="1")
    printed(exchange, "94.5")
    assert (order.cum_qty, order.status, order.reason) == (D(1), OrdStatus.EXPIRED, "no_liquidity")
    assert exchange.ledger.account("main").balance("BTC").locked == 0


def test_time_in_force_begins_with_the_trigger(exchange: Exchange) -> None:
    order = exchange.submit(stop("BUY", "2", "105", "106", time_in_force=TimeInForce.IOC))
    assert order.is_open
    crowd(exchange, bid="107", ask="108", qty="50")
    printed(exchange, "107")
    assert (order.status, order.reason) == (OrdStatus.EXPIRED, "time_in_force")


def test_a_waiting_stop_can_be_cancelled_and_is_told(exchange: Exchange) -> None:
    told: list[Report] = []

    class Listener:
        def on_reports(self, reports: Any) -> None:
            told.extend(reports)

        def on_deposit(self, deposit: object) -> None: ...
        def on_trade(self, trade: object) -> None: ...
        def on_book(self, symbol: str) -> None: ...
        def on_session(self, symbol: str, state: object) -> None: ...

    exchange.listeners.append(Listener())
    order = exchange.submit(stop("SELL", "2", "95"))
    exchange.cancel(order)
    assert order.status is OrdStatus.CANCELED
    assert exchange.ledger.account("main").balance("BTC").locked == 0
    assert not exchange.markets["BTCUSDT"].stops
    order = exchange.submit(stop("SELL", "2", "95", "95"))
    printed(exchange, "95")
    kinds = [type(report.event).__name__ for report in told]
    assert kinds == ["Accept", "Cancel", "Accept", "Trigger", "Fill"]
    (trigger,) = [report for report in told if isinstance(report.event, Trigger)]
    assert (trigger.order.triggered, trigger.order.status) == (True, OrdStatus.NEW)


def test_a_reduce_only_stop_is_measured_when_it_triggers() -> None:
    exchange = funded(make(), USDT=1000)
    crowd(exchange, symbol="PERP", bid="100", ask="100.1", qty="50")
    printed(exchange, "100", symbol="PERP")
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(stop("SELL", "5", "95", symbol="PERP", reduce_only=True))
    assert refusal.value.reason is Reason.REDUCE_ONLY
    exchange.submit(request("BUY", "5", symbol="PERP"))
    first = exchange.submit(stop("SELL", "5", "95", symbol="PERP", reduce_only=True))
    second = exchange.submit(
        stop("SELL", "5", "94", symbol="PERP", reduce_only=True, cl_ord_id="b")
    )
    assert exchange.margin("main", "USDT").used == D("25.025")
    exchange.submit(request("SELL", "2", symbol="PERP"))
    assert first.order_qty == D(5)
    crowd(exchange, symbol="PERP", bid="95", ask="95.1", qty="50")
    printed(exchange, "95", symbol="PERP")
    assert (first.status, first.cum_qty) == (OrdStatus.FILLED, D(3))
    assert exchange.positions("main") == []
    printed(exchange, "93", symbol="PERP")
    assert (second.status, second.reason) == (OrdStatus.EXPIRED, "reduce_only")


def test_the_truth_tells_stops(exchange: Exchange) -> None:
    exchange.submit(stop("SELL", "2", "95"))
    exchange.submit(stop("SELL", "1", "96", "94"))
    printed(exchange, "96")
    told = [
        (row["stop_price"], row["triggered"], row["reduce_only"]) for row in truth.orders(exchange)
    ]
    assert told == [("95", False, False), ("96", True, False)]


def test_a_restart_loses_no_stop(exchange: Exchange) -> None:
    record = Kept()
    exchange = funded(make(record), USDT=1000, BTC=10)
    waiting = exchange.submit(stop("SELL", "2", "95"))
    again = make()
    again.restore(record.events)
    crowd(again, bid="94", ask="95", qty="50")
    printed(again, "94.5")
    order = again.ledger.orders[waiting.order_id]
    assert (order.status, order.triggered) == (OrdStatus.FILLED, True)
