"""Carries out procedures as runs: one at a time, told as they go, never lost without a word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping

import structlog

from openbell.controller.desk import ControlledDesk
from openbell.controller.run_board import LiveRun, run_id, run_number
from openbell.errors import FailedError, OpenbellError

log = structlog.get_logger()


class Conductor:
    """The runs of one desk."""

    def __init__(self, desk: ControlledDesk) -> None:
        self._desk = desk
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken_off = ""
        """Why what is cancelled is not to be taken up again."""

    def admit(
        self, procedure: str, number: int, actor: str, parameters: Mapping[str, object]
    ) -> LiveRun:
        """The run, on the board from now on."""
        run = LiveRun(
            id=run_id(procedure, number),
            procedure=procedure,
            actor=actor,
            parameters=parameters,
            started_ns=time.time_ns(),
        )
        self._desk.board.add(run)
        log.info("run", run=run.id, actor=actor)
        return run

    def carry_out(self, run: LiveRun, body: Coroutine[object, object, None]) -> None:
        """Runs `body` in the background. Whatever it raises ends the run with an event; in the
        journal it is broken off; only a killed controller leaves one to be taken up again."""
        task = asyncio.create_task(self._carried_out(run, body), name=run.id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carried_out(self, run: LiveRun, body: Coroutine[object, object, None]) -> None:
        try:
            await body
        except asyncio.CancelledError:
            if not self._broken_off:
                raise
            await self._record_end(run)
            told = FailedError(f"broken off: {self._broken_off}", hint="see `openbell status`")
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

    async def _record_end(self, run: LiveRun) -> None:
        number = run_number(run.id)
        if number:
            try:
                await self._desk.database.finish(number, "broken off")
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

    async def abandon_interrupted(self, why: str) -> None:
        """Ends, in the journal, a run that a killed controller left and nobody goes on with."""
        interrupted = self._desk.interrupted
        if interrupted is not None:
            await self._desk.database.finish(interrupted.number, f"abandoned: {why}")
            self._desk.interrupted = None

    async def break_off(self, why: str) -> None:
        """Ends what is under way, for good: what it was to reach is no longer wanted."""
        self._broken_off = why
        try:
            await self.cancel()
        finally:
            self._broken_off = ""

    async def cancel(self) -> None:
        """The controller goes: what is under way stays unfinished, to be taken up again."""
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
