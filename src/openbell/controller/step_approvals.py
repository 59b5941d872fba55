"""Steps that wait for people: for the approvals that the desk file asks for, or for somebody's word
whether the run goes on after a step that was not verified.

A request is bound to its run, its step and what the run was asked for; it is in the desk database, and
so are the approvals given, so a controller that is killed while a step waits forgets neither. Where the
database cannot be written the step waits all the same, and the request lives in this process alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from openbell.controller.approving import as_request, as_stored
from openbell.controller.desk import ControlledDesk
from openbell.controller.run_board import LiveRun
from openbell.domain.approval_reason import why_approved
from openbell.domain.approvals import (
    GO_ON_ACT,
    STEP_ACT,
    ActRequest,
    has_one_of,
    may_not_approve_step,
    missing_roles,
)
from openbell.errors import OpenbellError, RefusedError, StorageError, UsageError
from openbell.procedures.command_step import CommandStep
from openbell.procedures.declared import Procedure
from openbell.procedures.run import NOT_APPROVED
from openbell.procedures.settings import approvals_of, inner_of
from openbell.procedures.step import Plan, Step, Verification
from openbell.service.logging import get_logger

log = get_logger()

REQUESTS_READ = 200
"""Of an earlier controller: the newest of all kinds."""
_LOOK_EVERY_S = 0.2
"""Whether the request has expired, or the run was cancelled; an approval is heard at once."""
_LOOK_S = 30.0
"""For a step to observe whether it has anything to do; it observes once more when it begins."""


@dataclass
class _Waiting:
    request: ActRequest
    approvers: list[str]
    heard: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class StepApprovals:
    """Of one desk's runs."""

    desk: ControlledDesk
    clock_ns: Callable[[], int] = time.monotonic_ns
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    """By request."""

    async def restore(self) -> None:
        """What was asked for under an earlier controller, and who had approved. Of acts that are no
        steps, `controller.approving` reads its own."""
        store = await self.desk.database.requests()
        expire_after = self.desk.desk.file.approvals.expire_after
        for each in await asyncio.to_thread(store.newest, REQUESTS_READ):
            if each.act in (STEP_ACT, GO_ON_ACT) and not each.used:
                request = as_request(each, self.clock_ns(), expire_after)
                approvers = [given.approver for given in each.approvals]
                self._waiting.setdefault(each.id, _Waiting(request, approvers))

    # --- for the run ---------------------------------------------------------------------------------

    async def gate(self, run: LiveRun, procedure: Procedure, step: Step[Any, Any]) -> str:
        """Waits until everybody who must has approved this step. Why it may not begin; empty where
        it may. Nobody is asked for a step of a closing that has nothing to do, or can do nothing: it may
        begin, and not act (`may_act`). An opening trades by what is said before its steps begin."""
        if not approvals_of(step) or (procedure.name == "close" and await _is_idle(step)):
            return ""
        return await self.leave(run, procedure, step)

    def may_act(self, run: LiveRun, procedure: Procedure, step: Step[Any, Any]) -> bool:
        """Whether all that it needs was given to this very step, under this controller."""
        return not approvals_of(step) or _digest_of(run, procedure, step) in run.approved

    async def leave(self, run: LiveRun, procedure: Procedure, step: Step[Any, Any]) -> str:
        """As `gate`, of a step that has something to do."""
        roles = approvals_of(step)
        what = _digest_of(run, procedure, step)
        waiting = await self._request(run, STEP_ACT, step.name, what, roles)
        count = f"{len(roles)} approvals" if len(roles) > 1 else "an approval"
        until = f"until {waiting.request.expires_at:%H:%M:%S} UTC"
        who = self._who_may(waiting)
        told = f"{step.title} waits {until} for {count} ({', '.join(roles)}), which {who} may give"
        if await self._heard(run, waiting, told):
            run.approved[what] = step.name, tuple(waiting.approvers)
            return ""
        if run.cancelled_by:
            return f"cancelled by {run.cancelled_by} while it waited"
        left = missing_roles(roles, waiting.approvers, self.desk.desk.file.approvals)
        return f"{NOT_APPROVED}: {', '.join(left)} did not"

    def given(self, run: LiveRun) -> dict[str, tuple[str, ...]]:
        """By step of this run: who approved it, under an earlier controller too."""
        earlier = {
            each.request.parameters["step"][0]: tuple(each.approvers)
            for each in self._waiting.values()
            if each.request.act == STEP_ACT
            and each.request.parameters["run"] == (run.id,)
            and self._complete(each)
        }
        return earlier | dict(run.approved.values())

    def forget(self, run: str) -> None:
        """It is over: nothing of it waits any more, and what was approved of it counts nowhere else."""
        over = [
            name for name, each in self._waiting.items() if each.request.parameters["run"] == (run,)
        ]
        for name in over:
            del self._waiting[name]

    async def gone_on_with(self, run: str, actor: str) -> None:
        """Who goes on with a run has asked for it too, and approves none of its steps from now on:
        neither those that wait already, nor under a later controller. What others approved stays."""
        for waiting in list(self._waiting.values()):
            request = waiting.request
            asked = request.parameters["requesters"]
            if request.parameters["run"] != (run,) or has_one_of(asked, (actor,)):
                continue
            parameters = {**request.parameters, "requesters": (*asked, actor)}
            waiting.request = replace(request, parameters=parameters)
            try:
                store = await self.desk.database.requests()
                await asyncio.to_thread(store.bind, request.id, parameters)
            except StorageError as error:
                log.error("who asked is not kept on disk", why=error.message, alert=True)

    async def goes_on(
        self, run: LiveRun, procedure: Procedure, step: str, found: Verification
    ) -> bool:
        """A person's word; False without one."""
        what = _digest({"outcome": str(found.outcome), "detail": found.detail})
        waiting = await self._request(run, GO_ON_ACT, step, what, ("operator",))
        question = f"{step} is {found.outcome} ({found.detail}): does {run.id} go on?"
        return await self._heard(run, waiting, question)

    async def _request(
        self, run: LiveRun, act: str, step: str, what: str, roles: tuple[str, ...]
    ) -> _Waiting:
        """The request for this very step, which an earlier controller may have made already."""
        bound = {
            "run": (run.id,), "step": (step,), "what": (what,), "roles": roles,
            "requesters": tuple(dict.fromkeys((run.begun_by or run.actor, run.actor))),
        }  # fmt: skip
        of_the_step = {
            name: each
            for name, each in self._waiting.items()
            if each.request.act == act and _agree(each.request, bound, "run", "step")
        }
        for each in of_the_step.values():
            request = each.request
            if (
                _agree(request, bound, "what", "roles")
                and self.clock_ns() < request.expires_mono_ns
            ):
                asked = (*request.parameters["requesters"], *bound["requesters"])
                if act == GO_ON_ACT or not has_one_of(each.approvers, asked):
                    return each
        # What was asked of it before, of another act or out of time, is not waited for any more.
        for name in of_the_step:
            del self._waiting[name]
        rules = self.desk.desk.file.approvals
        now = datetime.now(UTC)
        request = ActRequest(
            id=secrets.token_hex(4), act=act, parameters=bound, reason=run.reason,
            asked_by=run.actor, asked_at=now,
            expires_at=now + timedelta(seconds=rules.expire_after),
            expires_mono_ns=self.clock_ns() + int(rules.expire_after * 1e9),
        )  # fmt: skip
        try:
            store = await self.desk.database.requests()
            await asyncio.to_thread(store.add, as_stored(request))
        except StorageError as error:
            log.error("a request is not kept on disk", why=error.message, alert=True)
        self._waiting[request.id] = waiting = _Waiting(request, [])
        return waiting

    async def _heard(self, run: LiveRun, waiting: _Waiting, told: str) -> bool:
        """False: it expired, or the run was cancelled."""
        request = waiting.request
        step = request.parameters["step"][0]
        if not self._complete(waiting):
            run.emit(
                {
                    "event": "waiting",
                    "step": step,
                    "message": f"{told}: openbell procedure approve {run.id} {step} --reason WHY",
                    "request": self._as_dict(waiting),
                }
            )
        while not self._complete(waiting):
            if run.cancelled_by or self.clock_ns() >= request.expires_mono_ns:
                self._waiting.pop(request.id, None)
                return False
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await waiting.heard.wait()
            except TimeoutError:
                continue
            waiting.heard.clear()
        return True

    def _complete(self, waiting: _Waiting) -> bool:
        roles = tuple(waiting.request.parameters["roles"])
        if waiting.request.act == GO_ON_ACT:
            return bool(waiting.approvers)
        return not missing_roles(roles, waiting.approvers, self.desk.desk.file.approvals)

    # --- for people ----------------------------------------------------------------------------------

    def waiting_for(self, run: str) -> list[dict[str, object]]:
        """What waits for people, of one run."""
        return [
            self._as_dict(each)
            for each in self._waiting.values()
            if each.request.parameters["run"] == (run,)
            and not self._complete(each)
            and self.clock_ns() < each.request.expires_mono_ns
        ]

    def why_not(self, request_id: str, actor: str) -> str:
        """Why this person's approval would not count; empty where it would, as things are now."""
        waiting = self._waiting.get(request_id)
        if waiting is None:
            return "it does not wait any more"
        request = waiting.request
        return may_not_approve_step(
            request, actor, request.digest, self.desk.desk.file.approvals, waiting.approvers,
            now_mono_ns=self.clock_ns(),
        )  # fmt: skip

    def _may_approve(self, waiting: _Waiting) -> list[str]:
        """Those who are named and whose approval would count now."""
        request, rules = waiting.request, self.desk.desk.file.approvals
        return [
            name
            for name in rules.people
            if not may_not_approve_step(
                request, name, request.digest, rules, waiting.approvers, now_mono_ns=self.clock_ns()
            )
        ]

    def _who_may(self, waiting: _Waiting) -> str:
        if not self.desk.desk.file.approvals.people:
            asked = " or ".join(waiting.request.parameters["requesters"])
            return f"anybody but {asked}"
        return ", ".join(self._may_approve(waiting)) or "nobody who is named"

    def _as_dict(self, waiting: _Waiting) -> dict[str, object]:
        request = waiting.request
        live = self.desk.board.find(request.parameters["run"][0])
        return {
            "id": request.id,
            "kind": "go_on" if request.act == GO_ON_ACT else "approval",
            "run": request.parameters["run"][0],
            "step": request.parameters["step"][0],
            "roles": list(request.parameters["roles"]),
            "requesters": list(request.parameters["requesters"]),
            "approved_by": list(waiting.approvers),
            "may_approve": self._may_approve(waiting),
            "reason": request.reason,
            "asked": request.asked_at.isoformat(),
            "expires": request.expires_at.isoformat(),
            "digest": request.digest,
            "parameters": None if live is None or live.is_over else dict(live.parameters),
        }

    async def approve(
        self, run: str, step: str, digest: str, reason: str, actor: str, number: int
    ) -> dict[str, object]:
        """Counts one person's approval; recorded before it counts. Raises UsageError where nothing of that
        step waits and for an approval without a reason, RefusedError where it does not count,
        StorageError."""
        reason = why_approved(reason)
        found = [
            each
            for each in self._waiting.values()
            if each.request.parameters["run"] == (run,)
            and each.request.parameters["step"] == (step,)
            and not self._complete(each)
        ]
        if not found:
            raise UsageError(
                f"nothing of {run} waits for an approval of {step}",
                hint=f"`openbell procedure status {run}` shows what waits",
            )
        waiting = found[-1]
        request = waiting.request
        problem = may_not_approve_step(
            request, actor, digest, self.desk.desk.file.approvals, waiting.approvers,
            now_mono_ns=self.clock_ns(),
        )  # fmt: skip
        detail: dict[str, Any] = {
            "step": step, "request": request.id, "digest": digest, "reason": reason,
            "roles": list(request.parameters["roles"]),
        }  # fmt: skip
        if problem:
            await self.desk.auditor.try_record(
                actor, "run.approval_refused", run, why=problem, **detail
            )
            raise RefusedError(
                f"not approved: {problem}",
                hint=f"{self._who_may(waiting)} may, until {request.expires_at:%H:%M:%S} UTC",
                request=request.id,
            )
        await self.desk.auditor.record(actor, "run.step_approved", run, **detail)
        await self._keep(waiting, actor, reason, number, detail)
        waiting.approvers.append(actor)
        waiting.heard.set()
        live = self.desk.board.find(run)
        if live is not None and not live.is_over:
            left = missing_roles(
                tuple(request.parameters["roles"]), waiting.approvers,
                self.desk.desk.file.approvals,
            )  # fmt: skip
            more = f", {', '.join(left)} still to come" if not self._complete(waiting) else ""
            told = f"{step} was approved by {actor}{more}: {reason}"
            live.emit({"event": "approved", "step": step, "message": told, "by": actor,
                "request": None if self._complete(waiting) else self._as_dict(waiting),
            })  # fmt: skip
        return {"approved": True, "complete": self._complete(waiting), **self._as_dict(waiting)}

    async def _keep(
        self, waiting: _Waiting, actor: str, reason: str, number: int, detail: Mapping[str, Any]
    ) -> None:
        try:
            store = await self.desk.database.requests()
            await asyncio.to_thread(store.approve, waiting.request.id, actor, reason)
            if number:
                step = str(detail["step"])
                await self.desk.database.note(number, actor, "step.approved", step, detail)
        except OpenbellError as error:
            # It is in the audit log; a closing must not wait for a disk.
            log.error("an approval is not kept on disk", why=error.message, alert=True)


