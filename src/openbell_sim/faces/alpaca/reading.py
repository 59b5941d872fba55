"""The body of `POST /v2/orders`, read strictly: a new order, or Alpaca's words for what is wrong."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal
from typing import TypeVar

import msgspec

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim.checks import OrderRequest
from openbell_sim.faces.alpaca import errors, names
from openbell_sim.faces.alpaca.orders import Note, note_text
from openbell_sim.faces.alpaca.stocks import QTY_DIGITS

S = TypeVar("S")

CLIENT_ID_MAX = 128
"""Characters: `client_order_id` of "Create an Order"."""
_ONE_LOT = Decimal(1).scaleb(-QTY_DIGITS)

_TYPES = {
    "market": OrdType.MARKET,
    "limit": OrdType.LIMIT,
    "stop": OrdType.STOP,
    "stop_limit": OrdType.STOP_LIMIT,
}
_LIMITED = (OrdType.LIMIT, OrdType.STOP_LIMIT)
_STOPPED = (OrdType.STOP, OrdType.STOP_LIMIT)
_TIMES_IN_FORCE = {
    "day": TimeInForce.GTC,
    "gtc": TimeInForce.GTC,
    "ioc": TimeInForce.IOC,
    "fok": TimeInForce.FOK,
}
"""A day is what the note says; the exchange knows no end of one."""
_INTENTS = ("", "buy_to_open", "buy_to_close", "sell_to_open", "sell_to_close")


class OrderBody(msgspec.Struct):
    """Numbers come as text or as JSON numbers; both are read exactly."""

    symbol: str | None = None
    qty: Decimal | None = None
    notional: Decimal | None = None
    side: str | None = None
    type: str | None = None
    time_in_force: str | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    extended_hours: bool | None = None
    client_order_id: str | None = None
    order_class: str | None = None
    take_profit: object = None
    stop_loss: object = None
    position_intent: str | None = None


class ReplaceBody(msgspec.Struct):
    qty: Decimal | None = None
    time_in_force: str | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail: Decimal | None = None
    client_order_id: str | None = None


def decoded(body: bytes, shape: type[S]) -> S:
    """Raises AlpacaError."""
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.malformed("request body format is invalid") from error


Price = Callable[[str, Side], Decimal | None]
"""What a symbol costs now for this side; None: nobody knows."""


def new_order(body: OrderBody, *, account: str, price_of: Price, received_ns: int) -> OrderRequest:
    """Raises AlpacaError. What depends on the position is not looked at here."""
    symbol = _needed(body.symbol, "symbol")
    side = _choice(body.side, "side", {"buy": Side.BUY, "sell": Side.SELL})
    if body.type == "trailing_stop":
        raise errors.unprocessable("this venue simulates no trailing_stop orders")
    ord_type = _choice(body.type, "type", _TYPES)
    if body.time_in_force in ("opg", "cls"):
        raise errors.unprocessable(f"this venue simulates no auctions: {body.time_in_force}")
    time_in_force = _choice(body.time_in_force, "time_in_force", _TIMES_IN_FORCE)
    if body.order_class not in (None, "", "simple") or body.take_profit or body.stop_loss:
        raise errors.unprocessable("this venue simulates simple orders only, of one leg")
    _check_prices(body, ord_type)
    if body.position_intent not in (None, *_INTENTS):
        raise errors.malformed("invalid position_intent specified")
    extended = bool(body.extended_hours)
    if extended and (ord_type is not OrdType.LIMIT or body.time_in_force not in ("day", "gtc")):
        raise errors.unprocessable("extended hours order must be DAY or GTC limit orders")
    qty = _quantity(body, symbol, side, price_of)
    if qty % 1 and body.time_in_force != "day":
        raise errors.unprocessable("fractional orders must be DAY orders")
    note = Note(
        time_in_force=body.time_in_force or "",
        extended_hours=extended,
        notional=body.notional,
        position_intent=body.position_intent or "",
    )
    return OrderRequest(
        account=account,
        cl_ord_id=client_id(body.client_order_id),
        symbol=symbol,
        side=side,
        ord_type=ord_type,
        time_in_force=time_in_force,
        qty=qty,
        price=body.limit_price,
        stop_price=body.stop_price,
        note=note_text(note),
        received_ns=received_ns,
    )


def client_id(given: str | None) -> str:
    """The client's, or a new one. Raises AlpacaError."""
    if not given:
        return str(uuid.uuid4())
    if len(given) > CLIENT_ID_MAX:
        raise errors.malformed(f"client_order_id must be no more than {CLIENT_ID_MAX} characters")
    return given


def time_in_force_of(name: str) -> TimeInForce:
    """Raises AlpacaError."""
    return _choice(name, "time_in_force", _TIMES_IN_FORCE)


def _check_prices(body: OrderBody, ord_type: OrdType) -> None:
    for price, name, wanted in (
        (body.limit_price, "limit", ord_type in _LIMITED),
        (body.stop_price, "stop", ord_type in _STOPPED),
    ):
        if wanted and price is None:
            raise errors.unprocessable(f"{body.type} orders require {name} price")
        if not wanted and price is not None:
            raise errors.unprocessable(f"{body.type} orders must not have {name} price")
        if price is not None and not (price.is_finite() and price > 0):
            raise errors.unprocessable(f"{name} price must be > 0")


def _quantity(body: OrderBody, symbol: str, side: Side, price_of: Price) -> Decimal:
    if (body.qty is None) == (body.notional is None):
        given = "neither" if body.qty is None else "both"
        raise errors.malformed(f"qty or notional is required, {given} given")
    if body.qty is not None:
        if not (body.qty.is_finite() and body.qty > 0):
            raise errors.unprocessable("qty must be > 0")
        return body.qty
    notional = body.notional
    assert notional is not None
    if not (notional.is_finite() and notional >= 1):
        raise errors.forbidden("cost basis must be >= minimal amount of order 1")
    price = body.limit_price or price_of(symbol, side)
    if price is None:
        raise errors.unprocessable(f'no price for "{symbol}", so no quantity for a notional')
    return (notional / price).quantize(_ONE_LOT, ROUND_DOWN)


def _needed(value: str | None, name: str) -> str:
    if not value:
        raise errors.malformed(f"{name} is required")
    return value


def _choice(value: str | None, name: str, known: dict[str, S]) -> S:
    if _needed(value, name) not in known:
        raise errors.malformed(f"invalid {name}")
    assert value is not None
    return known[value]


def order_number(text: str) -> int | None:
    """The number of an order id in an address. Raises AlpacaError for what is no id."""
    try:
        return names.order_number(text)
    except ValueError:
        raise errors.malformed("order_id is missing") from None
