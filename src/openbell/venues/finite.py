"""Numbers of a venue that can be counted with: one check for all adapters.

`NaN` and `Infinity` are numbers to a decoder, and comparing with them raises or, worse, does not.
An answer that holds one anywhere is no answer.
"""

from __future__ import annotations

import functools
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from openbell.domain.market import InstrumentRules


class Finite(msgspec.Struct, frozen=True):
    """Base of decoded answers: every Decimal of a field, also in its lists and tables, is a finite
    number. Raises ValueError, which msgspec turns into a `ValidationError`."""

    def __post_init__(self) -> None:
        for name in _may_hold_numbers(type(self)):
            if not _is_finite(getattr(self, name)):
                raise ValueError(f"{name} is not a finite number")


@functools.cache
def _may_hold_numbers(kind: type[Finite]) -> tuple[str, ...]:
    """Names of its fields, but for those that never can: a list of a thousand orders is looked at
    while each of them is to be cancelled."""
    return tuple(
        field.name for field in msgspec.structs.fields(kind) if not _holds_none(field.type)
    )


def _holds_none(kind: Any) -> bool:
    """Text, truth, whole numbers, names of a list, or nothing. What is not known may hold one."""
    if get_origin(kind) in (Union, UnionType):
        return all(map(_holds_none, get_args(kind)))
    return isinstance(kind, type) and issubclass(kind, str | int | NoneType | Enum)


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
