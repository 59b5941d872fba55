"""What Alpaca says, decoded and put into our words. Pure: bytes in, port types out.

Amounts arrive as JSON strings (Trading API) or JSON numbers (market data) and become Decimal without
passing through a float. An answer of another shape, or with a number that is not finite, raises
`msgspec.ValidationError`: it is no answer.

Shapes: https://docs.alpaca.markets/reference (orders, positions, account activities, stock latest
quotes), https://docs.alpaca.markets/docs/websocket-streaming. Codes: docs/reference/venues/alpaca.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import msgspec

from openbell.domain.market import InstrumentRules, base_quote
from openbell.domain.market import Quote as PortQuote
from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Side
from openbell.errors import ConfigError
from openbell.venues.finite import Finite
from openbell.venues.port import (
    AccountSummary,
    Balance,
    KeyPermissions,
    OrderReport,
    VenueFill,
    VenueOrder,
)
from openbell.venues.problem import Meaning, Problem

SymbolOf = Callable[[str], str]
"""Unified symbol of an Alpaca one: `AAPL` to `AAPL/USD`. Raises KeyError for others."""

CURRENCY = "USD"
_ZERO = Decimal(0)
_NS = 1_000_000_000

_DUPLICATE = "client_order_id must be unique"
_NOT_FOUND = 40410000
_THROTTLED = 42910000
_UNAUTHORIZED = {40110000, 40110001}


def problem_in(status: int, body: bytes) -> Problem | None:
    """What is wrong with an answer; None for a success.

    Alpaca uses one code for many refusals (40310000 for anything the account may not do, 42210000
    for anything wrong with an order), so a duplicate is told by its words.
    """
    if 200 <= status < 300:
        return None
    error = _error_in(body)
    code = str(error.code) if error is not None and error.code else f"http_{status}"
    text = error.message if error is not None else f"HTTP {status} without Alpaca's own error"
    if status == 429 or (error is not None and error.code == _THROTTLED):
        meaning = Meaning.THROTTLED
    elif (status == 401 and not _is_page(body)) or (
        error is not None and error.code in _UNAUTHORIZED
    ):
        meaning = Meaning.NOT_ALLOWED
    elif error is not None and status == 403 and not error.code:
        # {"message": "forbidden."}: keys of another environment.
        meaning = Meaning.NOT_ALLOWED
    elif error is None or not error.code or status >= 500:
        # A redirect, a gateway's page: whoever wrote it cannot know what Alpaca did.
        meaning = Meaning.UNCERTAIN
    elif error.code == _NOT_FOUND:
        meaning = Meaning.NO_SUCH_ORDER
    elif _DUPLICATE in error.message.replace(" order id", "_order_id"):
        meaning = Meaning.DUPLICATE
    else:
        meaning = Meaning.REFUSED
    return Problem(meaning, code, text)


def _is_page(body: bytes) -> bool:
    """HTML: from a proxy or a gateway, never from Alpaca."""
    return body.lstrip()[:1] == b"<"


class _Error(msgspec.Struct, frozen=True):
    message: str
    code: int = 0


def _error_in(body: bytes) -> _Error | None:
    try:
        return msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Clock(Finite, frozen=True):
    timestamp: str
    is_open: bool


class Account(Finite, frozen=True):
    account_number: str
    status: str
    currency: str
    cash: Decimal
    equity: Decimal
    multiplier: Decimal = Decimal(1)
    long_market_value: Decimal | None = None
    short_market_value: Decimal | None = None
    """Not positive. Both are of all positions; where one is not told, nothing is known of them."""
    trading_blocked: bool = False
    account_blocked: bool = False
    trade_suspended_by_user: bool = False

    def to_port(self) -> AccountSummary:
        kind = "cash" if self.multiplier <= 1 else f"margin x{plain(self.multiplier)}"
        return AccountSummary(
            account_id=self.account_number,
            kind=kind,
            currency=self.currency,
            equity=self.equity,
            active=True,
        )

    def balance(self) -> Balance:
        """Cash; negative while money is borrowed. What open orders reserve is buying power, and
        never cash, so nothing is locked."""
        return Balance(currency=self.currency, free=self.cash, locked=_ZERO)

    def permissions(self) -> KeyPermissions:
        """Alpaca's keys are not restricted one by one; its accounts are."""
        blocked = [
            name
            for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
            if getattr(self, name)
        ]
        if self.status != "ACTIVE":
            blocked.append(f"status {self.status}")
        return KeyPermissions(trade=not blocked, note=", ".join(blocked))


