"""What a rolling restart waits for before it goes on, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from openbell.errors import FailedError
from openbell.procedures.rolling.context import Rolling
from openbell.procedures.step import Say
from openbell.procedures.wording import seconds_text

LOOK_EVERY_S = 0.1
HELD_BACK_AT_MOST_S = 90.0
"""Past its end a gate waits so long, once, for a venue that says until when its limits hold the desk
back, or for an order without an answer until it can land no more: it is not what was restarted that keeps
the gate shut. Ours: longer than the minute in which Binance counts what was asked, shorter than its bans;
and longer than an order is in doubt under an engine that was restarted, by default 45 s."""


def longest_s(trading_within_s: float) -> float:
    """How long one gate may take."""
    return 2 * trading_within_s + HELD_BACK_AT_MOST_S


class Gate:
    """Begins when it is made. All that is waited for at it has `trading_within` together."""

    def __init__(self, rolling: Rolling) -> None:
        self._desk = rolling.desk
        self._within_s = rolling.times.trading_within
        self._until_s = time.monotonic() + self._within_s
        self._was_held_back = False

    async def wait(self, what: str, why_not: Callable[[], Awaitable[str]], say: Say) -> None:
        """Raises FailedError where it does not become so in time. A halt or the kill switch ends
        the wait: what was waited for will not come, or does not matter any more."""
        while (why := await why_not()) and not self._desk.ended_by():
            if time.monotonic() > self._until_s and not await self._is_held_back():
                raise FailedError(f"not {what} within {seconds_text(self._within_s)}: {why}")
            say(f"waiting for {what}: {why}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _is_held_back(self) -> bool:
        """Whether there is time anew, as a venue's limits, or an order in doubt, hold the desk back until a
        stated time that can be waited for. Once only: a desk that uses its venue up again is not well."""
        if self._was_held_back:
            return False
        held_s = await self._desk.held_back_s()
        self._was_held_back = 0 < held_s <= HELD_BACK_AT_MOST_S
        if self._was_held_back:
            self._until_s = time.monotonic() + held_s + self._within_s
        return self._was_held_back
