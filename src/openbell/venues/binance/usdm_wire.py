"""The shapes of the USD-M venue, put into our words. Pure: bytes in, port types out.

Conditional orders are kept by a service of their own (Algo Service, since 2025-12-09) with numbers
of their own; ours of such an order is `algo:` and its number. When one is triggered, another order
appears in the matching engine, and that of the service ends.

Shapes and weights: developers.binance.com, derivatives, usds-margined-futures (trade, account).
"""

from __future__ import annotations

from decimal import Decimal

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Side
from openbell.venues.binance.wire import RateLimit, SymbolOf, Wire, status_of
from openbell.venues.finite import checked_rules
from openbell.venues.port import (
    Balance,
    QueryCosts,
    VenueFill,
    VenueOrder,
    VenuePosition,
)

ALGO = "algo:"
"""Before the number of a conditional order."""

WEIGHT_PER_MINUTE = 2400
"""Of one address: `REQUEST_WEIGHT` in the answer of exchangeInfo."""
QUERY_COSTS = QueryCosts(
    open_orders=2 / WEIGHT_PER_MINUTE,
    positions=5 / WEIGHT_PER_MINUTE,
    fills=2 * 5 / WEIGHT_PER_MINUTE,
    order=1 / WEIGHT_PER_MINUTE,
)
"""Weights of openOrders and openAlgoOrders of a symbol (1 each), positionRisk (5), userTrades (5: a
page, and the empty one that ends it) and order (1): each request's "Request Weight"."""
CANCELS_PER_S = WEIGHT_PER_MINUTE / 60
"""A cancel weighs 1, and does not count as an order."""

_ZERO = Decimal(0)
_NS = 1_000_000


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
    reduce_only: bool

    def to_port(self, symbol_of: SymbolOf) -> VenueOrder:
        """Raises KeyError for a symbol that is not known."""
        return VenueOrder(
            venue_order_id=str(self.order_id),
            cl_ord_id=ClOrdID(self.client_order_id),
            symbol=symbol_of(self.symbol),
            side=self.side,
            ord_type=plain_type(self.type),
            status=status_of(self.status),
            order_qty=self.orig_qty,
            cum_qty=self.executed_qty,
            price=self.price or None,
            created_ns=self.time * _NS,
            updated_ns=self.update_time * _NS,
            reduce_only=self.reduce_only,
        )


class AlgoOrder(Wire, frozen=True):
    """A conditional order."""

    symbol: str
    algo_id: int
    client_algo_id: str
    order_type: str
    side: Side
    algo_status: str
    create_time: int
    update_time: int
    reduce_only: bool
    quantity: Decimal | None = None
    """None or 0 for one that closes the whole position."""
    trigger_price: Decimal | None = None
    """None for one that trails the market."""
    price: Decimal | None = None
    close_position: bool = False

    def to_port(self, symbol_of: SymbolOf) -> VenueOrder:
        """Raises KeyError for a symbol that is not known."""
        return VenueOrder(
            venue_order_id=f"{ALGO}{self.algo_id}",
            cl_ord_id=ClOrdID(self.client_algo_id),
            symbol=symbol_of(self.symbol),
            side=self.side,
            ord_type=_stop_type(self.order_type),
            status=_algo_status(self.algo_status),
            order_qty=self.quantity or _ZERO,
            cum_qty=_ZERO,
            price=self.price or None,
            stop_px=self.trigger_price or None,
            created_ns=self.create_time * _NS,
            updated_ns=self.update_time * _NS,
            reduce_only=self.reduce_only or self.close_position,
        )


class Cancelled(Wire, frozen=True):
    """One entry of a batch: the order, or an error."""

    client_order_id: str = ""
    order_id: int | None = None
    code: int | None = None
    msg: str = ""


class Done(Wire, frozen=True):
    """The answer to a mass cancel."""

    code: int


class AlgoDone(Wire, frozen=True):
    """The answer to the cancel of a conditional order."""

    algo_id: int


class Countdown(Wire, frozen=True):
    symbol: str


class PositionMode(Wire, frozen=True):
    dual_side_position: bool


class ListenKey(Wire, frozen=True):
    listen_key: str


