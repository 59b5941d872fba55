"""What OANDA answers instead of what was asked for.

Source: "Troubleshooting & Errors", and the responses of each endpoint.
"""

from __future__ import annotations

from openbell_sim.faces.oanda.book import Json
from openbell_sim.refusals import Reason


class OandaError(Exception):
    """Answered as `{"errorMessage": ..., "errorCode": ...}` with an HTTP status. Not every error
    has a code."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code

    def body(self) -> Json:
        said: Json = {"errorMessage": self.message}
        return said | {"errorCode": self.code} if self.code else said


class RejectedError(Exception):
    """The order cannot be as it was asked for: it becomes a reject transaction."""

    def __init__(self, reject_reason: str, reason: Reason = Reason.MALFORMED) -> None:
        super().__init__(reject_reason)
        self.reject_reason = reject_reason
        self.reason = reason
        """The same in the exchange's words."""


def unauthorized() -> OandaError:
    return OandaError(401, "Insufficient authorization to perform request.")


def forbidden() -> OandaError:
    return OandaError(403, "The provided request was forbidden.")


def invalid(name: str) -> OandaError:
    return OandaError(400, f"Invalid value specified for '{name}'")


def missing() -> OandaError:
    return OandaError(400, "The request was missing required data")


def no_such(what: str) -> OandaError:
    """`order`, `trade`, `transaction`, `position`."""
    return OandaError(404, f"The {what} specified does not exist", f"NO_SUCH_{what.upper()}")


def throttled() -> OandaError:
    return OandaError(429, "The request rate limit has been exceeded.")


def too_many_streams() -> OandaError:
    return OandaError(429, "The maximum number of active streams has been reached.")


def in_words(reject_reason: str) -> str:
    return reject_reason.replace("_", " ").capitalize() + "."
