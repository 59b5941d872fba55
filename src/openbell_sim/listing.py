"""What a venue shows of its lists.

Every face passes each list of orders, fills or positions through `shown` before it renders it, so
that a fault can cut the list and the face need not know: an empty answer with 200 and a truncated
page look as they would look at that venue.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
Cut = Callable[[Sequence[Any]], Sequence[Any]]

_cut: ContextVar[Cut | None] = ContextVar("cut", default=None)


def shown(items: Sequence[T]) -> Sequence[T]:
    """All of it, unless this request met a fault that cuts it."""
    cut = _cut.get()
    return items if cut is None else cut(items)


@contextlib.contextmanager
def cutting(cut: Cut) -> Iterator[None]:
    """Lists shown by the enclosed request are cut."""
    token = _cut.set(cut)
    try:
        yield
    finally:
        _cut.reset(token)
