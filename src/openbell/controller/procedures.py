"""Procedures by name: what there is, what one would do, its runs, and going on with one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from openbell.config.nearest import nearest
from openbell.controller.bodies import (
    Body,
    CloseBody,
    OpenBody,
    RestartBody,
    RollingRestartBody,
)
from openbell.controller.close_desk import CloseWishes, Closings
from openbell.controller.conduct import Conductor
from openbell.controller.desk import ControlledDesk
from openbell.controller.open_desk import Openings
from openbell.controller.opening_parts import OpenWishes
from openbell.controller.restarting import Restarts, RestartWishes
from openbell.controller.rolling import RollingRestarts, RollingWishes
from openbell.controller.run_board import run_id, run_number
from openbell.errors import ConflictError, UsageError
from openbell.procedures.registry import find_procedure
from openbell.procedures.report import history_row, report_of, runs_of
from openbell.procedures.runbook import list_document, procedure_document

HISTORY_MAX = 1000

B = TypeVar("B", bound=Body)

Wishes = OpenWishes | CloseWishes | RestartWishes | RollingWishes


@dataclass(frozen=True)
class Procedures:
    """What the API and `openbell procedure` ask for by a procedure's or a run's name."""

    desk: ControlledDesk
    conductor: Conductor
    openings: Openings
    closings: Closings
    rolling: RollingRestarts
    restarts: Restarts

    def list(self) -> dict[str, object]:
        return {"procedures": list_document()}

    def show(self, name: str) -> dict[str, Any]:
        """Raises UsageError for a name that is not known, here and below."""
        return procedure_document(find_procedure(name), self.desk.desk.file)

    async def plan(self, name: str, parameters: Mapping[str, object]) -> dict[str, object]:
        """What it would do now. Raises as the procedure's own plan does."""
        return await self._plan(_wishes(name, parameters, ""))

    async def run(
        self, name: str, parameters: Mapping[str, object], reason: str, actor: str
    ) -> dict[str, object]:
        """Begins it, or goes on with one that was cut off. Raises as the procedure itself does."""
        return await self._begin(_wishes(name, parameters, reason), actor)

    async def _plan(self, wishes: Wishes) -> dict[str, object]:
        match wishes:
            case OpenWishes():
                return await self.openings.plan_open(wishes)
            case CloseWishes():
                return await self.closings.plan_close(wishes)
            case RestartWishes():
                return await self.restarts.plan(wishes)
            case RollingWishes():
                return await self.rolling.plan(wishes)

    async def _begin(self, wishes: Wishes, actor: str) -> dict[str, object]:
        match wishes:
            case OpenWishes():
                return await self.openings.open(wishes, actor)
            case CloseWishes():
                return await self.closings.close(wishes, actor)
            case RestartWishes():
                return await self.restarts.begin(wishes, actor)
            case RollingWishes():
                return await self.rolling.begin(wishes, actor)

    async def history(self, procedure: str | None, limit: int) -> dict[str, object]:
        """Newest first."""
        kind = None if procedure is None else find_procedure(procedure).name
        store = await self.desk.database.open()
        found = await asyncio.to_thread(runs_of, store, kind, limit)
        return {"runs": [self._row(history_row(record)) for record in found]}

    def _row(self, row: dict[str, object]) -> dict[str, object]:
        """A run without an end is under way, where it is this controller's."""
        live = self.desk.board.find(str(row["run"]))
        if live is not None and not live.is_over:
            row |= {"state": "running", "step": live.step}
        return row

    async def resume(self, run: str, actor: str) -> dict[str, object]:
        """Goes on with a run that was cut off, with what it was asked for last. Raises ConflictError
        for one that is under way or over."""
        return await self._begin(await self._wishes_again(run), actor)

    async def resume_plan(self, run: str) -> dict[str, object]:
        """What `resume` would do now: the plan of what it goes on with. Raises as it does."""
        return await self._plan(await self._wishes_again(run))

    async def _wishes_again(self, run: str) -> Wishes:
        """What goes on with a run that was cut off: the half of a restart goes on as a restart.
        Raises ConflictError for a run that is under way or over."""
        number = run_number(run)
        interrupted = self.desk.interrupted
        if interrupted is None or interrupted.id != run:
            self.desk.board.refuse_second()
            await self._known(run, number)
            raise ConflictError(
                f"{run} is not a run that was cut off",
                hint="`openbell procedure history` shows how it ended",
                run=run,
            )
        if await self.restarts.resumes(run):
            return RestartWishes()
        # A closing keeps the wishes of its run by itself, and an opening what was insisted on.
        names = {"open": ("safe_mode", "only"), "close": ()}
        kept = names.get(interrupted.procedure, ("services", "hand_back"))
        asked = interrupted.parameters
        parameters = {key: asked[key] for key in kept if key in asked}
        return _wishes(interrupted.procedure, parameters, interrupted.why)

    async def cancel(self, run: str, reason: str, actor: str) -> dict[str, object]:
        return await self.conductor.cancel_run(run, reason, actor)

    async def approve(
        self, run: str, step: str, digest: str, reason: str, actor: str
    ) -> dict[str, object]:
        number = run_number(run)
        approvals = self.conductor.approvals
        return await approvals.approve(run, step, digest, reason, actor, number)

    def requests(self, run: str) -> dict[str, object]:
        """What of a run waits for people."""
        return {"requests": self.conductor.approvals.waiting_for(run)}

    async def report(self, run: str) -> dict[str, Any]:
        number = run_number(run)
        await self._known(run, number)
        store = await self.desk.database.open()
        document = await asyncio.to_thread(report_of, store, number, self.desk.layout.audit_log)
        return {**self._row(document), "waiting": self.requests(run)["requests"]}

    async def _known(self, run: str, number: int) -> None:
        record = await self.desk.database.get(number)
        if run_id(record.kind, record.run) != run:
            near = nearest(run, [run_id(record.kind, record.run)])
            raise UsageError(f'there is no run "{run}"', run=run, nearest=near)


