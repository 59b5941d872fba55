"""Who may call: keys and secrets of the venue's accounts.

What a key and a secret are differs by venue (a token, an e-mail address and a password, ...); each
face says so. How a call proves them is the face's own business.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Credentials:
    account: str
    key: str = field(repr=False)
    secret: str = field(repr=False)
    may_trade: bool = True
    """False: reads, cancels and closes, and sends no order that opens or enlarges a position."""


class KeyRing:
    def __init__(self) -> None:
        self._by_key: dict[str, Credentials] = {}
        self._revoked: set[str] = set()

    def add(self, credentials: Credentials) -> None:
        self._by_key[credentials.key] = credentials

    def find(self, key: str | None) -> Credentials | None:
        """None for a key that is missing, unknown or revoked."""
        if key is None or key in self._revoked:
            return None
        return self._by_key.get(key)

    def all(self) -> tuple[Credentials, ...]:
        """Every pair that has not been revoked."""
        return tuple(c for c in self._by_key.values() if c.key not in self._revoked)

    def revoke(self, account: str) -> int:
        """Every key of the account from now on; the number of them."""
        keys = {c.key for c in self._by_key.values() if c.account == account}
        self._revoked |= keys
        return len(keys)

    def reinstate(self) -> None:
        """Revoked keys work again."""
        self._revoked.clear()
