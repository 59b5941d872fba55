"""Single acts on the desk: halt, resume, strategies and services one by one, checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from openbell.controller.desk import ControlledDesk, require_declared
from openbell.controller.observing import Observer, Seen
from openbell.domain.desk_state import DeskCommand, DeskTarget
from openbell.domain.graph import (
    start_order,
    stop_order,
    with_dependencies,
    with_dependents,
)
from openbell.domain.health import resume_blockers
from openbell.errors import (
    ConflictError,
    OpenbellError,
    RefusedError,
    StorageError,
)
from openbell.procedures.checkpointing import save_checkpoint
from openbell.procedures.status_rows import lock_row
from openbell.runtime.spec import StartResult, StopResult, TrialResult
from openbell.service.logging import get_logger
from openbell.state.checkpoint import CheckpointInfo, list_checkpoints
from openbell.state.desk_lock import DeskLock, clear_lock, read_lock, set_lock
from openbell.state.disabled_strategies import DisabledStrategies, by_whom
from openbell.state.halts import Halt, clear_halt, set_halt

log = get_logger()

Verb = Literal["start", "stop", "restart", "reload"]


@dataclass(frozen=True)
class Acts:
    """What a person may do to a running desk besides opening and closing it."""

    desk: ControlledDesk
    observer: Observer

    async def halt(self, reason: str, actor: str) -> dict[str, object]:
        """No new order from now on. The file first: it outlives whatever fails afterwards."""
        desk = self.desk
        written = True
        try:
            halt = Halt(reason or "no reason given", actor, datetime.now(UTC))
            await asyncio.to_thread(set_halt, desk.layout.halt, halt)
        except StorageError as error:
            written = False
            log.error("halt is not kept on disk", why=error.message, alert=True)
        if desk.targets.asked in (DeskTarget.TRADING, DeskTarget.SAFE):
            try:
                desk.targets.command(DeskCommand.HALT)
            except StorageError as error:
                log.error("target is not kept on disk", why=error.message)
        recording = asyncio.create_task(
            desk.auditor.try_record(actor, "desk.halt", desk.desk.file.desk.name, reason=reason)
        )
        engine, strategies = await asyncio.gather(
            desk.voices.tell_engine("/v1/halt", {"reason": reason}, timeout_s=10.0),
            desk.voices.tell_strategies("/v1/strategies/halt", {"reason": reason}),
        )
        await recording
        has_engine = desk.roles.engine is not None
        desk.permits.withdraw("halted", f"halted by {actor}")
        verified = not has_engine or engine.get("halted") is True
        why = []
        if not verified:
            why.append(
                f"{engine.why or 'the engine did not confirm'}; its permit runs out within "
                f"{desk.desk.file.permit.ttl:g}s"
            )
        if not strategies.known:
            why.append(strategies.why)
        if not written:
            why.append("the halt could not be written: it ends with this controller")
        return {
            "halted": True,
            "verified": verified and written,
            "engine": "no engine" if not has_engine else "halted" if verified else "unknown",
            "strategies": "halted" if strategies.known else "unknown",
            "why": "; ".join(why),
        }

    async def resume(self, actor: str) -> dict[str, object]:
        """New orders may go on, if nothing speaks against it. Raises RefusedError with `blockers`, and for
        a desk that is locked, which `up` does not let trade either."""
        with self.desk.board.acting():
            return await self._resume(actor)

    async def _resume(self, actor: str) -> dict[str, object]:
        desk = self.desk
        seen = await self.observer.observe()
        blockers = _resume_blockers(seen)
        if blockers:
            raise RefusedError(
                f"not resumed: {'; '.join(blockers)}",
                hint="mend what blocks, then resume again",
                blockers=blockers,
            )
        desk.refuse_locked("not resumed")
        await desk.auditor.record(actor, "desk.resume", desk.desk.file.desk.name)
        # First, as it is refused of a desk that is being closed: its halt is to stay.
        desk.targets.command(DeskCommand.RESUME)
        await asyncio.to_thread(clear_halt, desk.layout.halt)
        if desk.targets.asked is not DeskTarget.TRADING:
            # A closing waits for an act a second at most, and has told the strategies to stop.
            raise ConflictError("not resumed: the desk is being closed", hint="`openbell status`")
        await desk.voices.tell_engine("/v1/resume", timeout_s=10.0)
        await desk.voices.tell_strategies(
            "/v1/strategies/resume", {"reason": f"resumed by {actor}"}
        )
        after = await self.observer.observe()
        return {"resumed": True, "state": str(after.state), "why": after.why}

    async def lock(self, reason: str, actor: str) -> dict[str, object]:
        """Keeps the desk as it is deployed and configured, until a person releases it. A closing's
        lock becomes this person's: the closing does not release it any more. Another person's lock stays
        theirs: whoever released it would not know of a second reason. Raises ConflictError for that,
        StorageError. `was`: the lock that this one takes the place of."""
        desk = self.desk
        was = await asyncio.to_thread(read_lock, desk.layout.lock)
        if was is not None and was.readable and not was.run and was.who != actor:
            raise ConflictError(
                f"not locked again: the desk is {was}",
                hint="it stays locked; ask them, or `openbell unlock` and then lock it yourself",
                locked_by=was.who,
            )
        await desk.auditor.record(actor, "desk.lock", desk.desk.file.desk.name, reason=reason)
        lock = DeskLock(reason, actor, datetime.now(UTC))
        await asyncio.to_thread(set_lock, desk.layout.lock, lock)
        now = await asyncio.to_thread(read_lock, desk.layout.lock)
        return {**lock_row(now), "was": None if was is None else lock_row(was)}

    async def unlock(self, reason: str, actor: str) -> dict[str, object]:
        """Releases the lock, whoever set it; that there was none changes nothing. Raises ConflictError
        while the desk is being closed, StorageError."""
        desk = self.desk
        with desk.board.acting():
            was = await asyncio.to_thread(read_lock, desk.layout.lock)
            if was is not None:
                name = desk.desk.file.desk.name
                await desk.auditor.record(
                    actor, "desk.unlock", name, reason=reason, was=str(was), run=was.run
                )
                await asyncio.to_thread(clear_lock, desk.layout.lock)
        return {"unlocked": was is not None, "was": lock_row(was)}

    async def disable_strategy(self, name: str, reason: str, actor: str) -> dict[str, object]:
        """No new order of this strategy from now on. One that is disabled already stays so by whom it
        was. Raises UsageError, and StorageError where it could not be kept: then it was told to halt."""
        desk = self.desk
        require_declared("strategy", name, "strategies", desk.desk.file.strategies)
        disabled = DisabledStrategies.of(desk.layout)
        if await asyncio.to_thread(disabled.read, name) is not None:
            return await self._strategy_row(name, changed=False)
        halt = Halt(reason or "no reason given", actor, datetime.now(UTC))
        try:
            await asyncio.to_thread(disabled.disable, name, halt)
        except StorageError as error:
            log.error("disabled strategy is not kept on disk", why=error.message, alert=True)
            answer = await desk.voices.tell_strategies(
                "/v1/strategies/halt", {"names": [name], "reason": f"disabled by {actor}"}
            )
            error.message += (
                f"; {name} was told to halt, which ends with its process"
                if answer.known
                else f"; nor could {name} be told to halt: {answer.why}"
            )
            raise
        recorded = await desk.auditor.try_record(actor, "strategy.disable", name, reason=reason)
        return {**await self._strategy_row(name, changed=True), "recorded": recorded}

    async def enable_strategy(self, name: str, reason: str, actor: str) -> dict[str, object]:
        """Its orders are sent again, if the desk lets any through; one that was not disabled is left as
        it is. Raises UsageError, RefusedError while the desk is locked or closing, ConflictError while
        a procedure is under way, StorageError."""
        desk = self.desk
        require_declared("strategy", name, "strategies", desk.desk.file.strategies)
        with desk.board.acting():
            desk.refuse_locked("not enabled")
            if desk.targets.asked is DeskTarget.CLOSING:
                raise RefusedError(
                    "not enabled: the desk is closing",
                    hint="`openbell down` goes on with the closing, `openbell up` opens it again",
                )
            disabled = DisabledStrategies.of(desk.layout)
            was = await asyncio.to_thread(disabled.read, name)
            if was is None:
                return await self._strategy_row(name, changed=False)
            await desk.auditor.record(
                actor, "strategy.enable", name, reason=reason, was=f"disabled {by_whom(was)}"
            )
            await asyncio.to_thread(disabled.enable, name)
            return {**await self._strategy_row(name, changed=True), "recorded": True}

    async def _strategy_row(self, name: str, *, changed: bool) -> dict[str, object]:
        """How it stands by its file, and what its host says, which looks at the file as it is asked.
        The engine's gate need not be told: it looks before each order."""
        now = await asyncio.to_thread(DisabledStrategies.of(self.desk.layout).read, name)
        said, why = await self.desk.voices.strategies()
        return {
            "strategy": name,
            "disabled": now is not None,
            "changed": changed,
            "reason": now.reason if now else "",
            "by": now.who if now else "",
            "since": now.at.isoformat() if now else None,
            "state": next((each.state for each in said or () if each.name == name), None),
            "why": why,
        }

    async def services(
        self, verb: Verb, names: Sequence[str], actor: str, *, force: bool = False
    ) -> dict[str, object]:
        """Carries a verb out on services. What starts gets the secrets as they are set now, unless
        the desk is locked. Raises UsageError, RefusedError, ConflictError, ConfigError."""
        desk = self.desk
        desk.require_known(list(names))
        with desk.board.acting():
            return await self._carry_out(verb, names, actor, force)

    async def _carry_out(
        self, verb: Verb, names: Sequence[str], actor: str, force: bool
    ) -> dict[str, object]:
        desk = self.desk
        carry_out: Callable[[Sequence[str]], Awaitable[list[dict[str, object]]]]
        more: dict[str, object] = {}
        if verb in ("start", "restart") and read_lock(desk.layout.lock) is None:
            desk.reload_secrets()
        match verb:
            case "start":
                carry_out = self._start
            case "stop":
                self._refuse_needed(names, force)
                carry_out = self._stop
            case "restart":
                carry_out = self._restart if force else self._restart_tried
            case "reload":
                desk.refuse_locked("nothing is reloaded")
                carry_out = self._reload
                more["desk_file_changed"] = await desk.reload_desk_file()
                desk.require_known(list(names))
        detail = {"services": list(names), "force": force}
        if verb == "stop":
            await desk.auditor.try_record(actor, "service.stop", ", ".join(names), **detail)
        else:
            await desk.auditor.record(actor, f"service.{verb}", ", ".join(names), **detail)
        return {"results": await carry_out(names), **more}

    async def _start(self, names: Sequence[str]) -> list[dict[str, object]]:
        """With their dependencies, each as soon as its own are ready."""
        deps = self._deps()
        results: list[dict[str, object]] = []
        chosen = with_dependencies(deps, names)
        ready: dict[str, bool] = {}
        for wave in start_order(deps):
            startable = [
                name for name in wave if name in chosen and all(ready[d] for d in deps[name])
            ]
            blocked = [name for name in wave if name in chosen and name not in startable]
            for result in await asyncio.gather(*map(self.desk.supervisor.start, startable)):
                ready[result.service] = result.ready
                results.append(_started(result))
            for name in blocked:
                ready[name] = False
                missing = ", ".join(each for each in deps[name] if not ready[each])
                results.append(_blocked(name, f"not started because {missing} is not ready"))
        return results

    async def _stop(self, names: Sequence[str]) -> list[dict[str, object]]:
        results: list[dict[str, object]] = []
        for wave in stop_order(self._deps()):
            stopping = [name for name in wave if name in names]
            ended = await asyncio.gather(
                *(self.desk.supervisor.stop(name, reason="asked to stop") for name in stopping)
            )
            results.extend(map(_stopped, ended))
        return results

    async def _restart_tried(self, names: Sequence[str]) -> list[dict[str, object]]:
        """What a trial refuses is not stopped: it goes on with its old code."""
        tried = await asyncio.gather(*map(self.desk.supervisor.trial, names))
        refused = {each.service: each for each in tried if each.refused}
        restarted = await self._restart([name for name in names if name not in refused])
        return [*map(_refused, refused.values()), *restarted]

    async def _restart(self, names: Sequence[str]) -> list[dict[str, object]]:
        """Dependents stay up: they see the service go and come, as they would in a crash."""
        stopped = {str(each["service"]): each for each in await self._stop(names)}
        results = await self._start([name for name in names if stopped[name]["ok"]])
        failed = [each for each in stopped.values() if not each["ok"]]
        return [*failed, *(each for each in results if each["service"] in names)]

    async def _reload(self, names: Sequence[str]) -> list[dict[str, object]]:
        results: list[dict[str, object]] = []
        for name in names:
            reason = ""
            try:
                await self.desk.supervisor.reload(name)
            except OpenbellError as error:
                reason = error.message
            results.append(
                {
                    "service": name,
                    "ok": not reason,
                    "outcome": "failed" if reason else "signalled",
                    "seconds": 0.0,
                    "reason": reason,
                    "log_tail": [],
                }
            )
        return results

    def _refuse_needed(self, names: Sequence[str], force: bool) -> None:
        running = {name for name, state in self.desk.states.items() if state.is_running}
        needing = (with_dependents(self._deps(), names) - set(names)) & running
        if needing and not force:
            raise RefusedError(
                f"{', '.join(sorted(needing))} "
                + ("depends on" if len(needing) == 1 else "depend on")
                + f" {', '.join(names)} and "
                + ("runs" if len(needing) == 1 else "run"),
                hint="stop them too, or use --force",
                dependents=sorted(needing),
            )

    def _deps(self) -> dict[str, tuple[str, ...]]:
        return {name: each.depends_on for name, each in self.desk.desk.file.services.items()}

    async def save_checkpoint(
        self, level: Literal["complete", "quick"], verify: bool, path: str | None, actor: str
    ) -> dict[str, object]:
        """Raises FailedError, RefusedError, StorageError, CorruptError."""
        desk = self.desk
        info = await save_checkpoint(
            desk.desk,
            desk.layout,
            desk.voices,
            desk.redactor,
            level=level,
            path=None if path is None else Path(path),
            verify=verify,
            facts={"actor": actor},
        )
        desk.auditor.note("checkpoint.saved", str(info.path), actor=actor, crc64=info.crc64)
        return {**info.as_dict(), "verified": verify}

    async def checkpoints(self) -> dict[str, object]:
        found = await asyncio.to_thread(list_checkpoints, self.desk.layout.checkpoints)
        return {
            "checkpoints": [
                each.as_dict()
                if isinstance(each, CheckpointInfo)
                else {"level": None, **each.as_dict()}
                for each in found
            ]
        }

    def refuse_exit(self, detach: bool) -> None:
        """Raises RefusedError while services run, unless they are to go on without a controller."""
        running = [name for name, state in self.desk.states.items() if state.is_running]
        if not detach:
            self.desk.board.refuse_second()
        if running and not detach:
            raise RefusedError(
                f"services run: {', '.join(running)}",
                hint="close the desk with `openbell down`, or detach: they go on without a controller",
            )


