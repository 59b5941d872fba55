"""Other people's approval of an act that one person alone must not do: a second person's of a single
act, one or two persons' of a step of a procedure.

Invariants
- It is bound to exactly one act: who approves repeats the digest of what was asked for, so an act
  with other parameters or another reason is another act.
- Nobody approves what they asked for; capitals make no other person.
- It counts once, and only until it expires. That of a step counts for that step of that run alone.

People are whom they say they are (`$OPENBELL_ACTOR`): approvals keep honest people from acting
alone and leave evidence. They do not hold someone who owns the machine.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from openbell.config.approvals import Approvals

UNNAMED = "api"
"""The actor of a request over the API that does not say who asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActRequest:
    """An act that waits for its approval."""

    id: str
    act: str
    """As in `[approvals] needed_for`."""
    parameters: Mapping[str, tuple[str, ...]]
    """What it is bound to, such as the scopes and the very latches of a release: with others it is
    another act."""
    reason: str
    asked_by: str
    asked_at: datetime
    expires_at: datetime
    """For people; what counts is `expires_mono_ns`."""
    expires_mono_ns: int
    """On the monotonic clock of the process that holds the request."""

    @property
    def digest(self) -> str:
        """Of the whole act; what an approval repeats."""
        said = [
            self.id,
            self.act,
            sorted((name, list(values)) for name, values in self.parameters.items()),
            self.reason,
            self.asked_by,
            self.expires_at.isoformat(),
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def as_dict(self) -> dict[str, object]:
        return {
            "id": self.id,
            "act": self.act,
            **{name: list(values) for name, values in self.parameters.items()},
            "reason": self.reason,
            "by": self.asked_by,
            "asked": self.asked_at.isoformat(),
            "expires": self.expires_at.isoformat(),
            "digest": self.digest,
        }


def may_not_take_part(actor: str, rules: Approvals) -> str:
    """Why this person can neither ask nor approve; empty where they can."""
    if not _person(actor) or _person(actor) == UNNAMED:
        return "an act that needs approval needs a name: say who you are"
    if rules.people and not _roles(actor, rules):
        return f"{actor} has no role in [approvals] people"
    return ""


def nobody_may_approve(asker: str, rules: Approvals) -> str:
    """Why nobody could approve what this person asks for; empty where somebody could. Where nobody is
    named, anybody else could."""
    if not rules.people:
        return ""
    others = [name for name in rules.people if _person(name) != _person(asker)]
    if not others:
        return f"[approvals] people names nobody beside {asker}, and another person must approve"
    mine = _roles(asker, rules)
    if "risk" in mine or any("risk" in rules.people[name] for name in others):
        return ""
    return "nobody in [approvals] people has the role risk, which one of the two needs"


def may_not_approve(
    request: ActRequest,
    approver: str,
    digest: str,
    rules: Approvals,
    *,
    now_mono_ns: int,
    used: bool,
) -> str:
    """Why this approval does not count; empty where it does."""
    problem = may_not_take_part(approver, rules)
    if problem:
        return problem
    if used:
        return f"request {request.id} was approved already: an approval counts once"
    if now_mono_ns >= request.expires_mono_ns:
        return f"request {request.id} expired at {request.expires_at:%H:%M:%S} UTC"
    if _person(approver) == _person(request.asked_by):
        return f"{approver} asked for it: another person must approve"
    if digest != request.digest:
        return f"the approval is of another act than request {request.id}"
    if rules.people and "risk" not in (*_roles(approver, rules), *_roles(request.asked_by, rules)):
        return f"neither {request.asked_by} nor {approver} has the role risk"
    return ""


STEP_ACT = "procedure-step"
"""The act of a request for a step that needs approval. Its parameters: `run`, `step`, `what` (digest
of what the run was asked for), `roles` (of those who must approve), `requesters` (who asked for the
run, or went on with it)."""
GO_ON_ACT = "procedure-go-on"
"""The act of the question whether a run goes on after a step that was not verified. One person
answers it, the requester too: it is a decision, and no second pair of eyes."""


def missing_roles(
    roles: Sequence[str], approvers: Sequence[str], rules: Approvals
) -> tuple[str, ...]:
    """Roles that nobody of the approvers fills yet; each person fills one. Where the desk names no
    people, any of them fills any role."""
    best = tuple(roles)
    for order in itertools.permutations(approvers):
        left = list(roles)
        for person in order:
            theirs = _roles(person, rules) if rules.people else tuple(left)
            if (fits := next((role for role in left if role in theirs), None)) is not None:
                left.remove(fits)
        if len(left) < len(best):
            best = tuple(left)
    return best


def may_not_approve_step(
    request: ActRequest,
    approver: str,
    digest: str,
    rules: Approvals,
    given: Sequence[str],
    *,
    now_mono_ns: int,
) -> str:
    """Why this approval of a step does not count; empty where it does. `given`: who has approved."""
    if problem := may_not_take_part(approver, rules):
        return problem
    if now_mono_ns >= request.expires_mono_ns:
        return f"request {request.id} expired at {request.expires_at:%H:%M:%S} UTC"
    if digest != request.digest:
        return f"the approval is of another act than request {request.id}"
    if request.act == GO_ON_ACT:
        return ""
    requesters = {_person(each) for each in request.parameters.get("requesters", ())}
    if _person(approver) in requesters | {_person(request.asked_by)}:
        return f"{approver} asked for it: another person must approve"
    if _person(approver) in map(_person, given):
        return f"{approver} has approved it already: another person must too"
    roles = request.parameters.get("roles", ())
    left = missing_roles(roles, given, rules)
    if len(missing_roles(roles, [*given, approver], rules)) >= len(left):
        return f"{approver} has not the role {' or '.join(left)}" if left else "it is approved"
    return ""


def has_one_of(people: Iterable[str], others: Iterable[str]) -> bool:
    """Whether somebody is among both."""
    return not set(map(_person, people)).isdisjoint(map(_person, others))


def _person(actor: str) -> str:
    return actor.strip().casefold()


def _roles(actor: str, rules: Approvals) -> tuple[str, ...]:
    return next(
        (roles for name, roles in rules.people.items() if _person(name) == _person(actor)), ()
    )
