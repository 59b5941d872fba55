"""Protocol faces: how clients see the venue. `FACES` names them; each is imported when it is used."""

from __future__ import annotations

import importlib

from openbell.errors import UsageError
from openbell_sim.faces.port import FaceKind

FACES = {
    "binance": "openbell_sim.faces.binance",
    "binance-usdm": "openbell_sim.faces.binance_usdm",
    "kraken": "openbell_sim.faces.kraken",
    "coinbase": "openbell_sim.faces.coinbase",
    "alpaca": "openbell_sim.faces.alpaca",
    "oanda": "openbell_sim.faces.oanda",
    "tradelocker": "openbell_sim.faces.tradelocker",
    "mt5": "openbell_sim.faces.mt5",
}
"""Packages by name; each has a `KIND`."""


def face_kind(name: str) -> FaceKind:
    """Raises UsageError for a name that is not in `FACES`."""
    if name not in FACES:
        raise UsageError(f'there is no face "{name}"', hint=f"faces: {', '.join(FACES)}")
    kind: FaceKind = importlib.import_module(FACES[name]).KIND
    return kind
