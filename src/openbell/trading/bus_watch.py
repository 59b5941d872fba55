"""Keeps the bus reachable: a socket whose path was cleaned away is bound under it again.

Where the desk's path is long its sockets lie in the temporary folder, which is cleaned now and then. Whoever
is connected stays so and notices nothing; a strategy, an engine or a risk-management that starts afterwards
could connect to nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from openbell.config.layout import DeskLayout
from openbell.service.logging import get_logger

log = get_logger()

LOOK_S = 1.0
"""Between two looks, which cost a system call each."""


class Bound(Protocol):
    """A publisher or a responder."""

    @property
    def is_gone(self) -> bool: ...

    def reopen(self) -> bool: ...


async def keep_reachable(layout: DeskLayout, bound: Callable[[], Iterable[Bound]]) -> None:
    """For ever. `bound`: what is to be reachable at this moment; a name that others took is theirs."""
    failed = ""
    while True:
        await asyncio.sleep(LOOK_S)
        gone = [each for each in bound() if each.is_gone]
        if not gone:
            continue
        try:
            # No other folder: a state folder that is gone is none whose latches are released.
            layout.make_run()
            again = [each.reopen() for each in gone]
        except OSError as error:
            # Tried again at the next look.
            if str(error) != failed:
                log.error("a bus socket cannot be opened again", why=str(error), alert=True)
            failed = str(error)
            continue
        failed = ""
        if any(again):
            log.error("bus sockets were cleaned away: opened again", count=sum(again), alert=True)
