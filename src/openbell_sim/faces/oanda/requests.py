"""Orders as clients describe them, and as the exchange takes them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

import msgspec

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.exchange import Market
from openbell_sim.faces.oanda import errors
from openbell_sim.faces.oanda.errors import RejectedError
from openbell_sim.faces.oanda.notes import ClientExtensions, Note, Protection
from openbell_sim.faces.oanda.times import end_of_trading_day, read_time
from openbell_sim.instruments import Instrument
from openbell_sim.refusals import Reason

T = TypeVar("T")

_TIMES_IN_FORCE = {
    "MARKET": ("FOK", "IOC"),
    "LIMIT": ("GTC", "GTD", "GFD", "FOK", "IOC"),
    "STOP": ("GTC", "GTD", "GFD"),
    "MARKET_IF_TOUCHED": ("GTC", "GTD", "GFD"),
    "TAKE_PROFIT": ("GTC", "GTD", "GFD"),
    "STOP_LOSS": ("GTC", "GTD", "GFD"),
}
"""The first is what an order has that names none ("Order Definitions")."""
_POSITION_FILLS = ("DEFAULT", "OPEN_ONLY", "REDUCE_FIRST", "REDUCE_ONLY")
_CLIENT_TEXT_MAX = 128
"""Characters of a client's id, tag or comment ("ClientID")."""


class Extensions(msgspec.Struct, frozen=True):
    id: str = ""
    tag: str = ""
    comment: str = ""

    def plain(self) -> ClientExtensions:
        return ClientExtensions(self.id, self.tag, self.comment)

    def checked(self, whose: str) -> ClientExtensions:
        """Raises RejectedError. `whose`: ORDER or TRADE."""
        for name in ("id", "tag", "comment"):
            text = getattr(self, name)
            if len(text) > _CLIENT_TEXT_MAX or not text.isprintable():
                raise RejectedError(f"CLIENT_{whose}_{name.upper()}_INVALID")
        return self.plain()


class OnFill(msgspec.Struct, frozen=True, rename="camel"):
    price: Decimal | None = None
    distance: Decimal | None = None
    client_extensions: Extensions = Extensions()


class OrderSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What a client may say of an order. Numbers come as text, or as JSON numbers."""

    type: str = ""
    instrument: str = ""
    units: Decimal | None = None
    price: Decimal | None = None
    price_bound: Decimal | None = None
    time_in_force: str = ""
    gtd_time: str = ""
    position_fill: str = "DEFAULT"
    client_extensions: Extensions = Extensions()
    trade_client_extensions: Extensions = Extensions()
    take_profit_on_fill: OnFill | None = None
    stop_loss_on_fill: OnFill | None = None
    trailing_stop_loss_on_fill: OnFill | None = None
    trade_id: str = msgspec.field(default="", name="tradeID")


class CreateBody(msgspec.Struct, frozen=True):
    order: OrderSpec


def decode(body: bytes, shape: type[T]) -> T:
    """Raises OandaError."""
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except msgspec.ValidationError as error:
        # "... - at `$.order.units`"
        _, found, path = str(error).rpartition("$.")
        if not found:
            raise errors.missing() from None
        raise errors.invalid(path.rstrip("`")) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise errors.missing() from None


@dataclass(frozen=True)
class Placing:
    """Who asks, and of which market."""

    account: str
    market: Market
    received_ns: int


def order_request(note: Note, units: Decimal, placing: Placing) -> OrderRequest:
    """How the exchange carries out an order of OANDA's."""
    item = placing.market.instrument
    side = Side.BUY if units > 0 else Side.SELL
    kind, price, stop = _carried_out(note, side, placing.market)
    in_force = note.time_in_force if note.time_in_force in ("FOK", "IOC") else "GTC"
    return OrderRequest(
        account=placing.account,
        cl_ord_id=note.client.id,
        symbol=item.symbol,
        side=side,
        ord_type=kind,
        time_in_force=TimeInForce(in_force),
        qty=abs(units),
        price=price,
        stop_price=stop,
        reduce_only=note.position_fill == "REDUCE_ONLY",
        note=note.text(),
        received_ns=placing.received_ns,
    )


def _carried_out(
    note: Note, side: Side, market: Market
) -> tuple[OrdType, Decimal | None, Decimal | None]:
    """Type, price and stop price at the exchange."""
    match note.kind:
        case "MARKET":
            kind = OrdType.MARKET if note.bound is None else OrdType.LIMIT
            return kind, note.bound, None
        case "LIMIT" | "TAKE_PROFIT":
            return OrdType.LIMIT, note.price, None
        case "MARKET_IF_TOUCHED" if not _is_beyond(note.price, side, market):
            # Touched from the better side: a limit order there fills at that price or better.
            return OrdType.LIMIT, note.price, None
    kind = OrdType.STOP if note.bound is None else OrdType.STOP_LIMIT
    return kind, note.bound, note.price


