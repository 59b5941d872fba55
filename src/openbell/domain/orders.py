"""Orders in FIX words, and the events an order's life is made of.

An order is the fold of its events (`order_book.apply`). Events are what the journal stores and
the bus carries: one encoding (msgspec, named fields) for journal, bus and checkpoint.

Quantity invariant, at every moment of every order:
    order_qty == cum_qty + leaves_qty + canceled_qty
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import NewType

import msgspec

ClOrdID = NewType("ClOrdID", str)
"""Our identifier of an order at a venue, see `ids`."""


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """+1 for BUY, -1 for SELL."""
        return 1 if self is _BUY else -1

    @property
    def opposite(self) -> Side:
        return _SELL if self is _BUY else _BUY


# Looking a member up on its class takes several times as long as asking a module for a name.
_BUY, _SELL = Side.BUY, Side.SELL


class OrdType(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"
    STOP = "STOP"
    """A market order once the market has reached its stop price. The desk sends none; others on
    the account may, and every class of order must be seen."""
    STOP_LIMIT = "STOP_LIMIT"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class OrdStatus(StrEnum):
    """FIX tag 39 in words; UNKNOWN is ours."""

    PENDING_NEW = "PENDING_NEW"
    """Intent journaled, perhaps sent, no outcome yet."""
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"
    """In doubt: the venue must be asked by ClOrdID."""

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.REJECTED, OrdStatus.EXPIRED})


class Purpose(StrEnum):
    """Why an order exists; the permit's scope decides which purposes may be sent."""

    TRADE = "trade"
    """From a strategy."""
    FLATTEN = "flatten"
    """Closes a position; reduce-only."""
    TEST = "test"
    """From a person, to try a venue."""


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: everything the venue must be told."""

    cl_ord_id: ClOrdID
    venue: str
    symbol: str
    """Unified: `BTC/USDT`."""
    side: Side
    ord_type: OrdType
    order_qty: Decimal
    """In the base currency; positive."""
    price: Decimal | None = None
    """Limit price in the quote currency; None for MARKET."""
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    """Rejected rather than matched at once (FIX ExecInst 6)."""
    strategy: str = ""
    """Name of the strategy, or empty for an order of the desk itself."""
    intent_id: str = ""
    """The sender's own identifier of the intent: the same intent makes at most one order."""
    purpose: Purpose = Purpose.TRADE


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    cl_ord_id: ClOrdID
    at_ns: int
    """When we learned of it (our clock)."""


class OrderIntended(_Event, frozen=True, kw_only=True, tag="intended"):
    """Committed to the journal before the order is sent."""

    order: NewOrder


class OrderAccepted(_Event, frozen=True, kw_only=True, tag="accepted"):
    venue_order_id: str


class OrderRejected(_Event, frozen=True, kw_only=True, tag="rejected"):
    """The venue refused it, or it was proven never to have arrived (`code="never_arrived"`)."""

    code: str
    text: str = ""


class OrderInDoubt(_Event, frozen=True, kw_only=True, tag="in_doubt"):
    """A time-out, a 503, a cut connection: sent perhaps, accepted perhaps."""

    why: str


class OrderFilled(_Event, frozen=True, kw_only=True, tag="filled"):
    """One execution (FIX ExecType Trade)."""

    exec_id: str
    """The venue's trade id, unique per venue and symbol; a repeated one is not counted again."""
    last_qty: Decimal
    last_px: Decimal
    fee: Decimal = Decimal(0)
    """Positive: paid."""
    fee_currency: str = ""
    fee_in_kind: bool = True
    """A fee in the base currency is taken out of what was traded, as on the spot. False where the
    venue keeps positions: there it is money of the account and leaves the position alone."""
    is_maker: bool = False
    venue_time_ns: int = 0
    inferred: bool = False
    """Concluded from the order's executed quantity, its trades not being listed yet. A real fill
    that arrives later replaces it instead of adding to it."""
    cum_qty: Decimal | None = None
    """Of an inferred fill: the executed quantity the venue told. Where given, only what is missing
    up to it is counted, whatever `last_qty` says, so real fills that came first count once."""


class CancelIntended(_Event, frozen=True, kw_only=True, tag="cancel_intended"):
    reason: str = ""


class CancelRejected(_Event, frozen=True, kw_only=True, tag="cancel_rejected"):
    """The venue did not cancel it: too late, or no such order. Not fatal; the order is asked for."""

    code: str
    text: str = ""


class OrderCanceled(_Event, frozen=True, kw_only=True, tag="canceled"):
    reason: str = ""


class OrderExpired(_Event, frozen=True, kw_only=True, tag="expired"):
    """The venue ended what was left of it: IOC, FOK, or its own rules (self-trade prevention)."""

    reason: str = ""


OrderEvent = (
    OrderIntended
    | OrderAccepted
    | OrderRejected
    | OrderInDoubt
    | OrderFilled
    | CancelIntended
    | CancelRejected
    | OrderCanceled
    | OrderExpired
)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order as its events tell it. `order_qty == cum_qty + leaves_qty + canceled_qty` always."""

    new: NewOrder
    status: OrdStatus
    created_ns: int
    updated_ns: int
    venue_order_id: str = ""
    cum_qty: Decimal = Decimal(0)
    leaves_qty: Decimal = Decimal(0)
    canceled_qty: Decimal = Decimal(0)
    """What will never be filled: cancelled, rejected or expired."""
    notional: Decimal = Decimal(0)
    """Sum of quantity times price over its fills."""
    exec_ids: tuple[str, ...] = ()
    inferred_qty: Decimal = Decimal(0)
    """Part of `cum_qty` known only by inference."""
    inferred: tuple[tuple[Decimal, Decimal], ...] = ()
    """The inferences behind it: pairs of quantity and price, oldest first."""
    cancel_requested: bool = False
    text: str = ""

    @property
    def cl_ord_id(self) -> ClOrdID:
        return self.new.cl_ord_id

    @property
    def avg_px(self) -> Decimal | None:
        return self.notional / self.cum_qty if self.cum_qty else None
