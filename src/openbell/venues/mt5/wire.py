"""What the bridge says, decoded and put into our words. Pure: bytes in, port types out.

Amounts are text and become Decimal; volumes are lots and become base units by the symbol's contract
size. The protocol: docs/reference/venues/mt5.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Side
from openbell.venues.finite import Finite, checked_rules
from openbell.venues.port import VenueFill, VenueOrder, VenuePosition
from openbell.venues.problem import Meaning, Problem

PROTOCOL = 1
REQUESTS_PER_SECOND = 50
"""What one bridge serves; the protocol's own number."""

_STATUS = {
    "placed": OrdStatus.NEW,
    "partial": OrdStatus.PARTIALLY_FILLED,
    "filled": OrdStatus.FILLED,
    "canceled": OrdStatus.CANCELED,
    "rejected": OrdStatus.REJECTED,
    "expired": OrdStatus.EXPIRED,
    "unknown": OrdStatus.UNKNOWN,
}
_TYPES = {
    "market": OrdType.MARKET,
    "limit": OrdType.LIMIT,
    "stop": OrdType.STOP,
    "stop_limit": OrdType.STOP_LIMIT,
}


class Error(msgspec.Struct, frozen=True, kw_only=True):
    error: str
    message: str = ""
    retcode: int | None = None
    sent: bool | None = None
    """False: proven that nothing was done."""


def problem_in(status: int, body: bytes) -> Problem | None:
    """What is wrong with an answer; None for a success."""
    if 200 <= status < 300:
        return None
    try:
        error = msgspec.json.decode(body, type=Error)
    except msgspec.DecodeError:
        error = Error(error=f"http_{status}", message=f"HTTP {status} without the bridge's words")
    code = error.error if error.retcode is None else str(error.retcode)
    return Problem(_meaning(status, error), code, error.message)


def _meaning(status: int, error: Error) -> Meaning:
    if error.sent is not False or status >= 500:
        return Meaning.UNCERTAIN
    match error.error:
        case "unauthorized":
            return Meaning.NOT_ALLOWED
        case "busy":
            return Meaning.THROTTLED
        case "unknown_order" | "not_open":
            return Meaning.NO_SUCH_ORDER
        case "id_in_use":
            return Meaning.DUPLICATE
        case _:
            return Meaning.REFUSED


class Account(Finite, frozen=True, kw_only=True):
    protocol: int
    login: str
    server: str
    currency: str
    margin_mode: Literal["netting", "hedging"]
    balance: Decimal
    equity: Decimal
    margin: Decimal
    trade_allowed: bool
    connected: bool


class Symbol(Finite, frozen=True, kw_only=True):
    name: str
    base: str
    quote: str
    tick_size: Decimal
    contract_size: Decimal
    volume_min: Decimal
    volume_max: Decimal
    volume_step: Decimal
    trade_mode: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.tick_size, self.contract_size, self.volume_min, self.volume_step) <= 0:
            raise ValueError(f"{self.name} has no grid")

    def to_port(self, unified: str) -> InstrumentRules:
        return checked_rules(
            InstrumentRules(
                symbol=unified,
                base=self.base,
                quote=self.quote,
                tick_size=self.tick_size,
                lot_size=self.volume_step * self.contract_size,
                min_qty=self.volume_min * self.contract_size,
                max_qty=self.volume_max * self.contract_size,
                min_notional=Decimal(0),
            )
        )


class Symbols(msgspec.Struct, frozen=True, kw_only=True):
    symbols: list[Symbol]
    unknown: list[str]


class Tick(Finite, frozen=True, kw_only=True):
    symbol: str
    bid: Decimal
    ask: Decimal
    bid_volume: Decimal = Decimal(0)
    ask_volume: Decimal = Decimal(0)
    time_ms: int


class Ticks(msgspec.Struct, frozen=True, kw_only=True):
    ticks: list[Tick]