def _wishes(name: str, parameters: Mapping[str, object], reason: str) -> Wishes:
    match find_procedure(name).name:
        case "open":
            return _open_wishes(parameters, reason)
        case "close":
            return _close_wishes(parameters, reason)
        case "restart" | "quick-restart" as how:
            return _restart_wishes(how, parameters, reason)
        case _:
            return _rolling_wishes(parameters, reason)


def _open_wishes(parameters: Mapping[str, object], reason: str) -> OpenWishes:
    asked = _body(OpenBody, parameters)
    return OpenWishes(asked.safe_mode, asked.only, asked.force, asked.reason or reason)


def _close_wishes(parameters: Mapping[str, object], reason: str) -> CloseWishes:
    asked = _body(CloseBody, parameters)
    return CloseWishes(
        asked.flatten, asked.orders, asked.reason or reason, asked.timeout_s, asked.force
    )


def _restart_wishes(procedure: str, parameters: Mapping[str, object], reason: str) -> RestartWishes:
    asked = _body(RestartBody, {**parameters, "quick": procedure == "quick-restart"})
    return RestartWishes(asked.quick, asked.orders, asked.force, asked.reason or reason)


def _rolling_wishes(parameters: Mapping[str, object], reason: str) -> RollingWishes:
    asked = _body(RollingRestartBody, parameters)
    return RollingWishes(asked.services, asked.hand_back, asked.reason or reason)


def _body(model: type[B], parameters: Mapping[str, object]) -> B:
    """Raises UsageError for a parameter that is not known, or a value that makes no sense."""
    try:
        return model.model_validate(dict(parameters))
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        known = [name for name in model.model_fields if name != "reason"]
        raise UsageError(told, hint=f"parameters: {', '.join(known)}") from None
