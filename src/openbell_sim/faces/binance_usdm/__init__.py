"""Binance USD-M futures: REST, WebSocket streams, the WebSocket API."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.account import FeeSchedule
from openbell_sim.faces.binance_usdm.face import BinanceUsdmFace
from openbell_sim.faces.binance_usdm.instruments import PERPETUALS
from openbell_sim.faces.port import FaceKind
from openbell_sim.rules import VenueRules

KIND = FaceKind(
    name="binance-usdm",
    title="Binance USD-M futures",
    make=BinanceUsdmFace,
    instruments=PERPETUALS,
    symbols=("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"),
    deposits={"USDT": Decimal(1_000_000)},
    weighs_requests=True,
    credentials="key and secret of an API key (HMAC)",
    # Of the lowest tier: binance.com/en/fee/futureFee.
    rules=VenueRules(fees=FeeSchedule(maker=Decimal("0.0002"), taker=Decimal("0.0005"))),
)
