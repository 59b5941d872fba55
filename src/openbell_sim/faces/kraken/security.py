"""Who calls: `API-Key`, `API-Sign` and a nonce that only ever grows.

Source: docs.kraken.com, "Spot REST Authentication": API-Sign is the base64 of HMAC-SHA512, with the
base64-decoded secret, of the URI path (from `/0/private` on) followed by SHA256 of nonce and POST
data. Nonces are unsigned 64-bit integers, per key; each must be greater than the one before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from openbell_sim.faces.kraken.errors import (
    INVALID_KEY,
    INVALID_NONCE,
    INVALID_SIGNATURE,
    KrakenError,
)
from openbell_sim.keys import Credentials, KeyRing


class Doorman:
    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._last_nonce: dict[str, int] = {}

    def admit(
        self, key: str | None, signature: str | None, path: str, nonce: str, body: bytes
    ) -> Credentials:
        """Raises KrakenError. A nonce counts from here on, whatever becomes of the call."""
        credentials = self._keys.find(key)
        if credentials is None:
            raise KrakenError(INVALID_KEY)
        expected = sign(credentials.secret, path, nonce, body)
        if expected is None or not hmac.compare_digest(expected, signature or ""):
            raise KrakenError(INVALID_SIGNATURE)
        if not nonce.isdecimal() or not 0 < int(nonce) < 2**64:
            raise KrakenError(INVALID_NONCE)
        if int(nonce) <= self._last_nonce.get(credentials.key, 0):
            raise KrakenError(INVALID_NONCE)
        self._last_nonce[credentials.key] = int(nonce)
        return credentials

    def last_nonce(self, credentials: Credentials) -> int:
        return self._last_nonce.get(credentials.key, 0)


def sign(secret: str, path: str, nonce: str, body: bytes) -> str | None:
    """None for a secret that is not base64."""
    try:
        key = base64.b64decode(secret, validate=True)
    except binascii.Error:
        return None
    digest = hashlib.sha256(nonce.encode() + body).digest()
    return base64.b64encode(hmac.new(key, path.encode() + digest, hashlib.sha512).digest()).decode()


def secret_problem(secret: str) -> str:
    """As `FaceKind.secret_problem`."""
    try:
        base64.b64decode(secret, validate=True)
    except ValueError:
        return "a private key of Kraken's is base64, and this is not"
    return ""
