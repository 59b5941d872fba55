"""Goes on by itself with a run that a killed controller left, where its procedure says so and nothing speaks
against it (`procedures.by_itself`); else says what it waits for.

It is begun before this controller answers anybody, so no `resume` of a person can be beside it: whoever asks
then is told which run is under way.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import msgspec
import psutil

import openbell
from openbell.controller.close_desk import CloseWishes, Closings
from openbell.controller.conduct import Conductor
from openbell.controller.desk import ControlledDesk, Interrupted
from openbell.controller.telling import tell_people
from openbell.domain.desk_state import DeskTarget
from openbell.errors import OpenbellError
from openbell.kill.marker import is_begun
from openbell.procedures.by_itself import BY_ITSELF, CutOff, why_it_waits
from openbell.procedures.closing import PROCEDURE as CLOSE
from openbell.procedures.registry import PROCEDURES
from openbell.procedures.settings import resumes
from openbell.service.logging import get_logger

log = get_logger()

_GUARD = "openbell.guard"


def started_by_the_guard() -> bool:
    """By whose child this process is: the kernel knows, and no option can claim it. A guard that has ended
    since is nobody's parent any more; then a person is waited for."""
    try:
        return _GUARD in psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return False


class GoingOn:
    """Of one controller, once: as it has found what the one before it left."""

    def __init__(self, desk: ControlledDesk, runs: Conductor, closings: Closings) -> None:
        self._desk = desk
        self._runs = runs
        self._closings = closings
        self._telling: set[asyncio.Task[None]] = set()
        self._code_before = _code_before(desk)
        """Read before this controller writes its own record."""

    async def begin(self) -> None:
        """Never raises: what cannot go on waits for a person, as ever."""
        cut_off = self._desk.interrupted
        if cut_off is None:
            return
        why = await self._why_it_waits(cut_off)
        if not why:
            try:
                await self._closings.close(CloseWishes(by_itself=True), BY_ITSELF)
            except OpenbellError as error:
                why = error.message
        if why:
            if self._desk.interrupted is None:
                # It was gone on with, and ended at once, by a stop that was pressed meanwhile: it has its
                # end in the record, and is nobody's to go on with any more.
                log.warning("does not go on", run=cut_off.id, why=why)
                return
            self._desk.interrupted = replace(cut_off, waits_because=why)
            log.warning("waits for a person to go on with it", run=cut_off.id, why=why)
            return
        log.warning("goes on by itself", run=cut_off.id, step=cut_off.step, alert=True)
        self._desk.auditor.note("run.resumed_by_itself", cut_off.id, BY_ITSELF, step=cut_off.step)
        telling = asyncio.create_task(self._tell(cut_off), name="telling")
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _tell(self, cut_off: Interrupted) -> None:
        text = (
            f"{self._desk.desk.file.desk.name}: CLOSING GOES ON BY ITSELF, {cut_off.id}, begun by "
            f"{cut_off.actor} and cut off at {cut_off.step}: its controller was killed"
        )
        await tell_people(self._desk, "closing_resumed", text, cut_off.id)

    async def _why_it_waits(self, cut_off: Interrupted) -> str:
        desk = self._desk
        procedure = PROCEDURES.get(cut_off.procedure)
        if procedure is None:
            return f"there is no procedure {cut_off.procedure} any more"
        if procedure.name != CLOSE.name:
            return procedure.not_by_itself
        try:
            record = await desk.database.get(cut_off.number)
            steps = self._closings.steps_now()
            changed = await self._runs.changed_since(procedure, record, steps)
        except OpenbellError as error:
            return f"its record is not known: {error.message}"
        return why_it_waits(
            procedure,
            CutOff(
                resumes=resumes(procedure, desk.desk.file),
                steps_begun=frozenset(step.name for step in record.steps),
                started_by_guard=started_by_the_guard(),
                went_on_by_itself=bool(cut_off.parameters.get("by_itself")),
                half_of_restart=bool(cut_off.parameters.get("restart")),
                still_meant=desk.targets.asked is DeskTarget.CLOSING,
                emergency=is_begun(desk.layout),
                latched=desk.targets.latched,
                waits_for_people=bool(self._runs.approvals.waiting_for(cut_off.id)),
                changed=changed,
                same_code=None if self._code_before is None else self._code_before == code_of(desk),
            ),
        )


def code_of(desk: ControlledDesk) -> dict[str, str]:
    """What a controller goes by, as its record has it."""
    return {"version": openbell.__version__, "desk_file": desk.desk.digest}


def _code_before(desk: ControlledDesk) -> dict[str, str] | None:
    """Of the controller before this one; None where it left no record, as one that ended in order, or where
    that cannot be read."""
    try:
        record = msgspec.json.decode(desk.layout.controller_record.read_bytes())
        return {"version": str(record["version"]), "desk_file": str(record["desk_file"])}
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return None
