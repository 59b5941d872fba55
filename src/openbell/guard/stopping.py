"""The emergency stop as the guard carries it out: with its warm venues, to its end, whoever listens.

The stop is a task of its own: a client that goes away in the middle, or does not read, neither ends
nor delays it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from openbell.config.layout import DeskLayout
from openbell.config.loader import parse_desk
from openbell.config.models import LoadedDesk
from openbell.config.secrets import load_secrets
from openbell.errors import ConfigError, OpenbellError, RefusedError, UsageError
from openbell.guard.server import Fields
from openbell.guard.warm_venue import WarmVenue
from openbell.kill.aside import aside
from openbell.kill.emergency import emergency_stop
from openbell.kill.guard_client import ALIVE, ANSWER_S, SILENT_S
from openbell.kill.progress import StandsStillError
from openbell.kill.request import EmergencyRequest, visits_of

_log = logging.getLogger(__name__)

ALIVE_S = SILENT_S / 5
"""Between two lines, so that whoever waits knows that this guard is at work."""
READ_S = ANSWER_S / 2
"""For desk.toml: from a disk that answers nothing nobody else could read it either."""
PARSE_S = 5.0


class Stopping:
    """Carries out emergency stops; several at a time join each other in `kill.emergency`."""

    def __init__(
        self,
        layout: DeskLayout,
        loaded: LoadedDesk,
        venues: Mapping[str, WarmVenue],
        credentials: Mapping[str, tuple[str, str]],
        tell: Callable[..., None] = lambda _event, **_facts: None,
    ) -> None:
        self._layout = layout
        self._loaded = loaded
        self._venues = venues
        self._credentials = credentials
        self._tell = tell
        self._tasks: dict[asyncio.Task[None], asyncio.Queue[dict[str, Any]]] = {}
        self.stands_still = ""
        """Why none is begun here any more: one that was hung, and so would the next."""
        self.begins: Callable[[], None] = lambda: None
        """Called as one begins: what else this guard sends to the venues makes way for it."""

    @property
    def problem(self) -> str:
        still = self.stands_still
        return f"no emergency stop is begun in it: one stood still ({still})" if still else ""

    @property
    def under_way(self) -> bool:
        return bool(self._tasks)

    @property
    def comes_to_an_end(self) -> bool:
        """One is under way, and is worth to be waited for: it does not stand still."""
        return bool(self._tasks) and not self.stands_still

    async def answers(self, fields: Fields) -> AsyncIterator[dict[str, Any]]:
        """The course as it goes, the statement last. Raises UsageError for what is no request, and
        RefusedError where desk.toml is another one by now, or a pair in scope is missing here or is
        another one on the disk: whoever presses does it alone then, by the files as they are."""
        try:
            request = EmergencyRequest.from_wire(fields)
        except ValueError as error:
            raise UsageError(f"emergency_stop: {error}") from None
        if self.stands_still:
            raise RefusedError(
                f"a stop in this guard stood still: {self.stands_still}",
                hint="the stop is carried out without the guard, which the controller replaces after it",
            )
        # At once: a disk that answers nothing may take half of the time that whoever presses waits.
        outdated, lacks = await asyncio.gather(self._is_outdated(), self._lacks(request))
        if outdated:
            raise RefusedError(
                "desk.toml has changed since this guard read it",
                hint="the stop is carried out without the guard, by the file as it is now",
            )
        if lacks:
            raise RefusedError(
                lacks,
                hint="the stop is carried out without the guard, by the credentials as they are now",
            )
        # Said before it is begun: whoever got no answer in time, as this guard was still loading, has
        # gone and done it without, and may have opened the desk again since. Where the word cannot
        # be said, this generator is not continued.
        yield {"event": "taken"}
        news: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.begins()
        task = asyncio.create_task(self._carry_out(request, news), name="emergency stop")
        self._tasks[task] = news
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        while True:
            try:
                async with asyncio.timeout(ALIVE_S):
                    told = await news.get()
            except TimeoutError:
                told = {"event": ALIVE}
            yield told
            if told.get("final"):
                return

    async def _is_outdated(self) -> bool:
        """Whether desk.toml says something else than this guard goes by. A file that cannot be read
        serves nobody: then it is the desk as it was loaded."""
        path = self._loaded.path
        try:
            data = await aside(path.read_bytes, READ_S)
            if hashlib.sha256(data).hexdigest() == self._loaded.digest:
                return False
            return await aside(lambda: parse_desk(data, path), PARSE_S) != self._loaded.file
        except (OSError, ConfigError, TimeoutError):
            return False

    async def _lacks(self, request: EmergencyRequest) -> str:
        """Why this guard's credentials do not serve for this stop; names venues, and no secret. What the
        disk does not tell in time, or nobody can read, serves nobody else: then by those at hand."""
        names = visits_of(request, self._loaded)
        cold = [name for name in names if name not in self._opened()]
        missing = [name for name in cold if name not in self._credentials]
        if missing:
            return f"this guard has no credentials of {', '.join(missing)}"
        try:
            now = await aside(self._credentials_on_disk, READ_S)
        except (OSError, OpenbellError, TimeoutError):
            return ""
        other = [n for n in names if n in now and now[n] != self._credentials.get(n, now[n])]
        return (
            f"the credentials of {', '.join(other)} have changed since they were read"
            if other
            else ""
        )

    def _opened(self) -> frozenset[str]:
        """Venues that are warm need no credentials any more."""
        return frozenset(name for name, held in self._venues.items() if held.warm)

    def _credentials_on_disk(self) -> dict[str, tuple[str, str]]:
        """Raises OSError and OpenbellError."""
        return load_secrets(self._loaded, self._layout).closing_credentials()

    async def _carry_out(
        self, request: EmergencyRequest, news: asyncio.Queue[dict[str, Any]]
    ) -> None:
        warm = {
            name: held.venue
            for name, held in self._venues.items()
            if held.warm and held.venue is not None
        }
        try:
            stated = await emergency_stop(
                self._layout,
                self._loaded,
                self._credentials,
                request,
                warm=warm,
                tell=lambda event: news.put_nowait(dict(event)),
                stands_still=self._stand_still,
            )
        except StandsStillError:
            return  # whoever asked has been told
        except Exception as error:  # noqa: BLE001 - who asked then does it himself
            _log.exception("the emergency stop failed")
            why = f"the guard's stop failed: {type(error).__name__}"
            news.put_nowait({"error": why, "code": "failed", "final": True})
        else:
            news.put_nowait({"event": "done", "statement": stated.to_wire(), "final": True})

    def _stand_still(self, why: str) -> None:
        """Before its turn is free: of those that wait for it here none is to take it, and hang as well. Who
        asked for them carries them out."""
        self.stands_still = why
        own = asyncio.current_task()
        told = {"error": f"its stop stands still: {why}", "code": "failed", "final": True}
        for task, news in tuple(self._tasks.items()):
            news.put_nowait(told)
            if task is not own:
                task.cancel()
        self._tell("stop_stands_still", why=why)

    async def finish(self) -> None:
        """Returns when none is under way: a guard that is to end ends after it."""
        if self._tasks:
            await asyncio.wait(self._tasks)
