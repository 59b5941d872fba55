"""The guard's own connection to a venue, opened in the background and kept warm.

Each venue is a task of its own: one that hangs, or whose adapter cannot be loaded, delays no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from openbell.config.models import Venue as VenueConfig
from openbell.errors import OpenbellError
from openbell.venues.credentials import Credentials
from openbell.venues.port import Venue
from openbell.venues.registry import open_venue

_log = logging.getLogger(__name__)

WARM_EVERY_S = 10.0
"""Between two questions. aiohttp lets an idle connection go after 15 seconds."""
RETRY_FIRST_S, RETRY_MAX_S = 0.5, 30.0
CONNECT_SHARE = 4.0
"""Of the venue's time-out: a connect is several questions."""
FAILURES_MAX = 2
"""In a row, then the connection counts as lost."""


class WarmVenue:
    """One venue of the desk, as the guard holds it."""

    def __init__(
        self,
        name: str,
        config: VenueConfig,
        credentials: tuple[str, str] | None,
        tell: Callable[..., None],
    ) -> None:
        self.name = name
        self.config = config
        self.venue: Venue | None = None
        """None until its adapter is loaded."""
        self.warm = False
        self.why = "not connected yet"
        self.since_ns: int | None = None
        """When it was connected, wall clock."""
        self.opened = asyncio.Event()
        """Its adapter is loaded, or cannot be."""
        self._credentials = credentials
        self._tell = tell
        self._lost = False

    async def run(self) -> None:
        """Connects, keeps warm, connects again, for ever."""
        pause = RETRY_FIRST_S
        while True:
            if self.venue is None and not await self._open():
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MAX_S)
                continue
            if await self._connect():
                pause = RETRY_FIRST_S
                await self._keep_warm()
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MAX_S)

    async def _open(self) -> bool:
        if self._credentials is None:
            self.why = "its credentials are not set"
            self.opened.set()
            return False
        key, secret = self._credentials
        try:
            # A client library takes half a second to import: meanwhile the socket is served.
            self.venue = await asyncio.to_thread(
                open_venue, self.name, self.config, Credentials(key, secret)
            )
        except OpenbellError as error:
            self.why = error.message
        except Exception as error:  # noqa: BLE001 - an adapter's defect must not end the guard
            self.why = f"the adapter raised {type(error).__name__}"
            _log.error("the adapter of %s raised %s", self.name, type(error).__name__)
        self.opened.set()
        return self.venue is not None

    async def _connect(self) -> bool:
        assert self.venue is not None
        why = await self._ask(self.venue.connect, self.config.timeout * CONNECT_SHARE)
        if why:
            self._is_lost(why)
            return False
        self.warm, self.why, self.since_ns = True, "", time.time_ns()
        self._lost = False
        self._tell("venue_warm", venue=self.name)
        return True

    async def _keep_warm(self) -> None:
        """Returns when the connection is lost."""
        assert self.venue is not None
        venue = self.venue
        question: Callable[[], object] = (
            venue.server_time_ns if venue.capabilities.server_time else venue.open_orders
        )
        failures = 0
        while failures < FAILURES_MAX:
            await asyncio.sleep(WARM_EVERY_S if not failures else RETRY_FIRST_S)
            why = await self._ask(question, self.config.timeout)
            failures = failures + 1 if why else 0
        self._is_lost(why)

    async def _ask(self, question: Callable[[], object], timeout_s: float) -> str:
        """Why it was not answered; empty where it was."""
        try:
            async with asyncio.timeout(timeout_s):
                await question()  # type: ignore[misc]
        except TimeoutError:
            return f"no answer within {timeout_s:g} s"
        except OpenbellError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - the same
            _log.error("the adapter of %s raised %s", self.name, type(error).__name__)
            return f"the adapter raised {type(error).__name__}"
        return ""

    def _is_lost(self, why: str) -> None:
        was_warm, self.warm, self.why = self.warm, False, why
        if was_warm or not self._lost:
            self._tell("venue_lost", venue=self.name, why=why)
        self._lost = True

    async def close(self) -> None:
        if self.venue is not None:
            with contextlib.suppress(TimeoutError, OpenbellError, OSError):
                async with asyncio.timeout(1):
                    await self.venue.close()

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "warm": self.warm,
            "why": self.why,
            "since_ns": self.since_ns if self.warm else None,
            "close_only_key": self.config.cancel_secret_env is not None,
        }
