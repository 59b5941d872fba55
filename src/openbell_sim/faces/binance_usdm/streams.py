"""Events of the USD-M venue's streams.

Source: "Websocket Market Streams" and "User Data Streams" of the USD-M futures API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from openbell_sim.events import Accept, Amend, Cancel, Deposit, Expire, Fill, Trigger
from openbell_sim.exchange import Exchange, Market, Report
from openbell_sim.faces.binance.common.hub import DepthChange
from openbell_sim.faces.binance.common.klines import INTERVALS_NS
from openbell_sim.faces.binance.common.operation import Json
from openbell_sim.faces.binance.common.tickers import mini_ticker, ticker
from openbell_sim.faces.binance_usdm import algo, render
from openbell_sim.faces.binance_usdm.render import ZERO, money, ms, on_grid
from openbell_sim.tape import Bar, PublicTrade

_MARK_EVERY_S = 3
"""Period of `@markPrice`; `@markPrice@1s` comes every second."""
_PUBLIC = ("bookTicker", "depth", "rpiDepth", "trade")


def is_public(stream: str) -> bool:
    """Carried under `/public`: the book. Source: "Important WebSocket Change Notice" of the USD-M
    futures API; what is asked for under another path than its own is confirmed and never comes."""
    kind = stream.lstrip("!").partition("@")[2] or stream.lstrip("!")
    return kind.startswith(_PUBLIC)


def is_market(stream: str) -> bool:
    """Carried under `/market`: trades, bars, tickers, marks."""
    return not is_public(stream)


class UsdmWords:
    depth_periods_ms: Mapping[str, int] = {"": 250, "@500ms": 500, "@100ms": 100, "@0ms": 50}
    """`@0ms` is real time at Binance."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    # Market data

    def book_ticker(self, market: Market, now_ns: int) -> Json:
        return {
            "e": "bookTicker",
            "u": market.book.update_id,
            "s": market.instrument.symbol,
            **render.best(market),
            "T": ms(now_ns),
            "E": ms(now_ns),
        }

    def trade(self, trade: PublicTrade) -> Json:
        return {**self._head("trade", trade), "t": trade.trade_id, "X": "MARKET"}

    def aggregate_trade(self, trade: PublicTrade) -> Json:
        """Every trade is its own aggregate."""
        number = trade.trade_id
        return {**self._head("aggTrade", trade), "a": number, "f": number, "l": number}

    def _head(self, kind: str, trade: PublicTrade) -> Json:
        item = self._exchange.instruments[trade.symbol]
        return {
            "e": kind,
            "E": ms(trade.at_ns),
            "T": ms(trade.at_ns),
            "s": trade.symbol,
            "p": on_grid(trade.price, item.tick),
            "q": on_grid(trade.qty, item.lot),
            "m": not trade.aggressor_is_buyer,
        }

    def depth(self, market: Market, change: DepthChange, now_ns: int) -> Json:
        item, book = market.instrument, market.book
        return {
            **_depth_head(market, change.previous, now_ns),
            "b": render.changed_levels(item, book.bids, change.bids),
            "a": render.changed_levels(item, book.asks, change.asks),
        }

    def partial_depth(self, market: Market, levels: int, previous: int, now_ns: int) -> Json:
        return {
            **_depth_head(market, previous, now_ns),
            "b": render.levels(market.book.bids, market.instrument, levels),
            "a": render.levels(market.book.asks, market.instrument, levels),
        }

    def kline(self, market: Market, interval: str, bar: Bar, *, closed: bool, now_ns: int) -> Json:
        item = market.instrument
        return {
            "e": "kline",
            "E": ms(now_ns),
            "s": item.symbol,
            "k": {
                "t": ms(bar.open_ns),
                "T": ms(bar.open_ns + INTERVALS_NS[interval]) - 1,
                "s": item.symbol,
                "i": interval,
                "f": bar.first_trade_id,
                "L": bar.last_trade_id,
                "o": on_grid(bar.open, item.tick),
                "c": on_grid(bar.close, item.tick),
                "h": on_grid(bar.high, item.tick),
                "l": on_grid(bar.low, item.tick),
                "v": on_grid(bar.volume, item.lot),
                "n": bar.trades,
                "x": closed,
                "q": money(bar.quote_volume),
                "V": on_grid(bar.taker_buy_volume, item.lot),
                "Q": money(bar.taker_buy_quote_volume),
                "B": "0",
            },
        }

    def each_second(
        self, market: Market, now_ns: int, second: int
    ) -> Mapping[str, Callable[[], Json]]:
        due: dict[str, Callable[[], Json]] = {
            "ticker": lambda: ticker(render.day_ticker(market, now_ns), ms(now_ns)),
            "miniTicker": lambda: mini_ticker(render.day_ticker(market, now_ns), ms(now_ns)),
            "markPrice@1s": lambda: _mark(market, now_ns),
        }
        if second % _MARK_EVERY_S == 0:
            due["markPrice"] = due["markPrice@1s"]
        return due

    # User data

    def reports(self, reports: Sequence[Report]) -> Iterable[tuple[str, Json]]:
        """Each report, then money and positions where they changed."""
        now_ns = self._exchange.now_ns()
        filled: dict[str, set[str]] = {}
        for report in reports:
            order, item = report.order, self._exchange.instruments[report.order.symbol]
            if isinstance(report.event, Fill):
                filled.setdefault(order.account, set()).add(order.symbol)
            if order.waits or isinstance(report.event, Trigger):
                yield order.account, algo.update(order, item, now_ns)
            if order.waits:
                continue
            yield order.account, self._order_update(report, now_ns)
            if render.is_conditional(order) and order.status.is_final:
                yield order.account, algo.update(order, item, now_ns)
        for account, symbols in filled.items():
            yield account, self._account_update(account, sorted(symbols), "ORDER", now_ns)

    def _order_update(self, report: Report, now_ns: int) -> Json:
        order, fill = report.order, report.fill
        item = self._exchange.instruments[order.symbol]
        working = self._exchange.ledger.working(order.account, order.symbol)
        body: Json = {
            "s": order.symbol,
            "c": order.cl_ord_id,
            "S": order.side.value,
            "o": render.order_type(order),
            "f": render.time_in_force(order),
            "q": on_grid(order.order_qty, item.lot),
            "p": on_grid(order.price or ZERO, item.tick),
            "ap": f"{render.average_price(order):.5f}",
            "sp": on_grid(order.stop_price or ZERO, item.tick),
            "x": _execution_type(report),
            "X": render.order_status(order),
            "i": order.order_id,
            "l": on_grid(fill.qty if fill else ZERO, item.lot),
            "z": on_grid(order.cum_qty, item.lot),
            "L": on_grid(fill.price if fill else ZERO, item.tick),
            "T": ms(order.updated_ns),
            "t": fill.exec_id if fill else 0,
            "b": money(working.buy_value),
            "a": money(working.sell_value),
            "m": fill.is_maker if fill else False,
            "R": order.reduce_only,
            "wt": "CONTRACT_PRICE",
            "ot": render.original_type(order),
            "ps": "BOTH",
            "cp": False,
            "rp": money(fill.realized if fill else ZERO),
            "pP": False,
            "si": 0,
            "ss": 0,
            "V": order.prevention.value,
            "pm": "NONE",
            "gtd": 0,
        }
        if fill is not None:
            body |= {"N": fill.fee_currency, "n": money(fill.fee)}
        return {
            "e": "ORDER_TRADE_UPDATE",
            "T": ms(order.updated_ns),
            "E": ms(now_ns),
            "o": body,
        }

    def _account_update(
        self, account: str, symbols: Sequence[str], why: str, now_ns: int, change: str = "0"
    ) -> Json:
        exchange = self._exchange
        currencies = {exchange.instruments[symbol].settle_currency for symbol in symbols}
        rows = []
        for currency in sorted(currencies or exchange.ledger.settlement):
            balance = money(exchange.margin(account, currency).balance)
            rows.append({"a": currency, "wb": balance, "cw": balance, "bc": change})
        return {
            "e": "ACCOUNT_UPDATE",
            "T": ms(exchange.ledger.account(account).updated_ns),
            "E": ms(now_ns),
            "a": {
                "m": why,
                "B": rows,
                "P": [self._position(account, symbol) for symbol in symbols],
            },
        }

    def _position(self, account: str, symbol: str) -> Json:
        exchange = self._exchange
        item = exchange.instruments[symbol]
        position = exchange.ledger.position(account, symbol)
        mark = exchange.markets[symbol].mark()
        held = bool(position.quantity) and mark is not None
        return {
            "s": symbol,
            "pa": on_grid(position.quantity, item.lot),
            "ep": money(position.avg_price),
            "bep": money(position.avg_price),
            "cr": money(position.realized),
            "up": money(position.unrealized(item, mark) if held and mark is not None else ZERO),
            "mt": "cross",
            "iw": "0",
            "ps": "BOTH",
        }

    def deposit(self, deposit: Deposit) -> Json:
        now_ns = self._exchange.now_ns()
        return self._account_update(
            deposit.account, (), "DEPOSIT", now_ns, change=money(deposit.amount)
        )

    def listen_key_expired(self, key: str, now_ns: int) -> Json:
        return {"e": "listenKeyExpired", "E": ms(now_ns), "listenKey": key}


def _execution_type(report: Report) -> str:
    match report.event:
        case Fill():
            return "TRADE"
        case Cancel():
            return "CANCELED"
        case Expire():
            return "EXPIRED"
        case Amend():
            return "AMENDMENT"
        case Accept() | Trigger():
            return "NEW"
    raise AssertionError(f"no order event: {report.event}")


def _depth_head(market: Market, previous: int, now_ns: int) -> Json:
    return {
        "e": "depthUpdate",
        "E": ms(now_ns),
        "T": ms(now_ns),
        "s": market.instrument.symbol,
        "U": previous + 1,
        "u": market.book.update_id,
        "pu": previous,
    }


def _mark(market: Market, now_ns: int) -> Json:
    mark = on_grid(market.mark() or ZERO, market.instrument.tick)
    return {
        "e": "markPriceUpdate",
        "E": ms(now_ns),
        "s": market.instrument.symbol,
        "p": mark,
        "i": mark,
        "P": mark,
        "r": "0.00000000",
        "T": render.next_funding_ms(now_ns),
    }
