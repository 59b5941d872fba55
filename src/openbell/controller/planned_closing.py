"""Closings that are announced now and begin later.

What was announced is on the disk before anybody is told: a controller that comes back begins it at
its time. The desk is locked from the announcement on and trades as before. Somebody who closes it
earlier, by hand, needs no other: what was announced is then done. A restart, which needs the lock to be
released, is no such closing: what was announced stands, and the desk is locked again once it is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from openbell.controller.close_desk import CloseWishes, Closings
from openbell.controller.desk import ControlledDesk
from openbell.controller.telling import tell_people
from openbell.domain.closing_time import moment_of
from openbell.domain.desk_state import DeskTarget
from openbell.errors import (
    ConflictError,
    NotRunningError,
    OpenbellError,
    StorageError,
    UsageError,
)
from openbell.procedures.status_rows import planned_row
from openbell.service.logging import get_logger
from openbell.state.desk_lock import ANNOUNCED, DeskLock, read_lock, set_lock
from openbell.state.planned_closing import (
    PlannedClosing,
    drop_planned,
    keep_planned,
    read_planned,
)
from openbell.watch.channels import Told

log = get_logger()

LATE_MAX = timedelta(hours=1)
"""A closing whose time passed without a controller begins late by this at most. Later, the desk is
in other hands than those that were told, and flattening it would surprise them."""

_LOOK_S = 30.0
"""The wall clock may be set meanwhile, so it is looked at again."""
_BUSY_S = 1.0
"""While another procedure is under way."""


class PlannedClosings:
    """At most one, of one desk."""

    def __init__(
        self,
        desk: ControlledDesk,
        closings: Closings,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._desk = desk
        self._closings = closings
        self._now = now
        self._planned: PlannedClosing | None = None
        self._changed = asyncio.Event()
        closings.begun = self._is_done

    def view(self) -> dict[str, object] | None:
        """As `status` shows it."""
        return planned_row(self._planned, self._now())

    def would_begin(self, at: str) -> dict[str, object]:
        """When a closing that is announced for this time would begin: `at`, and `in_s` from now. Announces
        nothing. Raises UsageError for what `announce` takes for no time."""
        moment = self._moment(at)
        return {
            "at": moment.isoformat(),
            "in_s": round((moment - self._now()).total_seconds(), 3),
        }

    async def announce(self, asked: CloseWishes, at: str, actor: str) -> dict[str, object]:
        """Announces it, or another time for the one that is announced. Raises UsageError,
        NotRunningError for a closed desk, ConflictError while a procedure is under way, StorageError
        (nothing is announced then)."""
        desk = self._desk
        with desk.board.acting():
            if desk.targets.asked is DeskTarget.OFFLINE:
                raise NotRunningError("the desk is closed", hint="open it with `openbell up`")
            if desk.interrupted is not None:
                raise ConflictError(
                    f"{desk.interrupted.id} was cut off",
                    hint="go on with it, or cancel it, before another is announced",
                )
            self._closings.wishes_for(asked)
            planned = PlannedClosing(
                at=self._moment(at),
                who=actor,
                reason=asked.reason,
                announced=self._now(),
                flatten=asked.flatten,
                orders=asked.orders,
                timeout_s=asked.timeout_s,
                force=bool(asked.force),
            )
            await desk.auditor.record(
                actor, "desk.closing_announced", desk.desk.file.desk.name,
                at=planned.at.isoformat(), reason=asked.reason, force=asked.force,
                flatten=asked.flatten, orders=asked.orders,
            )  # fmt: skip
            moved = self._planned is not None
            await asyncio.to_thread(keep_planned, desk.layout.planned_closing, planned)
            self._set(planned)
            await self._lock(planned)
        why = f": {planned.reason}" if planned.reason else ""
        told = await self._tell(
            "closing_soon",
            f"{desk.desk.file.desk.name}: SHUTTING DOWN SOON, {'now ' if moved else ''}at "
            f"{self._local(planned.at)}, by {actor}{why}",
        )
        return {
            "announced": True,
            "moved": moved,
            "shutting_down_soon": self.view(),
            "told": {each.channel: each.outcome for each in told},
        }

    async def call_off(self, reason: str, actor: str) -> dict[str, object]:
        """Raises ConflictError where nothing is announced, or it has begun; StorageError."""
        desk = self._desk
        with desk.board.acting():
            planned = self._planned
            if planned is None:
                raise ConflictError("no closing is announced", hint="see `openbell status`")
            await desk.auditor.record(
                actor, "desk.closing_called_off", desk.desk.file.desk.name, reason=reason
            )
            await asyncio.to_thread(drop_planned, desk.layout.planned_closing)
            self._set(None)
            await asyncio.to_thread(desk.release_lock_of, ANNOUNCED)
        told = await self._called_off(planned, f"by {actor}" + (f": {reason}" if reason else ""))
        return {"called_off": True, "told": {each.channel: each.outcome for each in told}}

    async def run(self) -> None:
        """Begins what is announced, at its time; never returns."""
        await self._recall()
        while True:
            planned = self._planned
            if planned is None:
                await self._wait(None)
                continue
            left_s = (planned.at - self._now()).total_seconds()
            if left_s > 0:
                await self._wait(min(left_s, _LOOK_S))
            elif -left_s > LATE_MAX.total_seconds():
                await self._miss(planned)
            else:
                await self._begin(planned)

    # ------------------------------------------------------------------

    async def _recall(self) -> None:
        """What an earlier controller announced."""
        path = self._desk.layout.planned_closing
        try:
            planned = await asyncio.to_thread(read_planned, path)
        except OpenbellError as error:
            log.error(
                "what closing was announced is not known: close the desk by hand",
                why=error.message, alert=True,
            )  # fmt: skip
            return
        if planned is None:
            return
        restarts = await asyncio.to_thread(os.path.lexists, self._desk.layout.pending_restart)
        if self._desk.targets.asked in (DeskTarget.OFFLINE, DeskTarget.CLOSING) and not restarts:
            # Closed, or being closed, since: that it was announced could not be taken back.
            await self._drop()
            return
        log.info("a closing is announced", at=planned.at.isoformat(), by=planned.who)
        self._set(planned)

    async def lock_again(self) -> None:
        """The desk was opened, which needed the lock to be released: what is announced stands."""
        planned = self._planned
        if planned is None:
            return
        try:
            await self._lock(planned)
        except StorageError as error:
            log.error(
                "the desk is not locked until its announced closing", why=error.message, alert=True
            )

    async def _begin(self, planned: PlannedClosing) -> None:
        wishes = CloseWishes(
            planned.flatten, planned.orders, planned.reason, planned.timeout_s, planned.force
        )
        try:
            await self._closings.close(wishes, planned.who)
        except ConflictError as error:
            log.warning("the announced closing waits", why=error.message)
            await self._wait(_BUSY_S)
        except OpenbellError as error:
            log.error("the announced closing does not begin", why=error.message, alert=True)
            self._set(None)
            await self._drop()
            await self._called_off(planned, f"it cannot begin: {error.message}")

    async def _miss(self, planned: PlannedClosing) -> None:
        """A person decides what becomes of the desk; nothing keeps them from it."""
        log.error(
            "the announced closing was missed: close the desk by hand",
            at=planned.at.isoformat(), alert=True,
        )  # fmt: skip
        self._set(None)
        await self._drop()
        await self._called_off(planned, "its time passed while no controller ran; close it by hand")

    async def _called_off(self, planned: PlannedClosing, why: str) -> tuple[Told, ...]:
        name = self._desk.desk.file.desk.name
        at = self._local(planned.at)
        return await self._tell(
            "closing_called_off", f"{name}: the shutdown announced for {at} is called off, {why}"
        )

    def _is_done(self) -> None:
        """A closing has begun, this one or one by hand."""
        if self._planned is None:
            return
        self._set(None)
        try:
            drop_planned(self._desk.layout.planned_closing)
        except StorageError as error:
            # A controller that finds it beside a desk that is closed, or being closed, drops it.
            log.error("what was announced stays on the disk", why=error.message, alert=True)

    async def _drop(self) -> None:
        try:
            await asyncio.to_thread(drop_planned, self._desk.layout.planned_closing)
        except StorageError as error:
            log.error("what was announced stays on the disk", why=error.message, alert=True)
        await asyncio.to_thread(self._desk.release_lock_of, ANNOUNCED)

    async def _lock(self, planned: PlannedClosing) -> None:
        """A person's lock is left as it is."""
        path = self._desk.layout.lock
        held = await asyncio.to_thread(read_lock, path)
        if held is not None and held.run != ANNOUNCED:
            return
        reason = planned.reason or "closing"
        lock = DeskLock(reason, planned.who, planned.announced, ANNOUNCED)
        await asyncio.to_thread(set_lock, path, lock)

    async def _tell(self, event: str, text: str) -> tuple[Told, ...]:
        return await tell_people(self._desk, event, text)

    def _moment(self, text: str) -> datetime:
        zone = self._zone()
        if zone is None:
            # Read on another clock it would be another moment.
            name = self._desk.desk.file.desk.timezone
            raise UsageError(f'desk.timezone "{name}" is not known', hint="write for example UTC")
        try:
            return moment_of(text, self._now().astimezone(zone))
        except ValueError as error:
            raise UsageError(str(error)) from None

    def _local(self, moment: datetime) -> str:
        zone = self._zone()
        shown = moment.astimezone(UTC if zone is None else zone)
        return f"{shown:%Y-%m-%d %H:%M:%S} {'UTC' if zone is None else zone.key}"

    def _zone(self) -> ZoneInfo | None:
        """None where this machine does not know the desk's."""
        try:
            return ZoneInfo(self._desk.desk.file.desk.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            return None

    def _set(self, planned: PlannedClosing | None) -> None:
        self._planned = planned
        self._changed.set()

    async def _wait(self, timeout_s: float | None) -> None:
        """Until something changes, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        self._changed.clear()
