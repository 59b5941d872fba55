"""The limits that apply now: those of desk.toml, and what was made tighter while the desk runs.

A limit is named as breaches are (`max_total_exposure`, `max_position:BTC/USDT`) and has a value.

Invariants
- What applies is never looser than desk.toml, whatever a change says.
- Of several changes the tightest counts, limit by limit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation

from openbell.config.limit_values import COLLAR, COUNTS, NoLimitError, checked
from openbell.config.models import Risk

Values = Mapping[str, Decimal]

POSITION = "max_position"
PLAIN = (
    "max_notional_per_position",
    "max_total_exposure",
    "max_open_positions",
    "max_daily_loss",
    "max_orders_per_second",
    "max_open_orders",
    "max_order_notional",
    "price_collar",
)
OF_POSITIONS = (POSITION, "max_notional_per_position", "max_total_exposure", "max_open_positions")
"""What a reduction by a percentage makes smaller: limits of what is held. The others would only hold
back the orders by which strategies wind down."""


class LimitError(ValueError):
    """A limit or a value that makes no sense; the text is for people."""


def values(risk: Risk) -> dict[str, Decimal]:
    """Every limit that is set, by name."""
    found = {f"{POSITION}:{symbol}": most for symbol, most in sorted(risk.max_position.items())}
    for name in PLAIN:
        value = getattr(risk, name)
        if value is not None:
            found[name] = Decimal(value)
    return found


def tightened(risk: Risk, *changes: Values) -> Risk:
    """`risk` with every limit at the tightest of its own value and those of the changes."""
    tightest = values(risk)
    for change in changes:
        for name, value in change.items():
            tightest[name] = min(value, tightest.get(name, value))
    prefix = f"{POSITION}:"
    updates: dict[str, object] = {
        POSITION: {
            name.removeprefix(prefix): value
            for name, value in tightest.items()
            if name.startswith(prefix)
        }
    }
    for name in PLAIN:
        if name in tightest:
            value = tightest[name]
            updates[name] = int(value) if name in COUNTS else value
    return risk.model_copy(update=updates)


def reduced(risk: Risk, percent: Decimal) -> dict[str, Decimal]:
    """Every limit of positions made smaller by so many percent; whole numbers are rounded down."""
    left = 1 - percent / 100
    return {
        name: (value * left).to_integral_value("ROUND_FLOOR") if name in COUNTS else value * left
        for name, value in values(risk).items()
        if name.partition(":")[0] in OF_POSITIONS
    }


def looser(before: Risk, after: Risk) -> tuple[str, ...]:
    """Limits that would let more through than before."""
    then = values(after)
    return tuple(
        name
        for name, value in values(before).items()
        if name not in then or then[name] > value
    )  # fmt: skip


def read_change(texts: Iterable[str], risk: Risk, symbols: Iterable[str]) -> dict[str, Decimal]:
    """`["max_total_exposure=5000", "max_position:BTC/USDT=0.1", "price_collar=2%"]`. Raises LimitError.

    `symbols`: those that the desk trades. A value looser than desk.toml's is refused rather than
    ignored: whoever asks for it would believe that it applies.
    """
    declared, known = values(risk), set(symbols)
    change: dict[str, Decimal] = {}
    for text in texts:
        name, _, written = text.partition("=")
        kind, _, symbol = name.partition(":")
        if kind == POSITION and symbol:
            if symbol not in known:
                raise LimitError(f'the desk does not trade "{symbol}"')
        elif name not in PLAIN:
            raise LimitError(f'there is no limit "{name}" that can be changed while the desk runs')
        value = _value(name, written)
        if name in declared and value > declared[name]:
            raise LimitError(f"{name}: desk.toml allows {plain(declared[name])} at most")
        change[name] = value
    return change


def _value(name: str, written: str) -> Decimal:
    ratio = name == COLLAR and written.endswith("%")
    try:
        value = Decimal(written.removesuffix("%") if ratio else written)
    except InvalidOperation:
        raise LimitError(f'{name}: "{written}" is not a number') from None
    try:
        return checked(name, value / 100 if ratio else value)
    except NoLimitError as error:
        raise LimitError(f"{name}: {error}") from None


def digest(risk: Risk) -> str:
    """Of all limits, hex: equal exactly where the same apply."""
    told = {name: plain(value) for name, value in values(risk).items()}
    told["stale_quote_after"] = repr(risk.stale_quote_after)
    return hashlib.sha256(json.dumps(sorted(told.items())).encode()).hexdigest()[:16]


def plain(value: Decimal) -> str:
    """`0.50` and `0.5` are the same limit: both `0.5`."""
    return f"{value.normalize():f}"
