"""Events of the spot venue's streams.

Source: "WebSocket Streams" and "User Data Stream" of the spot API (web-socket-streams.md,
user-data-stream.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from openbell_sim.events import Deposit, Fill
from openbell_sim.exchange import Exchange, Market, Report
from openbell_sim.faces.binance import render
from openbell_sim.faces.binance.common.hub import DepthChange
from openbell_sim.faces.binance.common.operation import Json
from openbell_sim.faces.binance.common.tickers import mini_ticker, ticker
from openbell_sim.tape import Bar, PublicTrade


class SpotWords:
    depth_periods_ms: Mapping[str, int] = {"": 1000, "@100ms": 100}

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def book_ticker(self, market: Market, now_ns: int) -> Json:
        return {
            "u": market.book.update_id,
            "s": market.instrument.symbol,
            **render.best(market),
        }

    def trade(self, trade: PublicTrade) -> Json:
        return {**_head("trade", trade), "t": trade.trade_id, **_facts(trade)}

    def aggregate_trade(self, trade: PublicTrade) -> Json:
        """Every trade is its own aggregate."""
        number = trade.trade_id
        ids: Json = {"a": number, "f": number, "l": number}
        return {**_head("aggTrade", trade), **ids, **_facts(trade)}

    def depth(self, market: Market, change: DepthChange, now_ns: int) -> Json:
        return {
            "e": "depthUpdate",
            "E": render.ms(now_ns),
            "s": market.instrument.symbol,
            "U": change.first,
            "u": change.last,
            "b": render.changed_levels(market, market.book.bids, change.bids),
            "a": render.changed_levels(market, market.book.asks, change.asks),
        }

    def partial_depth(self, market: Market, levels: int, previous: int, now_ns: int) -> Json:
        return {
            "lastUpdateId": market.book.update_id,
            "bids": render.levels(market.book.bids, market.instrument, levels),
            "asks": render.levels(market.book.asks, market.instrument, levels),
        }

    def kline(self, market: Market, interval: str, bar: Bar, *, closed: bool, now_ns: int) -> Json:
        symbol = market.instrument.symbol
        return {
            "e": "kline",
            "E": render.ms(now_ns),
            "s": symbol,
            "k": {"s": symbol, "i": interval, **render.kline_event(bar, interval), "x": closed},
        }

    def each_second(
        self, market: Market, now_ns: int, second: int
    ) -> Mapping[str, Callable[[], Json]]:
        return {
            "ticker": lambda: ticker(render.day_ticker(market, now_ns), render.ms(now_ns)),
            "miniTicker": lambda: mini_ticker(render.day_ticker(market, now_ns), render.ms(now_ns)),
        }

    def reports(self, reports: Sequence[Report]) -> Iterable[tuple[str, Json]]:
        """Each report, then the balances that they touched."""
        now_ns = self._exchange.now_ns()
        touched: dict[str, set[str]] = {}
        for report in reports:
            order = report.order
            yield order.account, render.execution_report(report, now_ns)
            item = self._exchange.instruments[order.symbol]
            currencies = touched.setdefault(order.account, set())
            currencies |= {item.base, item.quote}
            if isinstance(report.event, Fill):
                currencies.add(report.event.fee_currency)
        for name, currencies in touched.items():
            account = self._exchange.ledger.account(name)
            yield name, render.account_position(account, sorted(currencies), now_ns)

    def deposit(self, deposit: Deposit) -> Json:
        at_ms = render.ms(deposit.at_ns)
        return {
            "e": "balanceUpdate",
            "E": at_ms,
            "a": deposit.currency,
            "d": render.money(deposit.amount),
            "T": at_ms,
        }

    def listen_key_expired(self, key: str, now_ns: int) -> Json:
        return {"e": "listenKeyExpired", "E": render.ms(now_ns), "listenKey": key}


def _head(kind: str, trade: PublicTrade) -> Json:
    return {"e": kind, "E": render.ms(trade.at_ns), "s": trade.symbol}


def _facts(trade: PublicTrade) -> Json:
    return {
        "p": render.money(trade.price),
        "q": render.money(trade.qty),
        "T": render.ms(trade.at_ns),
        "m": not trade.aggressor_is_buyer,
        "M": True,
    }
