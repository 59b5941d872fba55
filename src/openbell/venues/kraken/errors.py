"""What an answer of Kraken's that is no success says about its request. Pure.

Source: https://docs.kraken.com, "Error messages"; what is said of single ones is in
docs/reference/venues/kraken.md.
"""

from __future__ import annotations

import msgspec

from openbell.venues.problem import Meaning, Problem

INVALID_NONCE = "EAPI:Invalid nonce"
CALLS_EXCEEDED = "EAPI:Rate limit exceeded"
ORDERS_EXCEEDED = "EOrder:Rate limit exceeded"
LOCKOUT = "EGeneral:Temporary lockout"
UNKNOWN_PAIR = "EQuery:Unknown asset pair"
_NOT_UNIQUE = "cl_ord_id not unique"

_MEANINGS = (
    # The first that an error begins with.
    ("EAPI:Rate limit", Meaning.THROTTLED),
    ("EAPI:", Meaning.NOT_ALLOWED),
    ("EAuth:Rate limit", Meaning.THROTTLED),
    ("EAuth:Too many", Meaning.THROTTLED),
    ("EAuth:", Meaning.NOT_ALLOWED),
    ("ESession:", Meaning.NOT_ALLOWED),
    ("EAccount:", Meaning.NOT_ALLOWED),
    ("EGeneral:Permission", Meaning.NOT_ALLOWED),
    ("EGeneral:Temporary lockout", Meaning.THROTTLED),
    ("EGeneral:Too many requests", Meaning.THROTTLED),
    # "Internal Support": it says nothing of what was done before.
    ("EGeneral:Internal error", Meaning.UNCERTAIN),
    ("EGeneral:", Meaning.REFUSED),
    ("EOrder:Unknown order", Meaning.NO_SUCH_ORDER),
    ("EOrder:Invalid order", Meaning.NO_SUCH_ORDER),
    ("EOrder:Rate limit", Meaning.THROTTLED),
    ("EOrder:Domain rate limit", Meaning.THROTTLED),
    ("EOrder:", Meaning.REFUSED),
    ("EQuery:", Meaning.REFUSED),
    ("ETrade:", Meaning.REFUSED),
    ("EBM:", Meaning.REFUSED),
    ("EService:Market in", Meaning.REFUSED),
    ("EService:Throttled", Meaning.THROTTLED),
    ("EService: Throttled", Meaning.THROTTLED),
)
"""All others, foremost `EService:` (unavailable, busy, time-out, deadline elapsed: which of the
default and the given one is not said), leave open whether the request was carried out."""


class _Errors(msgspec.Struct, frozen=True):
    error: list[str]


def problem_in(status: int, body: bytes) -> Problem | None:
    """What is wrong with an answer; None for a success.

    Kraken answers 200 whatever it thinks of a request and says what it thinks in `error`; another
    status was given by what stands before it, which cannot know what Kraken did.
    """
    try:
        said = msgspec.json.decode(body, type=_Errors).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = None
    # A W stands for a warning, of something that was done.
    errors = [message for message in said or () if not message.startswith("W")]
    if said is not None and not errors and 200 <= status < 300:
        return None
    if status == 429:
        return Problem(Meaning.THROTTLED, CALLS_EXCEEDED, f"HTTP 429 {' '.join(errors)}")
    code = errors[0] if errors else f"http_{status}"
    text = "; ".join(errors) or f"HTTP {status} without Kraken's own error"
    if status >= 500 or not errors:
        return Problem(Meaning.UNCERTAIN, code, text)
    meanings = [_meaning_of(message) for message in errors]
    doubtful = Meaning.UNCERTAIN in meanings
    return Problem(Meaning.UNCERTAIN if doubtful else meanings[0], code, text)


def _meaning_of(message: str) -> Meaning:
    if _NOT_UNIQUE in message:
        return Meaning.DUPLICATE
    return next(
        (meaning for start, meaning in _MEANINGS if message.startswith(start)), Meaning.UNCERTAIN
    )
