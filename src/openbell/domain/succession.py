"""Which of an engine and its standby trades, and what is to be done where neither does.

Facts in, one decision out; whoever carries it out looks again afterwards. What was decided last is
not remembered: a controller that was killed in the middle of a take-over decides anew from what it
finds.

The incumbent is whoever holds the current epoch: the process that signed it in the journal. As long
as it is not known to have ended, nobody else is promoted.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbell.domain.service_state import ServiceState


@dataclass(frozen=True)
class Holder:
    """Who took an epoch, as the journal keeps it: `execution-engine pid 4711`."""

    service: str
    pid: int

    def __str__(self) -> str:
        return f"{self.service} pid {self.pid}"

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        service, sign, pid = text.partition(" pid ")
        return cls(service, int(pid)) if sign and pid.isdigit() else None


@dataclass(frozen=True, kw_only=True)
class Member:
    """One of the two, as it was seen."""

    service: str
    state: ServiceState
    pid: int | None
    """None: nothing of it runs; it was seen to end."""
    restarts: int = 0
    phase: str | None = None
    """As it says; None: it did not answer."""
    epoch: int = 0
    """That it says it holds."""
    hung: bool = False
    """It has not answered for longer than it may."""
    unfit: tuple[str, ...] = ()
    """Why it may not replace the other one; empty: it may."""

    @property
    def stands_by(self) -> bool:
        return self.pid is not None and self.phase == "standby"

    @property
    def has_crashed(self) -> bool:
        """It ended, and nobody asked it to."""
        starting_again = self.state is ServiceState.STARTING and self.restarts > 0
        return self.state in (ServiceState.BACKOFF, ServiceState.FAILED) or starting_again


@dataclass(frozen=True)
class Keep:
    """The incumbent trades, or is waited for."""

    incumbent: str
    restart: str = ""
    """The other one has retired: it is to be started anew, to stand by."""


@dataclass(frozen=True)
class Wait:
    """Neither may be promoted now."""

    why: str


@dataclass(frozen=True)
class Kill:
    """The incumbent hangs: end it for certain. Its end is what lets the other one be promoted."""

    service: str


@dataclass(frozen=True)
class Promote:
    service: str
    after_epoch: int
    predecessor: str
    """The service that held that epoch; empty where nobody did. It is seen to have ended."""


Decision = Keep | Wait | Kill | Promote


def decide(
    engine: Member, standby: Member, current_epoch: int | None, holder: Holder | None
) -> Decision:
    """`engine` and `standby` as declared. `current_epoch`: None where it could not be read."""
    if current_epoch is None:
        return Wait("the current epoch could not be read")
    members = (engine, standby)
    incumbent = _incumbent(members, current_epoch, holder)
    if incumbent is not None:
        other = standby if incumbent is engine else engine
        if incumbent.phase is None and incumbent.hung:
            if other.stands_by and not other.unfit:
                return Kill(incumbent.service)
            return Wait(f"{incumbent.service} does not answer, and nobody can replace it")
        return Keep(incumbent.service, other.service if other.phase == "retired" else "")
    held_by = holder.service if holder is not None else ""
    ordinary = standby if held_by == standby.service else engine
    other = engine if ordinary is standby else standby
    predecessor = held_by if held_by in (engine.service, standby.service) else ""
    if ordinary.stands_by:
        # The one that held the office has come back: the ordinary restart, or an opening.
        return Promote(ordinary.service, current_epoch, predecessor)
    if not ordinary.has_crashed:
        return Wait(f"{ordinary.service} is {ordinary.state}")
    if not other.stands_by:
        return Wait(f"{ordinary.service} has ended, and {other.service} does not stand by")
    if other.unfit:
        return Wait(f"{other.service} may not replace {ordinary.service}: {'; '.join(other.unfit)}")
    return Promote(other.service, current_epoch, predecessor)


def _incumbent(
    members: tuple[Member, Member], current_epoch: int, holder: Holder | None
) -> Member | None:
    """The process that holds the current epoch, if it is not seen to have ended."""
    for member in members:
        if member.phase not in (None, "standby", "retired") and member.epoch == current_epoch:
            return member
    if holder is None:
        return None
    for member in members:
        if (
            member.service == holder.service
            and member.pid == holder.pid
            and member.phase not in ("standby", "retired")
        ):
            return member
    return None
