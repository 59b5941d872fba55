"""The permit: an engine's short-lived leave to send orders.

The controller decides who gets one (`decide_permit`); the engine counts its life on its own
monotonic clock from before it asked (`held`), so no delay on the way can lengthen it, and asks of
each order whether the scope allows it (`allows`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from openbell.domain.desk_state import DeskTarget
from openbell.domain.orders import Purpose


class PermitScope(StrEnum):
    TRADE = "trade"
    """Any order that passes the last gate."""
    REDUCE = "reduce"
    """Flatten orders that make a position smaller. Nothing automatic."""
    NONE = "none"
    """Cancels and queries only."""


@dataclass(frozen=True, slots=True)
class Permit:
    scope: PermitScope
    expires_mono_ns: int
    """On the holder's monotonic clock."""


@dataclass(frozen=True, slots=True)
class Grant:
    scope: PermitScope


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: a stable code for programs, a text for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitFacts:
    """What the controller knows when an engine asks. Unknown counts as not fulfilled."""

    target: DeskTarget
    """What people asked the desk to be."""
    latched: bool
    engine_epoch: int
    """The epoch the asking engine says it writes under."""
    current_epoch: int | None
    """The one in the desk database; None: could not be read."""
    engine_reconciled: bool
    books_known: bool = False
    """Every venue has been compared in full since it was connected, though some symbols may differ:
    then the engine knows in which it may reduce, and refuses the others by itself."""
    critical_not_ready: tuple[str, ...] = ()
    """Names of critical services other than the asking engine that are not ready."""
    halted: bool = False
    """New orders are halted for another reason than the target, such as a breaker."""


def held(permit: Permit | None, now_mono_ns: int) -> bool:
    """Whether a permit is there and has not run out."""
    return (
        permit is not None
        and permit.scope is not PermitScope.NONE
        and now_mono_ns < permit.expires_mono_ns
    )


def scope_now(permit: Permit | None, now_mono_ns: int) -> PermitScope:
    """The scope that holds now; NONE without a permit."""
    return permit.scope if permit is not None and held(permit, now_mono_ns) else PermitScope.NONE


def allows(scope: PermitScope, purpose: Purpose, reduces: bool) -> bool:
    """Whether an order of this purpose may be sent. `reduces`: it makes its position smaller even if
    it and every open order on its side fill, and so can never flip it."""
    if purpose is Purpose.FLATTEN and not reduces:
        return False
    if scope is PermitScope.TRADE:
        return True
    return scope is PermitScope.REDUCE and purpose is Purpose.FLATTEN


def decide_permit(facts: PermitFacts) -> Grant | Refusal:
    """The controller's rule: what an engine that asks now is given."""
    if facts.latched:
        return Refusal("latched", "the kill switch is latched; a person must release it")
    if facts.current_epoch is None:
        return Refusal("storage", "the current epoch could not be read from the desk database")
    if facts.engine_epoch != facts.current_epoch:
        return Refusal(
            "stale_epoch",
            f"the engine writes under epoch {facts.engine_epoch}; {facts.current_epoch} is current",
        )
    closes = facts.target in (DeskTarget.CLOSING, DeskTarget.SAFE)
    if not facts.engine_reconciled and not (closes and facts.books_known):
        return Refusal("not_reconciled", "the engine's books are not reconciled with the venue")
    match facts.target:
        case DeskTarget.OFFLINE:
            return Refusal("offline", "the desk is meant to be offline")
        case DeskTarget.HALTED:
            return Refusal("halted", "trading was halted; `openbell resume` releases it")
        case DeskTarget.CLOSING | DeskTarget.SAFE:
            return Grant(PermitScope.REDUCE)
        case DeskTarget.TRADING:
            if facts.halted:
                return Refusal("halted", "new orders are halted")
            if facts.critical_not_ready:
                names = ", ".join(facts.critical_not_ready)
                return Refusal("not_ready", f"critical services are not ready: {names}")
            return Grant(PermitScope.TRADE)
