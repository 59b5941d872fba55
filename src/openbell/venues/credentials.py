"""A venue account's key and secret."""

from __future__ import annotations

from dataclasses import dataclass, field

from openbell.config.redact import Redactor


@dataclass(frozen=True, slots=True)
class Credentials:
    """Neither part is in the repr: representations reach logs and tracebacks."""

    key: str = field(repr=False)
    secret: str = field(repr=False)

    def strike_from(self, text: str) -> str:
        """`text` without both parts, in any of the forms in which they travel."""
        return Redactor((self.key, self.secret)).redact(text)
