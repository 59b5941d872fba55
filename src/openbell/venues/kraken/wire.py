"""What Kraken says, decoded and put into our words. Pure: bytes in, port types out.

Numbers that are money arrive as JSON strings, or as JSON numbers on WebSocket v2, and become Decimal
without passing through a float. An answer of another shape, or with a number that is not finite,
raises `msgspec.ValidationError`: it is no answer.

Shapes and codes: https://docs.kraken.com (Spot REST).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Generic, Literal, TypeVar

import msgspec

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell.venues.finite import Finite, checked_rules
from openbell.venues.kraken.ids import from_kraken
from openbell.venues.port import Balance, VenueFill, VenueOrder

T = TypeVar("T")
NO_MAXIMUM = Decimal(10) ** 12
"""Kraken states no largest volume."""
BuyOrSell = Literal["buy", "sell"]
SymbolOf = Callable[[str], str]
"""Unified symbol of one of Kraken's; raises KeyError for what the desk does not trade."""
_NAMES = {"XBT": "BTC", "XDG": "DOGE"}
"""Where Kraken's name of a currency is not everybody's."""
_THEIRS = {ours: theirs for theirs, ours in _NAMES.items()}
_AUTO_EARN = ".F"
"""Ends the name of what of a currency earns rewards by itself and can be traded like the rest."""


def unified(name: str) -> str:
    """`BTC` for `XBT`, `BTC.S` for `XBT.S`."""
    head, dot, tail = name.partition(".")
    return _NAMES.get(head, head) + dot + tail


def altname(symbol: str) -> str:
    """`XBTUSD` for `BTC/USD`."""
    return "".join(_THEIRS.get(part, part) for part in symbol.split("/"))


class Reply(msgspec.Struct, Generic[T], frozen=True):
    """Every answer of the REST API that is a success."""

    result: T


class ServerTime(Finite, frozen=True):
    unixtime: int
    """Whole seconds."""


class AssetPair(Finite, frozen=True):
    altname: str
    base: str
    quote: str
    pair_decimals: int
    lot_decimals: int
    wsname: str = ""
    ordermin: Decimal | None = None
    costmin: Decimal | None = None
    tick_size: Decimal | None = None

    @property
    def symbol(self) -> str:
        return "/".join(unified(part) for part in self.wsname.split("/"))

    @property
    def v2_name(self) -> str:
        """On WebSocket v2, where currencies have everybody's names."""
        return self.symbol

    def to_port(self) -> InstrumentRules:
        base, _, quote = self.symbol.partition("/")
        lot = Decimal(1).scaleb(-self.lot_decimals)
        return checked_rules(
            InstrumentRules(
                symbol=self.symbol,
                base=base,
                quote=quote,
                tick_size=self.tick_size or Decimal(1).scaleb(-self.pair_decimals),
                lot_size=lot,
                min_qty=self.ordermin or lot,
                max_qty=NO_MAXIMUM,
                min_notional=self.costmin or Decimal(0),
            )
        )


class AssetInfo(Finite, frozen=True):
    altname: str


class Holding(Finite, frozen=True):
    balance: Decimal
    hold_trade: Decimal = Decimal(0)


def balances(held: Mapping[str, Holding], assets: Mapping[str, AssetInfo]) -> dict[str, Balance]:
    """By unified currency. What earns rewards by itself (`XBT.F`) is added to its currency, whose
    orders spend it too; what is staked or bonded stays apart."""
    found: dict[str, Balance] = {}
    for name, holding in held.items():
        head = name.removesuffix(_AUTO_EARN)
        known = assets.get(head)
        currency = unified(known.altname if known is not None else head)
        before = found.get(currency)
        free = holding.balance - holding.hold_trade + (before.free if before else 0)
        locked = holding.hold_trade + (before.locked if before else 0)
        found[currency] = Balance(currency=currency, free=free, locked=locked)
    return found


class Descr(msgspec.Struct, frozen=True):
    pair: str
    type: BuyOrSell
    ordertype: str
    price: str = "0"
    price2: str = "0"


_OPEN = {"open", "pending"}
_ENDED = {
    "closed": OrdStatus.FILLED,
    "canceled": OrdStatus.CANCELED,
    "expired": OrdStatus.EXPIRED,
}


