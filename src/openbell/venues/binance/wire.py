"""What Binance says, decoded and put into our words: what its venues share, and the shapes of the
spot venue. Pure: bytes in, port types out.

Numbers that are money arrive as JSON strings and become Decimal without passing through a float.
An answer of another shape, or with a number that is not finite, raises `msgspec.ValidationError`:
it is no answer.

Shapes and codes: https://developers.binance.com/docs/binance-spot-api-docs (rest-api, errors,
user-data-stream).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Side
from openbell.venues.finite import Finite, checked_rules
from openbell.venues.port import (
    Balance,
    KeyPermissions,
    QueryCosts,
    VenueFill,
    VenueOrder,
)
from openbell.venues.problem import Meaning, Problem

_ZERO = Decimal(0)

SymbolOf = Callable[[str], str]
"""Unified symbol of a Binance one: `BTCUSDT` to `BTC/USDT`."""

_STATUS = {
    "NEW": OrdStatus.NEW,
    "PENDING_NEW": OrdStatus.PENDING_NEW,
    "PARTIALLY_FILLED": OrdStatus.PARTIALLY_FILLED,
    "FILLED": OrdStatus.FILLED,
    "PENDING_CANCEL": OrdStatus.PENDING_CANCEL,
    "CANCELED": OrdStatus.CANCELED,
    "REJECTED": OrdStatus.REJECTED,
    "EXPIRED": OrdStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrdStatus.EXPIRED,  # self-trade prevention
}


CLOCK_REFUSED = "-1021"
BAD_SYMBOL = "-1121"
_UNCERTAIN_CODES = {-1000, -1001, -1006, -1007}
"""Unknown error; internal error; unexpected response, execution status unknown; time-out,
execution status unknown. Whatever HTTP status they come with."""
_NOT_ALLOWED_CODES = {-1002, -1021, -1022, -2014, -2015}
_THROTTLED_STATUS = {418, 429}

_TOO_MANY_ORDERS = -1015
"""Comes with 429 as too much weight does, and concerns new orders alone: cancels stay open."""
_DUPLICATE_ID = -4116
"""On USD-M; spot says it with words."""

WEIGHT_PER_MINUTE = 6000
"""Of one address: `REQUEST_WEIGHT` in the answer of exchangeInfo; "LIMITS" in rest-api.md."""
QUERY_COSTS = QueryCosts(
    open_orders=6 / WEIGHT_PER_MINUTE,
    positions=20 / WEIGHT_PER_MINUTE,
    fills=2 * 20 / WEIGHT_PER_MINUTE,
    order=4 / WEIGHT_PER_MINUTE,
)
"""Weights of openOrders of a symbol (6), account (20), myTrades without an orderId (20: a page, and
the empty one that ends it) and order (4): each request's "Weight" in
github.com/binance/binance-spot-api-docs, rest-api.md."""
CANCELS_PER_S = WEIGHT_PER_MINUTE / 60
"""A cancel weighs 1, and does not count as an order."""


def problem_in(status: int, body: bytes) -> Problem | None:
    """What is wrong with an answer; None for a success.

    By HTTP status and Binance's code, not by the client library's exceptions: those are chosen by
    host name as well, so the same answer from a replaced URL raises another one, and the status
    is lost on the way.
    """
    error = _error_in(body)
    if error is None and 200 <= status < 300:
        return None
    code = str(error.code) if error is not None else f"http_{status}"
    text = error.msg if error is not None else f"HTTP {status} without Binance's own error"
    if status in _THROTTLED_STATUS and not (error is not None and error.code == _TOO_MANY_ORDERS):
        meaning = Meaning.THROTTLED
    elif status >= 500 or error is None:
        # Binance: a 5xx is not a failure, the execution status is unknown. An answer without a
        # code was written by something in between, which cannot know either.
        meaning = Meaning.UNCERTAIN
    else:
        meaning = meaning_of(error.code, error.msg)
    return Problem(meaning, code, text)


def meaning_of(code: int, msg: str) -> Meaning:
    """Of an error of Binance's own, whatever it came with."""
    if code in _UNCERTAIN_CODES:
        return Meaning.UNCERTAIN
    if code == -2013 or (code == -2011 and "Unknown order" in msg):
        return Meaning.NO_SUCH_ORDER
    if code == _DUPLICATE_ID or (code == -2010 and "Duplicate order" in msg):
        return Meaning.DUPLICATE
    if code in _NOT_ALLOWED_CODES:
        return Meaning.NOT_ALLOWED
    return Meaning.REFUSED


class _Error(msgspec.Struct, frozen=True):
    code: int
    msg: str = ""


def _error_in(body: bytes) -> _Error | None:
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return error if error.code < 0 else None


class Wire(Finite, frozen=True, rename="camel"):
    """Binance's REST objects."""


class ServerTime(Wire, frozen=True):
    server_time: int


class Ack(Wire, frozen=True):
    """Of an order or a cancel."""

    order_id: int


class Order(Wire, frozen=True):
    symbol: str
    order_id: int
    client_order_id: str
    price: Decimal
    orig_qty: Decimal
    executed_qty: Decimal
    status: str
    type: str
    side: Side
    time: int
    update_time: int
    stop_price: Decimal = _ZERO

    def to_port(self, symbol_of: SymbolOf) -> VenueOrder:
        """Raises KeyError for a symbol that is not known."""
        return VenueOrder(
            venue_order_id=str(self.order_id),
            cl_ord_id=ClOrdID(self.client_order_id),
            symbol=symbol_of(self.symbol),
            side=self.side,
            ord_type=ord_type_of(self.type),
            status=status_of(self.status),
            order_qty=self.orig_qty,
            cum_qty=self.executed_qty,
            price=self.price or None,
            stop_px=self.stop_price or None,
            created_ns=self.time * 1_000_000,
            updated_ns=self.update_time * 1_000_000,
        )