class Asset(msgspec.Struct, frozen=True):
    symbol: str
    kind: str = msgspec.field(name="class")
    tradable: bool
    fractionable: bool
    status: str

    def to_port(self, symbol: str) -> InstrumentRules:
        """Source: "Placing Orders" (sub-penny increments), "Fractional Trading".

        Below one dollar Alpaca takes steps of 0.0001; one step for all prices is 0.01. A whole
        share has no minimum value and no minimum is stated for it; parts of one begin at a dollar.
        No largest order is stated; `max_qty` is ours.
        """
        base, _, quote = symbol.partition("/")
        lot = Decimal(1).scaleb(-FRACTION_DIGITS) if self.fractionable else Decimal(1)
        return InstrumentRules(
            symbol=symbol,
            base=base,
            quote=quote,
            tick_size=Decimal("0.01"),
            lot_size=lot,
            min_qty=lot,
            max_qty=Decimal(1_000_000),
            min_notional=Decimal(1) if self.fractionable else _ZERO,
        )


FRACTION_DIGITS = 9
"""`qty` "can take up to 9 decimal points": reference, "Create an Order"."""


class Order(Finite, frozen=True):
    id: str
    client_order_id: str
    symbol: str
    side: Literal["buy", "sell"]
    type: str
    status: str
    filled_qty: Decimal
    created_at: str
    updated_at: str
    submitted_at: str | None = None
    qty: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None

    def to_port(self, symbol_of: SymbolOf) -> VenueOrder:
        """Raises KeyError for a symbol that is not known. An order given in dollars has no
        quantity; what is filled of it stands for it."""
        return VenueOrder(
            venue_order_id=self.id,
            cl_ord_id=ClOrdID(self.client_order_id),
            symbol=symbol_of(self.symbol),
            side=_side(self.side),
            ord_type=_TYPES.get(self.type, OrdType.STOP),
            status=_status(self.status, self.filled_qty),
            order_qty=self.filled_qty if self.qty is None else self.qty,
            cum_qty=self.filled_qty,
            price=self.limit_price,
            stop_px=self.stop_price,
            created_ns=time_ns(self.created_at),
            updated_ns=time_ns(self.updated_at),
        )


class Ack(msgspec.Struct, frozen=True):
    id: str


class CancelRow(msgspec.Struct, frozen=True):
    """One order's part in the answer to a mass cancel."""

    id: str
    status: int


class Activity(Finite, frozen=True):
    """A fill."""

    id: str
    order_id: str
    symbol: str
    side: str
    qty: Decimal
    price: Decimal
    cum_qty: Decimal
    transaction_time: str

    def to_port(self, symbol: str, cl_ord_id: ClOrdID) -> VenueFill:
        return VenueFill(
            exec_id=exec_id(self.order_id, self.cum_qty),
            venue_order_id=self.order_id,
            cl_ord_id=cl_ord_id,
            symbol=symbol,
            side=_side(self.side),
            last_qty=self.qty,
            last_px=self.price,
            fee=_ZERO,
            fee_currency=CURRENCY,
            is_maker=False,
            venue_time_ns=time_ns(self.transaction_time),
        )


class Position(Finite, frozen=True):
    symbol: str
    qty: Decimal
    side: Literal["long", "short"]
    avg_entry_price: Decimal
    market_value: Decimal | None = None
    """Negative of a short one. None where there is no price."""

    @property
    def quantity(self) -> Decimal:
        """Signed, whichever sign a short one was told with."""
        return abs(self.qty) if self.side == "long" else -abs(self.qty)


SAME_WORTH = Decimal("0.005")
"""How far apart the account's figure and the sum of the list may be, as a part of the larger: the
two are asked one after the other, and prices move meanwhile. Ours."""


def is_worth(positions: Sequence[Position], account: Account) -> bool:
    """Whether the list can be all that the account holds, by what both say it is worth: the long
    positions and the short ones, each for itself. What is not told agrees with nothing."""
    for side, told in (("long", account.long_market_value), ("short", account.short_market_value)):
        values = [each.market_value for each in positions if each.side == side]
        if told is None or None in values:
            return False
        listed = sum((abs(value) for value in values if value is not None), _ZERO)
        if abs(listed - abs(told)) > SAME_WORTH * max(listed, abs(told)):
            return False
    return True


class Quote(Finite, frozen=True):
    ask_px: Decimal = msgspec.field(name="ap")
    bid_px: Decimal = msgspec.field(name="bp")
    ask_qty: Decimal = msgspec.field(name="as")
    bid_qty: Decimal = msgspec.field(name="bs")
    at: str = msgspec.field(name="t")

    def to_port(self, *, venue: str, symbol: str, received_ns: int) -> PortQuote:
        """A side that nobody quotes is 0 here, so the quote is not sound."""
        return PortQuote(
            venue=venue,
            symbol=symbol,
            bid_px=self.bid_px,
            bid_qty=self.bid_qty,
            ask_px=self.ask_px,
            ask_qty=self.ask_qty,
            venue_time_ns=time_ns(self.at),
            received_ns=received_ns,
        )


