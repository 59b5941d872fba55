"""What tests of the exchange share: a record one can read again, a clock, orders in few words."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from openbell.domain.orders import OrdType, Side
from openbell_sim.checks import OrderRequest
from openbell_sim.events import Event
from openbell_sim.exchange import Exchange
from openbell_sim.instruments import Instrument
from openbell_sim.market.events import Snapshot, Traded

D = Decimal

PERP = Instrument(
    symbol="PERP",
    base="BTC",
    quote="USDT",
    tick=D("0.1"),
    lot=D("0.01"),
    min_qty=D("0.01"),
    min_price=D("0.1"),
    margin_rate=D("0.05"),
)
USD_JPY = Instrument(
    symbol="USD/JPY",
    base="USD",
    quote="JPY",
    tick=D("0.001"),
    lot=D(1),
    min_qty=D(1),
    max_qty=D(10_000_000),
    min_price=D("0.001"),
    min_notional=D(1),
    max_notional=D(10_000_000_000),
    margin_rate=D("0.02"),
    settle="USD",
)


class Kept:
    """A record one can read again."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, events: Sequence[Event]) -> None:
        self.events += events


class Clock:
    def __init__(self) -> None:
        self.ns = 1_700_000_000_000_000_000

    def now_ns(self) -> int:
        self.ns += 1
        return self.ns


def funded(exchange: Exchange, *accounts: str, **amounts: int) -> Exchange:
    for account in accounts or ("main",):
        for currency, amount in (amounts or {"USDT": 100_000, "BTC": 2, "BNB": 3}).items():
            exchange.deposit(account, currency, D(amount))
    return exchange


def request(side: str, qty: str, price: str | None = None, **more: Any) -> OrderRequest:
    given = {
        "account": "main",
        "cl_ord_id": f"id-{side}-{qty}-{price}",
        "symbol": "BTCUSDT",
        "ord_type": OrdType.MARKET if price is None else OrdType.LIMIT,
        "received_ns": 1,
        **more,
    }
    return OrderRequest(
        side=Side(side), qty=D(qty), price=None if price is None else D(price), **given
    )


def crowd(exchange: Exchange, *, symbol: str = "BTCUSDT", bid: str, ask: str, qty: str) -> None:
    exchange.play(Snapshot(symbol, ((D(bid), D(qty)),), ((D(ask), D(qty)),)))


def printed(exchange: Exchange, price: str, *, symbol: str = "BTCUSDT", qty: str = "1") -> None:
    """A trade of the crowd; the buyer is the aggressor."""
    exchange.play(Traded(symbol, D(price), D(qty), aggressor_is_buyer=True))
