"""What a fault makes the exchange do otherwise than it should. Nothing, by default.

Each is the exchange's own doing, and so stands in the order log like all that it does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import msgspec


class Interventions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lazy_cancels_s: float = 0.0
    """A cancel is acknowledged at once and done so many seconds later. Until then the order is
    open, may be filled, and is listed."""
    fill_on_cancel: float = 0.0
    """An order is filled to this part of what is left, at least one lot, just before its cancel:
    at 1 the cancel comes too late and is refused, below it cancels the rest."""
    partial_fills: float = 1.0
    """Who takes gets this part of what is there to be taken, at least one lot. The crowd withdraws
    what else was within reach, and quotes it again when its source does."""
    drop_stops: bool = False
    """Stop orders vanish and nobody is told: those that wait when it begins, and those that come
    as soon as they were acknowledged."""

    def __post_init__(self) -> None:
        if self.lazy_cancels_s < 0:
            raise ValueError("lazy_cancels_s must not be negative")
        if not 0 <= self.fill_on_cancel <= 1:
            raise ValueError("fill_on_cancel must lie between 0 and 1")
        if not 0 < self.partial_fills <= 1:
            raise ValueError("partial_fills must be above 0 and at most 1")


_of_request: ContextVar[dict[str, float | bool] | None] = ContextVar("interventions", default=None)


def with_those_of_request(standing: Interventions) -> Interventions:
    """What holds for the request at hand."""
    changes = _of_request.get()
    return standing if changes is None else msgspec.structs.replace(standing, **changes)


@contextlib.contextmanager
def meddling(**changes: float | bool) -> Iterator[None]:
    """The enclosed request, and no other, is met by these as well: `meddling(fill_on_cancel=1)`."""
    token = _of_request.set(changes)
    try:
        yield
    finally:
        _of_request.reset(token)
