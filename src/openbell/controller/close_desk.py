"""Closes the desk as a run, and ends the controller when nothing is left to control."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson

from openbell.controller.abandoned import Abandoned, abandoned_document
from openbell.controller.arranging import arranged
from openbell.controller.closing_alerts import ClosingAlerts
from openbell.controller.closing_parts import closing_of
from openbell.controller.conduct import Conductor
from openbell.controller.desk import ControlledDesk
from openbell.controller.guard_keeper import GuardKeeper
from openbell.controller.journal import BestEffortJournal, RunJournal, earlier_steps
from openbell.controller.run_board import LiveRun
from openbell.controller.specs import keep_nothing_sent_since
from openbell.controller.telling import tell_people
from openbell.domain.closing_wishes import (
    WISHES,
    changes_told,
    force_told,
    goes_on_told,
    orders_by_default,
    wishes_going_on,
)
from openbell.domain.desk_state import DeskCommand, DeskTarget
from openbell.errors import OpenbellError, StorageError, UnverifiedError, UsageError
from openbell.kill.course import refuse_under_way
from openbell.procedures.closing import PROCEDURE, Closing, closing_steps
from openbell.procedures.closing.afterwards import SPEC as AFTER
from openbell.procedures.closing.afterwards import ending_text
from openbell.procedures.closing.announce import tell
from openbell.procedures.closing.context import Earlier, Wishes
from openbell.procedures.closing.statement import Statement, closing_statement
from openbell.procedures.evidence import file_facts
from openbell.procedures.plans import plan_document
from openbell.procedures.ports import Effects, NoEffects, PlannedEffects
from openbell.procedures.step import Outcome, Step, StepReport
from openbell.service.logging import get_logger
from openbell.state.files import write_atomically
from openbell.state.not_proven import NotProven
from openbell.state.nothing_sent import spend_nothing_sent
from openbell.watch.channels import Notice, Told

if TYPE_CHECKING:
    from openbell.state.runs import RunRecord

log = get_logger()

HALF_CLOSED = (
    "the desk stays half closed and does not trade: "
    "`openbell down` closes it, `openbell up` opens it"
)

FORGOTTEN = (
    "the disk takes nothing that says that a closing was begun: a controller that replaces this one would "
    "not know of it, and may let the desk trade again; it is tried again and again; see to the desk until "
    "it is closed, and to room on the disk"
)

UNRECORDED = (
    "a closing was begun on a disk that took no record of it, nor of an end: whether it was carried out or "
    "cut off is not known, and the desk does not trade"
)

EXIT_GRACE_S = 5.0
"""How long a closed desk's controller waits for someone to read the closing statement."""


@dataclass(frozen=True)
class CloseWishes:
    """None: nothing is said of it."""

    flatten: Literal["aggressive", "conservative", "keep"] | None = None
    orders: Literal["cancel", "keep", "keep-passive"] | None = None
    reason: str = ""
    timeout_s: float | None = None
    force: bool | None = None
    restart: Literal["", "full", "quick"] = ""
    """Of what it is the first half. Not asked for by people."""
    by_itself: bool = False
    """A run that was cut off goes on without a person's word."""


Then = Callable[[LiveRun, Statement], Awaitable[bool]]
"""What comes after a closing; False: nothing, and the controller of a closed desk ends."""


