"""A checklist that is filled by the system: what was looked at, what was found, what would mend it.

Pure. The pre-flight of an opening, the ends of procedures and `openbell checklist` all speak of their
checks in these words, so that one table in a terminal, in a record and in the API shows them alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from openbell.errors import FailedError, UnverifiedError


class Found(StrEnum):
    """What a check came to."""

    OK = "ok"
    """Seen to be so."""
    WARN = "warn"
    """Nothing is in the way, and somebody should look."""
    FAILED = "failed"
    """Seen not to be so."""
    REFUSED = "refused"
    """Not allowed as things are; a person may insist (`--force`)."""
    UNKNOWN = "unknown"
    """Could not be seen: nobody may take it for so."""
    NOT_CONFIGURED = "not_configured"
    """The desk has no such thing, so that there is nothing to see: neither good nor bad."""


STANDS_IN_THE_WAY = (Found.FAILED, Found.REFUSED)

_WORST_FIRST = (Found.FAILED, Found.REFUSED, Found.UNKNOWN, Found.WARN, Found.OK)

MARKS = {
    Found.OK: "ok",
    Found.WARN: "WARN",
    Found.FAILED: "FAILED",
    Found.REFUSED: "REFUSED",
    Found.UNKNOWN: "UNKNOWN",
    Found.NOT_CONFIGURED: "not configured",
}
"""As people read them."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of a checklist."""

    name: str
    """Stable, `snake_case`: `disk`, `clock_binance`."""
    title: str
    """For people: `Disk space`."""
    found: Found
    detail: str = ""
    """One sentence: what was seen, or why it could not be seen."""
    remedy: str = ""
    """What a person can do about it."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """JSON-able numbers behind it."""

    def as_dict(self) -> dict[str, object]:
        """`{"name", "title", "found", "detail", "remedy", "facts"}`"""
        return {
            "name": self.name,
            "title": self.title,
            "found": str(self.found),
            "detail": self.detail,
            "remedy": self.remedy,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Check:
        return cls(
            name=str(row["name"]),
            title=str(row["title"]),
            found=Found(row["found"]),
            detail=str(row["detail"]),
            remedy=str(row["remedy"]),
            facts=dict(row["facts"]),
        )

    def told(self) -> str:
        """In a sentence, with what would mend it."""
        text = f"{self.title}: {self.detail or MARKS[self.found]}"
        return f"{text} ({self.remedy})" if self.remedy else text


@dataclass(frozen=True, kw_only=True)
class Checklist:
    name: str
    title: str
    checks: tuple[Check, ...]

    @property
    def found(self) -> Found:
        return worst(self.checks)

    @property
    def exit_code(self) -> int:
        """0: nothing is wrong and nothing unknown (warnings do not count); 1: something is not so, or
        refused; 7: nothing is seen to be wrong, but something could not be seen."""
        if self.found in STANDS_IN_THE_WAY:
            return FailedError.exit_code
        return UnverifiedError.exit_code if self.found is Found.UNKNOWN else 0

    def as_dict(self) -> dict[str, object]:
        """`{"name", "title", "found", "exit_code", "counts": {found: number}, "checks": [...]}`"""
        return {
            "name": self.name,
            "title": self.title,
            "found": str(self.found),
            "exit_code": self.exit_code,
            "counts": counts(self.checks),
            "checks": [check.as_dict() for check in self.checks],
        }

    def lines(self) -> tuple[str, ...]:
        """One line for each check, its remedy under it; a summary last."""
        width = max((len(MARKS[check.found]) for check in self.checks), default=0)
        lines = [self.title]
        for check in self.checks:
            told = f": {check.detail}" if check.detail else ""
            lines.append(f"  [{MARKS[check.found]:^{width}}] {check.title}{told}")
            if check.remedy and check.found is not Found.OK:
                lines.append(f"   {' ' * width}  -> {check.remedy}")
        return (*lines, summary(self.checks))


def worst(checks: Sequence[Check]) -> Found:
    """Of all of them; without any that could be seen, nothing is known."""
    found = {check.found for check in checks}
    return next((each for each in _WORST_FIRST if each in found), Found.UNKNOWN)


def counts(checks: Sequence[Check]) -> dict[str, int]:
    return {
        str(each): number
        for each in Found
        if (number := sum(check.found is each for check in checks))
    }


def summary(checks: Sequence[Check]) -> str:
    """`7 checks: 5 ok, 1 warn, 1 unknown`"""
    told = ", ".join(f"{n} {found.replace('_', ' ')}" for found, n in counts(checks).items())
    noun = "check" if len(checks) == 1 else "checks"
    return f"{len(checks)} {noun}{f': {told}' if told else ''}"
