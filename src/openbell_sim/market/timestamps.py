"""Time stamps of recorded data, whatever their unit, as nanoseconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))
"""`(below, nanoseconds)`: seconds, milliseconds and microseconds since the epoch. Any of these
bounds is the year 5138 in its unit and 1973 in the next finer one."""
_LAST = 2**63
_DOTTED = re.compile(r"(\d{4})\.(\d\d)\.(\d\d)")
"""How MetaTrader writes a date."""


def nanoseconds(value: object) -> int:
    """A number is seconds, milliseconds, microseconds or nanoseconds by its size; text is such a
    number or ISO 8601, in UTC unless it says otherwise. Raises ValueError."""
    if isinstance(value, datetime):
        return _of_datetime(value)
    text = str(value).strip()
    try:
        number = Decimal(text)
    except InvalidOperation:
        return _of_text(text)
    if not number.is_finite():
        raise ValueError(f"{text} is no time")
    return int(number * _unit(number))


def whole_nanoseconds(number: int) -> int:
    """`nanoseconds` of a whole number. Raises ValueError."""
    return number * _unit(number)


def _unit(number: Decimal | int) -> int:
    if not 0 <= number < _LAST:
        raise ValueError(f"{number} is no time")
    return next((unit for below, unit in _UNITS if number < below), 1)


def _of_text(text: str) -> int:
    try:
        return _of_datetime(datetime.fromisoformat(_DOTTED.sub(r"\1-\2-\3", text, count=1)))
    except ValueError:
        raise ValueError(f"{text!r} is no time") from None


def _of_datetime(moment: datetime) -> int:
    # Whole numbers all the way: a float of seconds keeps no nanoseconds.
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND * 1000
