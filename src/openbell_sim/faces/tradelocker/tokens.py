"""JSON Web Tokens of this face: RFC 7519, signed by HMAC-SHA256 (RFC 7515, "HS256").

Claims are those of the example in TradeLocker's "Fetch JWT token", but for `uid`, which here is the
e-mail address. An access token lives an hour and a refresh token seven days, as in that example.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import secrets

import orjson

ACCESS, REFRESH = "access_token", "refresh_token"
LIFE_S = {ACCESS: 3600, REFRESH: 7 * 86400}


class Tokens:
    """Those of one venue process: after a restart nobody's are valid."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._numbers = itertools.count(1)

    def mint(self, kind: str, email: str, server: str, now_s: int) -> str:
        claims = {
            "iss": "tradelocker-api",
            "aud": "tradelocker-api-traders",
            "type": kind,
            "sub": f"{server}#{email}",
            "uid": email,
            "brand": server,
            "jti": next(self._numbers),
            "iat": now_s,
            "exp": now_s + LIFE_S[kind],
        }
        signed = (
            f"{_text(orjson.dumps({'alg': 'HS256', 'typ': 'JWT'}))}.{_text(orjson.dumps(claims))}"
        )
        return f"{signed}.{_text(self._signature(signed))}"

    def read(self, token: str, kind: str, now_s: int) -> tuple[str, str] | None:
        """`(email, server)` of a token of this kind that is genuine and has not expired."""
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature, _text(self._signature(signed))):
            return None
        claims = orjson.loads(_bytes(signed.rpartition(".")[2]))
        if claims["type"] != kind or claims["exp"] <= now_s:
            return None
        return claims["uid"], claims["brand"]

    def _signature(self, signed: str) -> bytes:
        return hmac.digest(self._key, signed.encode(), hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
