"""Kraken spot: REST and WebSocket v2."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.account import FeeIn, FeeSchedule
from openbell_sim.faces.kraken.face import KrakenFace
from openbell_sim.faces.kraken.limits import OPEN_ORDERS_MAX
from openbell_sim.faces.kraken.pairs import KNOWN
from openbell_sim.faces.kraken.security import secret_problem
from openbell_sim.faces.port import FaceKind
from openbell_sim.rules import VenueRules

KIND = FaceKind(
    name="kraken",
    title="Kraken spot",
    make=KrakenFace,
    instruments=KNOWN,
    symbols=("XBTUSD", "ETHUSD", "SOLUSD", "LTCUSD"),
    deposits={
        "USD": Decimal(1_000_000),
        "XBT": Decimal(5),
        "ETH": Decimal(100),
        "SOL": Decimal(1000),
        "LTC": Decimal(1000),
    },
    secret_problem=secret_problem,
    credentials="API key, and private key in base64",
    rules=VenueRules(
        max_open_orders=OPEN_ORDERS_MAX,
        # kraken.com/features/fee-schedule: the first step of Kraken Pro's spot fees. Kraken takes
        # them in the quote currency unless told otherwise.
        fees=FeeSchedule(maker=Decimal("0.0025"), taker=Decimal("0.0040"), fee_in=FeeIn.QUOTE),
    ),
)
