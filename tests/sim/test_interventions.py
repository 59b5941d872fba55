"""What faults make the exchange do otherwise, and that its log tells all of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim.exchange_kit import Clock, D, Kept, crowd, funded, printed, request

from openbell.domain.orders import OrdStatus, OrdType, TimeInForce
from openbell_sim.account import FeeSchedule
from openbell_sim.events import Expire
from openbell_sim.exchange import Exchange
from openbell_sim.instruments import KNOWN
from openbell_sim.interventions import Interventions
from openbell_sim.market.events import BestSet, Traded
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.sessions import MarketState

SECOND = 1_000_000_000


class Told:
    """A listener that keeps the kinds of events it hears of."""

    def __init__(self, exchange: Exchange) -> None:
        self.kinds: list[str] = []
        exchange.listeners.append(self)

    def on_reports(self, reports: Any) -> None:
        self.kinds += [type(report.event).__name__ for report in reports]

    def on_deposit(self, deposit: object) -> None: ...
    def on_trade(self, trade: object) -> None: ...
    def on_book(self, symbol: str) -> None: ...
    def on_session(self, symbol: str, state: MarketState) -> None: ...


def make(record: Kept | None = None) -> Exchange:
    exchange = Exchange(
        [KNOWN["BTCUSDT"]],
        now_ns=Clock().now_ns,
        fees=FeeSchedule(maker=D(0), taker=D(0)),
        record=record,
        keep_history=True,
    )
    if record is not None:
        funded(exchange, "main", "other", USDT=100_000, BTC=100)
        crowd(exchange, bid="100", ask="101", qty="10")
        printed(exchange, "100.5")
    return exchange


@pytest.fixture
def record() -> Kept:
    return Kept()


@pytest.fixture
def exchange(record: Kept) -> Exchange:
    return make(record)


def test_a_lazy_cancel_is_acknowledged_and_done_later(exchange: Exchange, record: Kept) -> None:
    order = exchange.submit(request("BUY", "3", "99"))
    told = Told(exchange)
    exchange.intervene(Interventions(lazy_cancels_s=2))
    acknowledged = exchange.cancel(order, "request-7")
    assert (acknowledged.status, acknowledged.cancel_id) == (OrdStatus.CANCELED, "request-7")
    assert acknowledged.order_id == order.order_id
    assert order.is_open
    assert told.kinds == []
    # Asking again is acknowledged again, and puts nothing off.
    due_ns = exchange.next_due_ns()
    exchange.cancel(order)
    assert due_ns is not None
    assert exchange.next_due_ns() == due_ns
    exchange.play(Traded("BTCUSDT", D(99), D(1), aggressor_is_buyer=False))
    exchange.play(BestSet("BTCUSDT", (D(98), D(1)), (D(99), D(1))))
    assert order.cum_qty == D(1)
    again = make()
    again.restore(record.events)
    assert again.next_due_ns() == due_ns
    for venue in (exchange, again):
        exchange.expire_due(due_ns - SECOND)
        assert venue.ledger.orders[order.order_id].is_open
        venue.expire_due(due_ns)
        ended = venue.ledger.orders[order.order_id]
        assert (ended.status, ended.cum_qty, ended.cancel_id) == (
            OrdStatus.CANCELED,
            D(1),
            "request-7",
        )
    assert told.kinds == ["Fill", "Cancel"]


def test_an_order_that_ends_before_its_lazy_cancel_is_left_alone(exchange: Exchange) -> None:
    order = exchange.submit(request("BUY", "1", "99"))
    exchange.intervene(Interventions(lazy_cancels_s=2))
    exchange.cancel(order)
    exchange.play(BestSet("BTCUSDT", (D(97), D(1)), (D(98), D(9))))
    assert order.status is OrdStatus.FILLED
    assert exchange.next_due_ns() is None


def test_a_cancel_comes_too_late(exchange: Exchange) -> None:
    order = exchange.submit(request("BUY", "1", "99"))
    exchange.intervene(Interventions(fill_on_cancel=1))
    with pytest.raises(RefusedError) as refusal:
        exchange.cancel(order)
    assert refusal.value.reason is Reason.UNKNOWN_ORDER
    assert (order.status, order.cum_qty) == (OrdStatus.FILLED, D(1))
    assert not exchange.markets["BTCUSDT"].book.bids.total(9900)


def test_a_cancel_takes_what_a_fill_left(exchange: Exchange) -> None:
    order = exchange.submit(request("BUY", "4", "99"))
    told = Told(exchange)
    exchange.intervene(Interventions(fill_on_cancel=0.25))
    assert exchange.cancel(order) is order
    assert (order.status, order.cum_qty) == (OrdStatus.CANCELED, D(1))
    assert told.kinds == ["Fill", "Cancel"]
    assert not exchange.markets["BTCUSDT"].book.bids.total(9900)
    stop = exchange.submit(request("SELL", "1", ord_type=OrdType.STOP, stop_price=D(90)))
    exchange.cancel(stop)
    assert stop.cum_qty == 0


def test_takers_get_a_part_and_the_rest_waits_for_new_quotes(exchange: Exchange) -> None:
    exchange.intervene(Interventions(partial_fills=0.3))
    order = exchange.submit(request("BUY", "20", "101"))
    assert (order.status, order.cum_qty) == (OrdStatus.PARTIALLY_FILLED, D(3))
    assert exchange.markets["BTCUSDT"].book.bids.best == 10100
    crowd(exchange, bid="99", ask="101", qty="10")
    assert order.cum_qty == D(13)
    market = exchange.submit(request("SELL", "5"))
    assert (market.status, market.reason) == (OrdStatus.EXPIRED, "no_liquidity")
    whole = exchange.submit(request("SELL", "2", "98", time_in_force=TimeInForce.FOK))
    assert (whole.status, whole.cum_qty) == (OrdStatus.EXPIRED, D(0))


def test_a_part_that_cannot_rest_before_an_own_order_expires(exchange: Exchange) -> None:
    exchange.submit(request("SELL", "10", "100.5", account="other"))
    exchange.intervene(Interventions(partial_fills=0.5))
    order = exchange.submit(request("BUY", "10", "100.5"))
    assert (order.status, order.cum_qty, order.reason) == (
        OrdStatus.EXPIRED,
        D(5),
        "no_liquidity",
    )
    spent = exchange.submit(request("BUY", "0", quote_qty=D(201), cl_ord_id="x"))
    assert (spent.status, spent.cum_qty) == (OrdStatus.EXPIRED, D(1))


def test_stops_are_dropped_and_nobody_is_told(exchange: Exchange, record: Kept) -> None:
    def stop(price: str) -> Any:
        return request(
            "SELL", "1", ord_type=OrdType.STOP, stop_price=D(price), cl_ord_id=f"at-{price}"
        )

    first = exchange.submit(stop("95"))
    plain = exchange.submit(request("BUY", "1", "99"))
    told = Told(exchange)
    exchange.intervene(Interventions(drop_stops=True))
    second = exchange.submit(stop("94"))
    assert second.status is OrdStatus.NEW
    for order in (first, second):
        gone = exchange.ledger.orders[order.order_id]
        assert (gone.status, gone.reason) == (OrdStatus.EXPIRED, "dropped")
    assert list(exchange.ledger.open["main"].values()) == [plain]
    assert exchange.ledger.account("main").balance("BTC").locked == 0
    printed(exchange, "90")
    assert told.kinds == ["Accept"]
    dropped = [event for event in record.events if isinstance(event, Expire)]
    assert [event.order_id for event in dropped] == [first.order_id, second.order_id]
    again = make()
    again.restore(record.events)
    assert again.history == exchange.history == [e for e in record.events if e not in dropped]
    exchange.intervene(Interventions())
    assert exchange.submit(stop("80")).is_open


@pytest.mark.parametrize(
    "wrong", [{"lazy_cancels_s": -1}, {"fill_on_cancel": 1.1}, {"partial_fills": 0}]
)
def test_an_intervention_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Interventions(**wrong)
