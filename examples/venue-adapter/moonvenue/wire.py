"""What Moon says, in the port's words. Pure: bytes and port types, no connection, no clock.

The protocol is written down in README.md. Fields that it may add one day are ignored. A word that
is not in it (a new status, a new type of order) makes the whole answer unreadable: a status that is
guessed is worse than one that is not known.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from openbell.domain.market import InstrumentRules, Quote, base_quote
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, OrdType, Side, TimeInForce
from openbell.venues.port import Balance, VenueFill, VenueOrder
from openbell.venues.problem import Meaning, Problem

NS_PER_MS = 1_000_000

_STATUS = {
    "open": OrdStatus.NEW,
    "filled": OrdStatus.FILLED,
    "cancelled": OrdStatus.CANCELED,
    "expired": OrdStatus.EXPIRED,
}

# Decision: symbols. desk.toml says BTC/USD whatever the venue says. Moon's names are the same two
# currencies with another sign, so any name can be turned round. Where that is not so (XBTUSD,
# EURUSD.m), make a table at `connect` from what the venue lists, never from guessing at letters.


def moon_name(symbol: str) -> str:
    return symbol.replace("/", "-")


def unified(market: str) -> str:
    return market.replace("-", "/")


# Decision: what each error proves. Written as a list of what is known, not of what is feared: only
# a code that Moon documents as "nothing was done" is a refusal. All else is UNCERTAIN, which costs
# one question by ClOrdID. The other mistake, a rejection that was none, costs an order that rests
# while the books have forgotten it.

_MEANINGS = {
    "bad_key": Meaning.NOT_ALLOWED,
    "bad_signature": Meaning.NOT_ALLOWED,
    "bad_expiry": Meaning.NOT_ALLOWED,
    "not_permitted": Meaning.NOT_ALLOWED,
    "too_many_requests": Meaning.THROTTLED,
    "no_such_order": Meaning.NO_SUCH_ORDER,
    "not_open": Meaning.NO_SUCH_ORDER,
    # Not REFUSED: an order of this id exists, so an earlier send of it arrived.
    "client_id_used": Meaning.DUPLICATE,
    "bad_request": Meaning.REFUSED,
    "unknown_market": Meaning.REFUSED,
    "off_grid": Meaning.REFUSED,
    "too_small": Meaning.REFUSED,
    "too_large": Meaning.REFUSED,
    "no_funds": Meaning.REFUSED,
    "would_take": Meaning.REFUSED,
}


class Error(msgspec.Struct, frozen=True, kw_only=True):
    error: str
    message: str = ""


def problem_in(status: int, body: bytes) -> Problem | None:
    """What is wrong with an answer; None for a success. Raises nothing, whatever the bytes: it is
    asked in the middle of a submit.

    Status and code are both looked at. A 404 or 403 without Moon's own words is some proxy's on the
    way, and proves nothing about an order; a 5xx proves nothing with any words.
    """
    if 200 <= status < 300:
        return None
    try:
        error = msgspec.json.decode(body, type=Error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Problem(Meaning.UNCERTAIN, f"http_{status}", "an answer that is not Moon's")
    known = _MEANINGS.get(error.error, Meaning.UNCERTAIN)
    return Problem(Meaning.UNCERTAIN if status >= 500 else known, error.error, error.message)


# Decision: numbers. Moon's amounts are text, and msgspec makes a Decimal of the text: no digit is
# lost. (Of a JSON number msgspec does so as well. json.loads does not: 0.1 is a float there.)
# Times are integers in ms, and in the port integers in ns.


class Time(msgspec.Struct, frozen=True, kw_only=True):
    time: int


class Market(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    tick: Decimal
    step: Decimal
    min_size: Decimal
    max_size: Decimal
    min_value: Decimal

    def to_port(self) -> InstrumentRules:
        """As Moon states them. Where a venue states no minimum, say its step, and 0 for the value:
        rules that are too lax end in a refusal with the venue's words, and too strict ones keep a
        position from being closed."""
        symbol = unified(self.name)
        base, quote = base_quote(symbol)
        return InstrumentRules(
            symbol=symbol,
            base=base,
            quote=quote,
            tick_size=self.tick,
            lot_size=self.step,
            min_qty=self.min_size,
            max_qty=self.max_size,
            min_notional=self.min_value,
        )


class Markets(msgspec.Struct, frozen=True, kw_only=True):
    markets: list[Market]


class Ticker(msgspec.Struct, frozen=True, kw_only=True):
    market: str
    bid: Decimal
    bid_size: Decimal
    ask: Decimal
    ask_size: Decimal
    time: int

    def to_port(self, venue: str, received_ns: int) -> Quote:
        return Quote(
            venue=venue,
            symbol=unified(self.market),
            bid_px=self.bid,
            bid_qty=self.bid_size,
            ask_px=self.ask,
            ask_qty=self.ask_size,
            venue_time_ns=self.time * NS_PER_MS,
            received_ns=received_ns,
        )


class Funds(msgspec.Struct, frozen=True, kw_only=True):
    currency: str
    free: Decimal
    locked: Decimal

    def to_port(self) -> Balance:
        return Balance(currency=self.currency, free=self.free, locked=self.locked)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    can_trade: bool
    can_withdraw: bool
    balances: list[Funds]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    client_id: str
    """Empty where a person made the order on Moon's website."""
    market: str
    side: Literal["buy", "sell"]
    type: Literal["limit", "market", "stop"]
    """We send no stop orders. Others on the account may, and every class of order must be seen."""
    size: Decimal
    filled: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    status: Literal["open", "filled", "cancelled", "expired"]
    created: int
    updated: int

    def to_port(self) -> VenueOrder:
        status = _STATUS[self.status]
        if status is OrdStatus.NEW and self.filled:
            status = OrdStatus.PARTIALLY_FILLED  # Moon has no word of its own for it
        return VenueOrder(
            venue_order_id=self.id,
            cl_ord_id=ClOrdID(self.client_id),
            symbol=unified(self.market),
            side=Side(self.side.upper()),
            ord_type=OrdType(self.type.upper()),
            status=status,
            order_qty=self.size,
            cum_qty=self.filled,
            price=self.price,
            stop_px=self.stop_price,
            created_ns=self.created * NS_PER_MS,
            updated_ns=self.updated * NS_PER_MS,
        )


