"""Coinbase Advanced Trade, spot: REST (v3, and what clients ask of v2) and WebSocket."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.account import FeeIn, FeeSchedule
from openbell_sim.faces.coinbase.face import CoinbaseFace
from openbell_sim.faces.coinbase.products import PRODUCTS
from openbell_sim.faces.port import FaceKind
from openbell_sim.rules import ClOrdIdPolicy, VenueRules

KIND = FaceKind(
    name="coinbase",
    title="Coinbase Advanced",
    make=CoinbaseFace,
    instruments=PRODUCTS,
    symbols=("BTC-USD", "ETH-USD", "LTC-USD", "SOL-USD"),
    deposits={
        "USD": Decimal(1_000_000),
        "BTC": Decimal(5),
        "ETH": Decimal(100),
        "LTC": Decimal(1000),
        "SOL": Decimal(1000),
    },
    credentials="key and secret of a legacy API key (HMAC), or name and private key (PEM, EC P-256) "
    "of a CDP API key",
    rules=VenueRules(
        cl_ord_id=ClOrdIdPolicy.UNIQUE_FOR_EVER,
        max_open_orders=500,
        # Fees are taken in the quote currency. The rates are those of the lowest tier, as Coinbase
        # published them in 2024.
        fees=FeeSchedule(maker=Decimal("0.004"), taker=Decimal("0.006"), fee_in=FeeIn.QUOTE),
    ),
)
