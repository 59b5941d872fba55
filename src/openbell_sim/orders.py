"""Orders and fills as the venue knows them: what its events add up to (`ledger.Ledger`).

They are kept for ever and hold nothing that could hold them, so the garbage collector is spared
them (`gc=False`): a full collection would stop the venue for longer with each order it ever had.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell.domain.orders import OrdStatus, OrdType, Side, TimeInForce
from openbell_sim.account import ZERO
from openbell_sim.matching.book import SelfTradePrevention
from openbell_sim.positions import ClosedLot


class Order(msgspec.Struct, kw_only=True, gc=False):
    """An order as the venue sees it. Refused ones keep their words in `refused`."""

    order_id: int
    account: str
    cl_ord_id: str
    symbol: str
    side: Side
    ord_type: OrdType
    time_in_force: TimeInForce
    order_qty: Decimal
    quote_qty: Decimal | None
    price: Decimal | None
    stop_price: Decimal | None
    post_only: bool
    reduce_only: bool
    closes: int | None
    """Exec id of the lot that it closes before others."""
    triggered: bool = False
    """Of a stop order: its price was reached."""
    prevention: SelfTradePrevention
    origin: str
    note: str
    """Words of the face."""
    received_ns: int
    accepted_ns: int
    updated_ns: int
    priority: int
    """Orders at one price queue in this order. An amended one is given a new priority, unless it
    only became smaller; so is a stop order when it triggers."""
    status: OrdStatus = OrdStatus.NEW
    cum_qty: Decimal = ZERO
    cum_quote: Decimal = ZERO
    locked: Decimal = ZERO
    """Still held for this order: quote currency for a BUY, base currency for a SELL; nothing for
    margined instruments."""
    reason: str = ""
    """Why it expired, or was cancelled by the venue itself."""
    cancel_id: str = ""

    @property
    def leaves_qty(self) -> Decimal:
        return ZERO if self.status.is_final else self.order_qty - self.cum_qty

    @property
    def is_open(self) -> bool:
        return not self.status.is_final

    @property
    def waits(self) -> bool:
        """A stop order outside of the book, its price not yet reached."""
        return self.stop_price is not None and not self.triggered


class OwnFill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A fill with what one wants to know of its order."""

    exec_id: int
    order_id: int
    account: str
    cl_ord_id: str
    symbol: str
    side: Side
    price: Decimal
    qty: Decimal
    fee: Decimal
    fee_currency: str
    is_maker: bool
    closed: tuple[ClosedLot, ...] = ()
    """Of a margined instrument: what it closed of the account's position; the rest of `qty`
    opened a lot under this `exec_id`."""
    at_ns: int

    @property
    def realized(self) -> Decimal:
        """Profit of what it closed, in the settlement currency, fees not counted."""
        return sum((part.realized for part in self.closed), ZERO)

    @property
    def quote_qty(self) -> Decimal:
        return self.price * self.qty
