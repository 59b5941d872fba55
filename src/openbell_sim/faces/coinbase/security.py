"""Who calls: a JSON Web Token of a CDP key, or the signature of a legacy key.

CDP keys ("Coinbase App API Key Authentication"): `Authorization: Bearer <JWT>`, signed with ES256.
Header `kid`: the key's name. Claims: `sub` the key's name, `iss` coinbase-cloud or cdp, `nbf`,
`exp` at most 120 s later, and `uri`, "METHOD host/path" without the query, which binds a token to
one request; a WebSocket message carries a token without it.

Legacy keys: `CB-ACCESS-KEY`, `CB-ACCESS-TIMESTAMP` in seconds, no more than 30 s off, and
`CB-ACCESS-SIGN`, the hex HMAC-SHA256 of timestamp + method + path + body; under /v2 the path comes
with its query. On a WebSocket `api_key`, `timestamp` and `signature`, the HMAC of timestamp +
channel + product ids joined by commas.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from openbell_sim.faces.coinbase.errors import unauthorized
from openbell_sim.keys import Credentials, KeyRing

TOKEN_LIFE_S = 120
SKEW_S = 30
"""How far a caller's clock may be off."""
_ISSUERS = {"coinbase-cloud", "cdp"}
_SCHEME = re.compile(r"^(\S+) (?:https?://)?[^/]*(/\S*)$")


@dataclass(frozen=True)
class Signed:
    """What of a request is signed."""

    method: str
    path: str
    query: str
    """Raw, without the question mark."""
    body: str


def identify(
    keys: KeyRing, headers: Mapping[str, str], signed: Signed, now_s: float
) -> Credentials:
    """Raises CoinbaseError 401."""
    bearer = headers.get("Authorization", "")
    if bearer.startswith("Bearer "):
        credentials, claims = _token(keys, bearer.removeprefix("Bearer "), now_s)
        uris = claims.get("uris", [claims.get("uri")])
        wanted = (signed.method, signed.path)
        if not isinstance(uris, list) or wanted not in [_method_and_path(uri) for uri in uris]:
            raise unauthorized()
        return credentials
    credentials = _known(keys, headers.get("CB-ACCESS-KEY"))
    timestamp = headers.get("CB-ACCESS-TIMESTAMP", "")
    _check_time(timestamp, now_s)
    query = f"?{signed.query}" if signed.query and signed.path.startswith("/v2/") else ""
    text = timestamp + signed.method + signed.path + query + signed.body
    _check_hmac(credentials, text, headers.get("CB-ACCESS-SIGN", ""))
    return credentials


def identify_subscription(
    keys: KeyRing,
    message: Mapping[str, object],
    channel: str,
    products: Sequence[str],
    now_s: float,
) -> Credentials:
    """Of a message on a WebSocket. Raises CoinbaseError 401."""
    jwt = message.get("jwt")
    if isinstance(jwt, str):
        return _token(keys, jwt, now_s)[0]
    key, timestamp = message.get("api_key"), str(message.get("timestamp", ""))
    credentials = _known(keys, key if isinstance(key, str) else None)
    _check_time(timestamp, now_s)
    text = timestamp + channel + ",".join(products)
    _check_hmac(credentials, text, str(message.get("signature", "")))
    return credentials


def _known(keys: KeyRing, key: str | None) -> Credentials:
    credentials = keys.find(key)
    if credentials is None:
        raise unauthorized()
    return credentials


def _check_time(timestamp: str, now_s: float) -> None:
    if not timestamp.isdecimal() or abs(int(timestamp) - now_s) > SKEW_S:
        raise unauthorized()


def _check_hmac(credentials: Credentials, text: str, signature: str) -> None:
    expected = hmac.new(credentials.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise unauthorized()


def _method_and_path(uri: object) -> tuple[str, str] | None:
    """Of `GET api.coinbase.com/api/v3/brokerage/orders`. The host is not compared: clients that are
    pointed at another one write it in various ways."""
    found = _SCHEME.match(uri) if isinstance(uri, str) else None
    return (found[1], found[2]) if found else None


def _token(keys: KeyRing, token: str, now_s: float) -> tuple[Credentials, Mapping[str, object]]:
    """The key's owner and the claims of a valid token."""
    try:
        head, body, signature = token.split(".")
        header, claims = orjson.loads(_unpadded(head)), orjson.loads(_unpadded(body))
        raw = _unpadded(signature)
    except (ValueError, binascii.Error):
        raise unauthorized() from None
    if not isinstance(header, dict) or not isinstance(claims, dict) or len(raw) != 64:
        raise unauthorized()
    name = header.get("kid")
    credentials = _known(keys, name if isinstance(name, str) else None)
    nbf, exp = claims.get("nbf"), claims.get("exp")
    if (
        header.get("alg") != "ES256"
        or claims.get("sub") != credentials.key
        or claims.get("iss") not in _ISSUERS
        or not isinstance(nbf, int)
        or not isinstance(exp, int)
        or not nbf - SKEW_S <= now_s < exp
        or exp - nbf > TOKEN_LIFE_S
    ):
        raise unauthorized()
    r, s = int.from_bytes(raw[:32]), int.from_bytes(raw[32:])
    try:
        private = load_pem_private_key(credentials.secret.encode(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        private.public_key().verify(
            encode_dss_signature(r, s), f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256())
        )
    except (InvalidSignature, ValueError, AssertionError):
        raise unauthorized() from None
    return credentials, claims


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
