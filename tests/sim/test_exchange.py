"""The exchange without a face: money over random histories, and the rules one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.exchange_kit import Clock, D, Kept, crowd, funded, request

from openbell.domain.orders import OrdStatus, Side, TimeInForce
from openbell_sim.account import FeeIn, FeeSchedule
from openbell_sim.checks import OrderRequest
from openbell_sim.events import Fill
from openbell_sim.exchange import Exchange
from openbell_sim.instruments import KNOWN
from openbell_sim.market.events import LevelsSet, Traded
from openbell_sim.matching.book import SelfTradePrevention
from openbell_sim.refusals import Reason, RefusedError
from openbell_sim.rules import ClOrdIdPolicy, VenueRules


def make(fees: FeeSchedule | None = None, record: Kept | None = None, **more: Any) -> Exchange:
    return Exchange(
        [KNOWN["BTCUSDT"], KNOWN["BNBUSDT"]],
        now_ns=Clock().now_ns,
        fees=fees,
        record=record,
        **more,
    )


actions = st.one_of(
    st.tuples(
        st.just("order"),
        st.sampled_from(["main", "other"]),
        st.sampled_from(["BTCUSDT", "BNBUSDT"]),
        st.sampled_from(Side),
        st.integers(1, 60),  # lots of a hundredth
        st.one_of(st.none(), st.integers(590, 610)),
        st.sampled_from(TimeInForce),
        st.booleans(),
        st.sampled_from(SelfTradePrevention),
    ),
    st.tuples(
        st.just("spend"),
        st.sampled_from(["main", "other"]),
        st.sampled_from(["BTCUSDT", "BNBUSDT"]),
        st.integers(5, 2000),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(
        st.just("crowd"),
        st.sampled_from(["BTCUSDT", "BNBUSDT"]),
        st.sampled_from(Side),
        st.integers(590, 610),
        st.integers(0, 50),
    ),
    st.tuples(
        st.just("trade"),
        st.sampled_from(["BTCUSDT", "BNBUSDT"]),
        st.sampled_from(Side),
        st.integers(590, 610),
        st.integers(1, 50),
    ),
)


histories = st.lists(st.lists(actions, max_size=16), max_size=8).map(
    lambda parts: [action for part in parts for action in part]
)
"""Lists of lists, for hypothesis makes a single list too short for much to happen in it."""


def act(exchange: Exchange, number: int, action: str, *values: Any) -> None:
    try:
        if action == "order":
            account, symbol, side, lots, price, tif, post_only, prevention = values
            exchange.submit(
                request(
                    side.value,
                    str(D(lots) / 100),
                    None if price is None else str(price),
                    account=account,
                    symbol=symbol,
                    cl_ord_id=f"id-{number}",
                    time_in_force=TimeInForce.GTC if price is None else tif,
                    post_only=post_only and price is not None and tif is TimeInForce.GTC,
                    prevention=prevention,
                )
            )
        elif action == "spend":
            account, symbol, amount = values
            exchange.submit(
                request(
                    "BUY",
                    "0",
                    account=account,
                    symbol=symbol,
                    cl_ord_id=f"id-{number}",
                    quote_qty=D(amount),
                )
            )
        elif action == "cancel":
            orders = list(exchange.ledger.orders.values())
            if values[0] < len(orders):
                exchange.cancel(orders[values[0]])
        elif action == "crowd":
            symbol, side, price, lots = values
            levels = ((D(price), D(lots) / 100),)
            bids, asks = (levels, ()) if side is Side.BUY else ((), levels)
            exchange.play(LevelsSet(symbol, bids, asks))
        else:
            symbol, side, price, lots = values
            exchange.play(Traded(symbol, D(price), D(lots) / 100, side is Side.BUY))
    except RefusedError:
        pass


@settings(max_examples=150, deadline=None)
@given(histories, st.sampled_from(["", "BNB"]), st.sampled_from(FeeIn))
def test_money_and_quantity_are_conserved_over_every_history(
    history: list[Any], token: str, fee_in: FeeIn
) -> None:
    record = Kept()
    fees = FeeSchedule(maker=D("0.0008"), taker=D("0.001"), token=token, fee_in=fee_in)
    exchange = make(fees, record)
    for account in ("main", "other"):
        funded(exchange, account, USDT=3000, BTC=1, BNB=1)
    for number, (action, *values) in enumerate(history):
        act(exchange, number, action, *values)
        check_invariants(exchange)
    again = make(fees)
    again.restore(record.events)
    assert state_of(again) == state_of(exchange)


def check_invariants(exchange: Exchange) -> None:
    ledger = exchange.ledger
    # What every account holds is what was put in, and what its fills brought and cost.
    expected: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for fill in ledger.fills:
        instrument = exchange.instruments[fill.symbol]
        sign = fill.side.sign
        expected[fill.account, instrument.base] += sign * fill.qty
        expected[fill.account, instrument.quote] -= sign * fill.qty * fill.price
        expected[fill.account, fill.fee_currency] -= fill.fee
        assert fill.fee >= 0
    locked: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for order in ledger.orders.values():
        assert order.cum_qty == sum(fill.qty for fill in ledger.fills_of(order.order_id))
        assert order.cum_qty <= order.order_qty
        assert order.is_open == (order.order_id in ledger.open[order.account])
        if order.is_open:
            instrument = exchange.instruments[order.symbol]
            buying = order.side is Side.BUY
            price = order.price or D(0)
            assert price
            key = order.account, instrument.quote if buying else instrument.base
            locked[key] += order.leaves_qty * (price if buying else 1)
        else:
            assert not order.locked
    for account in ledger.accounts.values():
        for currency, balance in account.balances.items():
            key = account.name, currency
            assert balance.total == balance.deposited + expected[key]
            assert balance.locked == locked[key]
            assert balance.free >= 0
    # A trade between two own orders moves money between them and makes none.
    parts = Counter((fill.symbol, fill.exec_id) for fill in ledger.fills)
    assert all(count <= 2 for count in parts.values())
    # Exactly the open orders rest in the books.
    for symbol, market in exchange.markets.items():
        resting = {
            entry.order_id: market.instrument.quantity(entry.qty)
            for side in (market.book.bids, market.book.asks)
            for level in side.levels.values()
            for entry in level.queue
            if not entry.is_crowd
        }
        assert resting == {
            order.order_id: order.leaves_qty
            for order in ledger.orders.values()
            if order.is_open and order.symbol == symbol
        }


def state_of(exchange: Exchange) -> object:
    """All of it but the crowd, which a restarted venue meets anew."""
    ledger = exchange.ledger
    queues = {
        (symbol, side.side, price): [e.order_id for e in side.levels[price].queue if e.order_id]
        for symbol, market in exchange.markets.items()
        for side in (market.book.bids, market.book.asks)
        for price in side.levels
        if side.levels[price].has_own
    }
    balances = {
        (account.name, currency): (balance.free, balance.locked, balance.deposited)
        for account in ledger.accounts.values()
        for currency, balance in account.balances.items()
    }
    return ledger.orders, ledger.refused, ledger.fills, queues, balances


def test_two_own_orders_trade_at_the_price_of_the_one_that_waited() -> None:
    exchange = funded(make(), "main", "other")
    maker = exchange.submit(request("SELL", "0.5", "60000", account="other"))
    taker = exchange.submit(request("BUY", "0.2", "61000"))
    assert (taker.status, taker.cum_quote) == (OrdStatus.FILLED, D("12000.0"))
    assert (maker.status, maker.leaves_qty) == (OrdStatus.PARTIALLY_FILLED, D("0.3"))
    first, second = exchange.ledger.fills
    assert first.exec_id == second.exec_id
    assert (first.is_maker, second.is_maker) == (True, False)
    # A buyer pays in what it bought, a seller in what it got; the rest of the limit is free again.
    assert (first.fee, first.fee_currency) == (D("12"), "USDT")
    assert (second.fee, second.fee_currency) == (D("0.0002"), "BTC")
    assert exchange.ledger.account("main").free("USDT") == D(88_000)


def test_fees_are_taken_in_bnb_at_a_discount_until_there_is_none_left() -> None:
    exchange = make(FeeSchedule(token="BNB"))
    funded(exchange, USDT=100_000, BTC=2, BNB=1)
    crowd(exchange, symbol="BNBUSDT", bid="499", ask="501", qty="100")
    crowd(exchange, bid="60000", ask="60001", qty="10")
    exchange.submit(request("SELL", "1", cl_ord_id="a"))
    exchange.submit(request("SELL", "1", cl_ord_id="b"))
    exchange.submit(request("BUY", "1", cl_ord_id="c"))
    fees = [(fill.fee, fill.fee_currency) for fill in exchange.ledger.fills]
    # 60,000 x 0.1 % x 0.75 / 500 = 0.09 BNB
    assert fees[:2] == [(D("0.09"), "BNB")] * 2
    poor = make(FeeSchedule(token="BNB"))
    funded(poor, BTC=2)
    crowd(poor, symbol="BNBUSDT", bid="499", ask="501", qty="100")
    crowd(poor, bid="60000", ask="60001", qty="10")
    poor.submit(request("SELL", "1"))
    assert [(f.fee, f.fee_currency) for f in poor.ledger.fills] == [(D("60"), "USDT")]


def test_fees_due_in_the_quote_currency_are_taken_in_it_while_it_lasts() -> None:
    exchange = make(FeeSchedule(fee_in=FeeIn.QUOTE))
    funded(exchange, USDT="60060")
    crowd(exchange, bid="59999", ask="60000", qty="10")
    exchange.submit(request("BUY", "1", cl_ord_id="a"))
    exchange.submit(request("SELL", "1", cl_ord_id="b"))
    exchange.submit(request("BUY", "0.998", cl_ord_id="c"))
    fees = [(fill.fee, fill.fee_currency) for fill in exchange.ledger.fills]
    assert fees == [(D(60), "USDT"), (D("59.999"), "USDT"), (D("0.000998"), "BTC")]


def test_an_order_that_spends_an_amount_is_filled_when_the_rest_buys_no_lot() -> None:
    exchange = funded(make())
    crowd(exchange, bid="59999", ask="60000", qty="1")
    order = exchange.submit(request("BUY", "0", quote_qty=D("1000")))
    assert (order.status, order.cum_qty) == (OrdStatus.FILLED, D("0.01666"))
    assert exchange.ledger.account("main").free("USDT") == D("100000") - D("999.6")


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (request("BUY", "0.01", "60000.001"), Reason.PRICE_GRID),
        (request("BUY", "0.01", "0"), Reason.PRICE_GRID),
        (request("BUY", "0.01", "400000"), Reason.PRICE_COLLAR),
        (request("BUY", "0.000001", "60000"), Reason.QUANTITY_GRID),
        (request("BUY", "0", "60000"), Reason.QUANTITY_GRID),
        (request("BUY", "0.00001", "60000"), Reason.NOTIONAL),
        (request("BUY", "2", "60000"), Reason.INSUFFICIENT_FUNDS),
        (request("SELL", "3", "70000"), Reason.INSUFFICIENT_FUNDS),
        (request("BUY", "2"), Reason.INSUFFICIENT_FUNDS),
        (request("BUY", "0.01", "60001", post_only=True), Reason.WOULD_MATCH),
        (request("BUY", "1", "1", symbol="DOGEUSDT"), Reason.UNKNOWN_SYMBOL),
    ],
)
def test_a_refused_order_changes_nothing_but_the_record(
    order: OrderRequest, reason: Reason
) -> None:
    record = Kept()
    exchange = funded(make(record=record))
    crowd(exchange, bid="60000", ask="60001", qty="5")
    before, events = state_of(exchange), len(record.events)
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(order)
    assert refusal.value.reason is reason
    assert len(record.events) == events + 1
    (told,) = exchange.ledger.refused
    assert (told.cl_ord_id, told.reason) == (order.cl_ord_id, reason.value)
    after = state_of(exchange)
    assert before[0] == after[0]  # type: ignore[index]
    assert before[4] == after[4]  # type: ignore[index]


def test_a_name_may_be_used_again_only_after_its_order_ended() -> None:
    exchange = funded(make())
    first = exchange.submit(request("BUY", "0.01", "50000", cl_ord_id="x"))
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(request("BUY", "0.01", "50000", cl_ord_id="x"))
    assert refusal.value.reason is Reason.DUPLICATE_CL_ORD_ID
    exchange.cancel(first)
    second = exchange.submit(request("BUY", "0.01", "50000", cl_ord_id="x"))
    assert exchange.ledger.by_cl_ord_id("main", "BTCUSDT", "x") is second
    assert exchange.ledger.orders[first.order_id].status is OrdStatus.CANCELED


def test_a_venue_may_want_names_unique_for_ever_or_not_care() -> None:
    exchange = funded(make(rules=VenueRules(cl_ord_id=ClOrdIdPolicy.UNIQUE_FOR_EVER)))
    first = exchange.submit(request("BUY", "0.01", "50000", cl_ord_id="x"))
    exchange.cancel(first)
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(request("BUY", "1", "500", cl_ord_id="x", symbol="BNBUSDT"))
    assert refusal.value.reason is Reason.DUPLICATE_CL_ORD_ID
    assert exchange.ledger.named("main", "x") is first
    # A refused order uses no name up, and an order may have none.
    with pytest.raises(RefusedError):
        exchange.submit(request("BUY", "0.01", "0", cl_ord_id="y"))
    exchange.submit(request("BUY", "0.01", "50000", cl_ord_id="y"))
    for _ in range(2):
        exchange.submit(request("BUY", "0.01", "50000", cl_ord_id=""))
    free = funded(make(rules=VenueRules(cl_ord_id=ClOrdIdPolicy.NONE)))
    orders = [free.submit(request("BUY", "0.01", "50000", cl_ord_id="x")) for _ in range(2)]
    assert free.ledger.by_cl_ord_id("main", "BTCUSDT", "x") is orders[-1]


@pytest.mark.parametrize(
    ("tif", "qty", "status", "filled"),
    [
        (TimeInForce.IOC, "3", OrdStatus.EXPIRED, "1"),
        (TimeInForce.FOK, "3", OrdStatus.EXPIRED, "0"),
        (TimeInForce.FOK, "1", OrdStatus.FILLED, "1"),
        (TimeInForce.GTC, "3", OrdStatus.PARTIALLY_FILLED, "1"),
    ],
)
def test_time_in_force_decides_over_what_is_left(
    tif: TimeInForce, qty: str, status: OrdStatus, filled: str
) -> None:
    exchange = funded(make(), USDT=1_000_000)
    crowd(exchange, bid="59999", ask="60000", qty="1")
    order = exchange.submit(request("BUY", qty, "60000", time_in_force=tif))
    assert (order.status, order.cum_qty) == (status, D(filled))


@pytest.mark.parametrize(
    ("mode", "maker_status", "taker_status"),
    [
        (SelfTradePrevention.NONE, OrdStatus.FILLED, OrdStatus.FILLED),
        (SelfTradePrevention.EXPIRE_TAKER, OrdStatus.NEW, OrdStatus.EXPIRED),
        (SelfTradePrevention.EXPIRE_MAKER, OrdStatus.EXPIRED, OrdStatus.NEW),
        (SelfTradePrevention.EXPIRE_BOTH, OrdStatus.EXPIRED, OrdStatus.EXPIRED),
    ],
)
def test_an_account_does_not_trade_with_itself_unless_it_says_so(
    mode: SelfTradePrevention, maker_status: OrdStatus, taker_status: OrdStatus
) -> None:
    exchange = funded(make())
    maker = exchange.submit(request("SELL", "1", "60000"))
    taker = exchange.submit(request("BUY", "1", "60000", prevention=mode))
    assert (maker.status, taker.status) == (maker_status, taker_status)
    if OrdStatus.EXPIRED in (maker.status, taker.status):
        assert not exchange.ledger.fills
        assert {o.reason for o in (maker, taker) if o.status is OrdStatus.EXPIRED} == {
            "self_trade_prevention"
        }


def test_an_ended_order_cannot_be_cancelled() -> None:
    exchange = funded(make())
    order = exchange.submit(request("BUY", "0.01", "50000"))
    exchange.cancel(order)
    with pytest.raises(RefusedError) as refusal:
        exchange.cancel(order)
    assert refusal.value.reason is Reason.UNKNOWN_ORDER


def test_open_orders_are_limited_per_symbol() -> None:
    exchange = funded(make(max_open_orders=1))
    exchange.submit(request("BUY", "0.01", "50000", cl_ord_id="a"))
    with pytest.raises(RefusedError) as refusal:
        exchange.submit(request("BUY", "0.01", "50000", cl_ord_id="b"))
    assert refusal.value.reason is Reason.TOO_MANY_ORDERS


def test_what_the_crowd_trades_is_printed_once_and_own_parts_at_their_own_price() -> None:
    exchange = funded(make())
    crowd(exchange, bid="60000", ask="60010", qty="1")
    exchange.submit(request("BUY", "0.5", "60001"))
    exchange.play(Traded("BTCUSDT", D("60000"), D("2"), False))
    prints = [(t.price, t.qty) for t in exchange.markets["BTCUSDT"].tape.trades]
    assert prints == [(D("60001"), D("0.5")), (D("60000"), D("1.5"))]
    fills = [event for event in exchange.ledger.fills if isinstance(event, Fill) or event.is_maker]
    assert len(fills) == 1
