"""Parameters of a call, read strictly; what cannot be read is told in Binance's codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TypeVar

from openbell_sim.faces.binance.common import errors

E = TypeVar("E", bound=StrEnum)

_DECIMAL = re.compile(r"\d{1,20}(\.\d{1,20})?")
_DECIMAL_PATTERN = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
_CLIENT_ID = re.compile(r"[a-zA-Z0-9-_.:/]{1,36}")
_CLIENT_ID_PATTERN = r"^[.A-Z:/a-z0-9_-]{1,36}$"
_PRECISION = 8
"""Digits after the point that the venue reads."""


class Parameters:
    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    def has(self, name: str) -> bool:
        return bool(self.values.get(name))

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if not value:
            raise errors.missing(name)
        return value

    def text_or_none(self, name: str) -> str | None:
        return self.values.get(name) or None

    def client_id(self, name: str) -> str | None:
        value = self.values.get(name)
        if not value:
            return None
        if not _CLIENT_ID.fullmatch(value):
            raise errors.illegal_characters(name, _CLIENT_ID_PATTERN)
        return value

    def integer_or_none(self, name: str) -> int | None:
        value = self.values.get(name)
        if not value:
            return None
        if not re.fullmatch(r"-?\d{1,20}", value):
            raise errors.illegal_characters(name, "^[0-9]{1,20}$")
        return int(value)

    def integer(self, name: str) -> int:
        value = self.integer_or_none(name)
        if value is None:
            raise errors.missing(name)
        return value

    def limit(self, default: int, most: int) -> int:
        value = self.integer_or_none("limit")
        if value is None:
            return default
        if value < 1:
            raise errors.not_valid("limit")
        return min(value, most)

    def decimal_or_none(self, name: str) -> Decimal | None:
        value = self.values.get(name)
        if not value:
            return None
        if not _DECIMAL.fullmatch(value):
            raise errors.illegal_characters(name, _DECIMAL_PATTERN)
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise errors.illegal_characters(name, _DECIMAL_PATTERN) from None
        if len(value.partition(".")[2].rstrip("0")) > _PRECISION:
            raise errors.BinanceError(-1111, f"Parameter '{name}' has too much precision.")
        return number

    def decimal(self, name: str) -> Decimal:
        value = self.decimal_or_none(name)
        if value is None:
            raise errors.missing(name)
        return value

    def flag(self, name: str) -> bool:
        """False where it was not sent. Some clients write `True` (nautilus_trader)."""
        value = self.values.get(name, "").lower()
        if value not in ("", "true", "false"):
            raise errors.not_valid(name)
        return value == "true"

    def choice(self, name: str, kind: type[E], error: errors.BinanceError) -> E:
        try:
            return kind(self.text(name))
        except ValueError:
            raise error from None
