"""Binance spot: REST, WebSocket streams, the WebSocket API."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.faces.binance.face import BinanceFace
from openbell_sim.faces.port import FaceKind
from openbell_sim.instruments import KNOWN

KIND = FaceKind(
    name="binance",
    title="Binance spot",
    make=BinanceFace,
    instruments=KNOWN,
    symbols=("BTCUSDT", "ETHUSDT", "LTCUSDT", "BNBUSDT"),
    deposits={
        "USDT": Decimal(1_000_000),
        "BTC": Decimal(5),
        "ETH": Decimal(100),
        "LTC": Decimal(1000),
        "BNB": Decimal(100),
    },
    weighs_requests=True,
    credentials="key and secret of an API key (HMAC)",
    takes_any_symbol=True,
)
