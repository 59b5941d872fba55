"""Coinbase's shapes, and what they are in ours. Numbers go from text to Decimal.

Source: API reference of Advanced Trade (REST), "Advanced Trade WebSocket Channels".
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import msgspec

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Side
from openbell.venues.finite import checked_rules
from openbell.venues.port import Balance, QueryCosts, VenueFill, VenueOrder

REQUESTS_PER_S = 30
"""Of one user, on private endpoints (Advanced Trade, "REST API Rate Limits")."""
REQUESTS_PER_MINUTE = 60 * REQUESTS_PER_S
QUERY_COSTS = QueryCosts(
    open_orders=3 / REQUESTS_PER_MINUTE,
    positions=1 / REQUESTS_PER_MINUTE,
    fills=1 / REQUESTS_PER_MINUTE,
    order=1 / REQUESTS_PER_MINUTE,
)

_ZERO = Decimal(0)
_SECOND_NS = 1_000_000_000
_STATUS = {
    "PENDING": OrdStatus.NEW,
    "QUEUED": OrdStatus.NEW,
    "OPEN": OrdStatus.NEW,
    "EDIT_QUEUED": OrdStatus.NEW,
    "CANCEL_QUEUED": OrdStatus.PENDING_CANCEL,
    "FILLED": OrdStatus.FILLED,
    "CANCELLED": OrdStatus.CANCELED,
    "EXPIRED": OrdStatus.EXPIRED,
    "FAILED": OrdStatus.REJECTED,
}
OPEN_STATES = (("PENDING", "QUEUED"), ("OPEN",), ("CANCEL_QUEUED", "EDIT_QUEUED"))
"""States of an order that may yet be filled, in the groups in which they are asked for and in the
order in which an order goes through them, so that one which moves on meanwhile is still found.
`OPEN` may not be asked for together with others ("List Orders", `order_status`)."""
_TYPE = {
    "MARKET": OrdType.MARKET,
    "STOP": OrdType.STOP,
    "STOP_LIMIT": OrdType.STOP_LIMIT,
}


# Texts


def plain(number: Decimal) -> str:
    """A number as Coinbase takes it: no exponent, no trailing zeros (they count as precision)."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def when(at_ns: int) -> str:
    """RFC 3339 in UTC, cut to microseconds."""
    seconds, rest = divmod(at_ns, _SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


def nanoseconds(text: str) -> int:
    """Of an RFC 3339 time in UTC, with up to nine digits of a second. Raises ValueError."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return int(moment.timestamp()) * _SECOND_NS + int(fraction.ljust(9, "0")[:9] or 0)


def number(text: str) -> Decimal:
    """Empty is zero: Coinbase leaves out what there is nothing of. Raises ValueError."""
    try:
        value = Decimal(text) if text else _ZERO
    except InvalidOperation:
        raise ValueError(f"{text[:40]!r} is not a number") from None
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a finite number")
    return value


def product_id(symbol: str) -> str:
    return symbol.replace("/", "-")


def unified(product: str) -> str:
    return product.replace("-", "/")


# Answers


class ServerTime(msgspec.Struct, frozen=True):
    text: Annotated[str, msgspec.Meta(pattern="^[0-9]{13}$")] = msgspec.field(name="epochMillis")

    @property
    def milliseconds(self) -> int:
        return int(self.text)


class _Placed(msgspec.Struct, frozen=True):
    order_id: str
    client_order_id: str = ""


class Placed(msgspec.Struct, frozen=True):
    success: bool
    success_response: _Placed


class CancelResult(msgspec.Struct, frozen=True):
    success: bool
    order_id: str
    failure_reason: str = ""


class CancelResults(msgspec.Struct, frozen=True):
    results: list[CancelResult]


class Terms(msgspec.Struct, frozen=True):
    """The one entry of an `order_configuration`."""

    base_size: str = ""
    limit_price: str = ""
    stop_price: str = ""


class Order(msgspec.Struct, frozen=True):
    order_id: str
    product_id: str
    side: Side
    status: str
    created_time: str
    client_order_id: str = ""
    order_type: str = ""
    order_configuration: dict[str, Terms | None] = {}
    filled_size: str = ""
    last_fill_time: str | None = None
    last_update_time: str | None = None

    def to_port(self) -> VenueOrder:
        """Raises ValueError. Of an order that was sized in the quote currency no quantity is known
        but the executed one."""
        terms = next((each for each in self.order_configuration.values() if each), Terms())
        filled = number(self.filled_size)
        ord_type = _TYPE.get(self.order_type, OrdType.LIMIT)
        priced = ord_type in (OrdType.LIMIT, OrdType.STOP_LIMIT)
        return VenueOrder(
            venue_order_id=self.order_id,
            cl_ord_id=ClOrdID(self.client_order_id),
            symbol=unified(self.product_id),
            side=self.side,
            ord_type=ord_type,
            status=status(self.status, filled),
            order_qty=number(terms.base_size) or filled,
            cum_qty=filled,
            price=(number(terms.limit_price) or None) if priced else None,
            created_ns=nanoseconds(self.created_time),
            updated_ns=nanoseconds(
                self.last_update_time or self.last_fill_time or self.created_time
            ),
            stop_px=number(terms.stop_price) or None,
        )


def status(state: str, filled: Decimal) -> OrdStatus:
    """A state that this version does not know is in doubt, not guessed at."""
    found = _STATUS.get(state, OrdStatus.UNKNOWN)
    return OrdStatus.PARTIALLY_FILLED if found is OrdStatus.NEW and filled else found


class OneOrder(msgspec.Struct, frozen=True):
    order: Order


class Orders(msgspec.Struct, frozen=True):
    """A page."""

    orders: list[Order]
    has_next: bool
    cursor: str = ""


FILL = "FILL"
"""The `trade_type` of an execution. Others undo or mend one (REVERSAL, CORRECTION) and have no
place in the port; the balances show them."""


class Fill(msgspec.Struct, frozen=True):
    trade_id: str
    order_id: str
    trade_time: str
    trade_type: str
    price: str
    size: str
    commission: str
    product_id: str
    side: Side
    liquidity_indicator: str = ""
    size_in_quote: bool = False

    def to_port(self, rules: InstrumentRules) -> VenueFill:
        """Raises ValueError. The commission is in the quote currency always."""
        price, size = number(self.price), number(self.size)
        if self.size_in_quote:
            size = (size / price).quantize(rules.lot_size)
        return VenueFill(
            exec_id=self.trade_id,
            venue_order_id=self.order_id,
            cl_ord_id=ClOrdID(""),
            symbol=unified(self.product_id),
            side=self.side,
            last_qty=size,
            last_px=price,
            fee=number(self.commission),
            fee_currency=rules.quote,
            is_maker=self.liquidity_indicator == "MAKER",
            venue_time_ns=nanoseconds(self.trade_time),
        )


class Fills(msgspec.Struct, frozen=True):
    """A page; the last one has no cursor."""

    fills: list[Fill]
    cursor: str = ""


class _Amount(msgspec.Struct, frozen=True):
    value: str


class Account(msgspec.Struct, frozen=True):
    currency: str
    available_balance: _Amount
    hold: _Amount

    def to_port(self) -> Balance:
        """Raises ValueError."""
        free, locked = number(self.available_balance.value), number(self.hold.value)
        return Balance(currency=self.currency, free=free, locked=locked)


class Accounts(msgspec.Struct, frozen=True):
    """A page."""

    accounts: list[Account]
    has_next: bool
    cursor: str = ""


class KeyPermissions(msgspec.Struct, frozen=True):
    can_view: bool
    can_trade: bool
    can_transfer: bool
    portfolio_uuid: str = ""
    portfolio_type: str = ""


class _Portfolio(msgspec.Struct, frozen=True):
    uuid: str
    type: str
    name: str = ""
    deleted: bool = False


class Portfolios(msgspec.Struct, frozen=True):
    portfolios: list[_Portfolio]


class _Level(msgspec.Struct, frozen=True):
    price: str
    size: str


class PriceBook(msgspec.Struct, frozen=True):
    product_id: str
    bids: list[_Level]
    asks: list[_Level]
    time: str

    def to_port(self, *, venue: str, received_ns: int) -> Quote:
        """Raises ValueError where a side is empty."""
        if not self.bids or not self.asks:
            raise ValueError(f"no quote in {self.product_id}")
        bid, ask = self.bids[0], self.asks[0]
        return Quote(
            venue=venue,
            symbol=unified(self.product_id),
            bid_px=number(bid.price),
            bid_qty=number(bid.size),
            ask_px=number(ask.price),
            ask_qty=number(ask.size),
            venue_time_ns=nanoseconds(self.time),
            received_ns=received_ns,
        )


class PriceBooks(msgspec.Struct, frozen=True):
    pricebooks: list[PriceBook]


class Product(msgspec.Struct, frozen=True):
    product_id: str
    base_currency_id: str
    quote_currency_id: str
    base_increment: str
    quote_increment: str
    base_min_size: str
    base_max_size: str
    quote_min_size: str
    price_increment: str = ""

    def to_port(self) -> InstrumentRules:
        """Raises ValueError."""
        return checked_rules(
            InstrumentRules(
                symbol=unified(self.product_id),
                base=self.base_currency_id,
                quote=self.quote_currency_id,
                tick_size=number(self.price_increment or self.quote_increment),
                lot_size=number(self.base_increment),
                min_qty=number(self.base_min_size),
                max_qty=number(self.base_max_size),
                min_notional=number(self.quote_min_size),
            )
        )


class Products(msgspec.Struct, frozen=True):
    products: list[Product]


# The user channel


class PushedOrder(msgspec.Struct, frozen=True):
    """How far an order is. Older accounts of the channel have no prices, and of an order that has
    ended none tells its size: `leaves_quantity` is 0 then."""

    order_id: str
    product_id: str
    status: str
    cumulative_quantity: str = ""
    leaves_quantity: str = ""
    limit_price: str = ""

    @property
    def filled(self) -> Decimal:
        """Raises ValueError."""
        return number(self.cumulative_quantity)

    def differs_from(self, known: VenueOrder) -> bool:
        """Whether the order was edited, as far as this tells. Raises ValueError."""
        leaves, price = number(self.leaves_quantity), number(self.limit_price)
        resized = leaves != 0 and leaves + self.filled != known.order_qty
        return resized or (price != 0 and known.price is not None and price != known.price)


class Event(msgspec.Struct, frozen=True):
    """Of the channels `user` (orders) and `subscriptions`."""

    type: str = ""
    orders: list[PushedOrder] = []
    subscriptions: dict[str, list[str]] = {}


class Message(msgspec.Struct, frozen=True):
    channel: str = ""
    sequence_num: int | None = None
    timestamp: str = ""
    events: msgspec.Raw = msgspec.Raw()
    type: str = ""
    message: str = ""
    """Of `"type": "error"`."""
