"""Requests that wait for a second person's approval, of one act each (`domain.approvals`).

They live in this process: a controller that ends forgets them, and they are asked for again. What
an act is bound to, its parameters, is part of the request; whether that is still so when it is
approved is for the act itself to say.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from openbell.controller.desk import ControlledDesk
from openbell.domain.approvals import ActRequest, may_not_approve, may_not_take_part
from openbell.domain.graph import suggest
from openbell.errors import RefusedError, UsageError

REQUESTS_KEPT = 64
"""Requests that were used or have expired are remembered, to say so; the oldest go first."""


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
    """What the audit log calls a request, and an approval that did not count."""
    clock_ns: Callable[[], int] = time.monotonic_ns
    _requests: dict[str, _Pending] = field(default_factory=dict)

    @property
    def needed(self) -> bool:
        return self.act in self.desk.desk.file.approvals.needed_for

    def rules_document(self) -> dict[str, object]:
        rules = self.desk.desk.file.approvals
        return {
            "needed": self.needed,
            "expire_after_s": rules.expire_after,
            "people": {name: list(roles) for name, roles in rules.people.items()},
        }

    def waiting(self) -> list[ActRequest]:
        now_ns = self.clock_ns()
        return [
            each.request
            for each in self._requests.values()
            if not each.used and now_ns < each.request.expires_mono_ns
        ]

    async def ask(
        self, parameters: Mapping[str, tuple[str, ...]], reason: str, actor: str
    ) -> ActRequest:
        """The request, made or found where this person asked for the same before. It is in the
        audit log first. Raises RefusedError for who may not ask."""
        rules = self.desk.desk.file.approvals
        problem = may_not_take_part(actor, rules)
        if problem:
            raise RefusedError(f"not asked for: {problem}")
        same = (dict(parameters), reason, actor)
        for each in self.waiting():
            if (dict(each.parameters), each.reason, each.asked_by) == same:
                return each
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
        self._requests[request.id] = _Pending(request)
        while len(self._requests) > REQUESTS_KEPT:
            del self._requests[next(iter(self._requests))]
        return request

    async def approve(
        self,
        request_id: str,
        digest: str,
        actor: str,
        changed: Callable[[ActRequest], str] = lambda _: "",
    ) -> ActRequest:
        """The request, which counts as approved from now on and is to be carried out at once.

        `changed`: why it is not the same act any more; empty where it is. Raises UsageError for a
        request that is not known, RefusedError where this approval does not count.
        """
        pending = self._requests.get(request_id)
        if pending is None:
            raise UsageError(
                f'there is no request "{request_id}"',
                hint="a controller that ends forgets requests: ask again",
                nearest=suggest(request_id, self._requests),
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
        pending.used = True
        return request
