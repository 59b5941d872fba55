"""The parameters of a call, from a form, a query, JSON or a WebSocket message."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qsl

import msgspec

from openbell_sim.faces.kraken.errors import invalid

_decode = msgspec.json.Decoder(dict[str, object], float_hook=Decimal).decode


class Parameters:
    """Raises KrakenError for a value that cannot be read."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = {
            name: value for name, value in values.items() if value is not None and value != ""
        }

    def has(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        value = self.text_or_none(name)
        if value is None:
            raise invalid(name)
        return value

    def text_or_none(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise invalid(name)
        return str(value)

    def texts(self, name: str) -> list[str]:
        """A list in JSON, or one text with commas."""
        value = self._values.get(name)
        if isinstance(value, list):
            return [str(each) for each in value]
        text = self.text_or_none(name)
        return [] if text is None else [each.strip() for each in text.split(",")]

    def decimal(self, name: str) -> Decimal:
        """Positive."""
        text = self.text(name)
        try:
            value = Decimal(text)
        except InvalidOperation:
            raise invalid(name) from None
        if not value.is_finite() or value <= 0:
            raise invalid(name)
        return value

    def decimal_or_none(self, name: str) -> Decimal | None:
        return self.decimal(name) if self.has(name) else None

    def integer(self, name: str, default: int | None = None) -> int:
        """Not negative, unless it is a user reference."""
        text = self.text_or_none(name)
        if text is None and default is not None:
            return default
        try:
            return int(text or "")
        except ValueError:
            raise invalid(name) from None

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._values.get(name, default)
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "1", "false", "0"):
            return str(value).lower() in ("true", "1")
        raise invalid(name)

    def seconds(self, name: str) -> Decimal | None:
        """A Unix timestamp, with or without a fraction."""
        text = self.text_or_none(name)
        try:
            return None if text is None else Decimal(text)
        except InvalidOperation:
            raise invalid(name) from None

    def moment_ns(self, name: str) -> int | None:
        """An RFC 3339 time in ns since the epoch."""
        text = self.text_or_none(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise invalid(name) from None
        if moment.tzinfo is None:
            raise invalid(name)
        return int(moment.timestamp() * 1_000_000) * 1000

    def inner(self, name: str) -> Parameters:
        """An object within; empty where there is none."""
        value = self._values.get(name, {})
        if not isinstance(value, dict):
            raise invalid(name)
        return Parameters(value)

    def inners(self, name: str) -> list[Parameters]:
        value = self._values.get(name)
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise invalid(name)
        return [Parameters(each) for each in value]

    def with_values(self, values: Mapping[str, object]) -> Parameters:
        return Parameters({**self._values, **values})


def from_form(text: str) -> Parameters:
    return Parameters(dict(parse_qsl(text, keep_blank_values=True)))


def from_json(text: bytes) -> Parameters:
    """Numbers keep every digit. Raises KrakenError for what is no JSON object."""
    try:
        return Parameters(_decode(text))
    except msgspec.DecodeError:
        raise invalid() from None
