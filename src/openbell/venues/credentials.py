"""A venue account's key and secret."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """Neither part is in the repr: representations reach logs and tracebacks."""

    key: str = field(repr=False)
    secret: str = field(repr=False)

    def strike_from(self, text: str) -> str:
        """`text` with both parts replaced by `***`."""
        for part in (self.key, self.secret):
            if part:
                text = text.replace(part, "***")
        return text
