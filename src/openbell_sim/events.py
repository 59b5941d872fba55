"""What happened at the venue: the lines of its order log.

The venue's state is the fold of these (`ledger.Ledger.apply`), live as well as after a restart.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.matching.book import SelfTradePrevention


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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
    post_only: bool = False
    prevention: SelfTradePrevention = SelfTradePrevention.EXPIRE_MAKER
    locked: Decimal
    """Funds held for it: quote currency for a BUY, base currency for a SELL."""
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


class Cancel(_Event, frozen=True, kw_only=True, tag="cancel", tag_field="event"):
    order_id: int
    request_id: str = ""
    """The client's own name of the cancel request, where it gave one."""


class Expire(_Event, frozen=True, kw_only=True, tag="expire", tag_field="event"):
    """The venue ended what was left of the order."""

    order_id: int
    reason: str
    """`time_in_force`, `no_liquidity` or `self_trade_prevention`."""


Event = Deposit | Accept | Refuse | Fill | Cancel | Expire
