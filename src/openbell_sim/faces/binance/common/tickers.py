"""Tickers of a day as both venues' streams tell them: REST's fields under one letter each.

Source: "Individual Symbol Ticker Streams" and "Individual Symbol Mini Ticker Stream" of either API.
"""

from __future__ import annotations

from openbell_sim.faces.binance.common.operation import Json

_NAMES = {
    "p": "priceChange",
    "P": "priceChangePercent",
    "w": "weightedAvgPrice",
    "x": "prevClosePrice",
    "c": "lastPrice",
    "Q": "lastQty",
    "b": "bidPrice",
    "B": "bidQty",
    "a": "askPrice",
    "A": "askQty",
    "o": "openPrice",
    "h": "highPrice",
    "l": "lowPrice",
    "v": "volume",
    "q": "quoteVolume",
    "O": "openTime",
    "C": "closeTime",
    "F": "firstId",
    "L": "lastId",
    "n": "count",
}
_MINI_NAMES = {short: _NAMES[short] for short in "cohlvq"}


def ticker(day: Json, now_ms: int) -> Json:
    """`day` as REST tells it; what a venue leaves out there (futures: the book) is left out here."""
    return _event("24hrTicker", day, now_ms, _NAMES)


def mini_ticker(day: Json, now_ms: int) -> Json:
    return _event("24hrMiniTicker", day, now_ms, _MINI_NAMES)


def _event(kind: str, day: Json, now_ms: int, names: dict[str, str]) -> Json:
    told = {short: day[long] for short, long in names.items() if long in day}
    return {"e": kind, "E": now_ms, "s": day["symbol"], **told}
