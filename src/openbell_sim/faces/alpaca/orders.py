"""What Alpaca knows of an order and the exchange does not."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdStatus
from openbell_sim.checks import OrderRequest
from openbell_sim.ledger import Order

REPLACED = "replaced"
"""The cancel id of an order that another one took the place of."""
DAY_ENDED = "expired"
"""The cancel id of a day order that the end of the session ended."""


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Kept in `Order.note`, so that a restart loses nothing of it."""

    time_in_force: str = "gtc"
    extended_hours: bool = False
    notional: Decimal | None = None
    """Where the order was given in dollars; its quantity was computed from it."""
    replaces: int | None = None
    """Number of the order in whose place it is."""
    position_intent: str = ""


def note_text(note: Note) -> str:
    return msgspec.json.encode(note).decode()


def note_of(order: Order | OrderRequest) -> Note:
    """An order given by hand at the venue has none, and its own time in force says all."""
    if order.note:
        return msgspec.json.decode(order.note, type=Note)
    return Note(time_in_force=order.time_in_force.value.lower())


_STATUS = {
    OrdStatus.NEW: "new",
    OrdStatus.PARTIALLY_FILLED: "partially_filled",
    OrdStatus.FILLED: "filled",
    OrdStatus.EXPIRED: "expired",
}
_CANCELS = ("time_in_force", "no_liquidity", "self_trade_prevention")
"""What the exchange calls expired and Alpaca canceled: what an immediate order leaves."""


def status_of(order: Order) -> str:
    if order.status is OrdStatus.CANCELED:
        return order.cancel_id if order.cancel_id in (REPLACED, DAY_ENDED) else "canceled"
    if order.status is OrdStatus.EXPIRED and order.reason in _CANCELS:
        return "canceled"
    return _STATUS[order.status]


def as_accepted(order: Order) -> Order:
    """The order as it was before anything came of it: that is what the reply to it tells."""
    first = copy.copy(order)
    first.status, first.updated_ns = OrdStatus.NEW, order.accepted_ns
    first.cum_qty = first.cum_quote = Decimal(0)
    return first


class Replacements:
    """Which order took whose place, by their numbers."""

    def __init__(self, orders: Iterable[Order]) -> None:
        self._by_old: dict[int, int] = {}
        for order in orders:
            self.add(order)

    def add(self, order: Order) -> None:
        replaced = note_of(order).replaces
        if replaced is not None:
            self._by_old[replaced] = order.order_id

    def of(self, order: Order) -> int | None:
        return self._by_old.get(order.order_id)
