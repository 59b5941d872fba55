"""Requests that wait for a second person's approval, of one act each (`domain.approvals`).

They are kept in the desk database, so a controller that ends forgets none: the next one reads those
that still wait. What an act is bound to, its parameters, is part of the request; whether that is still
so when it is approved is for the act itself to say.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from openbell.config.nearest import nearest
from openbell.controller.desk import ControlledDesk
from openbell.domain.approval_reason import why_approved
from openbell.domain.approvals import (
    ActRequest,
    may_not_approve,
    may_not_take_part,
    nobody_may_approve,
)
from openbell.errors import RefusedError, UsageError
from openbell.runtime.processes import system_processes

if TYPE_CHECKING:
    from openbell.state.requests import StoredRequest

REQUESTS_KEPT = 64
"""Requests that were used or have expired are remembered, to say so; the oldest go first. One that
waits is never forgotten for a newer one's sake: where so many wait, no further one is taken."""


@dataclass
class _Pending:
    request: ActRequest
    used: bool = False


@dataclass
class Approving:
    """The requests of one kind of act."""

    desk: ControlledDesk
    act: str
    """As `[approvals] needed_for` names it."""
    asked_action: str
    refused_action: str
    approved_action: str
    """What the audit log calls a request, an approval that did not count, and one that did."""
    clock_ns: Callable[[], int] = time.monotonic_ns
    """What counts for expiry here: a clock that is set back prolongs nothing."""
    where_nobody_may: str = "name another person in [approvals] people"
    """What mends it that nobody may approve."""
    _requests: dict[str, _Pending] = field(default_factory=dict)

    @property
    def needed(self) -> bool:
        return self.act in self.desk.desk.file.approvals.acts

    def rules_document(self) -> dict[str, object]:
        rules = self.desk.desk.file.approvals
        return {
            "needed": self.needed,
            "expire_after_s": rules.expire_after,
            "people": {name: list(roles) for name, roles in rules.people.items()},
        }

    def restore(self, stored: Iterable[StoredRequest]) -> None:
        """What an earlier controller was asked for."""
        for each in stored:
            if each.act == self.act:
                request = as_request(
                    each, self.clock_ns(), self.desk.desk.file.approvals.expire_after
                )
                self._requests.setdefault(each.id, _Pending(request, each.used))

    def waiting(self) -> list[ActRequest]:
        now_ns = self.clock_ns()
        return [
            each.request
            for each in self._requests.values()
            if not each.used and now_ns < each.request.expires_mono_ns
        ]

    def why_not(self, request: ActRequest, actor: str) -> str:
        """Why this person's approval would not count; empty where it would, as things are now."""
        rules = self.desk.desk.file.approvals
        return may_not_approve(
            request, actor, request.digest, rules, now_mono_ns=self.clock_ns(), used=False
        )

    async def ask(
        self, parameters: Mapping[str, tuple[str, ...]], reason: str, actor: str
    ) -> ActRequest:
        """The request, made or found where this person asked for the same before. It is in the
        audit log first. Raises RefusedError for who may not ask,
        and where too many wait already."""
        rules = self.desk.desk.file.approvals
        if problem := may_not_take_part(actor, rules):
            raise RefusedError(f"not asked for: {problem}")
        if problem := nobody_may_approve(actor, rules):
            raise RefusedError(f"not asked for: {problem}", hint=self.where_nobody_may)
        same = (dict(parameters), reason, actor)
        for each in self.waiting():
            if (dict(each.parameters), each.reason, each.asked_by) == same:
                return each
        if len(self.waiting()) >= REQUESTS_KEPT:
            raise RefusedError(
                f"not asked for: {REQUESTS_KEPT} requests wait for an approval already",
                hint="approve one, or wait until one expires "
                f"({rules.expire_after:g} s after it was asked for)",
            )
        now = datetime.now(UTC)
        request = ActRequest(
            id=secrets.token_hex(4),
            act=self.act,
            parameters=dict(parameters),
            reason=reason,
            asked_by=actor,
            asked_at=now,
            expires_at=now + timedelta(seconds=rules.expire_after),
            expires_mono_ns=self.clock_ns() + int(rules.expire_after * 1e9),
        )
        await self.desk.auditor.record(actor, self.asked_action, request.id, **request.as_dict())
        store = await self.desk.database.requests()
        await asyncio.to_thread(store.add, as_stored(request))
        self._requests[request.id] = _Pending(request)
        self._forget_old()
        return request

    def _forget_old(self) -> None:
        waiting = {request.id for request in self.waiting()}
        over = [name for name in self._requests if name not in waiting]
        for name in over[: max(0, len(self._requests) - REQUESTS_KEPT)]:
            del self._requests[name]

    async def approve(
        self,
        request_id: str,
        digest: str,
        actor: str,
        reason: str,
        changed: Callable[[ActRequest], str] = lambda _: "",
    ) -> ActRequest:
        """The request, which counts as approved from now on and is to be carried out at once.

        `reason`: of who approves. `changed`: why it is not the same act any more; empty where it is.
        Raises UsageError for a request that is not known and for an approval without a reason,
        RefusedError where this approval does not count, and what the audit log raises: an approval that
        is not recorded does not count.
        """
        reason = why_approved(reason)
        pending = self._requests.get(request_id)
        if pending is None:
            raise UsageError(
                f'there is no request "{request_id}"',
                hint="it may have been one of long ago: ask again",
                nearest=nearest(request_id, self._requests),
            )
        request = pending.request
        problem = may_not_approve(
            request,
            actor,
            digest,
            self.desk.desk.file.approvals,
            now_mono_ns=self.clock_ns(),
            used=pending.used,
        ) or changed(request)
        if problem:
            await self.desk.auditor.try_record(actor, self.refused_action, request.id, why=problem)
            raise RefusedError(f"not approved: {problem}", request=request.id)
        pending.used = True  # before anything is awaited: of two at once one counts
        try:
            await self.desk.auditor.record(
                actor, self.approved_action, request.id, reason=reason, digest=digest
            )
        except BaseException:
            pending.used = False
            raise
        # On the disk before the act: a controller that is killed in its middle, and the next one that
        # reads the request, must not let it count twice.
        store = await self.desk.database.requests()
        if not await asyncio.to_thread(store.use, request.id):
            raise RefusedError(f"request {request.id} was approved already", request=request.id)
        return request


