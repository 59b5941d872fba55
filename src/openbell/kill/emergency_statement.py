"""What an emergency stop ends with: what was seen of venues, processes and files.

docs/reference/emergency-stop.md shows it as JSON.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from openbell.kill.statement import Result, VenueStatement

DONE, FAILED, UNVERIFIED, STORAGE, RESIDUAL = 0, 1, 7, 9, 10
"""Exit statuses, as docs/reference/emergency-stop.md lists them."""


class LatchSet(msgspec.Struct, frozen=True, kw_only=True):
    """The kill switch as this stop set it."""

    set: bool
    """False: no file could be made."""
    durable: bool
    ids: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class FrozenService(msgspec.Struct, frozen=True, kw_only=True):
    """A service that can send orders, as it was stopped in its tracks."""

    service: str
    result: Literal["frozen", "not_running", "not_frozen"]
    pids: tuple[int, ...] = ()
    how: Literal["cgroup", "signal", ""] = ""
    why: str = ""


class EndedService(msgspec.Struct, frozen=True, kw_only=True):
    """killed: it was frozen, and its whole group is seen to be gone. stopped: asked, and gone. left:
    these pids are still there."""

    service: str
    result: Literal["killed", "stopped", "left"]
    pids: tuple[int, ...] = ()
    why: str = ""


class StrategyStatement(msgspec.Struct, frozen=True, kw_only=True):
    """Of the orders of one strategy, which only the engine can tell from others."""

    strategy: str
    result: Result
    orders: tuple[dict[str, Any], ...] = ()
    """As the engine's `GET /v1/orders` has them."""
    why: str = ""
    by_hand: str = ""
    took_s: float = 0.0

    @property
    def is_settled(self) -> bool:
        return self.result == "verified"


class CheckpointMade(msgspec.Struct, frozen=True, kw_only=True):
    path: str = ""
    problem: str = ""
    """Why there is none."""


class EmergencyStatement(msgspec.Struct, frozen=True, kw_only=True):
    course: str
    """Name of the log under state/emergency; empty where the disk took none."""
    reason: str
    actor: str
    scopes: tuple[str, ...]
    flatten: bool
    account_wide: bool
    began: str
    """ISO 8601, UTC."""
    took_s: float
    carrier_pid: int
    latch: LatchSet
    frozen: tuple[FrozenService, ...] = ()
    venues: tuple[VenueStatement, ...] = ()
    strategies: tuple[StrategyStatement, ...] = ()
    checkpoint: CheckpointMade | None = None
    """None: this scope makes none."""
    ended: tuple[EndedService, ...] = ()
    problems: tuple[str, ...] = ()
    """What did not go as it should, besides."""
    by_hand: str = ""
    """What a person can do where not even the venues are known."""
    joined: bool = False
    """Somebody else carried it out; this is what they stated."""

    @property
    def result(self) -> Result:
        """verified: everything asked for was seen to be done at every venue. unknown weighs more
        than residual: nobody knows how much it is."""
        parts: list[VenueStatement | StrategyStatement] = [*self.venues, *self.strategies]
        if self.by_hand or any(_is_unknown(part) for part in parts):
            return "unknown"
        return "verified" if all(part.is_settled for part in parts) else "residual"

    @property
    def exit_status(self) -> int:
        match self.result:
            case "unknown":
                return UNVERIFIED
            case "residual":
                return RESIDUAL
        if not (self.latch.set and self.latch.durable):
            return STORAGE
        return FAILED if any(each.result == "left" for each in self.ended) else DONE

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values, with `result`, `verified`, `positions` and `exit_status` told as well.
        `positions`: `stay`, and nobody looked at them; or `flatten`, and each venue's `flat` tells."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        told["result"] = self.result
        told["verified"] = self.result == "verified"
        told["positions"] = "flatten" if self.flatten else "stay"
        told["exit_status"] = self.exit_status
        return told

    @classmethod
    def from_wire(cls, told: dict[str, Any], *, joined: bool = False) -> EmergencyStatement:
        """Raises ValueError for what is no statement."""
        stated = msgspec.convert(told, cls)
        return msgspec.structs.replace(stated, joined=True) if joined else stated


def _is_unknown(part: VenueStatement | StrategyStatement) -> bool:
    flat = part.flat if isinstance(part, VenueStatement) else None
    return part.result == "unknown" or (flat is not None and flat.result == "unknown")
