"""What happened at the venue: the lines of its order log.

The venue's state is the fold of these (`ledger.Ledger.apply`), live as well as after a restart.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.matching.book import SelfTradePrevention
from openbell_sim.sessions import MarketState


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    at_ns: int
    """The venue's clock, nanoseconds since the epoch."""


class Deposit(_Event, frozen=True, kw_only=True, tag="deposit", tag_field="event"):
    account: str
    currency: str
    amount: Decimal


class Accept(_Event, frozen=True, kw_only=True, tag="accept", tag_field="event"):
    """The order is the venue's from here on; it may match in the same instant."""

    order_id: int
    account: str
    cl_ord_id: str
    symbol: str
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce = TimeInForce.GTC
    order_qty: Decimal
    """In the base currency. 0 for an order given as `quote_qty`."""
    quote_qty: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    post_only: bool = False
    reduce_only: bool = False
    closes: int | None = None
    """Exec id of the lot of a position that it closes before others."""
    prevention: SelfTradePrevention = SelfTradePrevention.EXPIRE_MAKER
    locked: Decimal
    """Funds held for it: quote currency for a BUY, base currency for a SELL. 0 for margined
    instruments, whose margin follows from the state."""
    origin: str = "api"
    """`api`, or `manual` for an order a person gave at the venue itself."""
    note: str = ""
    """What the face wrote on it (`OrderRequest.note`)."""
    received_ns: int


class Refuse(_Event, frozen=True, kw_only=True, tag="refuse", tag_field="event"):
    """An order that reached the venue and was not accepted. Its words are kept as they came."""

    order_id: int
    account: str
    cl_ord_id: str = ""
    symbol: str = ""
    side: str = ""
    ord_type: str = ""
    order_qty: str = ""
    price: str = ""
    origin: str = "api"
    note: str = ""
    received_ns: int
    reason: str
    text: str = ""


class Amend(_Event, frozen=True, kw_only=True, tag="amend", tag_field="event"):
    """The order is another from here on, under the same order id. All of its terms are told, also
    those that stay."""

    order_id: int
    cl_ord_id: str
    order_qty: Decimal
    """What was filled before included."""
    price: Decimal | None = None
    stop_price: Decimal | None = None
    locked: Decimal
    """As in `Accept`, for what is left of it."""
    keeps_priority: bool = False
    """Only the quantity shrank: it keeps its place in the queue."""
    reason: str = ""
    """Empty: it was asked for. `reduce_only`: the venue cut it to what is left to close."""


class Trigger(_Event, frozen=True, kw_only=True, tag="trigger", tag_field="event"):
    """The last price reached a stop order: it is a market or limit order from here on."""

    order_id: int
    locked: Decimal
    """As in `Accept`, from now on."""


class Fill(_Event, frozen=True, kw_only=True, tag="fill", tag_field="event"):
    """One own order's part of a trade. A trade between two own orders makes two of these."""

    order_id: int
    exec_id: int
    """Unique per symbol, and per order: both parts of one trade carry the same."""
    price: Decimal
    qty: Decimal
    is_maker: bool
    fee: Decimal
    fee_currency: str
    completes: bool = False
    """The last fill of an order given as `quote_qty`: what is left buys no lot."""


class PendingCancel(_Event, frozen=True, kw_only=True, tag="pending_cancel", tag_field="event"):
    """A cancel was acknowledged that is yet to be done."""

    order_id: int
    request_id: str = ""
    due_ns: int
    """On the clock of `DeadMan`."""


class Cancel(_Event, frozen=True, kw_only=True, tag="cancel", tag_field="event"):
    order_id: int
    request_id: str = ""
    """The client's own name of the cancel request, where it gave one."""
    reason: str = ""
    """Empty: it was asked for. Else it was the venue's own doing: `dead_man`, or what its face says
    (the end of a day)."""


class Expire(_Event, frozen=True, kw_only=True, tag="expire", tag_field="event"):
    """The venue ended what was left of the order."""

    order_id: int
    reason: str
    """`time_in_force`, `no_liquidity`, `self_trade_prevention`, `reduce_only` (nothing is left to
    close), `insufficient_funds` or `would_match` (of a stop order when it triggered), or `dropped`
    (the venue lost it and tells nobody)."""

    @property
    def is_silent(self) -> bool:
        return self.reason == DROPPED


DROPPED = "dropped"


class Session(_Event, frozen=True, kw_only=True, tag="session", tag_field="event"):
    """A symbol is traded, or not, from here on."""

    symbol: str = ""
    """Empty: every symbol; what was said of single ones before counts no more."""
    state: MarketState | None = None
    """None: nothing is said of it any more."""
    scheduled: bool = False
    """The calendar says so; what somebody sets goes before it."""


class DeadMan(_Event, frozen=True, kw_only=True, tag="dead_man", tag_field="event"):
    """A dead-man's switch was armed, disarmed, or fired."""

    account: str
    symbol: str = ""
    """Empty: the whole account."""
    expires_ns: int = 0
    """On the venue's clock as it would be without a fault, so that a wrong clock fires nothing;
    0: it is off from here on."""
    fired: bool = False


Event = (
    Deposit
    | Accept
    | Refuse
    | Amend
    | Trigger
    | Fill
    | PendingCancel
    | Cancel
    | Expire
    | Session
    | DeadMan
)