def _resume_blockers(seen: Seen) -> list[str]:
    """What an engine that does not answer would have said is not taken for bad: it is not known,
    and that it does not answer is said once."""
    if not seen.engine_silent:
        return resume_blockers(seen.services, seen.venues, seen.desk)
    untold = replace(seen.desk, reconciled=True, in_doubt=0, journal_ok=True)
    told = resume_blockers(seen.services, (), untold)
    return [*told, f"the engine does not answer: {seen.engine_silent}"]


def _started(result: StartResult) -> dict[str, object]:
    return {
        "service": result.service,
        "ok": result.ready,
        "outcome": "ready" if result.ready else "failed",
        "seconds": round(result.seconds, 3),
        "reason": result.reason,
        "log_tail": list(result.log_tail),
    }


def _refused(result: TrialResult) -> dict[str, object]:
    reason = f"a trial of its new code failed and the old one goes on: {result.refused}"
    return {
        "service": result.service,
        "ok": False,
        "outcome": "refused",
        "seconds": round(result.seconds, 3),
        "reason": reason,
        "log_tail": list(result.log_tail),
    }


def _blocked(service: str, reason: str) -> dict[str, object]:
    return {
        "service": service,
        "ok": False,
        "outcome": "not_started",
        "seconds": 0.0,
        "reason": reason,
        "log_tail": [],
    }


def _stopped(result: StopResult) -> dict[str, object]:
    return {
        "service": result.service,
        "ok": result.stopped,
        "outcome": "stopped" if result.stopped else "failed",
        "seconds": round(result.seconds, 3),
        "reason": "" if result.stopped else f"pids {list(result.survivors)} outlived SIGKILL",
        "log_tail": [],
        "exit_status": result.exit_status,
        "rungs": [
            {"action": r.action, "seconds": round(r.seconds, 3), "outcome": r.outcome}
            for r in result.rungs
        ],
    }