async def _is_idle(step: Step[Any, Any]) -> bool:
    """Whether it has nothing to do, or can do nothing, as it looks now; what cannot be seen is not."""
    try:
        async with asyncio.timeout(min(step.timeout_s, _LOOK_S)):
            plan: Plan[Any] = step.plan(await step.observe())
    except (OpenbellError, TimeoutError):
        return False
    except Exception:
        log.exception("defect in a step", step=step.name)
        return False
    return not plan.does_something


def _agree(request: ActRequest, bound: Mapping[str, tuple[str, ...]], *keys: str) -> bool:
    return all(tuple(request.parameters.get(key, ())) == bound[key] for key in keys)


def _digest_of(run: LiveRun, procedure: Procedure, step: Step[Any, Any]) -> str:
    """Of everything that makes it this step of this run, and no other act."""
    inner = inner_of(step)
    # Why it is asked for is no part of it: who goes on with a run may give another reason, or none.
    parameters = {name: value for name, value in run.parameters.items() if name != "reason"}
    own = inner.extra.model_dump(mode="json") if isinstance(inner, CommandStep) else None
    return _digest(
        {
            "run": run.id, "procedure": procedure.name, "version": procedure.version,
            "step": step.name, "parameters": parameters, "own": own,
        }
    )  # fmt: skip


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, enc_hook=str, order="sorted")).hexdigest()
