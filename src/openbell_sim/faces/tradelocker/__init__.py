"""TradeLocker's REST API, `/backend-api`: public-api.tradelocker.com, version 2.11."""

from __future__ import annotations

from decimal import Decimal

from openbell_sim.account import FeeSchedule
from openbell_sim.faces.port import FaceKind
from openbell_sim.faces.tradelocker.face import TradeLockerFace
from openbell_sim.faces.tradelocker.markets import HOME, KNOWN
from openbell_sim.rules import ClOrdIdPolicy, VenueRules

KIND = FaceKind(
    name="tradelocker",
    title="TradeLocker",
    make=TradeLockerFace,
    instruments=KNOWN,
    symbols=("EURUSD", "USDJPY"),
    deposits={HOME: Decimal(100_000)},
    credentials="the key is the e-mail address, the secret the password; any server name will do",
    rules=VenueRules(
        # `strategyId` is a label: TradeLocker takes any number of orders of one.
        cl_ord_id=ClOrdIdPolicy.NONE,
        # An account that pays by the spread. The API tells no commission of an execution.
        fees=FeeSchedule(maker=Decimal(0), taker=Decimal(0)),
    ),
)
