"""Why a venue is lost, in words that say what has to be done about it.

A key that was revoked is no outage: waiting does not bring it back. So what the venue refuses is told
apart from what does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from openbell.errors import OpenbellError
from openbell.service.logging import get_logger
from openbell.venues.port import (
    VenueAuthError,
    VenueError,
    VenueRefusedError,
    VenueUnavailableError,
)

log = get_logger()


def lost_by(error: OpenbellError, name: str, variables: Iterable[str]) -> tuple[str, str]:
    """Why a venue is lost, by what has to be done about it, and that; nothing where waiting is all.
    `variables`: of its credentials."""
    match error:
        case VenueAuthError():
            look = error.hint or "check the key and its permissions at the venue"
            return (
                f"credentials refused by {name}: check {' and '.join(variables)}",
                f"{look}; mend them in .env, and `openbell restart` the services that use them",
            )
        case VenueRefusedError():
            return "refuses to serve the desk", error.hint
        case _:
            return "cannot be reached", error.hint


def told(name: str, error: Exception) -> VenueError:
    """What an adapter let through, as an error of its venue."""
    if isinstance(error, VenueError):
        return error
    log.error("a venue's answer makes no sense", venue=name, exc_info=error)
    return VenueUnavailableError(f"{name}: an answer that makes no sense ({type(error).__name__})")
