"""The spot venue: its calls, its streams, its WebSocket API."""

from __future__ import annotations

from openbell_sim.exchange import Exchange
from openbell_sim.faces.binance.common.client import Client
from openbell_sim.faces.binance.common.hub import Hub
from openbell_sim.faces.binance.common.limits import Limits
from openbell_sim.faces.binance.common.parameters import Parameters
from openbell_sim.faces.binance.common.server import BinanceServer, Sockets
from openbell_sim.faces.binance.operations import (
    ORDER_LIMITS,
    ROUTES,
    WEIGHT_PER_MINUTE,
    operations,
)
from openbell_sim.faces.binance.streams import SpotWords
from openbell_sim.faces.port import FaceOptions
from openbell_sim.keys import KeyRing


class BinanceFace(BinanceServer):
    name = "binance"

    def __init__(self, exchange: Exchange, keys: KeyRing, options: FaceOptions) -> None:
        limits = Limits.of(options, WEIGHT_PER_MINUTE, ORDER_LIMITS)
        hub = Hub(exchange, SpotWords(exchange))
        super().__init__(
            exchange,
            keys,
            options,
            hub=hub,
            limits=limits,
            operations=operations(limits, hub),
            routes=ROUTES,
            sockets=Sockets(roots={"": lambda _: True}, api="/ws-api/v3"),
        )
        self.sessions |= {
            "userDataStream.subscribe.signature": self._subscribe,
            "userDataStream.unsubscribe": self._unsubscribe,
        }

    def _subscribe(self, client: Client, p: Parameters) -> object:
        account = self.identify_session(p)
        return {"subscriptionId": self.hub.subscribe_account(client, account)}

    def _unsubscribe(self, client: Client, p: Parameters) -> object:
        self.hub.unsubscribe_account(client, p.integer_or_none("subscriptionId"))
        return {}
