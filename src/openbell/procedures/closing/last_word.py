"""What the venues said last, for a closing that finds simulated ones down: one that was cut off after it
had stopped them, or a later one over a desk that is closed already.

It counts only while nothing that could have changed it has run since (`state.last_word`), and never for
a venue that can be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from openbell.config.layout import DeskLayout
from openbell.config.models import DeskFile
from openbell.config.phases import is_quiet, senders
from openbell.errors import StorageError
from openbell.kill.marker import is_begun
from openbell.procedures.closing.picture import Kept, Picture, of_venues
from openbell.procedures.ports import Services, facts_of
from openbell.service.logging import get_logger
from openbell.state.last_word import (
    LastWord,
    begin_last_word,
    keep_last_word,
    read_last_word,
)
from openbell.state.nothing_sent import Anchor

log = get_logger()


@dataclass
class LastWords:
    layout: DeskLayout
    file: DeskFile
    services: Services
    marked: Callable[[], Mapping[int, str]]
    """Living processes that carry the desk's mark, by pid, each with its service."""
    run: str
    sender_stopped: bool = False
    """This closing has stopped something that could send: whatever was said before it is over."""

    async def kept(self) -> Kept:
        """Of which venues it still holds."""
        down = self._down()
        if not down or self.sender_stopped:
            return Kept()
        word = await asyncio.to_thread(read_last_word, self.layout.last_word, self.layout.emergency)
        if word is None or not await self._is_quiet():
            return Kept()
        venues = down & frozenset(word.venues)
        try:
            said = msgspec.convert(word.said, Picture)
        except msgspec.ValidationError as error:
            log.warning("what the venues said last cannot be read", why=str(error))
            return Kept()
        if not venues or not said.known:
            return Kept()
        others = self.file.venues.keys() - venues
        return Kept(of_venues(said, venues), venues, asks_others=bool(others))

    async def begin(self) -> Anchor | None:
        """Before the venues are asked for their last word. None: it is not to be kept, since it could
        change, or the disk does not take it."""
        try:
            anchor = await asyncio.to_thread(begin_last_word, self.layout.last_word)
        except StorageError as error:
            log.error("the venues' last word is not kept on disk", why=error.message, alert=True)
            return None
        # After it was made: whoever starts from here on takes it away.
        return anchor if await self._is_quiet() else None

    async def keep(self, anchor: Anchor | None, said: Picture) -> None:
        """What they said since `begin`; only what is complete."""
        if anchor is None or not said.known:
            return
        word = LastWord(
            self.run,
            datetime.now(UTC).isoformat(timespec="seconds"),
            tuple(self.file.venues),
            msgspec.to_builtins(said),
            anchor,
        )
        try:
            await asyncio.to_thread(keep_last_word, self.layout.last_word, word)
        except StorageError as error:
            log.error("the venues' last word is not kept on disk", why=error.message, alert=True)
            return
        self.sender_stopped = False  # it was said after that

    def stops(self, service: str) -> None:
        """Told before a service is stopped."""
        if self.services.view(service).state.is_running and service in senders(self.file.services):
            self.sender_stopped = True

    async def _is_quiet(self) -> bool:
        """Nothing that can send an order runs, and no emergency stop, which may."""
        views = facts_of(self.services).views
        running = {name for name, view in views.items() if view.state.is_running}
        if not is_quiet(self.file.services, running, ()):
            return False  # without a look at every process
        marked = await asyncio.to_thread(self.marked)
        return is_quiet(self.file.services, running, marked.values()) and not is_begun(self.layout)

    def _down(self) -> frozenset[str]:
        """Simulated venues whose processes are this desk's, and stopped."""
        services = self.file.services
        hosts = {name for name, each in services.items() if each.role == "venue"}
        views = facts_of(self.services).views

        def is_down(venue: str) -> bool:
            own = {name for name in hosts if venue in services[name].venues} or hosts
            return bool(own) and not any(views[name].state.is_running for name in own)

        return frozenset(
            name
            for name, each in self.file.venues.items()
            if each.environment == "simulated" and is_down(name)
        )
