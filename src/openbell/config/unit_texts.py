"""Durations, sizes and shares as text, as desk.toml and people write them.

Apart from the types of `units`, as a command that only shows a duration must not load pydantic.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_DURATION_S = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"(\d+)([KMG])")


def parse_duration(text: object) -> float:
    """Seconds in a duration such as `"250ms"`, `"30s"`, `"1h30m"`. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError('write a duration as text with its unit, for example "30s" or "250ms"')
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(
            f'"{text}" is not a duration; write for example "250ms", "30s", "5m" or "1h30m"'
        )
    return float(sum((Decimal(number) * _DURATION_S[unit] for number, unit in parts), Decimal(0)))


def parse_size(text: object) -> int:
    """Bytes in a size such as `"512M"` or `"2G"` (powers of 1024). Raises ValueError."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('write a size as text with its unit, for example "512M" or "2G"')
    return int(match[1]) * _SIZE_BYTES[match[2]]


def parse_share(text: object) -> float:
    """Cores in a CPU share: `"50%"` is 0.5, `"200%"` is 2. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", text) if isinstance(text, str) else None
    if match is None or float(match[1]) <= 0:
        raise ValueError('write a CPU share in percent of one core, for example "50%" or "200%"')
    return float(match[1]) / 100


def parse_percent(value: object) -> Decimal:
    """A ratio written in percent: `"5%"` is 0.05. Raises ValueError."""
    if isinstance(value, Decimal):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write a ratio in percent, for example "5%"')
    return Decimal(match[1]) / 100


def parse_decimal(value: object) -> Decimal:
    """A quantity, price or amount of money: text or a whole number, never a float. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError('write amounts as text, for example "0.25": a float would not be exact')
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError(f'"{value}" is not a number') from None
    if not amount.is_finite():
        raise ValueError(f'"{value}" is not a finite number')
    return amount


def format_duration(seconds: float) -> str:
    """The duration as people read it: `850ms`, `12.3s`, `4m05s`, `2h03m`, `3d04h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for size, letter, below, below_letter in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size}{letter}{whole % size // below:02d}{below_letter}"
    raise AssertionError("unreachable: the last row matches every whole >= 60")
