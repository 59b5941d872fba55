"""Durations, sizes and shares as they are written in desk.toml.

Each is written as text with its unit (`"30s"`, `"512M"`, `"50%"`), so that no reader has to
guess, and is held as a plain number in the unit its type names.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from openbell.config.unit_texts import (
    parse_decimal,
    parse_duration,
    parse_percent,
    parse_share,
    parse_size,
)


def _text_schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Seconds = Annotated[
    float,
    BeforeValidator(lambda v: v if isinstance(v, float) else parse_duration(v)),
    _text_schema(r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "30s"),
]
"""A duration; written `"30s"`, held in seconds."""

Bytes = Annotated[int, BeforeValidator(parse_size), _text_schema(r"^\d+[KMG]$", "512M")]
"""A size; written `"512M"`, held in bytes."""

Cores = Annotated[float, BeforeValidator(parse_share), _text_schema(r"^\d+(\.\d+)?%$", "50%")]
"""A CPU share; written `"50%"`, held in cores."""

Percent = Annotated[Decimal, BeforeValidator(parse_percent), _text_schema(r"^\d+(\.\d+)?%$", "5%")]
"""A ratio; written `"5%"`, held as Decimal 0.05."""

Amount = Annotated[
    Decimal, BeforeValidator(parse_decimal), _text_schema(r"^-?\d+(\.\d+)?$", "0.25")
]
"""Money, price or quantity; written as text, held as Decimal."""
