"""ccxt's exceptions, by class, in the words of the port.

raised                                     order or cancel               query
-----------------------------------------  ----------------------------  -----------------------
anything before a byte was written         Rejected("never_arrived")     by class, as below
RateLimitExceeded, DDoSProtection          Rejected("throttled")         VenueThrottledError
AuthenticationError                        Rejected(class)               VenueAuthError
OrderNotFound                              Rejected(class)               no such order
DuplicateOrderId                           Unknown                       VenueRefusedError
InvalidOrder, InsufficientFunds,
BadRequest, OperationRejected, ...         Rejected(class)               VenueRefusedError
everything else                            Unknown                       VenueUnavailableError

Everything else is a time-out, a cut connection, 5xx, and ccxt's bare ExchangeError, which it raises
for half an answer as well as for a code that it does not know.
"""

from __future__ import annotations

from openbell.venues.generic.ccxt_library import ccxt
from openbell.venues.port import Rejected, Unknown

UNDERSTOOD = (
    ccxt.AuthenticationError,
    ccxt.ArgumentsRequired,
    ccxt.BadRequest,
    ccxt.OperationRejected,
    ccxt.InsufficientFunds,
    ccxt.InvalidOrder,
    ccxt.NotSupported,
)
"""The exchange read the request and did not do it."""
THROTTLED = (ccxt.RateLimitExceeded, ccxt.DDoSProtection)
EXISTS = (ccxt.DuplicateOrderId,)
"""Proof of an order, not of its absence."""


def outcome_of(error: Exception, text: str) -> Rejected | Unknown:
    """What became of an order or cancel that was sent; `text` is the error's, cleaned."""
    code = type(error).__name__
    if isinstance(error, EXISTS):
        return Unknown(why=f"duplicate id: {text}")
    if isinstance(error, UNDERSTOOD):
        return Rejected(code=code, text=text)
    return Unknown(why=f"{code}: {text}")