class Order(Finite, frozen=True):
    descr: Descr
    status: str
    vol: Decimal
    vol_exec: Decimal
    opentm: Decimal
    closetm: Decimal = Decimal(0)
    cl_ord_id: str | None = None
    trades: list[str] = msgspec.field(default_factory=list)

    def to_port(self, txid: str, symbol_of: SymbolOf) -> VenueOrder:
        """Raises KeyError for a pair that is not known."""
        ord_type = ord_type_of(self.descr.ordertype)
        first, second = _price(self.descr.price), _price(self.descr.price2)
        stop = ord_type in (OrdType.STOP, OrdType.STOP_LIMIT)
        price = {OrdType.LIMIT: first, OrdType.STOP_LIMIT: second}.get(ord_type)
        opened_ns = to_ns(self.opentm)
        return VenueOrder(
            venue_order_id=txid,
            cl_ord_id=from_kraken(self.cl_ord_id),
            symbol=symbol_of(self.descr.pair),
            side=side_of(self.descr.type),
            ord_type=ord_type,
            status=self._status(),
            order_qty=self.vol,
            cum_qty=self.vol_exec,
            price=price,
            stop_px=first if stop else None,
            created_ns=opened_ns,
            updated_ns=to_ns(self.closetm) or opened_ns,
        )

    def _status(self) -> OrdStatus:
        """A status this version does not know is in doubt, not guessed at."""
        if self.status in _OPEN:
            return OrdStatus.PARTIALLY_FILLED if self.vol_exec else OrdStatus.NEW
        return _ENDED.get(self.status, OrdStatus.UNKNOWN)


class OpenOrders(msgspec.Struct, frozen=True):
    open: dict[str, Order]


class ClosedOrders(msgspec.Struct, frozen=True):
    closed: dict[str, Order]


class Trade(Finite, frozen=True):
    ordertxid: str
    pair: str
    time: Decimal
    type: BuyOrSell
    price: Decimal
    vol: Decimal
    fee: Decimal
    maker: bool = False

    def to_port(self, txid: str, symbol: str) -> VenueFill:
        return VenueFill(
            exec_id=txid,
            venue_order_id=self.ordertxid,
            cl_ord_id=from_kraken(None),
            symbol=symbol,
            side=side_of(self.type),
            last_qty=self.vol,
            last_px=self.price,
            fee=self.fee,
            # Our orders say `fciq`, and this list states every fee in the quote currency.
            fee_currency=symbol.partition("/")[2],
            is_maker=self.maker,
            venue_time_ns=to_ns(self.time),
        )


class TradesHistory(msgspec.Struct, frozen=True):
    trades: dict[str, Trade]
    count: int


class Added(msgspec.Struct, frozen=True):
    txid: list[str]


class Cancelled(msgspec.Struct, frozen=True):
    count: int
    pending: bool | None = None


class Armed(msgspec.Struct, frozen=True, rename="camel"):
    trigger_time: str


class StreamToken(msgspec.Struct, frozen=True):
    token: str


class KeyInfo(msgspec.Struct, frozen=True, rename="camel"):
    permissions: list[str]
    iban: str = ""
    valid_until: str = "0"
    ip_allowlist: list[str] = []


class Depth(Finite, frozen=True):
    bids: list[tuple[Decimal, Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal, Decimal]]

    def to_port(self, *, venue: str, symbol: str, received_ns: int) -> Quote | None:
        """None where a side is empty."""
        if not self.bids or not self.asks:
            return None
        (bid_px, bid_qty, _), (ask_px, ask_qty, _) = self.bids[0], self.asks[0]
        return Quote(
            venue=venue,
            symbol=symbol,
            bid_px=bid_px,
            bid_qty=bid_qty,
            ask_px=ask_px,
            ask_qty=ask_qty,
            venue_time_ns=0,  # a level's own time is not the quote's
            received_ns=received_ns,
        )


# Words.


def plain(number: Decimal) -> str:
    """A number as Kraken takes it: no exponent."""
    return format(number, "f")


def to_ns(seconds: Decimal) -> int:
    return int(seconds * 1_000_000_000)


def moment_ns(text: str) -> int:
    """An RFC 3339 time. Raises ValueError."""
    whole, dot, rest = text.partition(".")
    digits = rest.rstrip("Z") if dot else ""
    if dot and not digits.isdecimal():
        raise ValueError(f"{text!r} is no time in UTC")
    seconds = datetime.fromisoformat(whole.rstrip("Z") + "+00:00").timestamp()
    return int(seconds) * 1_000_000_000 + int(digits.ljust(9, "0")[:9] or 0)


def side_of(name: BuyOrSell) -> Side:
    return Side.BUY if name == "buy" else Side.SELL


def ord_type_of(name: str) -> OrdType:
    """What has a trigger counts as a stop order, whichever way it looks; an iceberg is a limit
    order. What this version does not know is shown as a limit order: it may rest."""
    if name in ("market", "settle-position"):
        return OrdType.MARKET
    if name.startswith(("stop-loss", "take-profit", "trailing-stop")):
        return OrdType.STOP_LIMIT if name.endswith("limit") else OrdType.STOP
    return OrdType.LIMIT


def _price(text: str) -> Decimal | None:
    """None for zero, and for a price that is relative to the market (`+5.0%`)."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() and value > 0 and not text.startswith(("+", "-")) else None
