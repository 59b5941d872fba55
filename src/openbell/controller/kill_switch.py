"""The kill switch over the API: set at once by anybody, released by people who say why.

Setting: the latch is on the disk before anything else is done or asked; what fails afterwards is
told and takes nothing back. Releasing adds risk, so each step must be recorded before it is done,
and where the desk file asks for a second person it waits for one (`controller.approving`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from openbell.controller.approving import Approving
from openbell.controller.desk import ControlledDesk
from openbell.domain.approvals import ActRequest
from openbell.domain.kill_rules import Rule
from openbell.domain.scopes import DESK, Scope, latched_told, parse_scopes, undeclared
from openbell.errors import ConflictError, OpenbellError, StorageError, UsageError
from openbell.kill.guard_client import GuardGoneError, GuardRefusedError, ask_guard
from openbell.service.logging import get_logger
from openbell.state.halts import Halt
from openbell.state.kill_log import append_act
from openbell.state.latch import Latch, Setting, latches_document

log = get_logger()

DEACTIVATE = "kill-switch-deactivate"
"""As `[approvals] needed_for` names it."""
ENGINE_TIMEOUT_S = 1.0
"""How long an engine may take to confirm a latch which it obeys without being asked."""


@dataclass
class KillSwitch:
    """One desk's kill switch, as the controller serves it."""

    desk: ControlledDesk
    # Threads of its own: a disk that hangs under other writes must not keep the latch waiting.
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="kill-switch")
    )

    def __post_init__(self) -> None:
        self.approving = Approving(
            self.desk,
            DEACTIVATE,
            "kill_switch.deactivation_asked",
            "kill_switch.approval_refused",
            "kill_switch.approved",
        )

    def document(self) -> dict[str, Any]:
        """`GET /api/v1/kill-switch`, as docs/reference/api.md shows it."""
        return {
            **latches_document(self._latches.read()),
            "approval": self.approving.rules_document(),
            "requests": [each.as_dict() for each in self.approving.waiting()],
        }

    async def rules(self) -> list[dict[str, object]]:
        """What sets it without a person, as those who judge the rules tell it: of a rule that
        nobody tells of, `state` is `unknown`."""
        declared = self.desk.desk.file.kill_switch.rules
        wanted = [rule for rule in Rule if getattr(declared, rule) is not None]
        found: list[dict[str, object]] = []
        why = "not judged yet"
        if declared.of_risk:
            answer = await self.desk.voices.ask(
                self.desk.roles.risk, "/v1/kill-rules", timeout_s=ENGINE_TIMEOUT_S
            )
            found += answer.get("rules") or ()
            why = answer.why or why
        why_of = dict.fromkeys(wanted, why)
        if declared.heartbeat_lost is not None:
            rows, why_of[Rule.HEARTBEAT_LOST] = await self._by_guard()
            found += rows
        told = {each["rule"] for each in found}
        return found + [
            {
                "rule": str(rule), "scope": "", "state": "unknown", "value": None,
                "limit": "", "since_ns": None, "text": why_of[rule],
            }
            for rule in wanted
            if rule not in told
        ]  # fmt: skip

    async def _by_guard(self) -> tuple[list[dict[str, object]], str]:
        """The rows of the guard, and why there are none."""
        try:
            async with asyncio.timeout(ENGINE_TIMEOUT_S):
                async for said in ask_guard(self.desk.layout, {"do": "status"}):
                    if said.get("final") is True:
                        return list(said.get("kill_rules") or ()), "not judged yet"
        except (GuardGoneError, GuardRefusedError, TimeoutError) as error:
            return [], f"the guard does not answer: {error}"
        return [], "the guard does not answer"

    # --- setting -----------------------------------------------------------------------------

    async def activate(
        self, scopes: Sequence[str], reason: str, actor: str, set_already: Sequence[str] = ()
    ) -> dict[str, object]:
        """Latches. `set_already`: ids of latches that the caller has set itself; they are told and
        recorded, not set again.

        Raises UsageError for what is no scope of this desk, and StorageError where no latch could
        be made; the engine was then told to halt.
        """
        wanted = self._scopes(scopes, declared=True)
        setting = self._found(set_already) or await self._set(wanted, reason, actor)
        if any(latch.scope == DESK for latch in setting.latches):
            self.desk.permits.withdraw("latched", f"the kill switch was set by {actor}")
        log.critical("kill switch set", scopes=[str(s) for s in wanted], by=actor, alert=True)
        detail: dict[str, object] = {
            "scopes": [str(scope) for scope in wanted],
            "reason": reason,
            "latches": [latch.id for latch in setting.latches],
        }
        recorded, (engine, why) = await asyncio.gather(
            self._record_surely(actor, "kill_switch.activate", detail),
            self._confirmed({latch.scope for latch in setting.latches}),
        )
        return {
            "activated": True,
            "scopes": [str(scope) for scope in wanted],
            "latches": [latch.as_dict() for latch in setting.latches],
            "durable": setting.durable,
            "problems": list(setting.problems),
            "recorded": recorded,
            "engine": engine,
            "why": why,
        }

    async def _set(self, wanted: Sequence[Scope], reason: str, actor: str) -> Setting:
        halt = Halt(reason or "no reason given", actor, datetime.now(UTC))
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._latches.set, wanted, halt
            )
        except StorageError as error:
            told = await self.desk.voices.tell_engine(
                "/v1/halt", {"reason": f"kill switch: {reason}"}, timeout_s=10.0
            )
            stopped = "halted instead" if told.get("halted") is True else "not known to be halted"
            raise StorageError(
                f"the kill switch could not be latched: {error.message}; the engine is {stopped}",
                hint="stop the desk with `openbell down`, and look at the venue",
            ) from error

    def _found(self, ids: Sequence[str]) -> Setting | None:
        """The latches with these ids, if all of them are there."""
        there = {latch.id: latch for latch in self._latches.read()}
        if not ids or not all(each in there for each in ids):
            return None
        return Setting(tuple(there[each] for each in ids))

    async def _confirmed(self, scopes: set[Scope]) -> tuple[str, str]:
        """Whether the engine says that it sees these latches, and why it is not known."""
        desk = self.desk
        engine = desk.roles.engine
        if engine is None:
            return "no engine", ""
        if not desk.states[engine].is_running:
            return "not running", ""
        answer = await desk.voices.ask_engine("/v1/state", timeout_s=ENGINE_TIMEOUT_S)
        seen = answer.get("latch")
        if isinstance(seen, dict) and {str(s) for s in scopes} <= set(seen.get("scopes", ())):
            return "confirmed", ""
        return "unknown", answer.why or "the engine does not tell of this latch"

    # --- releasing ---------------------------------------------------------------------------

    async def deactivate(
        self, scopes: Sequence[str], reason: str, actor: str, shown: Sequence[str] | None
    ) -> dict[str, object]:
        """Releases, or asks for the approval that it takes: then `deactivated` is false and
        `request` is what another person approves.

        `shown`: ids of what the caller was shown. Raises UsageError for a scope that is not
        latched, ConflictError where another latch was set since, RefusedError for who may not ask.
        """
        wanted = self._scopes(scopes, declared=False)
        reason = reason.strip()
        if not reason:
            raise UsageError("a release needs a reason", hint="say why the kill switch may go")
        latches = self._latched(wanted)
        if shown is not None and {latch.id for latch in latches} != set(shown):
            raise ConflictError(
                "what is latched has changed since you looked",
                hint="look with `openbell kill-switch status`, then ask again",
            )
        if self.approving.needed:
            return await self._ask(wanted, latches, reason, actor)
        return await self._release(wanted, latches, reason, actor)

    async def approve(
        self, request_id: str, digest: str, reason: str, actor: str
    ) -> dict[str, object]:
        """Approves and carries out. Raises UsageError for a request that is not known and for
        an approval without a reason, RefusedError where it does not count."""
        latches: list[Latch] = []

        def changed(request: ActRequest) -> str:
            scopes = request.parameters["scopes"]
            latches.extend(each for each in self._latches.read() if str(each.scope) in scopes)
            if {latch.id for latch in latches} == set(request.parameters["latches"]):
                return ""
            return f"what is latched has changed since {request.asked_by} asked"

        request = await self.approving.approve(request_id, digest, actor, reason, changed)
        return await self._release(
            parse_scopes(request.parameters["scopes"]), latches, request.reason, request.asked_by,
            approved_by=actor, request=request.id,
        )  # fmt: skip

    async def _ask(
        self, wanted: tuple[Scope, ...], latches: list[Latch], reason: str, actor: str
    ) -> dict[str, object]:
        bound_to = {
            "scopes": tuple(str(scope) for scope in wanted),
            "latches": tuple(latch.id for latch in latches),
        }
        request = await self.approving.ask(bound_to, reason, actor)
        return {"deactivated": False, "request": request.as_dict()}

    async def _release(
        self,
        wanted: Sequence[Scope],
        latches: list[Latch],
        reason: str,
        actor: str,
        *,
        approved_by: str = "",
        request: str = "",
    ) -> dict[str, object]:
        detail: dict[str, object] = {
            "scopes": [str(scope) for scope in wanted],
            "reason": reason,
            "released": [latch.as_dict() for latch in latches],
            "approved_by": approved_by,
            "request": request,
        }
        await self.desk.auditor.record(
            actor, "kill_switch.deactivate", ", ".join(map(str, wanted)), **detail
        )
        word = Halt(f"the kill switch was released: {reason}", actor, datetime.now(UTC))
        halted = await asyncio.to_thread(self._latches.release_to_halt, latches, word)
        log.warning("kill switch released", by=actor, approved_by=approved_by, reason=reason)
        return {
            "deactivated": True,
            "scopes": detail["scopes"],
            "released": [latch.id for latch in latches],
            "approved_by": approved_by,
            "halted": halted,
            "still": latches_document(self._latches.read())["scopes"],
        }

    # --- inside ------------------------------------------------------------------------------

    @property
    def _latches(self) -> Any:
        return self.desk.targets.latches

    def _scopes(self, texts: Sequence[str], *, declared: bool) -> tuple[Scope, ...]:
        try:
            scopes = parse_scopes(texts)
        except ValueError as error:
            raise UsageError(str(error)) from None
        problems = list(undeclared(scopes, self.desk.desk.file)) if declared else []
        if problems:
            raise UsageError("; ".join(problems))
        return scopes

    def _latched(self, wanted: Sequence[Scope]) -> list[Latch]:
        """Raises UsageError where one of these is not latched."""
        found: list[Latch] = [each for each in self._latches.read() if each.scope in wanted]
        missing = set(wanted) - {latch.scope for latch in found}
        if missing:
            names = ", ".join(str(scope) for scope in sorted(missing))
            there = sorted({latch.scope for latch in self._latches.read()})
            raise UsageError(f"not latched: {names}", hint=latched_told(there))
        return found

    async def _record_surely(self, actor: str, action: str, detail: dict[str, object]) -> bool:
        """In the audit log, else in the kill switch's own. False: in neither."""
        subject = ", ".join(map(str, detail["scopes"]))  # type: ignore[call-overload]
        if await self.desk.auditor.try_record(actor, action, subject, **detail):
            return True
        try:
            await asyncio.to_thread(
                append_act, self.desk.layout.kill_switch_log, actor, action, detail
            )
        except OpenbellError as error:
            log.error("an act on the kill switch is recorded nowhere", why=error.message)
            return False
        return True
