"""What a stop tells while it goes on, for a terminal, an API and the log of its course.

Every event names its venue and when it happened (`at_ns`, nanoseconds since the epoch, our clock).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from openbell.domain.orders import ClOrdID, Side
from openbell.kill.plan import Means
from openbell.kill.statement import VenueStatement


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    at_ns: int


class Listed(_Event, frozen=True, kw_only=True, tag="listed"):
    """The first list of open orders."""

    orders: int
    """To be cancelled."""
    spared: int
    """Others', or out of scope."""


class Cancelling(_Event, frozen=True, kw_only=True, tag="cancelling"):
    means: dict[Means, int]
    """How many calls of each kind are sent now."""
    orders: int
    """As far as they were listed."""


class Acknowledged(_Event, frozen=True, kw_only=True, tag="acknowledged"):
    """The venue took cancels. That is not more than it says: the orders are asked for next."""

    orders: int
    """Since the beginning."""


class Remaining(_Event, frozen=True, kw_only=True, tag="remaining"):
    """Asked again, these are still open."""

    orders: int


class Waiting(_Event, frozen=True, kw_only=True, tag="waiting"):
    """Nothing is sent for so long."""

    seconds: float
    why: str


class NotKnown(_Event, frozen=True, kw_only=True, tag="not_known"):
    """The venue gave no answer that proves anything."""

    why: str


class Verified(_Event, frozen=True, kw_only=True, tag="verified"):
    """Two complete lists in a row were empty."""


class Flattening(_Event, frozen=True, kw_only=True, tag="flattening"):
    """A reduce-only market order is about to be sent: its intent, told before its effect."""

    symbol: str
    side: Side
    quantity: Decimal
    cl_ord_id: ClOrdID
    leg: str
    """The venue's name of it."""
    held: Decimal
    """The position that it is sent for."""


class Flattened(_Event, frozen=True, kw_only=True, tag="flattened"):
    """What became of it; an order without this may have been sent."""

    symbol: str
    cl_ord_id: ClOrdID
    status: str
    """Its last OrdStatus, or `rejected`, `not_sent`, `not_found`."""
    filled: Decimal = Decimal(0)


class Ended(_Event, frozen=True, kw_only=True, tag="ended"):
    statement: VenueStatement


StopEvent = (
    Listed
    | Cancelling
    | Acknowledged
    | Remaining
    | Waiting
    | NotKnown
    | Verified
    | Flattening
    | Flattened
    | Ended
)
Tell = Callable[[StopEvent], None]
"""Called on the event loop: it must not block. What it raises is logged and stops nothing."""
