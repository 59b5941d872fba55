"""ccxt's unified structures in the port's words. Numbers come as text (`exchange.number` is str).

Source: "Order structure", "Trade structure", "Market structure" of ccxt's manual. Fields may be
missing from any of them: what cannot be told is raised as ValueError, not guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from openbell.domain.market import InstrumentRules, Quote
from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Side
from openbell.venues.finite import checked_rules
from openbell.venues.port import Balance, VenueFill, VenueOrder

Unified = Mapping[str, Any]

TICK_SIZE, DECIMAL_PLACES = 4, 2
"""ccxt's `precisionMode`; the third one, significant digits, has no grid."""
NO_MAXIMUM = Decimal(10) ** 18
_ZERO = Decimal(0)
_MS_NS = 1_000_000
_STATUS = {
    "open": OrdStatus.NEW,
    "closed": OrdStatus.FILLED,
    "canceled": OrdStatus.CANCELED,
    "canceling": OrdStatus.PENDING_CANCEL,
    "expired": OrdStatus.EXPIRED,
    "rejected": OrdStatus.REJECTED,
}


def number(value: object) -> Decimal | None:
    """None for nothing. Raises ValueError for what is no finite number, and for a float: its digits
    are not the exchange's."""
    if value is None or value == "":
        return None
    if isinstance(value, float):
        raise ValueError(f"{value!r} passed through a float")
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{str(value)[:40]!r} is not a number") from None
    if not found.is_finite():
        raise ValueError(f"{value!r} is not a finite number")
    return found


def _needed(structure: Unified, name: str) -> Decimal:
    found = number(structure.get(name))
    if found is None:
        raise ValueError(f"no {name}")
    return found


def plain(value: Decimal) -> str:
    """Without exponent and without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def rules(market: Unified, precision_mode: int) -> InstrumentRules:
    """Raises ValueError where ccxt does not know the grid."""
    limits = market["limits"]
    amount = limits.get("amount") or {}
    lot = _step(market["precision"].get("amount"), precision_mode)
    return checked_rules(
        InstrumentRules(
            symbol=market["symbol"],
            base=market["base"],
            quote=market["quote"],
            tick_size=_step(market["precision"].get("price"), precision_mode),
            lot_size=lot,
            min_qty=number(amount.get("min")) or lot,
            max_qty=number(amount.get("max")) or NO_MAXIMUM,
            min_notional=number((limits.get("cost") or {}).get("min")) or _ZERO,
        )
    )


def _step(precision: object, mode: int) -> Decimal:
    found = number(precision)
    if found is None:
        raise ValueError("no precision")
    if mode == DECIMAL_PLACES:
        return Decimal(1).scaleb(-int(found))
    if mode == TICK_SIZE and found > 0:
        return found
    raise ValueError("prices or quantities are counted in significant digits")


def order(told: Unified) -> VenueOrder:
    """Raises ValueError. Where the quantity is not told (an order sized in the quote currency), the
    executed one stands for it."""
    filled = number(told.get("filled")) or _ZERO
    quantity = number(told.get("amount")) or filled
    price, stop_px = number(told.get("price")), number(told.get("triggerPrice"))
    ord_type = OrdType.MARKET if told.get("type") == "market" else OrdType.LIMIT
    if stop_px:
        ord_type = OrdType.STOP_LIMIT if price else OrdType.STOP
    created_ns = _ns(told.get("timestamp"))
    last = told.get("lastUpdateTimestamp") or told.get("lastTradeTimestamp")
    return VenueOrder(
        venue_order_id=_text(told, "id"),
        cl_ord_id=ClOrdID(told.get("clientOrderId") or ""),
        symbol=_text(told, "symbol"),
        side=_side(told),
        ord_type=ord_type,
        status=_status(told.get("status"), filled, quantity),
        order_qty=quantity,
        cum_qty=filled,
        price=price if ord_type in (OrdType.LIMIT, OrdType.STOP_LIMIT) else None,
        created_ns=created_ns,
        updated_ns=_ns(last) or created_ns,
        stop_px=stop_px or None,
    )


def _status(status: object, filled: Decimal, quantity: Decimal) -> OrdStatus:
    """A status that ccxt does not unify is in doubt. `closed` is filled, unless something is left of
    the order: then the exchange ended it."""
    found = _STATUS.get(str(status), OrdStatus.UNKNOWN)
    if found is OrdStatus.NEW and filled:
        return OrdStatus.PARTIALLY_FILLED
    if found is OrdStatus.FILLED and filled < quantity:
        return OrdStatus.CANCELED
    return found


def fill(told: Unified) -> VenueFill:
    """Raises ValueError. Fees in several currencies cannot be told; the first one is."""
    fee = told.get("fee") or {}
    cost = number(fee.get("cost"))
    return VenueFill(
        exec_id=_text(told, "id"),
        venue_order_id=str(told.get("order") or ""),
        cl_ord_id=ClOrdID(""),
        symbol=_text(told, "symbol"),
        side=_side(told),
        last_qty=_needed(told, "amount"),
        last_px=_needed(told, "price"),
        fee=cost or _ZERO,
        fee_currency=str(fee.get("currency") or "") if cost else "",
        is_maker=told.get("takerOrMaker") == "maker",
        venue_time_ns=_ns(told.get("timestamp")),
    )


def balances(told: Unified) -> dict[str, Balance]:
    """Raises ValueError. Where only a total is told, all of it counts as free."""
    found: dict[str, Balance] = {}
    for currency in told.get("total") or {}:
        entry = told[currency]
        locked = number(entry.get("used")) or _ZERO
        free = number(entry.get("free"))
        if free is None:
            free = (number(entry.get("total")) or _ZERO) - locked
        found[currency] = Balance(currency=currency, free=free, locked=locked)
    return found


def quote(book: Unified, *, venue: str, symbol: str, received_ns: int) -> Quote:
    """The top of an order book. Raises ValueError where a side is empty."""
    if not book["bids"] or not book["asks"]:
        raise ValueError(f"no quote in {symbol}")
    bid, ask = book["bids"][0], book["asks"][0]
    return Quote(
        venue=venue,
        symbol=symbol,
        bid_px=bid[0],
        bid_qty=bid[1],
        ask_px=ask[0],
        ask_qty=ask[1],
        venue_time_ns=_ns(book.get("timestamp")),
        received_ns=received_ns,
    )


def _text(told: Unified, name: str) -> str:
    found = told.get(name)
    if not found:
        raise ValueError(f"no {name}")
    return str(found)


def _side(told: Unified) -> Side:
    return Side(_text(told, "side").upper())


def _ns(milliseconds: object) -> int:
    """0 where it is not told."""
    return int(str(milliseconds)) * _MS_NS if milliseconds else 0