class LatestQuotes(msgspec.Struct, frozen=True):
    quotes: dict[str, Quote]


class TradeUpdate(Finite, frozen=True):
    """Of the `trade_updates` stream."""

    event: str
    order: Order
    timestamp: str | None = None
    price: Decimal | None = None
    qty: Decimal | None = None

    def to_port(self, symbol_of: SymbolOf) -> OrderReport:
        """Raises KeyError for a symbol that is not known."""
        order = self.order.to_port(symbol_of)
        if self.event not in ("fill", "partial_fill") or self.qty is None or self.price is None:
            return OrderReport(order=order)
        fill = VenueFill(
            exec_id=exec_id(self.order.id, self.order.filled_qty),
            venue_order_id=order.venue_order_id,
            cl_ord_id=order.cl_ord_id,
            symbol=order.symbol,
            side=order.side,
            last_qty=self.qty,
            last_px=self.price,
            fee=_ZERO,
            fee_currency=CURRENCY,
            is_maker=False,
            venue_time_ns=time_ns(self.timestamp or self.order.updated_at),
        )
        return OrderReport(order=order, fill=fill)


def alpaca_symbol(symbol: str) -> str:
    """`AAPL` for `AAPL/USD`. Raises ConfigError for what is not in dollars."""
    base, currency = base_quote(symbol)
    if currency != CURRENCY:
        raise ConfigError(
            f"Alpaca trades stocks in {CURRENCY}, and not {symbol}",
            hint=f"write {base}/{CURRENCY}",
        )
    return base


def exec_id(order_id: str, cum_qty: Decimal) -> str:
    """A name of a fill that stream and history agree on.

    The stream has an `execution_id` and the history an `id`, and nothing says that the one is in
    the other. The quantity filled so far is in both, and grows with every fill of an order.
    """
    return f"{order_id}:{plain(cum_qty)}"


def time_ns(text: str) -> int:
    """Of an RFC 3339 time with up to nine digits of a second. Raises ValueError."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    # The digits are read by themselves: datetime keeps six of them, and a float fewer.
    whole_s = int(at.replace(microsecond=0).timestamp())
    fraction = text[19:].removeprefix(".") if text[19:20] == "." else ""
    digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    return whole_s * _NS + int(digits[:9].ljust(9, "0"))


def rfc3339(at_ns: int) -> str:
    at = datetime.fromtimestamp(at_ns // _NS, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ns % _NS:09d}Z"


def plain(number: Decimal) -> str:
    """Without exponent and trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


_TYPES = {
    "market": OrdType.MARKET,
    "limit": OrdType.LIMIT,
    "stop": OrdType.STOP,
    "stop_limit": OrdType.STOP_LIMIT,
    "trailing_stop": OrdType.STOP,
}

_STATUS = {
    "new": OrdStatus.NEW,
    "accepted": OrdStatus.NEW,  # Alpaca has it and has not routed it yet: it can be cancelled
    "pending_new": OrdStatus.NEW,
    "accepted_for_bidding": OrdStatus.NEW,
    "pending_review": OrdStatus.NEW,
    "pending_replace": OrdStatus.NEW,
    "held": OrdStatus.NEW,  # a leg that waits for another one
    "stopped": OrdStatus.NEW,  # a trade is guaranteed and has not happened
    "suspended": OrdStatus.NEW,
    "done_for_day": OrdStatus.NEW,  # of a GTC order; it goes on tomorrow
    "partially_filled": OrdStatus.PARTIALLY_FILLED,
    "filled": OrdStatus.FILLED,
    "canceled": OrdStatus.CANCELED,
    "expired": OrdStatus.EXPIRED,
    "replaced": OrdStatus.CANCELED,  # by an order with another id, listed by itself
    "rejected": OrdStatus.REJECTED,
    "pending_cancel": OrdStatus.PENDING_CANCEL,
}


def _status(name: str, filled_qty: Decimal) -> OrdStatus:
    """A status this version does not know is in doubt, not guessed at (`calculated`, too: it is
    said of filled orders and of others)."""
    status = _STATUS.get(name, OrdStatus.UNKNOWN)
    return OrdStatus.PARTIALLY_FILLED if status is OrdStatus.NEW and filled_qty else status


def _side(name: str) -> Side:
    """An activity's side may be `sell_short`."""
    return Side.BUY if name == "buy" else Side.SELL
