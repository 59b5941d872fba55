"""Looks at the desk database while the desk trades, and tells at once when it is damaged.

Nobody else would notice soon: who trades only appends. Nothing is done about it but to tell: the engine
goes on, since its orders are in its books and at the venues, and a person decides when it is closed.
"""

from __future__ import annotations

import asyncio
import time

from openbell.controller.desk import ControlledDesk
from openbell.kill.aside import aside
from openbell.service.logging import get_logger
from openbell.state.database_look import HeaderLook, PagesSeen, look_at_pages

log = get_logger()

HEADER_EVERY_S = 2.5
"""So that with the alert's own way it is told within five seconds (RTS 6 Art. 16(5)). One `pread`."""
AGAIN_S = 0.25
"""After a look that found something: a checkpoint of SQLite's may just have been writing there."""
PAGES_FIRST_S, PAGES_EVERY_S = 60.0, 900.0
"""Every page is read for it, at the lowest priority."""
ADVICE = (
    "halt with `openbell halt`, close with `openbell down` (where that fails, `openbell emergency-stop`, "
    "which needs no database); keep the file for study, restore a checkpoint, then `openbell reconcile`"
)


class DatabaseWatch:
    """One desk's."""

    def __init__(self, desk: ControlledDesk) -> None:
        self._desk = desk
        self._header = HeaderLook(desk.layout.database)
        self._of_header = ""
        self._of_pages = ""
        self._told_unknown = ""

    async def run(self) -> None:
        """For ever."""
        pages_due_s = time.monotonic() + PAGES_FIRST_S
        while True:
            await asyncio.sleep(HEADER_EVERY_S)
            await self.look()
            # One that is known to be damaged is not read through again and again.
            if time.monotonic() >= pages_due_s and not self._desk.database_problem:
                await self.look_at_pages()
                pages_due_s = time.monotonic() + PAGES_EVERY_S

    async def look(self) -> None:
        """At the header."""
        problem = await self._of_first_bytes()
        if problem and problem != self._of_header:
            await asyncio.sleep(AGAIN_S)
            problem = await self._of_first_bytes()
        self._of_header = problem
        self._tell()

    async def look_at_pages(self) -> None:
        path = self._desk.layout.database
        seen = await aside(lambda: look_at_pages(path)) if path.exists() else PagesSeen()
        if seen.unknown and seen.unknown != self._told_unknown:
            log.info("the desk database was not looked through", why=seen.unknown)
        self._told_unknown, self._of_pages = seen.unknown, seen.problem
        self._tell()

    async def _of_first_bytes(self) -> str:
        """A disk that hangs hangs a thread, and nothing else of the controller."""
        try:
            return await aside(self._header.look)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"

    def _tell(self) -> None:
        desk = self._desk
        problem = self._of_header or self._of_pages
        if problem and problem != desk.database_problem:
            path = str(desk.layout.database)
            log.critical(
                "the desk database is damaged", alert=True, path=path, why=problem, hint=ADVICE
            )
            desk.auditor.note("database.damaged", desk.desk.file.desk.name, path=path, why=problem)
        elif desk.database_problem and not problem:
            log.warning("the desk database is whole again", before=desk.database_problem)
        desk.database_problem = problem
