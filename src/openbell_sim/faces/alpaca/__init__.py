"""Alpaca: the Trading API and the market data API, REST and WebSocket, of US stocks."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.account import FeeSchedule
from openbell_sim.faces.alpaca.face import AlpacaFace
from openbell_sim.faces.alpaca.stocks import STOCKS
from openbell_sim.faces.port import FaceKind
from openbell_sim.rules import ClOrdIdPolicy, ReduceOnlyPolicy, VenueRules

KIND = FaceKind(
    name="alpaca",
    title="Alpaca",
    make=AlpacaFace,
    instruments=STOCKS,
    symbols=("AAPL", "MSFT", "SPY"),
    deposits={"USD": Decimal(100_000)},  # what a new paper account has
    credentials="key id and secret key, sent as they are in two headers",
    rules=VenueRules(
        cl_ord_id=ClOrdIdPolicy.UNIQUE_FOR_EVER,
        max_open_orders=10_000,  # ours: Alpaca states none
        reduce_only=ReduceOnlyPolicy.REJECT,
        fees=FeeSchedule(maker=Decimal(0), taker=Decimal(0)),
    ),
)
