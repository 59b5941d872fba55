"""What a value of desk.toml may sensibly be, where a desk can still be loaded with another one.

A desk that runs must be found by whoever is to look after it: a controller that replaces a killed one, the
guard, `openbell down`. So a rule that a desk file of an earlier version may break (a probe every 0s, a
limit below 0) refuses no loading. `openbell check` and an opening's pre-flight hold a desk to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel

from openbell.config.problems import KeyPath, Problem
from openbell.config.units import Seconds


@dataclass(frozen=True)
class Sound:
    """Beside a type: its values should pass. pydantic heeds it not."""

    check: Callable[[Any], object]
    """Raises ValueError, whose text is for people."""


def _above_0(value: float) -> None:
    if value <= 0:
        raise ValueError("it must be greater than 0")


def _not_below_0(value: Any) -> None:
    if value < 0:
        raise ValueError("it must be greater than or equal to 0")


def _below_all(value: Any) -> None:
    if value >= 1:
        raise ValueError("it must be less than 100%")


Lasting = Annotated[Seconds, Sound(_above_0)]
"""A duration that should be one."""
NOT_BELOW_0, BELOW_ALL = Sound(_not_below_0), Sound(_below_all)


def unsound(model: BaseModel, key: KeyPath = ()) -> Iterator[Problem]:
    """Every value in it, and in what it holds, that breaks a rule stated beside its type."""
    for name, field in type(model).model_fields.items():
        rules = [each for each in field.metadata if isinstance(each, Sound)]
        rules += _rules_in(field.annotation)
        yield from _of_value(getattr(model, name), rules, (*key, name))


def _of_value(value: object, rules: list[Sound], key: KeyPath) -> Iterator[Problem]:
    if isinstance(value, BaseModel):
        yield from unsound(value, key)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _of_value(each, rules, (*key, str(name)))
    elif isinstance(value, tuple):
        for each in value:
            yield from _of_value(each, rules, key)
    elif value is not None:
        for rule in rules:
            try:
                rule.check(value)
            except ValueError as error:
                yield Problem(key, str(error), "write one that is, or remove the line")


def _rules_in(annotation: object) -> list[Sound]:
    """Of a type inside of `X | None`, `dict[K, X]` and the like."""
    found = [each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Sound)]
    for each in get_args(annotation):
        found += _rules_in(each)
    return list(dict.fromkeys(found))