def _is_beyond(price: Decimal | None, side: Side, market: Market) -> bool:
    """Whether the market must move against the order to touch the price."""
    best = market.book.side(side.opposite).best
    if best is None or price is None:
        return False
    away = price - best * market.instrument.tick
    return away * side.sign > 0


def checked(spec: OrderSpec, item: Instrument | None, now_ns: int) -> tuple[Note, Decimal]:
    """The order as OANDA takes it: its note and signed units. Raises RejectedError."""
    if not spec.instrument:
        raise RejectedError("INSTRUMENT_MISSING")
    if item is None:
        raise RejectedError("INSTRUMENT_UNKNOWN", Reason.UNKNOWN_SYMBOL)
    kind = spec.type
    if spec.trailing_stop_loss_on_fill is not None:
        raise RejectedError("TRAILING_STOP_LOSS_ORDERS_NOT_SUPPORTED")
    if spec.position_fill not in _POSITION_FILLS:
        raise RejectedError("ORDER_FILL_POSITION_ACTION_INVALID")
    units = _units(spec.units, item)
    in_force, expires_ns = _time_in_force(spec, now_ns)
    price = None
    if kind != "MARKET":
        price = checked_price(spec.price, item, "PRICE")
    bound = spec.price_bound
    if bound is not None and bound % item.tick:
        raise RejectedError("PRICE_BOUND_PRECISION_EXCEEDED", Reason.PRICE_GRID)
    return Note(
        kind=kind,
        time_in_force=in_force,
        expires_ns=expires_ns,
        position_fill=spec.position_fill,
        price=price,
        bound=bound,
        client=spec.client_extensions.checked("ORDER"),
        trade_client=spec.trade_client_extensions.checked("TRADE"),
        take_profit=_protection(spec.take_profit_on_fill, item, "TAKE_PROFIT_ON_FILL"),
        stop_loss=_protection(spec.stop_loss_on_fill, item, "STOP_LOSS_ON_FILL"),
    ), units


def _units(units: Decimal | None, item: Instrument) -> Decimal:
    if units is None:
        raise RejectedError("UNITS_MISSING")
    if not units.is_finite() or not units:
        raise RejectedError("UNITS_INVALID", Reason.QUANTITY_GRID)
    if units % item.lot:
        raise RejectedError("UNITS_PRECISION_EXCEEDED", Reason.QUANTITY_GRID)
    if abs(units) < item.min_qty:
        # So spelt by OANDA.
        raise RejectedError("UNITS_MIMIMUM_NOT_MET", Reason.QUANTITY_GRID)
    if abs(units) > item.max_qty:
        raise RejectedError("UNITS_LIMIT_EXCEEDED", Reason.QUANTITY_GRID)
    return units


def checked_price(price: Decimal | None, item: Instrument, whose: str) -> Decimal:
    """Raises RejectedError. `whose`: PRICE, or STOP_LOSS_ON_FILL_PRICE and the like."""
    if price is None:
        raise RejectedError(f"{whose}_MISSING", Reason.PRICE_GRID)
    if not price.is_finite() or price <= 0:
        raise RejectedError(f"{whose}_INVALID", Reason.PRICE_GRID)
    if price % item.tick:
        raise RejectedError(f"{whose}_PRECISION_EXCEEDED", Reason.PRICE_GRID)
    return price


def _time_in_force(spec: OrderSpec, now_ns: int) -> tuple[str, int]:
    allowed = _TIMES_IN_FORCE[spec.type]
    in_force = spec.time_in_force or allowed[0]
    if in_force not in allowed:
        raise RejectedError("TIME_IN_FORCE_INVALID")
    if in_force == "GFD":
        return in_force, end_of_trading_day(now_ns)
    if in_force != "GTD":
        return in_force, 0
    if not spec.gtd_time:
        raise RejectedError("TIME_IN_FORCE_GTD_TIMESTAMP_MISSING")
    try:
        expires_ns = read_time(spec.gtd_time)
    except ValueError:
        raise errors.invalid("order.gtdTime") from None
    if expires_ns <= now_ns:
        raise RejectedError("TIME_IN_FORCE_GTD_TIMESTAMP_IN_PAST")
    return in_force, expires_ns


def _protection(given: OnFill | None, item: Instrument, whose: str) -> Protection | None:
    if given is None:
        return None
    price = checked_price(given.price, item, f"{whose}_PRICE")
    return Protection(price, given.client_extensions.checked("ORDER"))