class Closings:
    """Closings of one desk."""

    def __init__(
        self,
        desk: ControlledDesk,
        runs: Conductor,
        guard: GuardKeeper,
        exit_controller: Callable[[str], None],
    ) -> None:
        self._desk = desk
        self._runs = runs
        runs.leave[PROCEDURE.name] = self._give_up_cut_off
        self._guard = guard
        self._exit = exit_controller
        self._telling: set[asyncio.Task[tuple[Told, ...]]] = set()
        self.begun: Callable[[], None] = lambda: None
        """Told that a closing has begun that is to leave the desk closed."""
        self.forget_restart: Callable[[], Awaitable[None]] = _nothing
        """Told of a closing that is to be no restart: one that was under way is over."""

    async def _give_up_cut_off(self, _record: RunRecord) -> str:
        """With it goes the restart of which it was the first half."""
        await self.forget_restart()
        return HALF_CLOSED

    def wishes_for(self, asked: CloseWishes) -> Wishes:
        """What is asked, filled up from the run that was cut off and is gone on with, and from
        `[closing]`. Raises UsageError where it contradicts itself."""
        asked = self._as_before(asked)
        settings = self._desk.desk.file.closing
        flatten = asked.flatten or settings.flatten
        orders = asked.orders or orders_by_default(flatten, settings.orders)
        if orders != "cancel" and flatten != "keep":
            raise UsageError(
                "orders can be kept only together with positions",
                hint="a resting order could reopen a flattened position: use flatten = keep too",
            )
        return Wishes(
            flatten=flatten,
            orders=orders,
            reason=asked.reason,
            timeout_s=asked.timeout_s or settings.timeout,
            wait_for_orders_s=settings.wait_for_orders,
            conservative_wait_s=settings.conservative_wait,
            force=bool(asked.force),
            restart=bool(asked.restart),
            quick=asked.restart == "quick",
        )

    def _as_before(self, asked: CloseWishes) -> CloseWishes:
        """With the wishes of the run that was cut off, where nothing else is said: who goes on with it
        need not know what was to be kept."""
        cut_off = self._desk.interrupted
        if cut_off is None or cut_off.procedure != PROCEDURE.name:
            return asked
        now: dict[str, Any] = wishes_going_on(cut_off.parameters, _said(asked))
        return replace(asked, **now, reason=asked.reason or cut_off.why)

    async def close(
        self, asked: CloseWishes, actor: str, then: Then | None = None
    ) -> dict[str, object]:
        """Begins a closing, or goes on with one that was cut off. Raises ConflictError, also while an
        emergency stop is under way unless it is forced, and UsageError. `then` is called when it has ended.

        Neither a full disk nor a broken audit log keeps a desk open: closing reduces risk.
        """
        desk = self._desk
        wishes = self.wishes_for(asked)
        await desk.board.reserve("close", actor)
        try:
            if not wishes.force:
                # It would ask the venues beside the stop, and spend what they let the account ask.
                refuse_under_way(desk.layout)
            if then is None:
                await self.forget_restart()
            forced = self._force_dropped(wishes)
            number, record, changed, given_up = await self._begin_closing(wishes, actor, asked)
            earlier = {} if record is None else earlier_steps(record)
            if not wishes.force:
                # One may have been pressed since. Nothing is awaited from here to its admission.
                await self._runs.last_look(PROCEDURE, number, lambda: refuse_under_way(desk.layout))
            try:
                desk.targets.command(DeskCommand.CLOSE)
            except StorageError as error:
                log.error("closing is not kept on disk", why=error.message, alert=True)
        except BaseException:
            desk.board.release()
            raise
        parameters = {
            "flatten": wishes.flatten,
            "orders": wishes.orders,
            "reason": wishes.reason,
            "timeout_s": wishes.timeout_s,
            "force": wishes.force,
        }
        if asked.restart:
            parameters["restart"] = asked.restart
        if asked.by_itself:
            parameters["by_itself"] = True
        run = self._runs.admit(
            "close", number, actor, parameters,
            reason=wishes.reason, begun_by="" if record is None else record.who,
        )  # fmt: skip
        if record is not None:
            self._runs.tell_resumed(run, record, changed, forced)
        self._runs.tell_abandoned(run, given_up)
        if desk.targets.closing_is_forgotten:
            self._tell_forgotten(run)
        if not asked.restart:  # after a restart the desk is open, and what was announced stands
            self.begun()
        journal = self._journal_of(number)
        self._runs.carry_out(run, self._close(run, journal, wishes, earlier, then))
        return {
            "run": run.id, "resumed": record is not None, "changed": changed,
            **abandoned_document(given_up),
        }  # fmt: skip

    def _tell_forgotten(self, run: LiveRun) -> None:
        """Beside the closing, which a channel that hangs must not hold up: a desk that can be closed is."""
        run.emit({"event": "alert", "rule": "closing_not_kept", "message": FORGOTTEN})
        text = f"{self._desk.desk.file.desk.name}: CLOSING, {run.id} of {run.actor}: {FORGOTTEN}"
        telling = asyncio.create_task(
            tell_people(self._desk, "closing", text, run.id), name="forgotten"
        )
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    def _force_dropped(self, wishes: Wishes) -> str:
        """That a closing which was cut off was forced, and goes on without; empty where it is not so."""
        cut_off = self._desk.interrupted
        if cut_off is None or cut_off.procedure != PROCEDURE.name:
            return ""
        return force_told(cut_off.parameters, {"force": wishes.force})

    def _journal_of(self, number: int) -> BestEffortJournal:
        """Of the run of this number; 0: of one that could not be begun or gone on with on the disk. One
        that was cut off is there still, with what it brought about."""
        desk = self._desk
        if number:
            return BestEffortJournal(RunJournal(desk.database, number))
        cut_off = desk.interrupted
        if cut_off is None or cut_off.procedure != PROCEDURE.name:
            return BestEffortJournal(None)
        return BestEffortJournal(None, RunJournal(desk.database, cut_off.number))

    async def _begin_closing(
        self, wishes: Wishes, actor: str, asked: CloseWishes
    ) -> tuple[int, RunRecord | None, str, Abandoned | None]:
        """Its number, and, of one that was cut off, its record and what has changed since. Last the run
        of something else that was cut off, and is given up for this one."""
        desk = self._desk
        interrupted = desk.interrupted
        await desk.auditor.try_record(
            actor,
            "desk.close",
            desk.desk.file.desk.name,
            flatten=wishes.flatten,
            orders=wishes.orders,
            reason=wishes.reason,
            force=wishes.force,
        )
        names = [step.name for step in self._steps(self._closing("plan", wishes, {}))]
        try:
            parameters = {
                "flatten": wishes.flatten, "orders": wishes.orders, "force": wishes.force,
                "timeout_s": wishes.timeout_s, **({"restart": asked.restart} if asked.restart else {}),
                **({"by_itself": True} if asked.by_itself else {}),
            }  # fmt: skip
            if interrupted is not None and interrupted.procedure == PROCEDURE.name:
                record, changed = await self._runs.go_on(PROCEDURE, actor, names, parameters)
                return record.run, record, changed, None
            given_up = await self._runs.abandon_interrupted("the desk is closed instead")
            number = await self._runs.begin(PROCEDURE, actor, wishes.reason, parameters, names)
            return number, None, "", given_up
        except OpenbellError as error:
            log.error("closing without a journal", why=error.message, alert=True)
            return 0, None, "", None

    def steps_now(self) -> list[str]:
        """Names of the steps that a closing has today, asked for as the one that was cut off."""
        wishes = self.wishes_for(CloseWishes())
        return [step.name for step in self._steps(self._closing("plan", wishes, {}))]

    async def plan_close(self, asked: CloseWishes) -> dict[str, object]:
        """What `close` would do now."""
        wishes = self.wishes_for(asked)
        cut_off = self._desk.interrupted
        earlier, effects = await self._known_of_cut_off()
        closing = self._closing("plan", wishes, earlier, effects=effects)
        document = await plan_document("close", self._steps(closing, effects))
        if cut_off is None or cut_off.procedure != PROCEDURE.name:
            return {**document, "goes_on_with": None}
        now = {key: getattr(wishes, key) for key in WISHES}
        had = {key: cut_off.parameters.get(key) for key in WISHES}
        changes = changes_told(had, now)
        told = goes_on_told(
            cut_off.id, cut_off.step, had, now,
            of_restart=bool(cut_off.parameters.get("restart")) and not asked.restart,
        )  # fmt: skip
        return {
            **document,
            "goes_on_with": {
                "run": cut_off.id, "step": cut_off.step, "by": cut_off.actor,
                "had": had, "now": now, "changes": changes, "told": told,
            },
        }  # fmt: skip

    async def _known_of_cut_off(self) -> tuple[Mapping[str, Earlier], Effects]:
        """What a closing that was cut off had found and brought about, as going on with it would know it;
        nothing where there is none."""
        cut_off = self._desk.interrupted
        if cut_off is None or cut_off.procedure != PROCEDURE.name:
            return {}, NoEffects()
        effects = PlannedEffects(self._journal_of(cut_off.number))
        try:
            return earlier_steps(await self._desk.database.get(cut_off.number)), effects
        except OpenbellError as error:
            log.error("what was found before is not known", why=error.message)
            return {}, effects

    def _steps(
        self, closing: Closing, effects: Effects | None = None
    ) -> tuple[Step[Any, Any], ...]:
        return arranged(
            self._desk, PROCEDURE, closing_steps(closing),
            run=closing.run, reason=closing.wishes.reason, effects=effects, may_send=closing.may_send,
        )  # fmt: skip

    def _closing(
        self,
        run: str,
        wishes: Wishes,
        earlier: Mapping[str, Earlier],
        actor: str = "",
        effects: Effects | None = None,
    ) -> Closing:
        return closing_of(self._desk, self._guard, run, wishes, earlier, actor, effects)

    async def _close(
        self,
        run: LiveRun,
        journal: BestEffortJournal,
        wishes: Wishes,
        earlier: Mapping[str, Earlier],
        then: Then | None,
    ) -> None:
        desk = self._desk
        closing = self._closing(run.id, wishes, earlier, run.actor, journal)
        alerts = ClosingAlerts(desk, run, may_rest=closing.may_rest)
        closing.on_look = alerts.saw
        closing.approved = lambda: self._runs.approvals.given(run)
        alerts.begin()
        runner = self._runs.runner(
            run, PROCEDURE, journal, timeout_s=wishes.timeout_s, on_report=closing.note,
            prepare=closing.before,
        )  # fmt: skip
        reports = await runner.run(self._steps(closing, journal))
        statement = await closing_statement(closing, reports)
        ended = "cancelled" if runner.ended_by else "failed"
        # Proven or not: one that left services up may be taken back by opening the desk again.
        await asyncio.to_thread(desk.release_lock_of, run.id, unreadable=closing.locked)
        await self._tell_of_the_end(closing, statement, reports)
        kept = await asyncio.to_thread(self._keep_statement, run.id, statement.document)
        detail = {"summary": statement.summary, "files": kept}
        await self._runs.conclude(run, journal, "done" if statement.verified else ended, detail)
        await desk.auditor.try_record(
            run.actor,
            "desk.closed" if statement.services_stopped else "desk.close_failed",
            run.id,
            verified=statement.verified,
            summary=statement.summary,
            checkpoint=closing.checkpoint,
        )
        if statement.services_stopped:
            try:
                desk.targets.command(DeskCommand.CLOSED, not_proven=_not_proven(run, statement))
            except StorageError as error:
                log.error("offline is not kept on disk", why=error.message)
            self._keep_nothing_sent(run.id, left_nothing=statement.left_nothing)
        elif closing.guards_again:
            await self._guard.resumed()
        failure = (
            None
            if statement.verified
            else UnverifiedError(
                "the desk is not proven closed",
                hint=statement.hint,
            )
        )
        outcome = "verified" if statement.verified else "not_verified"
        summary = statement.summary
        if runner.ended_by:
            outcome, summary = "cancelled", f"{runner.ended_by}; {summary}"
        self._runs.finish(run, outcome, summary, statement.document, failure)
        goes_on = then is not None and await then(run, statement)
        if statement.services_stopped and not goes_on:
            await self._leave(run)

    def _keep_nothing_sent(self, run: str, *, left_nothing: bool) -> None:
        """Looked at before and after: an act that a closing did not wait for may have started something."""
        desk = self._desk
        if not left_nothing or desk.senders_run():
            return
        if why := keep_nothing_sent_since(desk.layout, run):
            log.warning("that nothing was sent since is not kept on disk", why=why)
        if desk.senders_run():
            try:
                spend_nothing_sent(desk.layout.nothing_sent)
            except StorageError as error:
                log.error(
                    "the disk still says that nothing can send", why=error.message, alert=True
                )

    async def _tell_of_the_end(
        self, closing: Closing, statement: Statement, reports: Sequence[StepReport]
    ) -> None:
        """By the last step, which a closing that was ended does not reach."""
        if closing.wishes.quick:
            return
        if not any(each.name == AFTER.name and each.outcome is Outcome.SKIPPED for each in reports):
            return
        event = "closed" if statement.verified else "not_closed"
        names = closing.channels.for_event(event)
        notice = Notice(event, ending_text(closing, statement), closing.run)
        for told in await tell(closing, names, notice):
            if told.outcome != "told":
                log.warning("not known to be told", channel=told.channel, why=told.why)

    def _keep_statement(self, run: str, document: Mapping[str, Any]) -> list[dict[str, object]]:
        """The closing statement as a file of evidence. A disk that is full keeps no desk open."""
        path = self._desk.layout.statements / f"{run}.json"
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            text = orjson.dumps(document, default=str, option=orjson.OPT_INDENT_2)
            write_atomically(path, self._desk.redactor.redact(text.decode()).encode() + b"\n")
        except (StorageError, OSError) as error:
            log.error("the closing statement is not kept as a file", why=str(error), alert=True)
            return []
        return [file_facts(path)]

    async def _leave(self, run: LiveRun) -> None:
        """A closed desk needs no controller. It goes once its last word was read, unless somebody
        has asked for something else meanwhile: then it has a desk to control again."""
        board = self._desk.board
        try:
            async with asyncio.timeout(EXIT_GRACE_S):
                await run.delivered.wait()
        except TimeoutError:
            log.info("nobody read the closing statement", run=run.id)
        await board.settled()
        # Nothing is awaited from here on, so nothing can begin between this look and the end.
        if board.newest is not run or not self.is_closed():
            log.info("staying: the desk is in use again", closed_by=run.id)
            return
        # Begun by nobody meanwhile: the board is shut with the exit.
        self._desk.board.end("the desk is closed")
        await self._guard.end("the desk is closed", if_idle=True)
        self._exit("the desk is closed")

    def is_closed(self) -> bool:
        desk = self._desk
        running = any(view.state.is_running for view in desk.supervisor.views())
        return desk.targets.asked is DeskTarget.OFFLINE and not running


def _not_proven(run: LiveRun, statement: Statement) -> NotProven | None:
    """Kept with the target: whoever asks next is not to take it for a closed desk."""
    if statement.verified:
        return None
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return NotProven(run.id, statement.summary, run.actor, at)


def _said(asked: CloseWishes) -> dict[str, object]:
    return {key: getattr(asked, key) for key in WISHES}


async def _nothing() -> None:
    """No restart is known of."""
