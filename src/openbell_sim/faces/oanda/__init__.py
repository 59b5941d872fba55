"""OANDA v20: REST, and its streams of prices and transactions."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.account import FeeSchedule
from openbell_sim.faces.oanda.face import OandaFace
from openbell_sim.faces.oanda.markets import HOME, KNOWN
from openbell_sim.faces.port import FaceKind
from openbell_sim.rules import VenueRules

KIND = FaceKind(
    name="oanda",
    title="OANDA v20",
    make=OandaFace,
    instruments=KNOWN,
    symbols=tuple(KNOWN),
    deposits={HOME: Decimal(100_000)},
    credentials="the secret is the access token; the key is not used",
    rules=VenueRules(
        # OANDA is paid by the spread.
        fees=FeeSchedule(maker=Decimal(0), taker=Decimal(0)),
        max_open_orders=1000,
    ),
    keeps_history=True,
)