class Order(Finite, frozen=True, kw_only=True):
    id: str
    ticket: int
    symbol: str
    side: Literal["buy", "sell"]
    type: str
    volume: Decimal
    filled: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    state: str
    reduce_only: bool = False
    created_ms: int
    updated_ms: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.type not in _TYPES or self.state not in _STATUS:
            raise ValueError(f"{self.type} order, {self.state}: not of this protocol")


class OneOrder(msgspec.Struct, frozen=True, kw_only=True):
    order: Order


class OpenOrders(msgspec.Struct, frozen=True, kw_only=True):
    orders: list[Order]
    total: int


class Deal(Finite, frozen=True, kw_only=True):
    ticket: int
    order: int
    id: str
    symbol: str
    side: Literal["buy", "sell"]
    volume: Decimal
    price: Decimal
    commission: Decimal
    """Negative: paid."""
    currency: str
    maker: bool = False
    time_ms: int


class Deals(msgspec.Struct, frozen=True, kw_only=True):
    deals: list[Deal]
    more: bool


class Position(Finite, frozen=True, kw_only=True):
    ticket: int
    symbol: str
    side: Literal["buy", "sell"]
    volume: Decimal
    price_open: Decimal


class Positions(msgspec.Struct, frozen=True, kw_only=True):
    positions: list[Position]
    total: int


class Names:
    """The bridge's symbols beside ours, with each one's contract size.

    An order or position in a symbol that the desk does not declare keeps the bridge's name.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names`: the bridge's name by unified symbol."""
        self.bridge = dict(names)
        self._unified = {name: unified for unified, name in names.items()}
        self._contract: dict[str, Decimal] = {}

    def learn(self, symbols: list[Symbol]) -> None:
        self._contract = {symbol.name: symbol.contract_size for symbol in symbols}

    def unified(self, name: str) -> str:
        return self._unified.get(name, name)

    def declared(self, name: str) -> bool:
        return name in self._unified

    def units(self, name: str, volume: Decimal) -> Decimal:
        """Base units of so many lots. Lots of an undeclared symbol stay lots."""
        return volume * self._contract.get(name, Decimal(1))

    def lots(self, unified: str, quantity: Decimal) -> Decimal:
        return quantity / self._contract[self.bridge[unified]]

    def order(self, order: Order) -> VenueOrder:
        return VenueOrder(
            venue_order_id=str(order.ticket),
            cl_ord_id=ClOrdID(order.id),
            symbol=self.unified(order.symbol),
            side=Side(order.side.upper()),
            ord_type=_TYPES[order.type],
            status=_STATUS[order.state],
            order_qty=self.units(order.symbol, order.volume),
            cum_qty=self.units(order.symbol, order.filled),
            price=order.price,
            stop_px=order.stop_price,
            reduce_only=order.reduce_only,
            created_ns=order.created_ms * 1_000_000,
            updated_ns=order.updated_ms * 1_000_000,
        )

    def fill(self, deal: Deal) -> VenueFill:
        return VenueFill(
            exec_id=str(deal.ticket),
            venue_order_id=str(deal.order),
            cl_ord_id=ClOrdID(deal.id),
            symbol=self.unified(deal.symbol),
            side=Side(deal.side.upper()),
            last_qty=self.units(deal.symbol, deal.volume),
            last_px=deal.price,
            fee=-deal.commission,
            fee_currency=deal.currency,
            is_maker=deal.maker,
            venue_time_ns=deal.time_ms * 1_000_000,
        )

    def position(self, position: Position) -> VenuePosition:
        sign = 1 if position.side == "buy" else -1
        return VenuePosition(
            symbol=self.unified(position.symbol),
            quantity=sign * self.units(position.symbol, position.volume),
            leg=str(position.ticket),
            avg_px=position.price_open,
        )

    def quote(self, venue: str, tick: Tick, received_ns: int) -> Quote:
        return Quote(
            venue=venue,
            symbol=self.unified(tick.symbol),
            bid_px=tick.bid,
            bid_qty=self.units(tick.symbol, tick.bid_volume),
            ask_px=tick.ask,
            ask_qty=self.units(tick.symbol, tick.ask_volume),
            venue_time_ns=tick.time_ms * 1_000_000,
            received_ns=received_ns,
        )


def plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
