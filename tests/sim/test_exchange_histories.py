"""Random histories on spot and margin: what must hold at every moment, and after a restart."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.exchange_kit import PERP, USD_JPY, Clock, D, Kept, crowd, funded, request

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.account import FeeSchedule
from openbell_sim.events import Event
from openbell_sim.exchange import Exchange
from openbell_sim.instruments import KNOWN
from openbell_sim.interventions import Interventions
from openbell_sim.ledger import Order, OwnFill
from openbell_sim.market.events import LevelsSet, Traded
from openbell_sim.matching.book import SelfTradePrevention
from openbell_sim.matching.stops import StopBook
from openbell_sim.refusals import RefusedError
from openbell_sim.sessions import MarketState

FEES = FeeSchedule(maker=D("0.0002"), taker=D("0.0005"))

_ACCOUNTS = st.sampled_from(["main", "other"])
_SYMBOLS = st.sampled_from(["PERP", "USD/JPY", "BTCUSDT"])
_PRICES = st.integers(95, 105)
_QUANTITIES = st.integers(1, 40)
_ORDERS = st.integers(0, 8)
_SELDOM = st.sampled_from([False, False, True])

_ORDER = st.tuples(
    st.just("order"),
    _ACCOUNTS,
    _SYMBOLS,
    st.sampled_from(Side),
    _QUANTITIES,
    st.one_of(st.none(), _PRICES),
    st.sampled_from([TimeInForce.GTC, TimeInForce.GTC, *TimeInForce]),
    st.sampled_from(SelfTradePrevention),
    _SELDOM,
)
_STOP = st.tuples(
    st.just("stop"),
    _ACCOUNTS,
    _SYMBOLS,
    st.sampled_from(Side),
    _QUANTITIES,
    st.integers(1, 4),  # away from the last price
    st.one_of(st.none(), _PRICES),
    _SELDOM,
)
_AMEND = st.tuples(
    st.just("amend"),
    _ORDERS,
    st.one_of(st.none(), _QUANTITIES),
    st.one_of(st.none(), _PRICES),
    st.one_of(st.none(), _PRICES),
    st.booleans(),
)
_CANCEL = st.tuples(st.just("cancel"), _ORDERS)
_CLOSE = st.tuples(st.just("close"), _ACCOUNTS, st.integers(0, 5), _QUANTITIES)
_CROWD = st.tuples(st.just("crowd"), _SYMBOLS, st.sampled_from(Side), _PRICES, st.integers(0, 50))
_TRADE = st.tuples(st.just("trade"), _SYMBOLS, st.sampled_from(Side), _PRICES, st.integers(1, 50))
_SESSION = st.tuples(
    st.just("session"),
    st.one_of(st.none(), _SYMBOLS),
    st.sampled_from([None] * 4 + [MarketState.OPEN] * 4 + [*MarketState]),
    st.booleans(),
)
_ARM = st.tuples(st.just("arm"), _ACCOUNTS, st.one_of(st.none(), _SYMBOLS), st.integers(0, 3))
_WAIT = st.tuples(st.just("wait"), st.integers(1, 3))
_INTERVENE = st.tuples(
    st.just("intervene"),
    st.sampled_from(
        [
            Interventions(),
            Interventions(lazy_cancels_s=1),
            Interventions(fill_on_cancel=0.5),
            Interventions(fill_on_cancel=1),
            Interventions(partial_fills=0.4),
            Interventions(drop_stops=True),
            Interventions(lazy_cancels_s=2, fill_on_cancel=0.3, partial_fills=0.6),
        ]
    ),
)
_KINDS = [_ORDER] * 6 + [_STOP] * 2 + [_AMEND] * 2 + [_CANCEL, _CLOSE, _CROWD, _TRADE] * 2
_KINDS += [_SESSION, _ARM, _WAIT, _INTERVENE]
actions = st.sampled_from(_KINDS).flatmap(lambda kind: kind)

histories = st.lists(st.lists(actions, max_size=16), max_size=16).map(
    lambda parts: [action for part in parts for action in part]
)
"""Lists of lists, for hypothesis makes a single list too short for much to happen in it."""


def make(clock: Clock, record: Kept | None = None) -> Exchange:
    return Exchange(
        [PERP, USD_JPY, KNOWN["BTCUSDT"]], now_ns=clock.now_ns, fees=FEES, record=record
    )


def act(exchange: Exchange, clock: Clock, number: int, action: str, *values: Any) -> None:
    match action:
        case "order":
            account, symbol, side, qty, price, tif, prevention, reduce_only = values
            side = _closing_side(exchange, account, symbol, side) if reduce_only else side
            exchange.submit(
                request(
                    side.value,
                    str(qty),
                    None if price is None else str(price),
                    account=account,
                    symbol=symbol,
                    cl_ord_id=f"id-{number}",
                    time_in_force=TimeInForce.GTC if price is None else tif,
                    prevention=prevention,
                    reduce_only=reduce_only and symbol != "BTCUSDT",
                )
            )
        case "stop":
            account, symbol, side, qty, away, price, reduce_only = values
            side = _closing_side(exchange, account, symbol, side) if reduce_only else side
            stop_price = int(exchange.markets[symbol].mark() or 100) + side.sign * away
            exchange.submit(
                request(
                    side.value,
                    str(qty),
                    None if price is None else str(price),
                    ord_type=OrdType.STOP if price is None else OrdType.STOP_LIMIT,
                    stop_price=D(stop_price),
                    account=account,
                    symbol=symbol,
                    cl_ord_id=f"id-{number}",
                    reduce_only=reduce_only and symbol != "BTCUSDT",
                )
            )
        case "amend":
            index, qty, price, stop_price, renamed = values
            if (order := _nth(exchange, index)) is not None:
                exchange.amend(
                    order,
                    qty=None if qty is None else D(qty),
                    price=None if price is None or order.price is None else D(price),
                    stop_price=None if stop_price is None or not order.waits else D(stop_price),
                    cl_ord_id=f"id-{number}" if renamed else None,
                )
        case "cancel":
            if (order := _nth(exchange, values[0])) is not None:
                exchange.cancel(order)
        case "close":
            account, index, qty = values
            found = [
                (symbol, lot)
                for symbol, position in exchange.positions(account)
                for lot in position.lots
            ]
            if index < len(found):
                symbol, lot = found[index]
                exchange.close_lot(account, symbol, lot.exec_id, D(qty))
        case "crowd":
            symbol, side, price, qty = values
            levels = ((D(price), D(qty)),)
            bids, asks = (levels, ()) if side is Side.BUY else ((), levels)
            exchange.play(LevelsSet(symbol, bids, asks))
        case "trade":
            symbol, side, price, qty = values
            exchange.play(Traded(symbol, D(price), D(qty), side is Side.BUY))
        case "session":
            symbol, state, scheduled = values
            exchange.set_session(symbol, state, scheduled=scheduled)
        case "arm":
            account, symbol, timeout_s = values
            exchange.arm_dead_man(account, symbol, timeout_s)
        case "wait":
            clock.ns += values[0] * 1_000_000_000
            exchange.expire_due(clock.ns)
        case "intervene":
            exchange.intervene(values[0])
        case _:
            raise AssertionError(action)


def _closing_side(exchange: Exchange, account: str, symbol: str, otherwise: Side) -> Side:
    quantity = exchange.ledger.position(account, symbol).quantity
    if not quantity:
        return otherwise
    return Side.SELL if quantity > 0 else Side.BUY


def _nth(exchange: Exchange, index: int) -> Order | None:
    """The newest orders first, for the oldest ones have mostly ended."""
    orders = list(exchange.ledger.orders.values())
    return orders[-1 - index] if index < len(orders) else None


@settings(max_examples=400, deadline=None)
@given(histories)
def test_the_books_add_up_over_every_history_and_after_a_restart(history: list[Any]) -> None:
    record, clock = Kept(), Clock()
    exchange = make(clock, record)
    for account in ("main", "other"):
        funded(exchange, account, USDT=3000, BTC=50, USD=50)
    for symbol in exchange.markets:
        crowd(exchange, symbol=symbol, bid="99", ask="101", qty="60")
    for number, (action, *values) in enumerate(history):
        fills, positions = len(exchange.ledger.fills), quantities(exchange)
        with contextlib.suppress(RefusedError):
            act(exchange, clock, number, action, *values)
        check_reduce_only(exchange, exchange.ledger.fills[fills:], positions)
        check_money(exchange)
        check_orders(exchange)
        check_books(exchange)
        check_times(exchange, clock)
    check_restored(exchange, record)


Amounts = defaultdict[tuple[str, str], Decimal]


def quantities(exchange: Exchange) -> Amounts:
    found: Amounts = defaultdict(Decimal)
    for account in exchange.ledger.accounts:
        for symbol, position in exchange.positions(account):
            found[account, symbol] = position.quantity
    return found


def check_reduce_only(exchange: Exchange, fills: list[OwnFill], position: Amounts) -> None:
    """No fill of a reduce-only order leaves a position larger, or on the other side."""
    for fill in fills:
        key = fill.account, fill.symbol
        after = position[key] + fill.side.sign * fill.qty
        if exchange.ledger.orders[fill.order_id].reduce_only:
            assert abs(after) < abs(position[key])
            assert after * position[key] >= 0
        position[key] = after


def check_money(exchange: Exchange) -> None:
    """Every balance follows from deposits and fills; every position is the sum of its fills."""
    ledger = exchange.ledger
    signed, flow, realized = (defaultdict[tuple[str, str], Decimal](Decimal) for _ in range(3))
    money: Amounts = defaultdict(Decimal)
    for fill in ledger.fills:
        instrument = exchange.instruments[fill.symbol]
        sign, key = fill.side.sign, (fill.account, fill.symbol)
        money[fill.account, fill.fee_currency] -= fill.fee
        if instrument.margin_rate is None:
            money[fill.account, instrument.base] += sign * fill.qty
            money[fill.account, instrument.quote] -= sign * fill.quote_qty
            continue
        assert fill.fee_currency == instrument.settle_currency
        signed[key] += sign * fill.qty
        flow[key] -= sign * fill.quote_qty
        realized[key] += fill.realized
        money[fill.account, instrument.settle_currency] += fill.realized
    for account in ledger.accounts.values():
        for currency, balance in account.balances.items():
            assert balance.total == balance.deposited + money[account.name, currency]
            margin = exchange.margin(account.name, currency)
            assert margin.balance == balance.total
            assert margin.used >= balance.locked
        for symbol, position in ledger.positions(account.name).items():
            key = account.name, symbol
            assert position.quantity == signed[key]
            assert position.quantity == sum(lot.quantity for lot in position.lots)
            assert position.cost == sum(lot.quantity * lot.price for lot in position.lots)
            assert position.realized == realized[key]
            if not exchange.instruments[symbol].settles_in_base:
                # What came in, and what the open lots cost, is the profit.
                assert position.realized == flow[key] + position.cost


def check_orders(exchange: Exchange) -> None:
    ledger = exchange.ledger
    locked: Amounts = defaultdict(Decimal)
    for order in ledger.orders.values():
        assert order.cum_qty == sum(fill.qty for fill in ledger.fills_of(order.order_id))
        assert order.cum_qty <= order.order_qty
        assert order.is_open == (order.order_id in ledger.open[order.account])
        if not order.is_open:
            assert not order.locked
            continue
        instrument = exchange.instruments[order.symbol]
        price = order.price or order.stop_price
        assert price is not None
        if instrument.margin_rate is None:
            buying = order.side is Side.BUY
            assert order.locked == order.leaves_qty * (price if buying else 1)
            locked[order.account, instrument.quote if buying else instrument.base] += order.locked
        if order.reduce_only and not order.waits:
            position = ledger.position(order.account, order.symbol)
            assert order.leaves_qty <= position.closable(order.side.sign)
    for account in ledger.accounts.values():
        for currency, balance in account.balances.items():
            assert balance.locked == locked[account.name, currency]
        for symbol, working in ledger.working_of(account.name).items():
            mine = [order for order in ledger.open[account.name].values() if order.symbol == symbol]
            assert working.count == len(mine)
            counted = [
                order
                for order in mine
                if not order.reduce_only and exchange.instruments[symbol].margin_rate is not None
            ]
            for side, qty, value in (
                (Side.BUY, working.buy_qty, working.buy_value),
                (Side.SELL, working.sell_qty, working.sell_value),
            ):
                ours = [order for order in counted if order.side is side]
                assert qty == sum(order.leaves_qty for order in ours)
                assert value == sum(
                    order.leaves_qty * (order.price or order.stop_price or 0) for order in ours
                )


def check_books(exchange: Exchange) -> None:
    """Exactly the open orders wait, in the book or among the stops, and no stop is late."""
    for symbol, market in exchange.markets.items():
        resting = {
            entry.order_id: market.instrument.quantity(entry.qty)
            for side in (market.book.bids, market.book.asks)
            for level in side.levels.values()
            for entry in level.queue
            if not entry.is_crowd
        }
        orders = [
            order
            for order in exchange.ledger.orders.values()
            if order.is_open and order.symbol == symbol
        ]
        assert resting == {o.order_id: o.leaves_qty for o in orders if not o.waits}
        assert len(market.stops) == len([o for o in orders if o.waits])
        for order in orders:
            if order.waits and order.stop_price is not None and market.tape.last is not None:
                assert (market.tape.last.price - order.stop_price) * order.side.sign < 0


def check_times(exchange: Exchange, clock: Clock) -> None:
    """Nothing is overdue for a pending cancel or a switch of orders that have ended."""
    for order_id in exchange.ledger.pending_cancels:
        assert exchange.ledger.orders[order_id].is_open
    due_ns = exchange.next_due_ns()
    if due_ns is not None:
        exchange.expire_due(min(clock.ns, due_ns - 1))
        assert exchange.next_due_ns() == due_ns


_encoder = msgspec.json.Encoder(decimal_format="string")
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def check_restored(exchange: Exchange, record: Kept) -> None:
    again = make(Clock())
    # As they would come from a file.
    again.restore([_decoder.decode(_encoder.encode(event)) for event in record.events])
    for symbol, market in exchange.markets.items():
        # The crowd and its tape are no part of the log: a restarted venue meets them anew.
        again.markets[symbol].tape.trades.extend(market.tape.trades)
        assert queues(again, symbol) == queues(exchange, symbol)
        assert waiting(again.markets[symbol].stops) == waiting(market.stops)
        assert again.session(symbol) is exchange.session(symbol)
    ledger, other = exchange.ledger, again.ledger
    assert other.dead_man.armed == ledger.dead_man.armed
    assert other.pending_cancels == ledger.pending_cancels
    assert again.next_due_ns() == exchange.next_due_ns()
    assert other.orders == ledger.orders
    assert other.refused == ledger.refused
    assert other.fills == ledger.fills
    for account in ledger.accounts:
        assert other.positions(account) == ledger.positions(account)
        assert other.working_of(account) == ledger.working_of(account)
        for currency in ledger.accounts[account].balances:
            if all(market.tape.last for market in exchange.markets.values()):
                assert again.margin(account, currency) == exchange.margin(account, currency)


def queues(exchange: Exchange, symbol: str) -> dict[tuple[Side, int], list[int]]:
    """Own orders by side and price, first come first."""
    book = exchange.markets[symbol].book
    return {
        (side.side, price): [e.order_id for e in side.levels[price].queue if not e.is_crowd]
        for side in (book.bids, book.asks)
        for price in side.prices()
        if side.levels[price].has_own
    }


def waiting(stops: StopBook) -> list[int]:
    """Order ids of the stops, those reached first by any price at the end of each side."""
    stops.saw(0)
    stops.saw(10**12)
    return stops.take_reached()
