"""Opens the desk as a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from openbell.controller.abandoned import Abandoned, abandoned_document
from openbell.controller.conduct import Conductor
from openbell.controller.desk import ControlledDesk
from openbell.controller.emergency import Emergency
from openbell.controller.guard_keeper import GuardKeeper
from openbell.controller.journal import RunJournal
from openbell.controller.leftovers import settle_leftovers, told_in_the_way
from openbell.controller.opening_parts import OpeningParts, OpenWishes
from openbell.controller.run_board import LiveRun
from openbell.controller.telling import tell_people
from openbell.domain.desk_state import DeskCommand, DeskTarget
from openbell.domain.service_state import ServiceState
from openbell.errors import FailedError, RefusedError, StorageError
from openbell.kill.course import refuse_under_way
from openbell.kill.marker import is_begun
from openbell.kill.pressed import pressed, refuse_pressed_since
from openbell.procedures.begin_trading import BeginTrading
from openbell.procedures.command_step import CommandStep
from openbell.procedures.opening import ServiceOutcome
from openbell.procedures.opening_end import OpeningSeen, opening_end
from openbell.procedures.opening_steps import PROCEDURE
from openbell.procedures.plans import plan_document
from openbell.procedures.ports import PlannedEffects
from openbell.procedures.preflighting import TakePreflight
from openbell.procedures.readiness import Look
from openbell.procedures.settings import approvals_of, inner_of, settings_of
from openbell.procedures.step import OnFailure, Outcome, Step
from openbell.service.logging import get_logger
from openbell.state.last_word import a_sender_starts
from openbell.state.not_opened import NotOpened
from openbell.watch.channels import Told

if TYPE_CHECKING:
    from openbell.state.runs import RunRecord

log = get_logger()


class Openings:
    """Openings of one desk."""

    def __init__(
        self,
        desk: ControlledDesk,
        runs: Conductor,
        guard: GuardKeeper,
        emergency: Emergency,
        restore_limits: Callable[[str], Awaitable[None]],
    ) -> None:
        """`emergency`: what a stop left is taken away on the word of whoever opens. `restore_limits`:
        takes back what a closing reduced."""
        self._desk = desk
        self._runs = runs
        self._parts = OpeningParts(desk, guard)
        self._emergency = emergency
        self._restore_limits = restore_limits
        runs.leave[PROCEDURE.name] = self._give_up_cut_off
        self.forget_restart: Callable[[], Awaitable[None]] = _nothing
        """Told that an opening is in the record: a restart that was under way is that, or over."""
        self.opened: Callable[[], Awaitable[None]] = _nothing
        """Told that an opening has opened the desk."""

    async def open(self, wishes: OpenWishes, actor: str) -> dict[str, object]:
        """Begins an opening. Raises ConflictError, RefusedError for orphans, UsageError,
        ConfigError, StorageError (nothing was begun then). A stop that was pressed since `wishes.before`,
        or since now where that is not known, is not taken back: ConflictError."""
        desk = self._desk
        before = wishes.before or pressed(desk.layout)
        wishes = replace(wishes, before=before)
        await desk.board.reserve("open", actor)
        try:
            desk.refuse_locked("not opened")
            self._refuse_safe_mode_while_trading(wishes)
            refuse_pressed_since(desk.layout, before)
            await desk.reload_desk_file()
            desk.require_known(list(wishes.only))
            parameters = {"safe_mode": wishes.safe_mode, "only": list(wishes.only)}
            cut_off = await self._cut_off(parameters)
            wishes = _as_begun(wishes, cut_off)
            if wishes.force:
                parameters["force"] = True
            # One that carries the desk's mark would be in the way as well.
            await self._runs.end_left_commands()
            await settle_leftovers(desk, wishes.force, actor)
            if wishes.restart_of:
                parameters["restart_of"] = wishes.restart_of
            if note := desk.targets.latch_note:
                parameters["latch"] = note
            await desk.auditor.record(
                actor, "desk.open", desk.desk.file.desk.name, **parameters, reason=wishes.reason
            )
            steps = self._parts.steps(wishes)[0]
            names = [step.name for step in steps]
            traded = desk.targets.now is DeskTarget.TRADING
            record, changed, given_up = None, "", None
            if cut_off is not None:
                record, changed = await self._runs.go_on(PROCEDURE, actor, names, parameters)
                number = record.run
                traded = _had_traded(record)
            else:
                given_up = await self._runs.abandon_interrupted("the desk is opened in another way")
                if traded:
                    parameters["traded_before"] = True
                number = await self._runs.begin(PROCEDURE, actor, wishes.reason, parameters, names)
            await self.forget_restart()
            # Nothing is awaited from here to its admission.
            await self._runs.last_look(
                PROCEDURE, number, lambda: refuse_pressed_since(desk.layout, before)
            )
        except BaseException:
            desk.board.release()
            raise
        run = self._runs.admit(
            "open", number, actor, parameters,
            reason=wishes.reason, begun_by="" if record is None else record.who,
        )  # fmt: skip
        if record is not None:
            self._runs.tell_resumed(run, record, changed)
        self._runs.tell_abandoned(run, given_up)
        self._runs.carry_out(run, self._open(run, number, wishes, traded, given_up))
        return {
            "run": run.id, "resumed": record is not None, "changed": changed,
            **abandoned_document(given_up),
        }  # fmt: skip

    async def _is_begun(
        self, wishes: OpenWishes, actor: str, steps: Sequence[Step[Any, Any]]
    ) -> None:
        """The desk is asked to be open, on the disk, before the first thing of it is started; until
        then it is what it was, so that an opening which is refused leaves nothing to be closed."""
        desk = self._desk
        command = self._command(wishes)
        if is_begun(desk.layout):
            # It may have closed positions by orders of its own.
            a_sender_starts(desk.layout)
        await self._emergency.clear(actor, wishes.before or pressed(desk.layout))
        await self._restore_limits(actor)
        wanted = self._parts.wanted(wishes)
        whole = len(wanted) == len(desk.desk.file.services)
        desk.targets.command(
            command, () if whole else wanted, hold_back=bool(_trading_is_let_from(steps))
        )

    async def _cut_off(self, parameters: Mapping[str, object]) -> RunRecord | None:
        """The same opening, if it was under way when the controller before this one was killed."""
        interrupted = self._desk.interrupted
        if interrupted is None or interrupted.procedure != PROCEDURE.name:
            return None
        record = await self._desk.database.as_asked_last(interrupted.number)
        same = all(record.params.get(key) == parameters[key] for key in ("safe_mode", "only"))
        return record if same else None

    async def plan_open(self, wishes: OpenWishes) -> dict[str, object]:
        """What `open` would do now. The second step is planned for a desk of which everything that
        the first one starts is up. Raises UsageError, RefusedError, ConflictError."""
        desk = self._desk
        desk.require_known(list(wishes.only))
        desk.refuse_locked("it would not be opened")
        refuse_under_way(self._desk.layout)
        self._refuse_safe_mode_while_trading(wishes)
        parameters = {"safe_mode": wishes.safe_mode, "only": list(wishes.only)}
        cut_off = await self._cut_off(parameters)
        wishes = _as_begun(wishes, cut_off)
        effects = (
            None if cut_off is None else PlannedEffects(RunJournal(desk.database, cut_off.run))
        )
        steps, _, trade = self._parts.steps(wishes, effects=effects)
        trade.target = lambda: desk.targets.foreseen(self._command(wishes))
        wanted = self._parts.wanted(wishes)
        trade.blocked = lambda: self._parts.blocked(wanted, coming=wanted)
        return {
            **await plan_document("open", steps),
            "refused": await told_in_the_way(desk, wishes.force),
        }

    def _refuse_safe_mode_while_trading(self, wishes: OpenWishes) -> None:
        """Raises RefusedError: opening adds to what is, and a stop has to be asked for as one. A
        halt is kept, verified with the engine, and tells of what rests at the venue."""
        desk = self._desk
        at_work = [desk.roles.engine] if desk.roles.engine is not None else [*desk.states]
        idle = (ServiceState.STOPPED, ServiceState.FAILED)
        if (
            wishes.safe_mode
            and desk.targets.now is DeskTarget.TRADING
            and not desk.targets.latched
            and any(desk.states.get(name, ServiceState.STOPPED) not in idle for name in at_work)
        ):
            raise RefusedError(
                "the desk is open for trading: safe mode is a way to open it, not to stop it",
                hint="`openbell halt` stops new orders at once, services stay up; resting orders "
                "are shown by `openbell orders` and withdrawn by `openbell down`",
            )

    def _command(self, wishes: OpenWishes) -> DeskCommand:
        """A desk that is latched, or was stopped in an emergency, opens safe, and so stays safe when
        the latch is released: to trade takes a `resume` of its own."""
        desk = self._desk
        stopped = desk.layout.emergency_marker.exists()
        safe = wishes.safe_mode or desk.targets.latched or stopped
        return DeskCommand.OPEN_SAFE if safe else DeskCommand.OPEN

    async def _open(
        self,
        run: LiveRun,
        number: int,
        wishes: OpenWishes,
        traded_before: bool,
        given_up: Abandoned | None,
    ) -> None:
        news = asyncio.create_task(self._tell_opening(run, wishes, traded_before=traded_before))
        try:
            await self._carry_out(run, number, wishes, traded_before, news, given_up)
        except Exception:
            # It is told as a failure: the desk must not trade behind that, whatever it was let before.
            if not traded_before:
                self._hold_back()
            raise
        finally:
            news.cancel()  # of a run that broke off; else it is over

    async def _carry_out(
        self,
        run: LiveRun,
        number: int,
        wishes: OpenWishes,
        traded_before: bool,
        news: asyncio.Task[tuple[Told, ...]],
        given_up: Abandoned | None,
    ) -> None:
        desk = self._desk

        def tell(outcome: ServiceOutcome) -> None:
            run.emit(
                {
                    "event": "service",
                    "service": outcome.name,
                    "state": str(outcome.outcome),
                    "previous": None,
                    "seconds": outcome.seconds,
                    "message": outcome.reason,
                    "pid": None,
                    "log_tail": list(outcome.log_tail),
                }
            )

        journal = RunJournal(desk.database, number)
        steps, starting, trade = self._parts.steps(wishes, tell, run.id, journal)
        begun = came_to_trading = False
        let_from = _trading_is_let_from(steps)
        only_look = {TakePreflight.name}
        only_look |= {each.name for each in steps if isinstance(inner_of(each), CommandStep)}

        async def prepare(step: str) -> None:
            nonlocal begun
            if not begun and step not in only_look:
                await self._is_begun(wishes, run.actor, steps)
                begun = True

        def before(step: str) -> None:
            nonlocal came_to_trading
            if trade.held():
                return
            if step in (let_from, trade.name):
                desk.targets.let_trade()
            came_to_trading = came_to_trading or step == trade.name

        runner = self._runs.runner(run, PROCEDURE, journal, prepare=prepare, before=before)
        try:
            reports = await runner.run(steps)
        finally:
            # Of a run that ended early: nothing goes on coming up that no step waits for.
            await starting.end()
        if not came_to_trading and not traded_before:
            self._hold_back()
        # Of one that was cut off, this controller may have begun nothing, and the one before it a lot.
        begun = begun or any(view.state.is_running for view in desk.supervisor.views())
        end = opening_end(
            OpeningSeen(
                reports=reports,
                wanted=self._parts.wanted(wishes),
                services=starting.outcomes,
                verdict=trade.verdict,
                ended_by=runner.ended_by,
                stopped_at=runner.stopped_at,
                begun=begun,
                held_back=desk.targets.held_back,
                left_out=bool(desk.left_out()),
                only=wishes.only,
                own_steps=frozenset(
                    extra.name for extra in settings_of(PROCEDURE, desk.desk.file).extra
                ),
            )
        )
        ended = "cancelled" if runner.ended_by else "failed"
        await self._runs.conclude(run, journal, "done" if end.opened else ended)
        action = "desk.opened" if end.opened else "desk.open_failed"
        desk.auditor.note(action, run.id, outcome=end.outcome)
        if end.opened:
            await self.opened()
        if not begun:
            self._tell_not_opened(run, end.failed_at, end.why)
        taken_over = desk.untold_adoption()
        message = f"{end.message}; {taken_over}" if taken_over else end.message
        told = list(await news)
        if not traded_before:
            text = (
                f"{desk.desk.file.desk.name}: {'OPENED' if end.opened else 'NOT OPENED'}, {message}"
            )
            told += await tell_people(desk, "opened" if end.opened else "not_opened", text, run.id)
        failure = None if end.opened else FailedError(message, hint="mend it and open again")
        result = {
            **end.result,
            "told": {each.channel: each.outcome for each in told},
            **abandoned_document(given_up),
        }
        self._runs.finish(run, end.outcome, message, result, failure)

    async def _tell_opening(
        self, run: LiveRun, wishes: OpenWishes, *, traded_before: bool
    ) -> tuple[Told, ...]:
        """Beside the opening's steps; its end waits for the slowest channel. A desk that trades already is
        not opened."""
        if traded_before:
            return ()
        why = f": {wishes.reason}" if wishes.reason else ""
        text = f"{self._desk.desk.file.desk.name}: OPENING, {run.id} by {run.actor}{why}"
        return await tell_people(self._desk, "opening", text, run.id)

    def _tell_not_opened(self, run: LiveRun, step: str, why: str) -> None:
        """For `status`, and for who closes what was never opened."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._desk.targets.tell_not_opened(NotOpened(run.id, step, why, run.actor, at))
        except StorageError as error:
            log.error("why it was not opened is not kept on disk", why=error.message)

    def _hold_back(self) -> None:
        """The engine would ask for its permit by itself, whatever the opening came to."""
        try:
            self._desk.targets.hold_back()
        except StorageError as error:
            log.error("held back, and not kept on disk", why=error.message, alert=True)

    async def _give_up_cut_off(self, record: RunRecord) -> str:
        """A cut-off opening may have held nothing back: then the desk is asked to trade, and its
        engine would get its permit though nobody opens the desk any more."""
        targets = self._desk.targets
        if _had_traded(record):
            return "the desk had come to trading, and is left as it is"
        if targets.asked is DeskTarget.TRADING:
            self._hold_back()
        return "what runs is left running; the desk does not trade until it is opened again"