def as_stored(request: ActRequest) -> StoredRequest:
    from openbell.state.requests import StoredRequest

    return StoredRequest(
        id=request.id, act=request.act, parameters=request.parameters, reason=request.reason,
        asked_by=request.asked_by, asked_at=request.asked_at, expires_at=request.expires_at,
        used=False, approvals=(), boot_id=system_processes().boot_id(),
        expires_mono_ns=request.expires_mono_ns,
    )  # fmt: skip


def as_request(stored: StoredRequest, now_mono_ns: int, expire_after_s: float) -> ActRequest:
    """Its life goes on by this process's monotonic clock, for no longer than a new one's, and as whichever of
    two clocks says the less. The wall clock may have been set back: where it stands before the request was
    made it is not believed, where it was set back by less it says too much. The monotonic one is right on the
    boot under which it was asked for, for as long as the machine does not sleep; under a later one it says at
    least that as much has passed as that boot has lived."""
    now = datetime.now(UTC)
    left_s = (stored.expires_at - now).total_seconds() if now >= stored.asked_at else 0.0
    left_s = min(left_s, expire_after_s)
    if stored.boot_id == system_processes().boot_id():
        left_s = min(left_s, (stored.expires_mono_ns - now_mono_ns) / 1e9)
    elif stored.boot_id:
        whole_s = (stored.expires_at - stored.asked_at).total_seconds()
        left_s = min(left_s, whole_s - now_mono_ns / 1e9)
    return ActRequest(
        id=stored.id, act=stored.act, parameters=stored.parameters, reason=stored.reason,
        asked_by=stored.asked_by, asked_at=stored.asked_at, expires_at=stored.expires_at,
        expires_mono_ns=now_mono_ns + int(left_s * 1e9),
    )  # fmt: skip
