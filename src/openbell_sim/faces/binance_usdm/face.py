"""The USD-M futures venue: its calls, its streams, its WebSocket API."""

from __future__ import annotations

from openbell_sim.exchange import Exchange
from openbell_sim.faces.binance.common.hub import Hub
from openbell_sim.faces.binance.common.limits import Limits
from openbell_sim.faces.binance.common.server import BinanceServer, Sockets
from openbell_sim.faces.binance_usdm.operations import (
    ORDER_LIMITS,
    ROUTES,
    WEIGHT_PER_MINUTE,
    operations,
)
from openbell_sim.faces.binance_usdm.streams import UsdmWords, is_market, is_public
from openbell_sim.faces.port import FaceOptions
from openbell_sim.keys import KeyRing

_SOCKETS = Sockets(
    # The paths without a root are Binance's of before 2026-04; of these it serves the book alone
    # now. Here they serve everything, since clients in use know no others (nautilus_trader 1.221).
    roots={
        "": lambda _: True,
        "/public": is_public,
        "/market": is_market,
        "/private": lambda _: False,
    },
    api="/ws-fapi/v1",
)


class BinanceUsdmFace(BinanceServer):
    name = "binance-usdm"

    def __init__(self, exchange: Exchange, keys: KeyRing, options: FaceOptions) -> None:
        limits = Limits.of(options, WEIGHT_PER_MINUTE, ORDER_LIMITS)
        hub = Hub(exchange, UsdmWords(exchange))
        super().__init__(
            exchange,
            keys,
            options,
            hub=hub,
            limits=limits,
            operations=operations(limits, hub),
            routes=ROUTES,
            sockets=_SOCKETS,
        )