async def _nothing() -> None:
    """No restart is known of."""


def _as_begun(wishes: OpenWishes, cut_off: RunRecord | None) -> OpenWishes:
    """What was insisted on when a run was begun holds for all of it, and the opening of a restart is
    one, whoever goes on with it."""
    if cut_off is None:
        return wishes
    force = wishes.force or bool(cut_off.params.get("force"))
    return replace(wishes, force=force, restart_of=str(cut_off.params.get("restart_of") or ""))


def _had_traded(record: RunRecord) -> bool:
    """Whether the desk was trading when the run was begun, or came to it before it was cut off."""
    return bool(record.params.get("traded_before")) or any(
        step.name == BeginTrading.name and step.outcome == Outcome.DONE for step in record.steps
    )


def _trading_is_let_from(steps: Sequence[Step[Any, Any]]) -> str:
    """The step from which on the desk may trade, where something is to be seen, done or approved
    before; empty where nothing is. The engine gets its permit as soon as it is ready, which is soonest:
    so trading is let as soon as the last such thing is done, and not only where trading is waited for."""
    names = [step.name for step in steps]
    place = names.index(BeginTrading.name)
    let_from = 0
    for index, step in enumerate(steps[: place + 1]):
        if approvals_of(step):
            let_from = index
        if index < place and (
            step.on_failure in (OnFailure.ABORT, OnFailure.ASK)
            or isinstance(inner_of(step), CommandStep | Look)
        ):
            let_from = index + 1
    return names[let_from] if let_from else ""
