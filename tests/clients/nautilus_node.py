"""A nautilus_trader node with its Binance adapter, against a venue on loopback. Runs in the
environment made from nautilus.lock; driven by test_nautilus.py, which reads what it prints.

    python nautilus_node.py SPOT|USDT_FUTURES BTCUSDT 0.001 URL

Takes the key and the secret from the environment. Prints a line of JSON for each thing seen.
"""

import json
import os
import sys
from decimal import Decimal

from nautilus_trader.adapters.binance import (
    BINANCE,
    BinanceAccountType,
    BinanceDataClientConfig,
    BinanceExecClientConfig,
    BinanceLiveDataClientFactory,
    BinanceLiveExecClientFactory,
)
from nautilus_trader.config import (
    InstrumentProviderConfig,
    LiveExecEngineConfig,
    LoggingConfig,
    StrategyConfig,
    TradingNodeConfig,
)
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.enums import OrderSide, TimeInForce
from nautilus_trader.model.identifiers import InstrumentId, TraderId
from nautilus_trader.trading.strategy import Strategy


def tell(event, **facts):
    print(json.dumps({"event": event, **facts}), flush=True)  # what the test reads


class ProbeConfig(StrategyConfig, frozen=True):
    instrument_id: InstrumentId
    quantity: str


class Probe(Strategy):
    """At the first quote: a limit far below and a market order; when the one rests and the other
    is filled, cancels and ends."""

    def __init__(self, config):
        super().__init__(config)
        self.quotes = 0
        self.limit = None
        self.market = None
        self.accepted = self.filled = False

    def on_start(self):
        self.instrument = self.cache.instrument(self.config.instrument_id)
        tell("started", instrument=str(self.instrument.id))
        self.subscribe_quote_ticks(self.config.instrument_id)

    def on_quote_tick(self, tick):
        self.quotes += 1
        if self.quotes == 1:
            tell("quote", bid=str(tick.bid_price), ask=str(tick.ask_price))
        if self.limit is None:
            quantity = self.instrument.make_qty(Decimal(self.config.quantity))
            price = self.instrument.make_price(tick.bid_price.as_decimal() * Decimal("0.95"))
            factory = self.order_factory
            self.limit = factory.limit(
                self.config.instrument_id, OrderSide.BUY, quantity, price, TimeInForce.GTC
            )
            self.market = factory.market(self.config.instrument_id, OrderSide.BUY, quantity)
            self.submit_order(self.limit)
            self.submit_order(self.market)

    def on_order_accepted(self, event):
        tell("accepted", limit=event.client_order_id == self.limit.client_order_id)
        self.accepted |= event.client_order_id == self.limit.client_order_id
        self.go_on()

    def on_order_filled(self, event):
        tell(
            "filled",
            limit=event.client_order_id == self.limit.client_order_id,
            quantity=str(event.last_qty),
            price=str(event.last_px),
        )
        self.filled |= self.market.is_closed
        self.go_on()

    def go_on(self):
        if (
            self.accepted
            and self.filled
            and self.limit.is_open
            and not self.limit.is_pending_cancel
        ):
            self.cancel_order(self.limit)

    def on_order_canceled(self, event):
        tell("canceled", limit=event.client_order_id == self.limit.client_order_id)

    def on_order_rejected(self, event):
        tell("rejected", reason=event.reason)

    def on_order_denied(self, event):
        tell("denied", reason=event.reason)

    def on_order_cancel_rejected(self, event):
        tell("cancel_rejected", reason=event.reason)

    def on_stop(self):
        tell("stopped", position=str(self.portfolio.net_position(self.config.instrument_id)))


def main():
    kind, symbol, quantity, url = sys.argv[1:]
    account_type = BinanceAccountType[kind]
    shared = {
        "api_key": os.environ["SIM_KEY"],
        "api_secret": os.environ["SIM_SECRET"],
        "account_type": account_type,
        "base_url_http": url,
        "base_url_ws": url.replace("http", "ws", 1),
        "instrument_provider": InstrumentProviderConfig(load_all=True),
    }
    name = symbol if kind == "SPOT" else f"{symbol}-PERP"
    node = TradingNode(
        config=TradingNodeConfig(
            trader_id=TraderId("PROBE-001"),
            logging=LoggingConfig(log_level="WARNING"),
            exec_engine=LiveExecEngineConfig(reconciliation=True),
            data_clients={BINANCE: BinanceDataClientConfig(**shared)},
            exec_clients={BINANCE: BinanceExecClientConfig(**shared)},
            timeout_connection=60.0,
            timeout_disconnection=10.0,
            timeout_post_stop=2.0,
        )
    )
    config = ProbeConfig(instrument_id=InstrumentId.from_str(f"{name}.BINANCE"), quantity=quantity)
    node.trader.add_strategy(Probe(config))
    node.add_data_client_factory(BINANCE, BinanceLiveDataClientFactory)
    node.add_exec_client_factory(BINANCE, BinanceLiveExecClientFactory)
    node.build()
    try:
        node.run()
    finally:
        node.dispose()
    tell("ended")


if __name__ == "__main__":
    main()
