"""The shapes of TradeLocker's answers, and what its refusals mean. Pure.

Sources: public-api.tradelocker.com, "Trading API" 2.11, and the official client 0.56.2.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell.venues.finite import Finite
from openbell.venues.problem import Meaning, Problem

STRATEGY_ID_MAX = 31
"""Characters of a `strategyId`: "Place a new order". The official client sends 32."""

REFUSED = "refused"
"""Our code of a refusal in words: TradeLocker has none of its own."""
_IN_DOUBT = ("timeout", "timed out", "time out", "try again", "internal", "unavailable", "unknown")
"""Words of a refusal after which nobody can say whether it was carried out."""


# Refusals.


class Said(msgspec.Struct, frozen=True):
    s: str = ""
    """`ok`, `error`, `no_data`; missing in answers about logins."""
    errmsg: str | None = None
    message: str | list[str] | None = None


def problem_in(status: int, body: bytes) -> Problem | None:
    """What is wrong with an answer; None for a success. A refusal in words comes with HTTP 200."""
    try:
        said = msgspec.json.decode(body, type=Said) if body else Said()
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = Said()
    if 200 <= status < 300 and said.s != "error":
        return None
    words = said.errmsg or said.message or f"HTTP {status} without a reason"
    text = words if isinstance(words, str) else "; ".join(words)
    code = REFUSED if status < 300 else f"http_{status}"
    return Problem(_meaning(status, text), code, text)


def acknowledged(body: bytes) -> None:
    """Of what has no other answer: `ok`, or nothing at all (204). Raises ValueError."""
    if body and msgspec.json.decode(body, type=Said).s != "ok":
        raise ValueError("neither ok nor an error")


def _meaning(status: int, text: str) -> Meaning:
    if status in (401, 403):
        return Meaning.NOT_ALLOWED
    if status == 429:
        return Meaning.THROTTLED
    if status >= 500 or status == 408:
        return Meaning.UNCERTAIN
    if status < 300 and any(words in text.lower() for words in _IN_DOUBT):
        return Meaning.UNCERTAIN
    return Meaning.REFUSED


# Who we are.


class Tokens(msgspec.Struct, frozen=True, rename="camel"):
    access_token: str
    refresh_token: str


class Account(msgspec.Struct, frozen=True, rename="camel"):
    id: int | str
    acc_num: int | str
    currency: str
    status: str = ""


class Accounts(msgspec.Struct, frozen=True):
    accounts: list[Account]


# The account's lists: rows of text without names, see `rows`.

Cells = list[msgspec.Raw]


class Column(msgspec.Struct, frozen=True):
    id: str


class ColumnList(msgspec.Struct, frozen=True):
    columns: list[Column]


class RateLimit(msgspec.Struct, frozen=True, rename="camel"):
    rate_limit_type: str
    measure: str
    interval_num: float
    limit: float

    @property
    def interval_s(self) -> float:
        return self.interval_num * (60 if self.measure == "MINUTES" else 1)


class ConfigData(msgspec.Struct, frozen=True, rename="camel"):
    positions_config: ColumnList
    orders_config: ColumnList
    orders_history_config: ColumnList
    filled_orders_config: ColumnList
    account_details_config: ColumnList
    rate_limits: list[RateLimit]


class Config(msgspec.Struct, frozen=True):
    d: ConfigData


class OrderRows(msgspec.Struct, frozen=True):
    orders: list[Cells]


class Orders(msgspec.Struct, frozen=True):
    d: OrderRows


class HistoryRows(msgspec.Struct, frozen=True, rename="camel"):
    orders_history: list[Cells]
    has_more: bool = False


class History(msgspec.Struct, frozen=True):
    d: HistoryRows


class PositionRows(msgspec.Struct, frozen=True):
    positions: list[Cells]


class Positions(msgspec.Struct, frozen=True):
    d: PositionRows


class ExecutionRows(msgspec.Struct, frozen=True):
    executions: list[Cells]


class Executions(msgspec.Struct, frozen=True):
    d: ExecutionRows


class Details(msgspec.Struct, frozen=True, rename="camel"):
    account_details_data: Cells


class State(msgspec.Struct, frozen=True):
    d: Details


class Placed(msgspec.Struct, frozen=True, rename="camel"):
    order_id: int | str


class PlacedAnswer(msgspec.Struct, frozen=True):
    d: Placed


# Instruments and prices.


class Route(msgspec.Struct, frozen=True):
    id: int | str
    type: str


class Instrument(msgspec.Struct, frozen=True, rename="camel"):
    tradable_instrument_id: int
    name: str
    routes: list[Route]

    def route(self, kind: str) -> int:
        """The first of this kind, as the official client takes it. Raises ValueError."""
        for route in self.routes:
            if route.type == kind:
                return int(route.id)
        raise ValueError(f"{self.name} has no {kind} route")


class InstrumentList(msgspec.Struct, frozen=True):
    instruments: list[Instrument]


class Instruments(msgspec.Struct, frozen=True):
    d: InstrumentList


class TickSize(Finite, frozen=True, rename="camel"):
    tick_size: Decimal


class InstrumentDetails(Finite, frozen=True, rename="camel"):
    quoting_currency: str
    lot_size: Decimal
    lot_step: Decimal
    min_lot: Decimal
    tick_size: list[TickSize]
    max_lot: Decimal | None = None


class DetailsAnswer(msgspec.Struct, frozen=True):
    d: InstrumentDetails


class QuoteData(Finite, frozen=True):
    ap: Decimal
    bp: Decimal
    as_: Decimal | None = msgspec.field(default=None, name="as")
    bs: Decimal | None = None


class QuoteAnswer(msgspec.Struct, frozen=True):
    d: QuoteData | None = None
    """Missing where there is no price (`s` is then "no_data")."""
