"""The MetaTrader 5 bridge: what `bridges/mt5/openbell_mt5_bridge.py` serves beside a terminal."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.account import FeeSchedule
from openbell_sim.faces.mt5.face import Mt5Face
from openbell_sim.faces.mt5.markets import PAIRS
from openbell_sim.faces.port import FaceKind
from openbell_sim.rules import ClOrdIdPolicy, VenueRules

KIND = FaceKind(
    name="mt5",
    title="MetaTrader 5 bridge",
    make=Mt5Face,
    instruments=PAIRS,
    symbols=("EURUSD", "USDJPY"),
    deposits={"USD": Decimal(100_000)},
    credentials="the secret is the bridge's bearer token; the key is not used",
    rules=VenueRules(
        cl_ord_id=ClOrdIdPolicy.UNIQUE_FOR_EVER,
        # A commission of 3.5 dollars a lot and side is usual for raw-spread accounts.
        fees=FeeSchedule(maker=Decimal("0.000035"), taker=Decimal("0.000035")),
    ),
)
