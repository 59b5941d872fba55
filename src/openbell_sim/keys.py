"""Who may call: keys and secrets of the venue's accounts.

What a key and a secret are differs by venue (a token, an e-mail address and a password, ...); each
face says so. How a call proves them is the face's own business.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import orjson


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

    def with_secret(self, secret: str) -> Credentials | None:
        """Of a venue whose token says who calls. None for one that is unknown or revoked."""
        given = secret.encode(errors="surrogateescape")  # as headers are decoded
        for credentials in self._by_key.values():
            if hmac.compare_digest(credentials.secret.encode(), given):
                return None if credentials.key in self._revoked else credentials
        return None

    def bearer(self, words: Iterable[str]) -> Credentials | None:
        """Whose key (or secret, where that is the token) is among the words of a request: in clear,
        or a claim of a JSON Web Token (RFC 7519). Says nothing of whether the request is genuine,
        or the key revoked."""
        for word in words:
            for said in (word, *_claims(word)):
                for credentials in self._by_key.values():
                    if said in (credentials.key, credentials.secret):
                        return credentials
        return None

    @property
    def all(self) -> list[Credentials]:
        return list(self._by_key.values())

    def is_revoked(self, credentials: Credentials) -> bool:
        return credentials.key in self._revoked

    def revoke_only(
        self,
        accounts: Collection[str],
        *,
        trading_of: Collection[str] = (),
        closing_of: Collection[str] = (),
    ) -> None:
        """Every key of these accounts is revoked, those that may trade of `trading_of`, those that
        may not of `closing_of`, and no other."""
        self._revoked = {
            c.key
            for c in self._by_key.values()
            if c.account in accounts or c.account in (trading_of if c.may_trade else closing_of)
        }


def _claims(word: str) -> list[str]:
    """The texts in the payload of a JSON Web Token; none where it is no such token."""
    parts = word.split(".")
    if len(parts) != 3:
        return []
    try:
        payload = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return []
    values = payload.values() if isinstance(payload, dict) else ()
    return [value for value in values if isinstance(value, str)]
