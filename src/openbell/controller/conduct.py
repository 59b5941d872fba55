"""Carries out procedures as runs: one at a time, told as they go, never lost without a word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from openbell.controller.abandoned import Abandoned
from openbell.controller.desk import ControlledDesk
from openbell.controller.journal import BestEffortJournal, RunJournal
from openbell.controller.living import LOOK_S
from openbell.controller.run_board import LiveRun, run_id, run_number
from openbell.controller.step_approvals import StepApprovals
from openbell.errors import ConflictError, CorruptError, FailedError, OpenbellError, UsageError
from openbell.kill.aside import aside
from openbell.procedures.by_itself import BY_ITSELF
from openbell.procedures.declared import Procedure, what_changed
from openbell.procedures.report import RECORDED
from openbell.procedures.run import Runner
from openbell.procedures.step import Step, StepReport, Verification
from openbell.procedures.step_rules import rules_of, what_changed_of_rules
from openbell.runtime.left_commands import KILL_S, end_left_commands
from openbell.service.logging import get_logger
from openbell.state.new_run import NewRun

if TYPE_CHECKING:
    from openbell.state.audit_record import AuditHead
    from openbell.state.runs import RunRecord

log = get_logger()

BREAK_OFF_S = 5.0
"""For what is under way to end, of a run that is broken off. A thread that a disk holds is cancelled by
nobody, and whoever waits has an emergency stop to record."""
AS_IT_IS = "what it has done stays done, and the desk is as `openbell status` shows it"


class Conductor:
    """The runs of one desk."""

    def __init__(self, desk: ControlledDesk) -> None:
        self._desk = desk
        self._tasks: set[asyncio.Task[None]] = set()
        self.approvals = StepApprovals(desk)
        self._left: list[Mapping[str, object]] = []
        """What is to be told by the next run: of commands that were left at work."""
        self._broken_off: dict[str, str] = {}
        """By run: why it is cancelled and not to be taken up again."""
        self.leave: dict[str, Callable[[RunRecord], Awaitable[str]]] = {}
        """By procedure: makes the desk safe where a run that was cut off is given up, and tells in
        what condition it is left."""

    def admit(
        self,
        procedure: str,
        number: int,
        actor: str,
        parameters: Mapping[str, object],
        *,
        reason: str = "",
        begun_by: str = "",
    ) -> LiveRun:
        """The run, on the board from now on. `begun_by`: of one that was gone on with."""
        run = LiveRun(
            id=run_id(procedure, number),
            procedure=procedure,
            actor=actor,
            parameters=parameters,
            started_ns=time.time_ns(),
            reason=reason,
            begun_by=begun_by,
        )
        self._desk.board.add(run)
        log.info("run", run=run.id, actor=actor)
        return run

    async def begin(
        self,
        procedure: Procedure,
        actor: str,
        why: str,
        parameters: Mapping[str, object],
        steps: Sequence[str],
    ) -> int:
        """A new run's number, on the disk. `steps`: their names. Raises StorageError."""
        return await self._desk.database.begin(
            NewRun(
                kind=procedure.name,
                who=actor,
                why=why,
                params=parameters,
                version=procedure.version,
                plan=tuple(steps),
                rules=rules_of(procedure, self._desk.desk.file),
            )
        )

    async def changed_since(
        self, procedure: Procedure, record: RunRecord, steps: Sequence[str]
    ) -> str:
        """What is different of a run's procedure since it was begun, and of what the desk file says of its
        steps; empty where nothing is. Raises StorageError."""
        of_steps = what_changed(
            (record.version, _kinds(procedure, record.plan)),
            (procedure.version, _kinds(procedure, steps)),
        )
        try:
            begun_under = await self._desk.database.begun_under(record.run)
        except CorruptError:
            of_rules = "what was said of its steps then cannot be read"
        else:
            now = rules_of(procedure, self._desk.desk.file)
            of_rules = what_changed_of_rules(begun_under, now)
        return "; ".join(filter(None, (of_steps, of_rules)))

    async def go_on(
        self,
        procedure: Procedure,
        actor: str,
        steps: Sequence[str],
        parameters: Mapping[str, object],
    ) -> tuple[RunRecord, str]:
        """The run that was cut off, which is gone on with from now on, and what has changed of its
        procedure since it was begun. `parameters`: what is asked for now, which of a closing may be
        something else than when it was begun. Raises StorageError."""
        interrupted = self._desk.interrupted
        assert interrupted is not None, "there is one to go on with"
        record = await self._desk.database.get(interrupted.number)
        changed = await self.changed_since(procedure, record, steps)
        detail = {
            "cut_off_at": interrupted.step, "changed": changed, "steps": list(steps),
            "parameters": dict(parameters),
        }  # fmt: skip
        # The last of these is what the run is asked for, should it be cut off once more.
        await self._desk.database.note(
            interrupted.number, actor, "run.resumed", interrupted.id, detail
        )
        await self.approvals.gone_on_with(interrupted.id, actor)
        self._desk.interrupted = None
        if changed:
            log.warning("the procedure has changed", run=interrupted.id, changed=changed)
        return record, changed

    async def last_look(
        self, procedure: Procedure, number: int, refuse: Callable[[], None]
    ) -> None:
        """Directly before a run is admitted: from then on an emergency stop breaks it off. What `refuse`
        raises ends it in the journal, where it has begun already. Gives way to nothing else where it
        raises nothing."""
        try:
            refuse()
        except ConflictError as error:
            if number:
                try:
                    await self.end_unfinished(
                        number, run_id(procedure.name, number), f"broken off: {error.message}"
                    )
                except OpenbellError as untold:
                    log.error("the run's end is not recorded", run=number, why=untold.message)
            raise

    def tell_resumed(
        self, run: LiveRun, record: RunRecord, changed: str, otherwise: str = ""
    ) -> None:
        """The run's first event of this controller. `otherwise`: what of its wishes holds no more."""
        at = record.steps[-1].name if record.steps else ""
        alone = " by itself" if run.actor == BY_ITSELF else ""
        told = f"going on{alone} with {run.id}, begun by {record.who}, which was cut off"
        told += f" at {at}" if at else " before its first step"
        if changed:
            told += f"; the procedure has changed since ({changed}): each step does what is left"
        told += f"; {otherwise}" if otherwise else ""
        run.emit({"event": "resumed", "message": told, "step": at, "changed": changed})

    def runner(
        self,
        run: LiveRun,
        procedure: Procedure,
        journal: RunJournal | BestEffortJournal,
        *,
        timeout_s: float | None = None,
        on_report: Callable[[StepReport], None] = lambda _: None,
        prepare: Callable[[str], Awaitable[None]] | None = None,
        before: Callable[[str], None] = lambda _: None,
    ) -> Runner:
        """Carries out steps as this run: with the approvals they need, asking people where a policy
        says so; a person may end it between two steps. `before` hears the name of each step that is
        about to begin, with its approvals given, and `prepare` ahead of it: it may take its time,
        and what it raises breaks the run off."""

        async def gate(step: Step[Any, Any]) -> str:
            why_not = await self.approvals.gate(run, procedure, step)
            if prepare is not None and not why_not and not run.cancelled_by:
                await prepare(step.name)
            # Nothing is awaited between this look and the runner's own.
            if not why_not and not run.cancelled_by:
                before(step.name)
            return why_not

        async def decide(step: str, found: Verification) -> bool:
            return await self.approvals.goes_on(run, procedure, step, found)

        return Runner(
            journal,
            run.emit,
            decide=decide,
            gate=gate,
            may_act=lambda step: self.approvals.may_act(run, procedure, step),
            leave=lambda step: self.approvals.leave(run, procedure, step),
            ended=lambda: run.cancelled_by and f"cancelled by {run.cancelled_by}",
            timeout_s=timeout_s,
            on_report=on_report,
        )

    async def conclude(
        self,
        run: LiveRun,
        journal: RunJournal | BestEffortJournal,
        outcome: str,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Writes the run's end down: the last line of its record, whose hash goes into the audit log
        too. Raises StorageError, unless the journal makes do without."""
        head = await journal.finish(outcome, detail)
        if head is not None:
            self._keep_head(run.id, outcome, head)

    def _keep_head(self, run: str, outcome: str, head: AuditHead) -> None:
        self._desk.auditor.note(RECORDED, run, outcome=outcome, records=head.seq, hash=head.hash)

    async def cancel_run(self, run: str, reason: str, actor: str) -> dict[str, object]:
        """Ends a run: the one under way once its step under way has ended, one that was cut off at
        once. What was done stays done. Raises UsageError, ConflictError for one that is over."""
        desk = self._desk
        number = run_number(run)
        detail = {"run": run, "reason": reason}
        live = desk.board.find(run)
        if live is not None and not live.is_over:
            await desk.auditor.try_record(actor, "run.cancel", run, **detail)
            live.cancel(actor, reason)
            if number:
                await desk.database.note(number, actor, "run.cancelled", run, detail)
            return {"run": run, "cancelled": True, "after_step": live.step, "left": ""}
        interrupted = desk.interrupted
        if interrupted is not None and interrupted.id == run:
            await desk.auditor.try_record(actor, "run.cancel", run, **detail)
            # Before its end is written: a controller that is killed in between finds it again.
            leave = self.leave.get(interrupted.procedure)
            left = AS_IT_IS if leave is None else await leave(await desk.database.get(number))
            detail |= {"left": left}
            await desk.database.note(number, actor, "run.cancelled", run, detail)
            head = await desk.database.finish(number, "cancelled", {"left": left})
            self._keep_head(run, "cancelled", head)
            desk.interrupted = None
            await asyncio.to_thread(desk.release_lock_of, run)
            return {"run": run, "cancelled": True, "after_step": "", "left": left}
        record = await desk.database.get(number)
        if run_id(record.kind, record.run) != run:
            raise UsageError(f'there is no run "{run}"', run=run, nearest=[])
        raise ConflictError(f"{run} is over: {record.outcome}", hint="nothing is to be cancelled")

    def carry_out(self, run: LiveRun, body: Coroutine[object, object, None]) -> None:
        """Runs `body` in the background. Whatever it raises ends the run with an event; in the
        journal it is broken off; only a killed controller leaves one to be taken up again."""
        task = asyncio.create_task(self._carried_out(run, body), name=run.id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carried_out(self, run: LiveRun, body: Coroutine[object, object, None]) -> None:
        try:
            try:
                await self.end_left_commands()
                untold, self._left = self._left, []
                for event in untold:
                    run.emit(event)
            except BaseException:
                body.close()
                raise
            await body
        except asyncio.CancelledError:
            why = self._broken_off.pop(run.id, "")
            if not why:
                raise
            await self._record_end(run)
            told = FailedError(f"broken off: {why}", hint="see `openbell status`")
            self.finish(run, "broken_off", told.message, {}, told)
        except OpenbellError as error:
            log.error("run broken off", run=run.id, why=error.message, alert=True)
            await self._record_end(run)
            self.finish(run, "broken_off", error.message, {}, error)
        except Exception as error:
            log.exception("run broken off by a defect", run=run.id, alert=True)
            await self._record_end(run)
            told = FailedError(f"defect: {type(error).__name__}", hint="see the controller's log")
            self.finish(run, "broken_off", told.message, {}, told)

    async def end_left_commands(self) -> None:
        """Before anything else: what a controller that was killed left at work would go on beside the
        run, and a second time where its step is taken again. Never raises: a disk that does not say
        what was left is told of, and keeps no desk from being closed."""
        folder = self._desk.layout.commands
        try:
            ended = await aside(lambda: end_left_commands(folder), LOOK_S + KILL_S)
        except OSError as error:
            why = str(error) or "the disk does not answer"
            log.error("what was left at work is not known", why=why, alert=True)
            self._left.append(
                _left_alert("", f"whether a command was left at work is not known: {why}")
            )
            return
        for note, gone in ended.items():
            told = f"{note.told()}, which a controller that was killed had left at work, "
            told += "was ended" if gone else f"CANNOT be ended: pid {note.pid}"
            log.error("a command was left", step=note.step, run=note.run, ended=gone, alert=True)
            self._left.append(_left_alert(note.step, told))

    async def _record_end(self, run: LiveRun) -> None:
        await asyncio.to_thread(self._desk.release_lock_of, run.id)
        number = run_number(run.id)
        if number:
            try:
                head = await self._desk.database.finish(number, "broken off")
                self._keep_head(run.id, "broken off", head)
            except (OpenbellError, ValueError) as error:
                log.error("the run's end is not recorded", run=run.id, why=str(error))

    def finish(
        self,
        run: LiveRun,
        outcome: str,
        message: str,
        result: Mapping[str, object],
        error: OpenbellError | None,
    ) -> None:
        """The run's last event; does nothing for a run that has had it."""
        if run.is_over:
            return
        log.info("run ended", run=run.id, outcome=outcome, message=message)
        self.approvals.forget(run.id)
        run.emit(
            {
                "event": "done" if error is None else "failed",
                "outcome": outcome,
                "message": message,
                "seconds": round(time.monotonic() - run.started_s, 3),
                "result": result,
                **({} if error is None else {"error": error.as_dict()}),
            }
        )

    async def abandon_interrupted(self, why: str) -> Abandoned | None:
        """Ends, in the journal, a run that a killed controller left and nobody goes on with; None where
        there is none. Raises StorageError."""
        interrupted = self._desk.interrupted
        if interrupted is None:
            return None
        await self.end_unfinished(interrupted.number, interrupted.id, f"abandoned: {why}")
        self._desk.interrupted = None
        return Abandoned(interrupted, why)

    def tell_abandoned(self, run: LiveRun, given_up: Abandoned | None) -> None:
        """The first event of the run that took its place."""
        if given_up is not None:
            log.warning("a run that was cut off is given up", run=given_up.run.id, why=given_up.why)
            run.emit({"event": "abandoned", **given_up.as_dict()})

    async def end_unfinished(self, number: int, run: str, outcome: str) -> None:
        """Ends a run that an earlier controller left, in the journal. Raises StorageError."""
        head = await self._desk.database.finish(number, outcome)
        self._keep_head(run, outcome, head)

    async def break_off(self, why: str) -> None:
        """Ends what is under way, for good: what it was to reach is no longer wanted."""
        tasks = self._others()
        # Kept by run: one that takes longer to end than is waited for here ends as broken off all the same.
        self._broken_off |= {task.get_name(): why for task in tasks}
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=BREAK_OFF_S)
            for task in late:
                log.error(
                    "a run does not end: going on without it", run=task.get_name(), alert=True
                )

    async def cancel(self) -> None:
        """The controller goes: what is under way stays unfinished, to be taken up again."""
        tasks = self._others()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _others(self) -> set[asyncio.Task[None]]:
        return {task for task in self._tasks if task is not asyncio.current_task()}


def _left_alert(step: str, told: str) -> Mapping[str, object]:
    return {
        "event": "alert", "alert": True, "rule": "left_command", "subject": step, "message": told,
    }  # fmt: skip


def _kinds(procedure: Procedure, steps: Sequence[str]) -> list[str]:
    """Steps that are one for each service as one: which of them there are, and in which order, is
    found out anew each time, and no change of the procedure."""
    specs = ((name, procedure.spec_of(name)) for name in steps)
    return list(dict.fromkeys(name if spec is None else spec.name for name, spec in specs))
