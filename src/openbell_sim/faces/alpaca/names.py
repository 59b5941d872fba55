"""How Alpaca writes things: identifiers, times, numbers."""

from __future__ import annotations

import struct
import uuid
from datetime import UTC, datetime
from decimal import Decimal

from msgspec.msgpack import Ext

from openbell_sim.faces.alpaca.stocks import QTY_DIGITS

_ORDER_PREFIX = "0b5e0de0-0000-4000-8000-"
"""Of the identifiers that the exchange's order numbers become; the rest is the number in hex."""
_NAMESPACE = uuid.UUID("5f0c4e9a-6f0f-4c4a-9a53-0a1b0a7e1ba5")
_NS = 1_000_000_000
_TIMESTAMP = -1
"""MessagePack's own extension type for times."""


def order_id(number: int) -> str:
    return f"{_ORDER_PREFIX}{number:012x}"


def order_number(text: str) -> int | None:
    """The exchange's number of an order id; None for an id that this venue never gave.

    Raises ValueError for what is no UUID.
    """
    canonical = str(uuid.UUID(text))
    if not canonical.startswith(_ORDER_PREFIX):
        return None
    return int(canonical.removeprefix(_ORDER_PREFIX), 16)


def asset_id(symbol: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"asset:{symbol}"))


def account_id(account: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"account:{account}"))


def execution_id(symbol: str, exec_id: int, order_number: int) -> str:
    """One of each side of a trade."""
    return str(uuid.uuid5(_NAMESPACE, f"execution:{symbol}:{exec_id}:{order_number}"))


def activity_id(at_ns: int, execution: str) -> str:
    """`20220203150405123::045b3b8d-c566-4bef-b741-2bf598dd6ae7`; sorts by time."""
    at = datetime.fromtimestamp(at_ns // _NS, UTC)
    return f"{at:%Y%m%d%H%M%S}{at_ns // 1_000_000 % 1000:03d}::{execution}"


def rfc3339(at_ns: int) -> str:
    """`2024-08-08T13:30:00.123456789Z`"""
    at = datetime.fromtimestamp(at_ns // _NS, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ns % _NS:09d}Z"


def msgpack_time(at_ns: int) -> Ext:
    """MessagePack's "timestamp 64": nanoseconds in 30 bits, seconds in 34."""
    return Ext(_TIMESTAMP, struct.pack("!Q", (at_ns % _NS) << 34 | at_ns // _NS))


def time_ns(text: str) -> int:
    """Of an RFC 3339 time, or of a date, which is its first moment in UTC. Raises ValueError."""
    at = datetime.fromisoformat(text.strip().replace(" ", "+"))
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    # Through text: a float holds neither the microseconds nor the digits after them.
    whole = int(at.replace(microsecond=0).timestamp())
    _, _, fraction = text.partition(".")
    digits = "".join(_leading_digits(fraction))[:9].ljust(9, "0")
    return whole * _NS + int(digits)


def _leading_digits(text: str) -> list[str]:
    digits: list[str] = []
    for character in text:
        if not character.isdigit():
            break
        digits.append(character)
    return digits


def number(value: Decimal) -> str:
    """Without exponent and trailing zeros, of at most nine digits after the point."""
    text = format(round(value, QTY_DIGITS), "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def number_or_none(value: Decimal | None) -> str | None:
    return None if value is None else number(value)
