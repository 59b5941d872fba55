"""The emergency stop as the controller meets it: asked for over the API, and seen from outside.

Whoever carries it out shares nothing with this process: it is the guard, or without a guard a
process of its own. The controller sees the marker, ends the run that is under way, lets nothing be
started (the supervisor asks `kill.marker.why_held`), and records what it saw; it holds nothing up.

    the marker ─▶ emergency.held ─▶ the permit goes, runs are broken off
    a course   ─▶ emergency.begun ─▶ its end, or its carrier's: emergency.ended, with that course's result

Courses are followed by themselves: the marker comes before anything has begun, a stop of a part of the
desk makes none, and a second press finds it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from openbell.controller.conduct import Conductor
from openbell.controller.desk import ControlledDesk
from openbell.domain.scopes import undeclared
from openbell.errors import UnverifiedError, UsageError
from openbell.kill.aside import aside
from openbell.kill.guard_client import LINE_MAX, GuardGoneError, GuardRefusedError, stop_by_guard
from openbell.kill.marker import clear_marker, is_begun, read_marker
from openbell.kill.press import latched
from openbell.kill.pressed import Pressed, refuse_pressed_since
from openbell.kill.request import EmergencyRequest
from openbell.kill.stop_seen import CourseNews, CourseWatch
from openbell.kill.unproven_stop import emergency_document
from openbell.service.logging import get_logger

log = get_logger()

LOOK_EVERY_S = 0.1
"""One system call. What it must not do, start a service, is asked of the disk each time anyway."""


@dataclass
class Emergency:
    """One desk's emergency stop."""

    desk: ControlledDesk
    conductor: Conductor

    def document(self) -> dict[str, Any] | None:
        """As `status` shows it: None where no stop of the whole desk was begun since it was opened."""
        return emergency_document(self.desk.layout)

    def plan(self, request: EmergencyRequest) -> dict[str, Any]:
        """What it would do now, from files alone. Raises UsageError for what is no scope of this
        desk."""
        from openbell.kill.preview import emergency_plan

        problems = list(undeclared(request.scopes, self.desk.desk.file))
        if problems:
            raise UsageError("; ".join(problems))
        return emergency_plan(self.desk.layout, request)

    async def stop(self, request: EmergencyRequest) -> AsyncIterator[Mapping[str, Any]]:
        """Its events, `{"event": "done", "statement"}` last. Raises UsageError for what is no scope
        of this desk, and UnverifiedError where nobody ended it; the latch then is set all the same.
        """
        problems = list(undeclared(request.scopes, self.desk.desk.file))
        if problems:
            raise UsageError("; ".join(problems))
        log.critical(
            "emergency stop", scopes=request.to_wire()["scopes"], by=request.actor, alert=True
        )
        request = await latched(self.desk.layout, request)
        detail = {key: value for key, value in request.to_wire().items() if key != "actor"}
        self.desk.auditor.note(
            "emergency_stop", self.desk.desk.file.desk.name, request.actor, **detail
        )
        try:
            async for event in stop_by_guard(self.desk.layout, request):
                yield event
                if event.get("event") == "done":
                    return
        except (GuardGoneError, GuardRefusedError) as error:
            log.error("the guard does not carry out the stop", why=str(error))
        async for told in self._process(request):
            yield told

    async def _process(self, request: EmergencyRequest) -> AsyncIterator[Mapping[str, Any]]:
        """A process of its own; it goes on where this one, or whoever asked, does not."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "openbell.kill", "--desk", str(self.desk.layout.desk),
                "--alone", "--request-on-stdin", "--events",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                limit=LINE_MAX,
                env=self.desk.environment(),
            )  # fmt: skip
        except OSError as error:
            raise UnverifiedError(
                f"the emergency stop did not start: {error.strerror}",
                hint="the kill switch is set; run `openbell emergency-stop` in a shell",
            ) from error
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(request.to_wire()))
        process.stdin.close()
        done = False
        while line := await process.stdout.readline():
            with contextlib.suppress(msgspec.DecodeError):
                event = msgspec.json.decode(line, type=dict[str, Any])
                done = event.get("event") == "done"
                yield event
        await process.wait()
        if not done:
            raise UnverifiedError(
                f"the emergency stop ended without a statement (exit {process.returncode})",
                hint="the kill switch is set; press again: it goes on from what it finds",
            )

    async def clear(self, actor: str, before: Pressed) -> None:
        """On a person's word: the desk is opened again. `before`: the stops that they knew of; no other is
        taken back. Raises ConflictError while a stop is under way, and where one was pressed since;
        StorageError where the marker stays."""
        layout = self.desk.layout
        marker = read_marker(layout)
        if marker is None:
            return
        refuse_pressed_since(layout, before)
        await self.desk.auditor.record(
            actor, "emergency.cleared", self.desk.desk.file.desk.name, begun=marker
        )

        def clear() -> None:
            # Once more, since the record took its time: it is on the disk before the marker goes.
            refuse_pressed_since(layout, before)
            clear_marker(layout)

        await asyncio.to_thread(clear)

    async def watch(self, *, held: bool) -> None:
        """For as long as the controller lives: sees a stop begin and end, whoever carries it out. `held`:
        its marker was there before this controller did anything, and there is nothing to break off."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_marker(held))
            group.create_task(self._watch_courses())

    async def _watch_marker(self, held: bool) -> None:
        layout = self.desk.layout
        while True:
            there = is_begun(layout)
            try:
                if there and not held:
                    await self._held()
            except Exception:
                log.exception("what an emergency stop wants is not done", alert=True)
            held = there
            await asyncio.sleep(LOOK_EVERY_S)

    async def _held(self) -> None:
        marker = read_marker(self.desk.layout) or {}
        why = f"an emergency stop by {marker.get('actor') or 'somebody'}: {marker.get('reason')}"
        log.critical("emergency stop begun", alert=True, marker=marker)
        self.desk.permits.withdraw("latched", why)
        self.desk.auditor.note("emergency.held", self.desk.desk.file.desk.name, marker=marker)
        await self.conductor.break_off(why)

    async def _watch_courses(self) -> None:
        """On threads: a disk that hangs holds nothing else up. What it does not answer is asked again."""
        watch: CourseWatch | None = None
        loop = asyncio.get_running_loop()
        while True:
            try:
                if watch is None:
                    watch = await aside(lambda: CourseWatch(self.desk.layout))
                found = await aside(partial(watch.look, loop.time()))
                for news in found:
                    self._tell(news)
            except Exception:
                log.exception("an emergency stop was not followed to its end", alert=True)
            await asyncio.sleep(LOOK_EVERY_S)

    def _tell(self, news: CourseNews) -> None:
        name = self.desk.desk.file.desk.name
        if not news.ended:
            request = news.begun.get("request") or {}
            keys = ("reason", "scopes", "flatten", "account_wide")
            said: dict[str, Any] = {key: request.get(key) for key in keys}
            said |= {"course": news.name, "by": request.get("actor")}
            said["took_over"] = news.begun.get("took_over") or None
            log.critical("a course of an emergency stop", alert=True, **said)
            self.desk.auditor.note("emergency.begun", name, **said)
            return
        stated = news.statement or {}
        told: dict[str, Any] = {"course": news.name, "result": stated.get("result")}
        told |= {key: stated.get(key) for key in ("took_s", "problems")}
        if news.left:
            told["why"] = f"it stood still, and was left: {news.left}; whoever asked for it goes on"
        elif news.statement is None:
            told["why"] = "it has no end: whoever carried it out is gone; press again"
        log.critical("emergency stop ended", alert=told["result"] != "verified", **told)
        self.desk.auditor.note("emergency.ended", name, **told)
