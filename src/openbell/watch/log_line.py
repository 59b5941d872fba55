"""One line of a log: a JSON object of ours, or whatever a foreign program writes.

Nothing is thrown away. A line that is no JSON keeps its text; its level is `unknown` unless the
line itself names one, and its time is that of the last line before it that tells a time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

UNKNOWN_LEVEL = "unknown"
LEVELS: Mapping[str, int] = {
    "debug": 10,
    "info": 20,
    "warning": 30,
    "error": 40,
    "critical": 50,
}
"""Python's own numbers, so `--level ERROR` means what a Python program means by it."""

_ALIASES = {
    "trace": "debug",
    "notice": "info",
    "warn": "warning",
    "err": "error",
    "exception": "error",
    "fatal": "critical",
    "alert": "critical",
}
_TIME_KEYS = ("ts", "timestamp", "time", "at", "asctime", "@timestamp")
_LEVEL_KEYS = ("level", "severity", "levelname", "log_level")
_TEXT_KEYS = ("event", "message", "msg", "text")

_OUR_START = b'{"ts":"'
_HEAD_BYTES = 120
"""A foreign line names its time and level near its start, or not at all."""
_NAMED_LEVEL = re.compile(
    r"\b(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERR|ERROR|FATAL|CRITICAL|ALERT)\b"
)
_LEADING_TIME = re.compile(
    r"^\W{0,2}(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)\s?(Z|[+-]\d\d:?\d\d)?"
)


@dataclass(frozen=True)
class LogLine:
    service: str
    at_ns: int | None
    """When it was written, nanoseconds since the epoch; None where no line so far told a time."""
    level: str
    """One of `LEVELS`, or `unknown`."""
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Everything else the line says; empty for a line that is no JSON object."""

    def as_dict(self) -> dict[str, object]:
        """`{"at": "2024-11-25T15:45:23.120000+00:00" | null, "service", "level", "text", "fields"}`"""
        at = None if self.at_ns is None else iso(self.at_ns)
        return {
            "at": at,
            "service": self.service,
            "level": self.level,
            "text": self.text,
            "fields": dict(self.fields),
        }


def iso(at_ns: int) -> str:
    """The moment in UTC, ISO 8601 with microseconds."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000).isoformat()


def parse_level(name: str) -> str:
    """The level a person or a program names, in our words. Raises ValueError for no such level."""
    lowered = name.strip().lower()
    level = _ALIASES.get(lowered, lowered)
    if level not in LEVELS:
        raise ValueError(f'"{name}" is no level; there are {", ".join(LEVELS)}')
    return level


def is_at_least(line: LogLine, level: str) -> bool:
    """Whether the line is known to be of this level or a graver one. Unknown is not known."""
    return line.level in LEVELS and LEVELS[line.level] >= LEVELS[level]


def time_of(raw: bytes) -> int | None:
    """When the line says it was written; None where it does not say. Cheap: for searching."""
    if raw.startswith(_OUR_START):  # our own services' lines: no need to parse them whole
        return _leading_time(raw[len(_OUR_START) : _HEAD_BYTES].decode("ascii", "replace"))
    if raw.startswith(b"{"):
        try:
            said = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return None
        return _time_in(said) if isinstance(said, dict) else None
    return _leading_time(raw[:_HEAD_BYTES].decode("utf-8", "replace"))


def parse_line(raw: bytes, service: str, inherited_ns: int | None = None) -> LogLine:
    """The line without its end. `inherited_ns`: the time of the last line that told one."""
    if raw.startswith(b"{"):
        try:
            said = orjson.loads(raw)
        except orjson.JSONDecodeError:
            said = None
        if isinstance(said, dict):
            return _from_json(said, service, inherited_ns)
    text = raw.decode("utf-8", "replace")
    at_ns = _leading_time(text[:_HEAD_BYTES])
    return LogLine(
        service=service,
        at_ns=inherited_ns if at_ns is None else at_ns,
        level=_named_level(text),
        text=text,
    )


def _from_json(said: dict[str, Any], service: str, inherited_ns: int | None) -> LogLine:
    at_ns = _time_in(said)
    level = next((str(said[key]) for key in _LEVEL_KEYS if key in said), "")
    text = next((str(said[key]) for key in _TEXT_KEYS if key in said), "")
    known = {*_TIME_KEYS, *_LEVEL_KEYS, *_TEXT_KEYS, "service"}
    lowered = level.lower()
    lowered = _ALIASES.get(lowered, lowered)
    return LogLine(
        service=service,
        at_ns=inherited_ns if at_ns is None else at_ns,
        level=lowered if lowered in LEVELS else UNKNOWN_LEVEL,
        text=text,
        fields={key: value for key, value in said.items() if key not in known},
    )


def _time_in(said: dict[str, Any]) -> int | None:
    value = next((said[key] for key in _TIME_KEYS if key in said), None)
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _from_number(value)
    return _leading_time(value) if isinstance(value, str) else None


def _from_number(value: int | float) -> int | None:
    """Seconds, milliseconds, microseconds or nanoseconds since the epoch, told by their size:
    each is unambiguous for any moment between 2001 and 2200."""
    for limit, factor in ((1e11, 1_000_000_000), (1e14, 1_000_000), (1e17, 1_000), (1e20, 1)):
        if 1e9 <= value < limit:
            return value * factor if isinstance(value, int) else round(value * factor)
    return None


def _leading_time(text: str) -> int | None:
    match = _LEADING_TIME.match(text)
    if match is None:
        return None
    stamp = match[1].replace(",", ".").replace(" ", "T")
    whole, _, fraction = stamp.partition(".")
    zone = "+00:00" if match[2] in (None, "Z") else match[2]
    try:
        seconds = int(datetime.fromisoformat(whole + zone).timestamp())
    except ValueError:
        return None
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def _named_level(text: str) -> str:
    if text.startswith("Traceback (most recent call last)"):
        return "error"
    match = _NAMED_LEVEL.search(text, 0, _HEAD_BYTES)
    if match is None:
        return UNKNOWN_LEVEL
    lowered = match[1].lower()
    return _ALIASES.get(lowered, lowered)
