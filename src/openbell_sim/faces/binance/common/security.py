"""Who calls, and whether the call is what they signed.

Binance's rule: HMAC-SHA256, in hex, over the raw query string followed by the raw body, both just
as they were sent, without the `signature` parameter itself. The WebSocket API signs its parameters
sorted by name instead.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from openbell_sim.faces.binance.common import errors
from openbell_sim.faces.binance.common.parameters import Parameters
from openbell_sim.keys import Credentials, KeyRing

_DEFAULT_WINDOW_MS = 5000
_MOST_WINDOW_MS = 60000
_AHEAD_MS = 1000
"""How far a timestamp may lie in the venue's future."""

_SIGNATURE = re.compile(r"(?:^|&)signature=[^&]*")


def identify(keys: KeyRing, key: str | None) -> Credentials:
    """Raises BinanceError for a key that is missing, unknown or revoked."""
    if not key:
        raise errors.bad_key_format()
    found = keys.find(key)
    if found is None:
        raise errors.bad_key()
    return found


def signed_text(query: str, body: str) -> str:
    """What must have been signed, from the raw query string and body of a request."""
    return _SIGNATURE.sub("", query) + _SIGNATURE.sub("", body)


def sorted_text(values: Mapping[str, str]) -> str:
    """What must have been signed, from the parameters of a WebSocket API call."""
    return "&".join(f"{k}={v}" for k, v in sorted(values.items()) if k != "signature")


def verify(credentials: Credentials, text: str, parameters: Parameters, now_ms: int) -> None:
    """Raises BinanceError for a stale or early call and for a wrong signature."""
    timestamp = parameters.integer("timestamp")
    window = parameters.integer_or_none("recvWindow")
    window = _DEFAULT_WINDOW_MS if window is None else window
    if window > _MOST_WINDOW_MS:
        raise errors.BinanceError(-1131, "recvWindow must be less than 60000.")
    if timestamp >= now_ms + _AHEAD_MS:
        raise errors.BinanceError(
            -1021, "Timestamp for this request was 1000ms ahead of the server's time."
        )
    if now_ms - timestamp > window:
        raise errors.late_timestamp()
    expected = hmac.new(credentials.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, parameters.text("signature").lower()):
        raise errors.bad_signature()
