"""Numbers of a venue that can be counted with: one check for all adapters.

`NaN` and `Infinity` are numbers to a decoder, and comparing with them raises or, worse, does not.
An answer that holds one anywhere is no answer.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from openbell.domain.market import InstrumentRules


class Finite(msgspec.Struct, frozen=True):
    """Base of decoded answers: every Decimal of a field, also in its lists and tables, is a finite
    number. Raises ValueError, which msgspec turns into a `ValidationError`."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not _is_finite(getattr(self, name)):
                raise ValueError(f"{name} is not a finite number")


def _is_finite(value: object) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return True  # structs have looked at themselves


def checked_rules(rules: InstrumentRules) -> InstrumentRules:
    """The same. Raises ValueError where no order could be put on its grid or held against its
    limits."""
    steps = (rules.tick_size, rules.lot_size)
    limits = (rules.min_qty, rules.max_qty, rules.min_notional)
    if not all(number.is_finite() for number in (*steps, *limits)):
        raise ValueError(f"the rules of {rules.symbol} hold what is not a finite number")
    if min(steps) <= 0 or min(limits) < 0 or rules.max_qty <= 0:
        raise ValueError(f"{rules.symbol} has no grid")
    return rules
