"""OANDA's transactions are what the exchange's events amount to, however they are read."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from tests.sim.exchange_kit import Clock, Kept, crowd, printed

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.exchange import Exchange
from openbell_sim.faces.oanda import KIND
from openbell_sim.faces.oanda.accounts import Accounts
from openbell_sim.faces.oanda.book import OrderState
from openbell_sim.faces.oanda.journal import Journal
from openbell_sim.faces.oanda.markets import KNOWN
from openbell_sim.faces.oanda.notes import ClientExtensions, Note
from openbell_sim.market.events import Snapshot
from openbell_sim.refusals import RefusedError

D = Decimal
SYMBOLS = {"EUR_USD": ("1.08490", "1.08510"), "USD_JPY": ("149.990", "150.010")}


def make() -> Exchange:
    exchange = Exchange(
        [KNOWN[symbol] for symbol in SYMBOLS],
        now_ns=Clock().now_ns,
        rules=KIND.rules,
        record=Kept(),
        keep_history=True,
    )
    for account in ("main", "counterparty"):
        exchange.deposit(account, "USD", D(100_000))
    quote(exchange)
    return exchange


def quote(exchange: Exchange, *, shift: str = "0") -> None:
    for symbol, (bid, ask) in SYMBOLS.items():
        tick = KNOWN[symbol].tick
        levels = [(D(bid) + D(shift) * tick * 10 - n * tick, D(1000)) for n in range(3)]
        asks = [(D(ask) + D(shift) * tick * 10 + n * tick, D(1000)) for n in range(3)]
        exchange.play(Snapshot(symbol, tuple(levels), tuple(asks)))


def order(exchange: Exchange, side: str, qty: str, price: str | None = None, **more: object):
    name = str(more.pop("cl_ord_id", ""))
    kind = "MARKET" if price is None else "LIMIT"
    fields = {
        "account": "main",
        "symbol": "EUR_USD",
        "ord_type": OrdType.MARKET if price is None else OrdType.LIMIT,
        "note": Note(kind=kind, client=ClientExtensions(id=name)).text(),
        **more,
    }
    return exchange.submit(
        OrderRequest(
            cl_ord_id=name,
            side=Side(side),
            qty=D(qty),
            price=None if price is None else D(price),
            received_ns=1,
            **fields,  # type: ignore[arg-type]
        )
    )


def kinds(accounts: Accounts, account: str = "main") -> list[str]:
    return [item.kind for item in accounts.book(account).transactions]


def test_an_account_begins_with_its_creation_and_its_money() -> None:
    accounts = Accounts(make())
    assert kinds(accounts) == ["CREATE", "TRANSFER_FUNDS"]
    assert [item.id for item in accounts.book("main").transactions] == [1, 2]


def test_a_sweep_of_several_levels_is_one_fill_at_the_average() -> None:
    exchange = make()
    order(exchange, "BUY", "2000")
    book = Accounts(exchange).book("main")
    assert len(exchange.ledger.fills) == 2
    fill = book.transactions[-1]
    assert (fill.kind, fill.body["units"]) == ("ORDER_FILL", "2000")
    assert fill.body["fullVWAP"] == "1.085105"
    assert fill.body["tradeOpened"] == {
        "tradeID": str(fill.id), "units": "2000", "price": "1.085105",
    }  # fmt: skip
    [trade] = book.all_open_trades()
    assert len(trade.exec_ids) == 2


def test_fills_of_a_resting_order_are_one_transaction_each() -> None:
    exchange = make()
    resting = order(exchange, "BUY", "900", "1.08495", cl_ord_id="mine")
    for qty in ("200", "300"):
        order(exchange, "SELL", qty, account="counterparty")
    accounts = Accounts(exchange)
    book = accounts.book("main")
    fills = [item for item in book.transactions if item.kind == "ORDER_FILL"]
    assert [item.body["units"] for item in fills] == ["200", "300"]
    assert fills[0].batch != fills[1].batch
    pending = book.by_exchange_id[resting.order_id]
    assert (pending.state, pending.filled_units) == (OrderState.PENDING, 500)
    exchange.cancel(resting, "CLIENT_REQUEST")
    book = accounts.book("main")
    assert book.transactions[-1].body == {
        "orderID": str(pending.id), "reason": "CLIENT_REQUEST", "clientOrderID": "mine",
    }  # fmt: skip
    assert (pending.state, pending.cancelled_by) == (OrderState.CANCELLED, book.last_id)


def test_a_fill_that_turns_a_position_closes_reduces_and_opens() -> None:
    exchange = make()
    for qty in ("400", "500"):
        order(exchange, "BUY", qty)
    order(exchange, "SELL", "600")
    book = Accounts(exchange).book("main")
    body = book.transactions[-1].body
    assert [part["units"] for part in body["tradesClosed"]] == ["-400"]
    assert body["tradeReduced"]["units"] == "-200"
    order(exchange, "SELL", "700")
    body = Accounts(exchange).book("main").transactions[-1].body
    assert [part["units"] for part in body["tradesClosed"]] == ["-300"]
    assert body["tradeOpened"]["units"] == "-400"


def test_profits_are_in_the_home_currency_and_add_up_to_the_balance() -> None:
    exchange = make()
    order(exchange, "BUY", "1000", symbol="USD_JPY")
    order(exchange, "SELL", "1000", symbol="USD_JPY")
    book = Accounts(exchange).book("main")
    # 1000 USD at 0.020 JPY each, in dollars at the closing price.
    assert book.transactions[-1].body["pl"] == "-0.1333"
    assert book.balance == exchange.margin("main", "USD").balance


@pytest.mark.parametrize("in_force", [TimeInForce.IOC, TimeInForce.FOK])
def test_what_cannot_be_filled_at_once_is_created_and_cancelled(in_force: TimeInForce) -> None:
    exchange = make()
    order(exchange, "BUY", "5000", time_in_force=in_force)
    accounts = Accounts(exchange)
    expected = ["MARKET_ORDER", "ORDER_FILL", "ORDER_CANCEL"]
    if in_force is TimeInForce.FOK:
        expected.remove("ORDER_FILL")
    assert kinds(accounts)[2:] == expected
    last = accounts.book("main").transactions[-1]
    assert last.body["reason"] == "INSUFFICIENT_LIQUIDITY"
    assert last.batch == 3


def test_an_amendment_is_a_cancel_and_an_order_in_its_place() -> None:
    exchange = make()
    resting = order(exchange, "BUY", "900", "1.08400", cl_ord_id="old")
    exchange.amend(resting, price=D("1.08300"), cl_ord_id="new")
    book = Accounts(exchange).book("main")
    cancelled, created = book.transactions[-2:]
    assert (cancelled.kind, cancelled.body["reason"]) == ("ORDER_CANCEL", "CLIENT_REQUEST_REPLACED")
    assert cancelled.body["replacedByOrderID"] == str(created.id)
    assert (created.body["replacesOrderID"], created.body["reason"]) == ("3", "REPLACEMENT")
    assert (created.body["price"], created.body["clientExtensions"]) == ("1.08300", {"id": "new"})
    assert list(book.pending) == [created.id]


@pytest.mark.parametrize("seed", range(6))
def test_any_history_reads_the_same_live_and_after_a_restart(seed: int) -> None:
    """Live, the journal reads on at moments of its own choosing; after a restart, all at once."""
    chance = random.Random(seed)
    exchange = make()
    live = Accounts(exchange)
    for step in range(300):
        _something(exchange, chance, step)
        if chance.random() < 0.4:
            live.catch_up()
    live.catch_up()
    replayed = Journal(exchange.instruments)
    assert exchange.history is not None
    replayed.apply(exchange.history)
    for account in ("main", "counterparty"):
        book, again = live.book(account), replayed.book(account)
        assert book.transactions == again.transactions
        assert [item.id for item in book.transactions] == list(range(1, book.last_id + 1))
        assert book.balance == exchange.margin(account, "USD").balance
        for symbol in SYMBOLS:
            held = exchange.ledger.position(account, symbol)
            assert book.position(symbol) == held
            trades = book.open_trades.get(symbol, {}).values()
            assert sum((trade.units for trade in trades), D(0)) == held.quantity
        resting = {each.order_id for each in exchange.ledger.open[account].values()}
        assert {each.exchange_id for each in book.pending.values()} == resting


def _something(exchange: Exchange, chance: random.Random, step: int) -> None:
    account = chance.choice(["main", "counterparty"])
    symbol = chance.choice(list(SYMBOLS))
    bid, ask = (D(price) for price in SYMBOLS[symbol])
    tick = KNOWN[symbol].tick
    side = chance.choice(["BUY", "SELL"])
    qty = str(chance.randint(1, 2500))
    own = list(exchange.ledger.open[account].values())
    try:
        match chance.randrange(10):
            case 0 | 1:
                order(exchange, side, qty, symbol=symbol, account=account,
                      time_in_force=chance.choice([TimeInForce.IOC, TimeInForce.FOK]))  # fmt: skip
            case 2 | 3:
                price = (ask if side == "BUY" else bid) + chance.randint(-5, 5) * tick
                order(exchange, side, qty, str(price), symbol=symbol, account=account,
                      cl_ord_id=f"id-{step}")  # fmt: skip
            case 4:
                order(exchange, side, qty, symbol=symbol, account=account, reduce_only=True)
            case 5 if own:
                exchange.cancel(chance.choice(own), "CLIENT_REQUEST")
            case 6 if own:
                exchange.amend(chance.choice(own), qty=D(chance.randint(1, 3000)))
            case 7:
                lots = exchange.ledger.position(account, symbol).lots
                if lots:
                    exchange.close_lot(account, symbol, chance.choice(lots).exec_id)
            case 8:
                away = chance.randint(11, 20) * tick
                stop = ask + away if side == "BUY" else bid - away
                order(exchange, side, qty, symbol=symbol, account=account, stop_price=stop,
                      ord_type=OrdType.STOP)  # fmt: skip
            case 9:
                price = bid + chance.randint(-25, 25) * tick
                printed(exchange, str(price), symbol=symbol)
            case _:
                quote(exchange, shift=str(chance.randint(-1, 1)))
    except RefusedError:
        return


def test_a_person_at_the_venue_needs_no_note() -> None:
    exchange = make()
    order(exchange, "BUY", "100", "1.08000", cl_ord_id="by-hand", note="", origin="manual")
    printed(exchange, "1.08500", symbol="EUR_USD")
    crowd(exchange, symbol="EUR_USD", bid="1.08490", ask="1.08510", qty="1000")
    body = Accounts(exchange).book("main").transactions[-1].body
    assert body["clientExtensions"] == {"id": "by-hand"}
    assert (body["price"], body["units"], body["timeInForce"]) == ("1.08000", "100", "GTC")
