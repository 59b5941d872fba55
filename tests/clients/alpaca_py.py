"""alpaca-py, unmodified: only its URLs are changed. Run in the vendors' environment.

    python alpaca_py.py TALE < {"url": ..., "key": ..., "secret": ...}

Prints what TALE saw, as one JSON document.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from alpaca.common.exceptions import APIError
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.live import StockDataStream
from alpaca.data.requests import (
    StockBarsRequest,
    StockLatestBarRequest,
    StockLatestQuoteRequest,
    StockLatestTradeRequest,
    StockSnapshotRequest,
    StockTradesRequest,
)
from alpaca.data.timeframe import TimeFrame
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, OrderType, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetAssetsRequest,
    GetCalendarRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLimitOrderRequest,
    StopOrderRequest,
)
from alpaca.trading.stream import TradingStream

WITHIN_S = 60.0


class Clients:
    def __init__(self, url: str, key: str, secret: str) -> None:
        self.socket_url = "ws" + url.removeprefix("http")
        self.key, self.secret = key, secret
        self.trading = TradingClient(key, secret, url_override=url)
        self.data = StockHistoricalDataClient(key, secret, url_override=url)

    def limit(self, price: float, **more: Any) -> Any:
        return self.trading.submit_order(
            LimitOrderRequest(
                **{
                    "symbol": "AAPL",
                    "qty": 2,
                    "side": OrderSide.BUY,
                    "time_in_force": TimeInForce.GTC,
                    "limit_price": price,
                    **more,
                }
            )
        )

    def market(self, qty: float, side: OrderSide = OrderSide.BUY, **more: Any) -> Any:
        return self.trading.submit_order(
            MarketOrderRequest(
                **{
                    "symbol": "AAPL",
                    "qty": qty,
                    "side": side,
                    "time_in_force": TimeInForce.DAY,
                    **more,
                }
            )
        )

    def bid(self) -> float:
        quotes = self.data.get_stock_latest_quote(StockLatestQuoteRequest(symbol_or_symbols="AAPL"))
        return quotes["AAPL"].bid_price


def until(condition: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + WITHIN_S
    while not (value := condition()):
        if time.monotonic() > give_up:
            raise SystemExit("it did not come about in time")
        time.sleep(0.02)
    return value


def refusal(call: Callable[[], object]) -> list[object]:
    """Status, code and message of the error that the call must end with."""
    try:
        call()
    except APIError as error:
        return [error.status_code, error.code, error.message]
    raise SystemExit("nothing was refused")


def clear(clients: Clients) -> None:
    """Nothing rests and nothing is held."""
    clients.trading.close_all_positions(cancel_orders=True)
    until(lambda: not clients.trading.get_all_positions())


def account(clients: Clients) -> dict[str, Any]:
    trading = clients.trading
    told = trading.get_account()
    return {
        "status": told.status.value,
        "money": [told.currency, told.cash, told.buying_power, told.equity, told.multiplier],
        "open": trading.get_clock().is_open,
        "days": len(
            trading.get_calendar(
                GetCalendarRequest(start="2024-08-05", end="2024-08-11")  # type: ignore[arg-type]
            )
        ),
        "assets": sorted(asset.symbol for asset in trading.get_all_assets(GetAssetsRequest())),
        "asset": trading.get_asset("AAPL").fractionable,
        "no asset": refusal(lambda: trading.get_asset("NOPE")),
        "configured": trading.get_account_configurations().no_shorting,
    }


def orders(clients: Clients) -> dict[str, Any]:
    clear(clients)
    trading, low = clients.trading, round(clients.bid() * 0.9, 2)
    seen: dict[str, Any] = {}
    first = clients.limit(low, client_order_id="first")
    seen["placed"] = [first.client_order_id, first.type.value, first.limit_price, first.qty]
    seen["twice"] = refusal(lambda: clients.limit(low, client_order_id="first"))
    found = trading.get_order_by_client_id("first")
    seen["found"] = [found.id == first.id, found.status.value]
    new = trading.replace_order_by_id(
        first.id, ReplaceOrderRequest(qty=3, limit_price=low - 1, client_order_id="second")
    )
    old = trading.get_order_by_id(first.id)
    seen["replaced"] = [
        new.id != first.id,
        new.replaces == first.id,
        old.replaced_by == new.id,
        old.status.value,
        new.qty,
    ]
    trading.cancel_order_by_id(new.id)
    seen["cancelled"] = trading.get_order_by_id(new.id).status.value
    seen["cancelled twice"] = refusal(lambda: trading.cancel_order_by_id(new.id))
    seen["nobody's"] = refusal(
        lambda: trading.get_order_by_id("00000000-0000-4000-8000-000000000000")
    )
    stop = trading.submit_order(
        StopOrderRequest(
            symbol="AAPL",
            qty=1,
            side=OrderSide.BUY,
            time_in_force=TimeInForce.GTC,
            stop_price=round(low * 1.3, 2),
        )
    )
    stop_limit = trading.submit_order(
        StopLimitOrderRequest(
            symbol="MSFT",
            qty=1,
            side=OrderSide.SELL,
            time_in_force=TimeInForce.GTC,
            stop_price=100,
            limit_price=99,
        )
    )
    seen["stops"] = [stop.type.value, stop_limit.type.value, stop_limit.limit_price]
    for step in range(3):
        clients.limit(low - step, time_in_force=TimeInForce.DAY)
    listed = trading.get_orders(GetOrdersRequest(status=QueryOrderStatus.OPEN, limit=2))
    seen["two newest"] = [order.limit_price for order in listed]
    seen["of one symbol"] = [
        order.type.value for order in trading.get_orders(GetOrdersRequest(symbols=["MSFT"]))
    ]
    since = GetOrdersRequest(status=QueryOrderStatus.ALL, after=first.submitted_at)
    seen["later"] = len(trading.get_orders(since))
    seen["mass cancel"] = sorted(row.status for row in trading.cancel_orders())
    seen["left"] = len(trading.get_orders())
    seen["refused"] = [
        refusal(lambda: clients.limit(low + 0.005)),
        refusal(lambda: clients.limit(low, qty=900_000)),
        refusal(lambda: clients.limit(low, symbol="NOPE")),
        refusal(lambda: clients.limit(low, qty=1.5)),
        refusal(lambda: clients.market(0.001)),
        refusal(lambda: clients.market(1.5, OrderSide.SELL)),
        refusal(lambda: clients.market(1, time_in_force=TimeInForce.OPG)),
    ]
    immediate = clients.limit(low, time_in_force=TimeInForce.IOC)
    seen["immediate"] = trading.get_order_by_id(immediate.id).status.value
    return {**seen, "price": low}


def positions(clients: Clients) -> dict[str, Any]:
    clear(clients)
    trading = clients.trading
    seen: dict[str, Any] = {}
    bought = clients.market(10)
    seen["reply"] = [bought.status.value, bought.filled_qty]
    filled = until(lambda: _filled(clients, bought.id))
    seen["filled"] = [filled.filled_qty, float(filled.filled_avg_price) > 0]
    held = trading.get_open_position("AAPL")
    seen["held"] = [held.qty, held.side.value, held.qty_available]
    seen["flip"] = refusal(lambda: clients.market(11, OrderSide.SELL))
    half = trading.close_position("AAPL", ClosePositionRequest(percentage="50"))
    until(lambda: _filled(clients, half.id))
    seen["half"] = trading.get_open_position("AAPL").qty
    dollars = trading.submit_order(
        MarketOrderRequest(
            symbol="MSFT", notional=1000, side=OrderSide.BUY, time_in_force=TimeInForce.DAY
        )
    )
    seen["in dollars"] = [dollars.notional, dollars.qty, dollars.order_type is OrderType.MARKET]
    short = clients.market(3, OrderSide.SELL, symbol="SPY")
    until(lambda: _filled(clients, short.id))
    seen["sides"] = {each.symbol: each.side.value for each in trading.get_all_positions()}
    spent = trading.get_account()
    seen["power"] = float(spent.buying_power) < 200_000
    seen["closed"] = sorted(row.status for row in trading.close_all_positions(cancel_orders=True))
    seen["left"] = [each.symbol for each in trading.get_all_positions()]
    seen["nothing to close"] = refusal(lambda: trading.close_position("AAPL"))
    return seen


def _filled(clients: Clients, order_id: object) -> Any:
    order = clients.trading.get_order_by_id(str(order_id))
    return order if order.status.value == "filled" else None


def data(clients: Clients) -> dict[str, Any]:
    one = {"symbol_or_symbols": "AAPL"}
    client = clients.data
    quote = client.get_stock_latest_quote(StockLatestQuoteRequest(**one))["AAPL"]
    trade = until(lambda: client.get_stock_latest_trade(StockLatestTradeRequest(**one)))["AAPL"]
    bars = client.get_stock_bars(StockBarsRequest(timeframe=TimeFrame.Minute, **one))["AAPL"]
    return {
        "quote": quote.bid_price < quote.ask_price,
        "trade": trade.price > 0,
        "bar": client.get_stock_latest_bar(StockLatestBarRequest(**one))["AAPL"].volume > 0,
        "bars": len(bars) > 0 and bars[0].low <= bars[0].high,
        "trades": len(client.get_stock_trades(StockTradesRequest(**one))["AAPL"]) > 0,
        "snapshot": client.get_stock_snapshot(StockSnapshotRequest(**one))["AAPL"].symbol,
    }


def updates(clients: Clients) -> dict[str, Any]:
    """What `trade_updates` tells of a limit order that is cancelled and a market order."""
    clear(clients)
    heard: list[Any] = []

    async def hear(update: Any) -> None:
        heard.append(update)

    stream = TradingStream(clients.key, clients.secret, url_override=clients.socket_url + "/stream")
    stream.subscribe_trade_updates(hear)
    threading.Thread(target=stream.run, daemon=True).start()
    low = round(clients.bid() * 0.9, 2)
    made: list[Any] = []

    def hears_of_one() -> bool:
        made.append(clients.limit(low))
        time.sleep(0.1)
        return bool(heard)

    # There is no saying when the stream listens, but that it has heard of an order.
    until(hears_of_one)
    clients.trading.cancel_orders()
    until(lambda: [update.event for update in heard].count("canceled") == len(made))
    heard.clear()
    order = clients.market(1)
    until(lambda: heard and heard[-1].event == "fill")
    fill = heard[-1]
    stream.stop()
    return {
        "events": [update.event for update in heard if update.event != "partial_fill"],
        "own": fill.order.id == order.id,
        "fill": [fill.position_qty, fill.order.filled_qty, fill.price > 0],
    }


def stream(clients: Clients) -> dict[str, Any]:
    """Quotes and trades over MessagePack."""
    heard: dict[str, Any] = {}
    live = StockDataStream(clients.key, clients.secret, url_override=clients.socket_url + "/v2/iex")

    async def hear_quote(quote: Any) -> None:
        heard.setdefault("quote", [quote.symbol, quote.bid_price < quote.ask_price])
        heard["delay"] = abs(time.time() - quote.timestamp.timestamp()) < 60

    async def hear_trade(trade: Any) -> None:
        heard.setdefault("trade", [trade.symbol, trade.price > 0])

    live.subscribe_quotes(hear_quote, "AAPL")
    live.subscribe_trades(hear_trade, "AAPL")
    threading.Thread(target=live.run, daemon=True).start()
    until(lambda: len(heard) == 3)
    asyncio.run_coroutine_threadsafe(live.stop_ws(), live._loop).result(WITHIN_S)
    return heard


def one_order(clients: Clients) -> dict[str, Any]:
    """An order whose reply is not the one hoped for; what became of it at the venue."""
    order_id = "sent-by-alpaca-py"
    try:
        clients.limit(100, client_order_id=order_id)
        told: list[object] = ["accepted"]
    except APIError as error:
        told = [error.status_code, str(error)]
    found = clients.trading.get_order_by_client_id(order_id)
    listed = sum(each.client_order_id == order_id for each in clients.trading.get_orders())
    return {"told": told, "found": found.status.value, "listed": listed}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Clients(**json.load(sys.stdin)))))
