"""What OANDA says, decoded. Pure: bytes in, typed facts out.

Amounts are JSON text and become Decimal without passing through a float. An answer of another
shape, or with a number that is not finite, raises `msgspec.ValidationError`: it is no answer.

Shapes and codes: https://developer.oanda.com/rest-live-v20/ ("Transaction Definitions", "Order
Definitions", "Account Definitions", "Pricing Definitions", "Troubleshooting & Errors").
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal

import msgspec

from openbell.domain.market import InstrumentRules, Quote
from openbell.venues.finite import Finite, checked_rules
from openbell.venues.port import QueryCosts
from openbell.venues.problem import Meaning, Problem

ZERO = Decimal(0)

REQUESTS_PER_S = 120
"""Of one address; "Development Guide", "Rate Limiting"."""
_PER_MINUTE = 60 * REQUESTS_PER_S
QUERY_COSTS = QueryCosts(
    open_orders=3 / _PER_MINUTE,
    positions=2 / _PER_MINUTE,
    fills=1 / _PER_MINUTE,
    order=2 / _PER_MINUTE,
)
"""Open orders: the list, the count that proves it whole, the transactions since. Positions: the list
and the count. Fills: the transactions since. An order: these, and itself while it rests."""

_NO_SUCH_ORDER = {"NO_SUCH_ORDER", "ORDER_DOESNT_EXIST"}
_DUPLICATE = "CLIENT_ORDER_ID_ALREADY_EXISTS"
_NOT_ALLOWED_STATUS = {401, 403}


def plain(number: Decimal) -> str:
    """A number as OANDA takes it: no exponent, no trailing zeros (they count as precision)."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def instrument_of(symbol: str) -> str:
    """`EUR_USD` of `EUR/USD`."""
    return symbol.replace("/", "_")


def symbol_of(instrument: str) -> str:
    return instrument.replace("_", "/")


# Times.

_UNIX = re.compile(r"(\d+)(?:\.(\d{1,9}))?")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


def time_ns(text: str) -> int:
    """Of either of OANDA's formats (Accept-Datetime-Format). Raises ValueError."""
    if found := _UNIX.fullmatch(text):
        seconds = int(found[1])
    elif found := _RFC3339.fullmatch(text):
        seconds = int(datetime.fromisoformat(found[1] + "+00:00").timestamp())
    else:
        raise ValueError(f"{text!r} is not a time")
    return seconds * 1_000_000_000 + int((found[2] or "").ljust(9, "0"))


def unix_time(at_ns: int) -> str:
    return f"{at_ns // 1_000_000_000}.{at_ns % 1_000_000_000:09d}"


# Errors.


class _Rejection(msgspec.Struct, frozen=True, rename="camel"):
    reject_reason: str = ""


class _Error(msgspec.Struct, frozen=True, rename="camel"):
    error_message: str
    error_code: str = ""
    order_reject_transaction: _Rejection = _Rejection()


def problem_in(status: int, body: bytes) -> Problem | None:
    """What is wrong with an answer; None for a success."""
    if 200 <= status < 300:
        return None
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Written by something in between, which cannot know what became of the request.
        meaning = Meaning.THROTTLED if status == 429 else Meaning.UNCERTAIN
        return Problem(meaning, f"http_{status}", f"HTTP {status} without OANDA's own error")
    code = error.order_reject_transaction.reject_reason or error.error_code
    if status == 429:
        meaning = Meaning.THROTTLED
    elif status >= 500 or status < 400:
        meaning = Meaning.UNCERTAIN
    elif status in _NOT_ALLOWED_STATUS:
        meaning = Meaning.NOT_ALLOWED
    elif code in _NO_SUCH_ORDER:
        meaning = Meaning.NO_SUCH_ORDER
    elif code == _DUPLICATE:
        meaning = Meaning.DUPLICATE
    else:
        meaning = Meaning.REFUSED
    return Problem(meaning, code or f"http_{status}", error.error_message)


# Shapes.


class _Wire(Finite, frozen=True, kw_only=True, rename="camel"):
    """OANDA's objects; what the desk does not need is not read."""


class ClientExtensions(_Wire, frozen=True):
    id: str = ""


class TradeOpen(_Wire, frozen=True):
    trade_id: str = msgspec.field(name="tradeID")
    units: Decimal


class Transaction(_Wire, frozen=True):
    """Any of them: the fields of those that concern orders. `price` is a limit, a trigger, or what
    was filled at."""

    id: str
    time: str
    type: str
    order_id: str = msgspec.field(default="", name="orderID")
    client_order_id: str = msgspec.field(default="", name="clientOrderID")
    instrument: str = ""
    units: Decimal = ZERO
    price: Decimal | None = None
    full_vwap: Decimal | None = msgspec.field(default=None, name="fullVWAP")
    price_bound: Decimal | None = None
    reason: str = ""
    time_in_force: str = ""
    position_fill: str = ""
    client_extensions: ClientExtensions = ClientExtensions()
    client_extensions_modify: ClientExtensions = ClientExtensions()
    commission: Decimal = ZERO
    guaranteed_execution_fee: Decimal = ZERO
    trade_id: str = msgspec.field(default="", name="tradeID")
    trade_opened: TradeOpen | None = None

    @property
    def number(self) -> int:
        return int(self.id)

    @property
    def at_ns(self) -> int:
        return time_ns(self.time)

    @property
    def filled_at(self) -> Decimal:
        """Of a fill."""
        price = self.price if self.full_vwap is None else self.full_vwap
        if price is None:
            raise ValueError("a fill without a price")
        return price

    def __post_init__(self) -> None:
        super().__post_init__()
        # What raises here is no answer.
        _ = self.number, self.at_ns
        if self.type == "ORDER_FILL":
            _ = int(self.order_id), self.filled_at


