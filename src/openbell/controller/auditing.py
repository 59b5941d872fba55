"""Puts the controller's acts into the audit log without making the event loop wait for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from openbell.errors import OpenbellError
from openbell.service.logging import get_logger
from openbell.state.audit import AuditLog

log = get_logger()

CONTROLLER_ACTOR = "controller"


class Auditor:
    """`record` for acts that need their record first; `note` for what happened anyway."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._queue: asyncio.Queue[tuple[str, str, str, Mapping[str, Any]]] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None

    async def record(self, actor: str, action: str, subject: str, **detail: object) -> None:
        """On the disk when this returns. StorageError or CorruptError: the act must not be done."""
        await asyncio.to_thread(self._audit.append, actor, action, subject, detail)

    async def try_record(self, actor: str, action: str, subject: str, **detail: object) -> bool:
        """For an act that makes the desk safer: it is done even where it cannot be recorded."""
        try:
            await self.record(actor, action, subject, **detail)
        except OpenbellError as error:
            log.error("not audited", action=action, subject=subject, why=error.message, alert=True)
            return False
        return True

    def note(self, action: str, subject: str, actor: str = CONTROLLER_ACTOR, **detail: Any) -> None:
        """Soon on the disk, in order."""
        self._queue.put_nowait((actor, action, subject, detail))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="audit")

    async def flush(self) -> None:
        """Returns when every note is written or was given up."""
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        while not self._queue.empty():
            actor, action, subject, detail = self._queue.get_nowait()
            await self.try_record(actor, action, subject, **detail)