class Trade(Wire, frozen=True):
    id: int
    order_id: int
    price: Decimal
    qty: Decimal
    commission: Decimal
    commission_asset: str
    time: int
    is_buyer: bool
    is_maker: bool

    def to_port(self, symbol: str) -> VenueFill:
        return VenueFill(
            exec_id=str(self.id),
            venue_order_id=str(self.order_id),
            cl_ord_id=ClOrdID(""),
            symbol=symbol,
            side=Side.BUY if self.is_buyer else Side.SELL,
            last_qty=self.qty,
            last_px=self.price,
            fee=self.commission,
            fee_currency=self.commission_asset,
            is_maker=self.is_maker,
            venue_time_ns=self.time * 1_000_000,
        )


class AssetBalance(Wire, frozen=True):
    asset: str
    free: Decimal
    locked: Decimal

    def to_port(self) -> Balance:
        return Balance(currency=self.asset, free=self.free, locked=self.locked)


class Account(Wire, frozen=True):
    balances: list[AssetBalance]
    account_type: str = ""
    uid: int = 0


class ApiRestrictions(Wire, frozen=True):
    """What a key may do; wallet, "Get API Key Permission"."""

    ip_restrict: bool
    enable_reading: bool
    enable_withdrawals: bool
    enable_spot_and_margin_trading: bool = False
    enable_futures: bool = False
    trading_authority_expiration_time: int | None = None
    """In ms; only where the key is not restricted to addresses."""

    def to_port(self, *, trade: bool) -> KeyPermissions:
        """`trade`: the permission that this venue asks for."""
        notes = [] if self.ip_restrict else ["usable from any address"]
        if self.trading_authority_expiration_time:
            until = datetime.fromtimestamp(self.trading_authority_expiration_time / 1000, tz=UTC)
            notes.append(f"may trade until {until:%Y-%m-%d}")
        return KeyPermissions(trade=trade, withdraw=self.enable_withdrawals, note="; ".join(notes))


class BookTicker(Wire, frozen=True):
    bid_price: Decimal
    bid_qty: Decimal
    ask_price: Decimal
    ask_qty: Decimal

    def to_port(self, *, venue: str, symbol: str, received_ns: int) -> Quote:
        return Quote(
            venue=venue,
            symbol=symbol,
            bid_px=self.bid_price,
            bid_qty=self.bid_qty,
            ask_px=self.ask_price,
            ask_qty=self.ask_qty,
            venue_time_ns=0,  # Binance puts no time on it
            received_ns=received_ns,
        )


class SymbolInfo(Wire, frozen=True):
    symbol: str
    base_asset: str
    quote_asset: str
    quote_precision: int
    filters: list[dict[str, Any]]

    @property
    def unified(self) -> str:
        return f"{self.base_asset}/{self.quote_asset}"

    def to_port(self) -> InstrumentRules:
        """Raises KeyError or ValueError where a filter that every spot symbol has is missing."""
        filters = {entry["filterType"]: entry for entry in self.filters}
        lot = filters["LOT_SIZE"]
        notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
        # A tick of zero is Binance's way to say that the filter is off.
        tick = Decimal(filters["PRICE_FILTER"]["tickSize"]) or Decimal(1).scaleb(
            -self.quote_precision
        )
        return checked_rules(
            InstrumentRules(
                symbol=self.unified,
                base=self.base_asset,
                quote=self.quote_asset,
                tick_size=tick,
                lot_size=Decimal(lot["stepSize"]),
                min_qty=Decimal(lot["minQty"]),
                max_qty=Decimal(lot["maxQty"]),
                min_notional=Decimal(notional["minNotional"]) if notional else Decimal(0),
            )
        )


class RateLimit(Wire, frozen=True):
    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int


class ExchangeInfo(Wire, frozen=True):
    symbols: list[SymbolInfo]
    rate_limits: list[RateLimit] = msgspec.field(default_factory=list)


def weight_budget(limits: Sequence[RateLimit]) -> int | None:
    """Request weight per minute, as exchangeInfo tells it."""
    return next(
        (
            limit.limit
            for limit in limits
            if limit.rate_limit_type == "REQUEST_WEIGHT"
            and limit.interval == "MINUTE"
            and limit.interval_num == 1
        ),
        None,
    )


def weight_used(headers: Mapping[str, str]) -> int | None:
    """Request weight that this address has spent in the current minute."""
    text = headers.get("X-MBX-USED-WEIGHT-1M", "")
    return int(text) if text.isdecimal() else None


def plain(number: Decimal) -> str:
    """A number as Binance takes it: no exponent, no trailing zeros (they count as precision)."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def ord_type_of(name: str) -> OrdType:
    """LIMIT_MAKER is a post-only LIMIT. What waits for a price is a stop order, on whichever side
    of the market it waits (STOP_LOSS, TAKE_PROFIT)."""
    limit = "LIMIT" in name
    if name.startswith(("STOP_LOSS", "TAKE_PROFIT")):
        return OrdType.STOP_LIMIT if limit else OrdType.STOP
    return OrdType.LIMIT if limit else OrdType.MARKET


def status_of(name: str) -> OrdStatus:
    """A status this version does not know is in doubt, not guessed at."""
    return _STATUS.get(name, OrdStatus.UNKNOWN)
