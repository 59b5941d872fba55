"""Takes known secret values out of what is to be kept or shown."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable
from typing import Any

REDACTED = "[redacted]"

SECRET_LENGTH_MIN = 6
"""Characters. A shorter value would blank out ordinary words rather than hide anything."""


class Redactor:
    """Knows secrets by value, in the forms in which they travel: as they are, inside JSON, in a
    URL, in base64 (basic authentication). Shows none of them in its repr."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(values)

    def add(self, values: Iterable[str]) -> None:
        """More of them, for everyone who holds this redactor."""
        self._known.update(values)
        ordered = secret_forms(self._known)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def redact(self, text: str) -> str:
        """`text` with every known secret replaced by `[redacted]`."""
        return self._pattern.sub(REDACTED, text) if self._pattern else text

    def redact_value(self, value: Any) -> Any:
        """The same for a JSON value: its strings and the keys of its objects, however deep."""
        match value:
            case str():
                return self.redact(value)
            case dict():
                return {self.redact(str(k)): self.redact_value(v) for k, v in value.items()}
            case list() | tuple():
                return [self.redact_value(item) for item in value]
            case _:
                return value

    def __repr__(self) -> str:
        return "Redactor(...)"


def secret_forms(values: Iterable[str]) -> list[str]:
    """Every form in which these secrets travel; those too short to be told from words left out.

    Longest first: a secret that begins another must not leave the other's end behind.
    """
    forms = {form for value in values if len(value) >= SECRET_LENGTH_MIN for form in _forms(value)}
    return sorted(forms, key=len, reverse=True)


def _forms(value: str) -> Iterable[str]:
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield urllib.parse.quote(value, safe="")
    yield urllib.parse.quote_plus(value)
    yield base64.b64encode(value.encode()).decode().rstrip("=")
