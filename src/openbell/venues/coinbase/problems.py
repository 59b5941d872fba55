"""What an answer of Coinbase's that is no success means.

Source: API reference of Advanced Trade. "Create Order" answers 200 also where it made no order:
`"success": false` with `error_response`. Other refusals are `{"error", "error_details", "message"}`
with a 4xx; an unaccepted key is 401 and the bare word "Unauthorized"; "Rate limiting" answers 429.
"""

from __future__ import annotations

import msgspec

from openbell.venues.problem import Meaning, Problem

TOO_MANY = "rate_limit_exceeded"
_NO_REASON = {
    "",
    "UNKNOWN_FAILURE_REASON",
    "UNKNOWN_PREVIEW_FAILURE_REASON",
    "PREVIEW_FAILURE_REASON_UNSPECIFIED",
}
"""What the enumerations of reasons say where they say nothing."""


class _OrderFailure(msgspec.Struct, frozen=True):
    error: str = ""
    message: str = ""
    error_details: str = ""
    preview_failure_reason: str = ""
    new_order_failure_reason: str = ""

    @property
    def reason(self) -> str:
        """The one that says something; empty where none does."""
        reasons = (self.new_order_failure_reason, self.error, self.preview_failure_reason)
        return next((reason for reason in reasons if reason not in _NO_REASON), "")

    @property
    def text(self) -> str:
        said = (self.message, self.error_details, self.preview_failure_reason)
        return next((text for text in said if text not in _NO_REASON), "no reason given")


class _Item(msgspec.Struct, frozen=True):
    id: str = ""
    message: str = ""


class _Answer(msgspec.Struct, frozen=True):
    """What of any answer tells a failure."""

    success: bool | None = None
    error_response: _OrderFailure = _OrderFailure()
    error: str = ""
    error_details: str = ""
    message: str = ""
    errors: list[_Item] = []

    @property
    def code(self) -> str:
        return self.error or (self.errors[0].id if self.errors else "")

    @property
    def text(self) -> str:
        listed = self.errors[0].message if self.errors else ""
        return self.error_details or self.message or listed or self.code


def problem_in(status: int, body: bytes) -> Problem | None:
    """What is wrong with an answer; None for a success."""
    answer = _read(body)
    if 200 <= status < 300:
        if answer is not None and answer.success is False:
            return _order_failure(answer.error_response)
        return None
    code = answer.code if answer is not None else ""
    if not code:
        text = f"HTTP {status} without Coinbase's own error"
    else:
        text = answer.text if answer is not None else ""
    if status == 429 or code == TOO_MANY:
        meaning = Meaning.THROTTLED
    elif status in (401, 403) and (code or body.lstrip()[:1] != b"<"):
        # Coinbase says "Unauthorized" in plain text; a page of HTML is not its own.
        meaning = Meaning.NOT_ALLOWED
    elif status >= 500 or not code:
        # Without a code it was written by something in between, which cannot know what was done.
        meaning = Meaning.UNCERTAIN
    elif status == 404 and "order" in text.lower():
        meaning = Meaning.NO_SUCH_ORDER
    else:
        meaning = Meaning.REFUSED
    return Problem(meaning, code or f"http_{status}", text)


def _order_failure(failure: _OrderFailure) -> Problem:
    """Not success, and for no stated reason: whether there is an order, only asking tells."""
    if not failure.reason:
        return Problem(Meaning.UNCERTAIN, "UNKNOWN_FAILURE_REASON", failure.text)
    return Problem(Meaning.REFUSED, failure.reason, failure.text)


def _read(body: bytes) -> _Answer | None:
    try:
        return msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
