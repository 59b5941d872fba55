"""The desk's state: what people asked for, and what is.

The *target* is what a person asked for last. It is stored, survives the controller, and moves only
by `COMMANDS`. The *state* is derived from it and from what is observed (`decide`), never stored, so
it cannot go stale: a desk whose engine stopped trading does not show `trading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class DeskState(StrEnum):
    OFFLINE = "offline"
    """Nothing runs."""
    STARTING = "starting"
    """Meant to run or to trade, and not there yet, or no longer."""
    SAFE = "safe"
    """Everything is up; no automatic trading."""
    TRADING = "trading"
    """The engine sends strategies' orders."""
    HALTED = "halted"
    """New orders are stopped and services are up: a person stopped them, or books and venue differ."""
    CLOSING = "closing"
    EMERGENCY = "emergency"
    """The kill switch is latched."""
    UNWATCHED = "unwatched"
    """Processes run, or the desk was not closed, and no controller runs: without it the permit runs out,
    and nobody knows how they are, or what rests at the venues. Told from the desk's files; a controller
    never says it of itself."""


class DeskTarget(StrEnum):
    """What people asked the desk to be."""

    OFFLINE = "offline"
    SAFE = "safe"
    TRADING = "trading"
    HALTED = "halted"
    CLOSING = "closing"


class DeskCommand(StrEnum):
    OPEN = "open"
    OPEN_SAFE = "open_safe"
    HALT = "halt"
    RESUME = "resume"
    CLOSE = "close"
    CLOSED = "closed"
    """The planned shutdown is through."""


_T, _C = DeskTarget, DeskCommand

COMMANDS: Mapping[tuple[DeskTarget, DeskCommand], DeskTarget] = {
    (_T.OFFLINE, _C.OPEN): _T.TRADING,
    (_T.OFFLINE, _C.OPEN_SAFE): _T.SAFE,
    (_T.OFFLINE, _C.CLOSE): _T.CLOSING,
    # Opening an open desk changes nothing that was asked for: only `resume` starts trading in it.
    (_T.SAFE, _C.OPEN): _T.SAFE,
    (_T.SAFE, _C.OPEN_SAFE): _T.SAFE,
    (_T.SAFE, _C.HALT): _T.HALTED,
    (_T.SAFE, _C.RESUME): _T.TRADING,
    (_T.SAFE, _C.CLOSE): _T.CLOSING,
    (_T.TRADING, _C.OPEN): _T.TRADING,
    (_T.TRADING, _C.OPEN_SAFE): _T.SAFE,
    (_T.TRADING, _C.HALT): _T.HALTED,
    (_T.TRADING, _C.RESUME): _T.TRADING,
    (_T.TRADING, _C.CLOSE): _T.CLOSING,
    (_T.HALTED, _C.OPEN): _T.HALTED,
    (_T.HALTED, _C.OPEN_SAFE): _T.HALTED,
    (_T.HALTED, _C.HALT): _T.HALTED,
    (_T.HALTED, _C.RESUME): _T.TRADING,
    (_T.HALTED, _C.CLOSE): _T.CLOSING,
    # A shutdown that was broken off can be gone on with, or taken back.
    (_T.CLOSING, _C.OPEN): _T.TRADING,
    (_T.CLOSING, _C.OPEN_SAFE): _T.SAFE,
    (_T.CLOSING, _C.HALT): _T.CLOSING,
    (_T.CLOSING, _C.CLOSE): _T.CLOSING,
    (_T.CLOSING, _C.CLOSED): _T.OFFLINE,
}


class UndefinedCommandError(ValueError):
    """A command that means nothing to a desk with this target."""


def after(target: DeskTarget, command: DeskCommand) -> DeskTarget:
    """The target after a command. Raises UndefinedCommandError."""
    try:
        return COMMANDS[target, command]
    except KeyError:
        raise UndefinedCommandError(f"a desk that is {target} cannot {command}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskFacts:
    """What is observed. Unknown counts as not fulfilled."""

    target: DeskTarget
    latched: bool
    services_running: int
    """Services of which a process exists."""
    critical_not_ready: tuple[str, ...] = ()
    engine_trading: bool = False
    """The engine says that strategies' orders are sent: reconciled, permit held, no halt."""
    differs: bool = False
    """The engine is connected, and books and venue are seen to differ: it sends nothing until they agree."""
    opening: bool = False
    """An opening is under way; until it begins something the target is what it was."""


def decide(facts: DeskFacts) -> DeskState:
    """The desk's state as it is. The latch shows before all else, for it is what stops the desk."""
    if facts.latched:
        return DeskState.EMERGENCY
    match facts.target:
        case DeskTarget.OFFLINE:
            # Processes that outlived their shutdown are not "offline".
            if facts.services_running:
                return DeskState.CLOSING
            return DeskState.STARTING if facts.opening else DeskState.OFFLINE
        case DeskTarget.CLOSING:
            return DeskState.CLOSING
        case DeskTarget.HALTED:
            return DeskState.HALTED
        case DeskTarget.SAFE:
            return DeskState.STARTING if facts.critical_not_ready else DeskState.SAFE
        case DeskTarget.TRADING:
            ready = facts.engine_trading and not facts.critical_not_ready
            if facts.differs and not facts.critical_not_ready:
                return DeskState.HALTED
            return DeskState.TRADING if ready else DeskState.STARTING
