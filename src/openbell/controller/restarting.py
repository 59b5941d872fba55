"""Restarts of a whole desk: a closing and, once that is proven, an opening, each a run of its own.

Nothing is closed before it is known that the desk may be opened again. What was begun is in a file
before the closing begins, so that a controller which is killed at any moment leaves one that is gone on
with, by `openbell restart`: in the closing, between the two, or in the opening.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from openbell.controller.close_desk import CloseWishes, Closings
from openbell.controller.desk import ControlledDesk
from openbell.controller.guard_keeper import GuardKeeper
from openbell.controller.open_desk import Openings
from openbell.controller.opening_parts import OpenWishes
from openbell.controller.run_board import LiveRun, run_id, run_number
from openbell.errors import NotRunningError, OpenbellError, RefusedError, UsageError
from openbell.kill.course import refuse_under_way
from openbell.procedures.checklists import STANDS_IN_THE_WAY, Check, Found
from openbell.procedures.closing.statement import Statement
from openbell.procedures.preflight_checks import judge
from openbell.procedures.preflight_facts import Surroundings, look
from openbell.procedures.preview import opening_plan_of_a_closed_desk
from openbell.procedures.registry import PROCEDURES
from openbell.procedures.restarting import FULL, QUICK
from openbell.service.logging import get_logger
from openbell.state.pending_restart import (
    PendingRestart,
    drop_restart,
    keep_restart,
    read_restart,
)

if TYPE_CHECKING:
    from openbell.state.runs import RunRecord

log = get_logger()


_STAYS = (
    "the controller stays, with the code it was started with; new code of it runs after "
    "`openbell down` and `openbell up`"
)


@dataclass(frozen=True)
class RestartWishes:
    quick: bool = False
    orders: Literal["cancel", "keep", "keep-passive"] | None = None
    force: bool = False
    reason: str = ""


class Restarts:
    """Of one desk, one at a time."""

    def __init__(
        self, desk: ControlledDesk, closings: Closings, openings: Openings, guard: GuardKeeper
    ) -> None:
        self._desk = desk
        self._closings = closings
        self._openings = openings
        self._guard = guard
        self._turn = asyncio.Lock()
        """Of who begins: the second of two at once neither writes nor takes away what the first did."""
        self._opened: dict[str, str] = {}
        """By closing: the opening that followed it."""
        closings.forget_restart = openings.forget_restart = self._forget

    async def begin(self, wishes: RestartWishes, actor: str) -> dict[str, object]:
        """`{"run", "resumed", "changed", "of"}`: begins a restart, or goes on with one that was cut
        off, as it was asked for then. `of`: the closing, where that is over. Raises NotRunningError for
        a desk that is closed, RefusedError where it might not be opened again, ConflictError,
        UsageError, StorageError, CorruptError."""
        async with self._turn:
            return await self._begin(wishes, actor)

    async def _begin(self, wishes: RestartWishes, actor: str) -> dict[str, object]:
        self._desk.board.refuse_second()
        refuse_under_way(self._desk.layout)
        if (pending := await self._cut_off()) is not None:
            return await self._go_on(pending, actor)
        if (begun := await self._go_on_opening(actor)) is not None:
            return begun
        await self._refuse_unproven()
        await self._require_a_way_back(wishes)
        pending = PendingRestart(
            quick=wishes.quick,
            who=actor,
            reason=wishes.reason,
            orders=wishes.orders,
            safe_mode=self._desk.targets.opens_safe,
            force=wishes.force or wishes.quick,
        )
        return await self._close(pending, actor)

    async def plan(self, wishes: RestartWishes) -> dict[str, object]:
        """The closing's plan, and the opening's for when every service has been stopped; of a restart
        that was cut off what is left of it, as it was asked for then."""
        if (pending := await self._cut_off()) is not None:
            return await self._plan_of_the_rest(pending)
        if (opening := await self._cut_off_opening()) is not None:
            opened = await self._openings.plan_open(opening)
            return {
                "procedure": await self._name_of(opening.restart_of),
                "steps": _rows(opened),
                "refused": [],
                "goes_on": self._goes_on("", opening.restart_of),
            }
        desk = self._desk
        self._require_open()
        pending = msgspec.structs.replace(
            self._pending_of(wishes),
            safe_mode=desk.targets.opens_safe,
            force=wishes.force or wishes.quick,
        )
        document = await self._both(pending)
        why_not = [check.told() for check in await self._in_the_way(wishes)]
        try:
            desk.refuse_locked("not restarted")
        except RefusedError as error:
            why_not.insert(0, error.message)
        stays = [] if wishes.quick else [_STAYS]
        return {**document, "refused": why_not, "goes_on": None, "notes": stays}

    async def _plan_of_the_rest(self, pending: PendingRestart) -> dict[str, object]:
        goes_on = self._goes_on(pending.who, pending.closing)
        if self._is_cut_off("close"):
            both = await self._both(pending, goes_on=True)
            return {**both, "refused": [], "goes_on": goes_on}
        opened = await self._plan_open(pending)
        name = QUICK.name if pending.quick else FULL.name
        return {"procedure": name, "steps": _rows(opened), "refused": [], "goes_on": goes_on}

    def _goes_on(self, who: str, closing: str) -> dict[str, str]:
        """`{"run", "step", "by", "closing"}`: of which run the plan shows what is left; no run: its
        closing is done, and its opening not begun."""
        cut_off = self._desk.interrupted
        if cut_off is None:
            return {"run": "", "step": "", "by": who, "closing": closing}
        return {
            "run": cut_off.id, "step": cut_off.step, "by": who or cut_off.actor, "closing": closing,
        }  # fmt: skip

    async def _name_of(self, closing: str) -> str:
        """Which restart this closing was the first half of."""
        try:
            record = await self._desk.database.get(run_number(closing))
        except UsageError:
            return FULL.name
        return QUICK.name if record.params.get("restart") == "quick" else FULL.name

    async def _plan_open(
        self, pending: PendingRestart, *, guard_ends: bool = False
    ) -> dict[str, object]:
        desk = self._desk
        return await asyncio.to_thread(
            opening_plan_of_a_closed_desk,
            desk.desk.path,
            desk.layout,
            safe_mode=pending.safe_mode,
            force=pending.force,
            stopped=True,
            guard_ends=guard_ends,
        )

    async def _both(self, pending: PendingRestart, *, goes_on: bool = False) -> dict[str, object]:
        wishes = self._close_wishes(pending, goes_on=goes_on)
        closed = await self._closings.plan_close(wishes)
        opened = await self._plan_open(pending, guard_ends=not pending.quick)
        steps: list[Any] = [*_rows(closed), *_rows(opened)]
        own = {spec.name for part in ("close", "open") for spec in PROCEDURES[part].steps}
        # It has no such step of its own, and the plan says why positions stay.
        taken = {spec.name for spec in (QUICK if pending.quick else FULL).steps} | {"flatten"}
        shown = [row for row in steps if row["name"] in taken or row["name"] not in own]
        return {"procedure": QUICK.name if pending.quick else FULL.name, "steps": shown}

    async def view(self, closing: str) -> dict[str, object]:
        """`{"closing", "opening", "stopped"}`: what followed a closing of a restart."""
        pending = await self._read()
        of_this = pending is not None and pending.closing == closing
        return {
            "closing": closing,
            "opening": self._opened.get(closing),
            "stopped": pending.stopped if of_this and pending is not None else "",
        }

    async def resumes(self, run: str) -> bool:
        """Whether going on with this run, which was cut off, is going on with a restart."""
        interrupted = self._desk.interrupted
        if interrupted is None or interrupted.id != run:
            return False
        if self._is_cut_off("close"):
            return await self._read() is not None
        return await self._cut_off_opening() is not None

    # --- the way -----------------------------------------------------------------------------

    async def _cut_off(self) -> PendingRestart | None:
        """The restart that a killed controller left; None where there is none, or something else was
        done since: any other closing and any opening takes the file away. One whose closing is not
        known to be proven is over too: it is opened by `up` alone, on a person's word."""
        pending = await self._read()
        if pending is None:
            return None
        if self._is_cut_off("close"):
            return pending
        if self._closings.is_closed() and await self._is_proven(pending):
            return pending
        return None

    async def _is_proven(self, pending: PendingRestart) -> bool:
        """Of a desk that is closed: that its closing is in the record as proven. A record that does not
        say so says nothing."""
        if self._desk.targets.not_proven is not None:
            return False
        closing = await self._closing_of(pending)
        return closing is not None and closing.outcome == "done"

    async def _closing_of(self, pending: PendingRestart) -> RunRecord | None:
        """The closing with which it began: named where its opening was refused, which may be a run of its
        own by then. Else no run came after it; None where the newest is none, or it is not in the record."""
        database = self._desk.database
        try:
            named = pending.closing
            found = await (database.get(run_number(named)) if named else database.newest())
        except UsageError:
            return None
        return found if found is not None and found.kind == "close" else None

    def _is_cut_off(self, procedure: str) -> bool:
        interrupted = self._desk.interrupted
        return interrupted is not None and interrupted.procedure == procedure

    async def _go_on(self, pending: PendingRestart, actor: str) -> dict[str, object]:
        if self._is_cut_off("close"):
            return await self._close(pending, actor, goes_on=True)
        record = await self._closing_of(pending)
        closing = "" if record is None else run_id(record.kind, record.run)
        begun = await self._open(msgspec.structs.replace(pending, closing=closing), actor)
        return {**begun, "resumed": True, "of": closing}

    async def _cut_off_opening(self) -> OpenWishes | None:
        """None: it is not the opening of a restart that was cut off."""
        interrupted = self._desk.interrupted
        if interrupted is None or interrupted.procedure != "open":
            return None
        then = interrupted.parameters
        if not then.get("restart_of"):
            return None
        return OpenWishes(
            safe_mode=then.get("safe_mode") is True,
            force=then.get("force") is True,
            reason=interrupted.why,
            restart_of=str(then["restart_of"]),
        )

    async def _go_on_opening(self, actor: str) -> dict[str, object] | None:
        """None where there is none."""
        wishes = await self._cut_off_opening()
        if wishes is None:
            return None
        begun = await self._openings.open(replace(wishes, force=False, restart_of=""), actor)
        return {**begun, "of": wishes.restart_of}

    async def _close(
        self, pending: PendingRestart, actor: str, *, goes_on: bool = False
    ) -> dict[str, object]:
        async def then(run: LiveRun, statement: Statement) -> bool:
            closed = msgspec.structs.replace(pending, closing=run.id)
            return await self._closed(closed, statement, actor)

        # Before anything is stopped: a disk that does not take it leaves the desk as it is.
        path = self._desk.layout.pending_restart
        await asyncio.to_thread(keep_restart, path, pending)
        try:
            wishes = self._close_wishes(pending, goes_on=goes_on)
            begun = await self._closings.close(wishes, actor, then)
        except BaseException:
            if not goes_on:  # else it is cut off as it was
                await self._forget()
            raise
        return {**begun, "of": ""}

    def _close_wishes(self, pending: PendingRestart, *, goes_on: bool = False) -> CloseWishes:
        """`goes_on`: the orders as the closing that was cut off was asked, whatever desk.toml says by now."""
        settings = self._desk.desk.file.closing
        what = "quick restart" if pending.quick else "restart"
        return CloseWishes(
            flatten="keep",
            orders=pending.orders or (None if goes_on else settings.orders),
            reason=f"{what}: {pending.reason}" if pending.reason else what,
            restart="quick" if pending.quick else "full",
        )

    async def _closed(self, pending: PendingRestart, statement: Statement, actor: str) -> bool:
        """What follows the closing. Not proven: the desk is as the closing left it, and not opened."""
        if not statement.verified or not self._closings.is_closed():
            log.error("not opened again", why=statement.summary, alert=True)
            await self._forget()
            return False
        if not pending.quick:
            # With all that it holds: the opening starts another one.
            await self._guard.end("the desk is restarted")
        try:
            await self._open(pending, actor)
        except OpenbellError as error:
            why = f"{error.message}{f' ({error.hint})' if error.hint else ''}"
            log.error("not opened again", why=why, alert=True)
            stopped = msgspec.structs.replace(pending, stopped=why)
            await asyncio.to_thread(keep_restart, self._desk.layout.pending_restart, stopped)
        return True

    async def _open(self, pending: PendingRestart, actor: str) -> dict[str, object]:
        begun = await self._openings.open(
            OpenWishes(
                safe_mode=pending.safe_mode,
                force=pending.force,
                reason=pending.reason or "restart",
                restart_of=pending.closing or "restart",
            ),
            actor,
        )
        self._opened[pending.closing] = str(begun["run"])
        return begun

    # --- may it ------------------------------------------------------------------------------

    async def _refuse_unproven(self) -> None:
        """Raises RefusedError for a restart that was cut off over a desk that is closed and not known
        to be proven closed, and forgets it."""
        if not self._closings.is_closed() or await self._read() is None:
            return
        await self._forget()
        doubt = self._desk.targets.not_proven
        told = "its closing is not in the record as proven" if doubt is None else doubt.told()
        raise RefusedError(
            f"not opened again: {told}",
            hint="look at the venue; `openbell down` asks the venues again, `openbell up` opens the desk",
        )

    def _require_open(self) -> None:
        if self._closings.is_closed():
            raise NotRunningError(
                "the desk is closed: nothing of it runs", hint="open it with `openbell up`"
            )
        if self._desk.targets.only:
            raise RefusedError(
                f"the desk is open in part: {', '.join(self._desk.targets.only)}",
                hint="`openbell restart SERVICE` restarts what runs; `openbell up` opens the rest",
            )

    async def _require_a_way_back(self, wishes: RestartWishes) -> None:
        """A desk that could not be opened again is not closed."""
        self._require_open()
        self._desk.refuse_locked("not restarted")
        if in_the_way := await self._in_the_way(wishes):
            told = "; ".join(check.told() for check in in_the_way)
            raise RefusedError(
                f"not restarted, as the desk would not be opened again: {told}",
                hint="mend it first; the desk goes on as it is",
                checks=[check.as_dict() for check in in_the_way],
            )

    async def _in_the_way(self, wishes: RestartWishes) -> list[Check]:
        """What the opening's pre-flight would end at. The venues are not greeted past an engine that
        runs; everything else is looked at as if it did not."""
        desk = self._desk
        facts = await look(
            Surroundings(
                desk=desk.desk,
                layout=desk.layout,
                environ={**os.environ, **desk.secrets.as_environment()},
                engine_runs=True,
                force=wishes.force or wishes.quick,
            )
        )
        stops = (*STANDS_IN_THE_WAY, Found.UNKNOWN)
        checks = judge(replace(facts, engine_runs=False), desk.desk.file)
        return [check for check in checks if check.found in stops]

    # --- the file ----------------------------------------------------------------------------

    def _pending_of(self, wishes: RestartWishes) -> PendingRestart:
        return PendingRestart(
            quick=wishes.quick, who="", reason=wishes.reason, orders=wishes.orders
        )

    async def _read(self) -> PendingRestart | None:
        return await asyncio.to_thread(read_restart, self._desk.layout.pending_restart)

    async def _forget(self) -> None:
        """What is not known to be gone is told: gone on with later, it would surprise."""
        try:
            await asyncio.to_thread(drop_restart, self._desk.layout.pending_restart)
        except OpenbellError as error:
            log.error("a restart that is over stays on the disk", why=error.message, alert=True)


def _rows(document: dict[str, object]) -> list[Any]:
    rows = document["steps"]
    assert isinstance(rows, list)
    return rows