class Transactions(_Wire, frozen=True):
    transactions: list[Transaction]
    last_transaction_id: str = msgspec.field(name="lastTransactionID")


class TransactionPages(_Wire, frozen=True):
    pages: list[str]
    last_transaction_id: str = msgspec.field(name="lastTransactionID")

    @property
    def first_number(self) -> int | None:
        """Id of the first transaction in the pages; None where there is none."""
        if not self.pages:
            return None
        found = re.search(r"[?&]from=(\d+)", self.pages[0])
        if found is None:
            raise ValueError("a page without its first id")
        return int(found[1])


class StreamLine(_Wire, frozen=True):
    """What all lines of a stream have in common."""

    type: str
    last_transaction_id: str = msgspec.field(default="", name="lastTransactionID")
    """Of a heartbeat."""


class OrderName(_Wire, frozen=True):
    id: str
    state: str = ""


class PendingOrders(_Wire, frozen=True):
    orders: list[OrderName]
    last_transaction_id: str = msgspec.field(name="lastTransactionID")


class OrderAnswer(_Wire, frozen=True):
    order: OrderName


class _Named(_Wire, frozen=True):
    id: str


class Created(_Wire, frozen=True):
    order_create_transaction: _Named


class _OfOrder(_Wire, frozen=True):
    order_id: str = msgspec.field(name="orderID")


class Cancelled(_Wire, frozen=True):
    order_cancel_transaction: _OfOrder


class AccountName(_Wire, frozen=True):
    id: str
    mt4_account_id: int | None = msgspec.field(default=None, name="mt4AccountID")


class Accounts(_Wire, frozen=True):
    accounts: list[AccountName]


class Account(_Wire, frozen=True):
    id: str
    currency: str
    balance: Decimal
    nav: Decimal = msgspec.field(name="NAV")
    pending_order_count: int
    open_position_count: int
    hedging_enabled: bool = False


class Summary(_Wire, frozen=True):
    account: Account
    last_transaction_id: str = msgspec.field(name="lastTransactionID")


class PositionSide(_Wire, frozen=True):
    units: Decimal
    average_price: Decimal | None = None


class Position(_Wire, frozen=True):
    instrument: str
    long: PositionSide
    short: PositionSide


class Positions(_Wire, frozen=True):
    positions: list[Position]
    last_transaction_id: str = msgspec.field(name="lastTransactionID")


class Instrument(_Wire, frozen=True):
    name: str
    display_precision: int
    trade_units_precision: int
    minimum_trade_size: Decimal
    maximum_order_units: Decimal

    def to_port(self) -> InstrumentRules:
        """OANDA has no least notional."""
        symbol = symbol_of(self.name)
        base, _, quote = symbol.partition("/")
        return checked_rules(
            InstrumentRules(
                symbol=symbol,
                base=base,
                quote=quote,
                tick_size=Decimal(1).scaleb(-self.display_precision),
                lot_size=Decimal(1).scaleb(-self.trade_units_precision),
                min_qty=self.minimum_trade_size,
                max_qty=self.maximum_order_units,
                min_notional=ZERO,
            )
        )


class Instruments(_Wire, frozen=True):
    instruments: list[Instrument]


class PriceBucket(_Wire, frozen=True):
    price: Decimal
    liquidity: Decimal


class Price(_Wire, frozen=True):
    """Of the pricing call, or a line of its stream."""

    instrument: str
    time: str
    bids: list[PriceBucket]
    asks: list[PriceBucket]
    tradeable: bool | None = None
    status: str = ""
    """`tradeable`, `non-tradeable` or `invalid`; OANDA calls it deprecated, and sends both."""

    @property
    def can_be_traded_on(self) -> bool:
        return self.status == "tradeable" if self.tradeable is None else self.tradeable

    def to_port(self, *, venue: str, received_ns: int) -> Quote | None:
        """None where a side has no price."""
        if not self.bids or not self.asks:
            return None
        return Quote(
            venue=venue,
            symbol=symbol_of(self.instrument),
            bid_px=self.bids[0].price,
            bid_qty=self.bids[0].liquidity,
            ask_px=self.asks[0].price,
            ask_qty=self.asks[0].liquidity,
            venue_time_ns=time_ns(self.time),
            received_ns=received_ns,
        )


class Prices(_Wire, frozen=True):
    prices: list[Price]