class Trade(Wire, frozen=True):
    id: int
    order_id: int
    side: Side
    price: Decimal
    qty: Decimal
    commission: Decimal
    commission_asset: str
    time: int
    maker: bool

    def to_port(self, symbol: str) -> VenueFill:
        return VenueFill(
            exec_id=str(self.id),
            venue_order_id=str(self.order_id),
            cl_ord_id=ClOrdID(""),
            symbol=symbol,
            side=self.side,
            last_qty=self.qty,
            last_px=self.price,
            fee=self.commission,
            fee_currency=self.commission_asset,
            is_maker=self.maker,
            venue_time_ns=self.time * _NS,
        )


class Asset(Wire, frozen=True):
    asset: str
    wallet_balance: Decimal
    open_order_initial_margin: Decimal

    def to_port(self) -> Balance:
        """Locked is what open orders hold; margin of positions is not counted, as it is no order's."""
        locked = self.open_order_initial_margin
        return Balance(currency=self.asset, free=self.wallet_balance - locked, locked=locked)


class Account(Wire, frozen=True):
    total_margin_balance: Decimal
    assets: list[Asset]


class FuturesBalance(Wire, frozen=True):
    account_alias: str


class Position(Wire, frozen=True):
    symbol: str
    position_side: str
    position_amt: Decimal
    entry_price: Decimal

    def to_port(self, symbol: str) -> VenuePosition:
        return VenuePosition(
            symbol=symbol,
            quantity=self.position_amt,
            leg="" if self.position_side == "BOTH" else self.position_side,
            avg_px=self.entry_price or None,
        )


class BookTicker(Wire, frozen=True):
    bid_price: Decimal
    bid_qty: Decimal
    ask_price: Decimal
    ask_qty: Decimal
    time: int

    def to_port(self, *, venue: str, symbol: str, received_ns: int) -> Quote:
        return Quote(
            venue=venue,
            symbol=symbol,
            bid_px=self.bid_price,
            bid_qty=self.bid_qty,
            ask_px=self.ask_price,
            ask_qty=self.ask_qty,
            venue_time_ns=self.time * _NS,
            received_ns=received_ns,
        )


class SymbolFilter(Wire, frozen=True):
    filter_type: str
    tick_size: Decimal = _ZERO
    step_size: Decimal = _ZERO
    min_qty: Decimal = _ZERO
    max_qty: Decimal = _ZERO
    notional: Decimal = _ZERO


class SymbolInfo(Wire, frozen=True):
    symbol: str
    contract_type: str
    base_asset: str
    quote_asset: str
    filters: list[SymbolFilter]

    @property
    def unified(self) -> str:
        return f"{self.base_asset}/{self.quote_asset}"

    def to_port(self) -> InstrumentRules:
        """Raises KeyError where a filter that every symbol has is missing."""
        filters = {entry.filter_type: entry for entry in self.filters}
        lot, least = filters["LOT_SIZE"], filters.get("MIN_NOTIONAL")
        return checked_rules(
            InstrumentRules(
                symbol=self.unified,
                base=self.base_asset,
                quote=self.quote_asset,
                tick_size=filters["PRICE_FILTER"].tick_size,
                lot_size=lot.step_size,
                min_qty=lot.min_qty,
                max_qty=lot.max_qty,
                min_notional=least.notional if least is not None else _ZERO,
            )
        )


class ExchangeInfo(Wire, frozen=True):
    symbols: list[SymbolInfo]
    rate_limits: list[RateLimit]

    @property
    def perpetuals(self) -> dict[str, SymbolInfo]:
        """By unified symbol. Contracts with an end share base and quote with them."""
        return {
            entry.unified: entry for entry in self.symbols if entry.contract_type == "PERPETUAL"
        }


def plain_type(name: str) -> OrdType:
    """In the matching engine."""
    return OrdType.MARKET if "MARKET" in name else OrdType.LIMIT


def _stop_type(name: str) -> OrdType:
    """STOP and TAKE_PROFIT have a limit price; the others end in _MARKET."""
    return OrdType.STOP if name.endswith("_MARKET") else OrdType.STOP_LIMIT


_ALGO_STATUS = {
    "NEW": OrdStatus.NEW,
    "TRIGGERING": OrdStatus.NEW,
    "TRIGGERED": OrdStatus.EXPIRED,
    "FINISHED": OrdStatus.EXPIRED,
    "CANCELED": OrdStatus.CANCELED,
    "REJECTED": OrdStatus.REJECTED,
    "EXPIRED": OrdStatus.EXPIRED,
}
"""TRIGGERED and FINISHED: the order of the matching engine stands in its place."""


def _algo_status(name: str) -> OrdStatus:
    return _ALGO_STATUS.get(name, OrdStatus.UNKNOWN)