class OneOrder(msgspec.Struct, frozen=True, kw_only=True):
    order: Order


class OpenOrders(msgspec.Struct, frozen=True, kw_only=True):
    orders: list[Order]
    total: int
    """Of the account, whatever is on this page."""
    next: str | None
    """What `after` must say for the next page; None on the last."""


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    order: str
    client_id: str
    market: str
    side: Literal["buy", "sell"]
    size: Decimal
    price: Decimal
    fee: Decimal
    fee_currency: str
    maker: bool
    time: int

    def to_port(self) -> VenueFill:
        return VenueFill(
            exec_id=self.id,
            venue_order_id=self.order,
            cl_ord_id=ClOrdID(self.client_id),
            symbol=unified(self.market),
            side=Side(self.side.upper()),
            last_qty=self.size,
            last_px=self.price,
            fee=self.fee,  # the port's sign: positive is paid. Some venues have it the other way.
            fee_currency=self.fee_currency,
            is_maker=self.maker,
            venue_time_ns=self.time * NS_PER_MS,
        )


class Fills(msgspec.Struct, frozen=True, kw_only=True):
    fills: list[Fill]
    next: str | None


def order_id_in(body: bytes) -> str:
    """Of the answer to an order or a cancel. Raises msgspec.DecodeError, which `RestVenue` takes
    for what it is: a success that says nothing, so Unknown."""
    return msgspec.json.decode(body, type=OneOrder).order.id


def order_body(order: NewOrder) -> dict[str, str | bool] | str:
    """What is sent, or what is wrong with the order.

    Decision: nothing is rounded, cut to a minimum or given a default. An order that was made to fit
    is not the one that the books hold; what does not fit, the venue refuses.
    """
    body: dict[str, str | bool] = {
        "client_id": order.cl_ord_id,
        "market": moon_name(order.symbol),
        "side": order.side.lower(),
        "type": order.ord_type.lower(),
        "size": f"{order.order_qty:f}",
    }
    match order.ord_type:
        case OrdType.MARKET:
            if order.price is not None or order.post_only:
                return "a market order takes neither a price nor post-only"
            return body
        case OrdType.LIMIT:
            if order.price is None:
                return "a limit order needs a price"
            if order.post_only and order.time_in_force is not TimeInForce.GTC:
                return f"post-only and {order.time_in_force} exclude each other"
            return body | {
                "price": f"{order.price:f}",
                "tif": order.time_in_force.lower(),
                "post_only": order.post_only,
            }
        case _:
            return f"{order.ord_type} orders are not sent"
