"""A dead-man's switch as `dead-man status` shows it: a row per venue, of a guard, or where none answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from openbell.domain.dead_man import DeadManFacts, EngineIs, Mode

if TYPE_CHECKING:
    from openbell.config.models import Venue as VenueConfig
    from openbell.kill.statement import VenueStatement
    from openbell.venues.port import DeadMansSwitch

NOT_LOOKED: dict[str, int | None] = {"open_orders": None, "elsewhere": None}
"""What a guard adds to a row where it is asked to look at the venue, and the venue did not tell."""


def runs_out_in_s(facts: DeadManFacts) -> float | None:
    """Until what rests is withdrawn, should the engine not be heard before; None: nothing runs."""
    if _is_away(facts):
        return max(0.0, facts.back_within_s - facts.engine_away_s)
    since = facts.since_refresh_s
    runs = facts.applies == "venue" and facts.armed is True and since is not None
    return facts.timeout_s - since if runs and since else None


def state_of(facts: DeadManFacts, *, loaded: bool, cancelling: bool, fired: bool) -> str:
    """In one word, as docs/reference/dead-man.md lists them. `loaded`: the venue's adapter; `fired`: it was
    acted on at some time."""
    if facts.applies == "none":
        return "off"
    if not loaded:
        return "unknown"
    if cancelling:
        return "cancelling"
    if facts.mode is Mode.OFF:
        if facts.only_runs_out:
            return "running_out"
        off = facts.applies == "guard" or facts.armed is False
        return "disarmed" if off else "disarming"
    closes = facts.mode is Mode.HOLD
    if not closes and facts.engine is EngineIs.UNHEARD:
        return "idle"
    if _is_away(facts):
        return "away" if facts.engine_away_s < facts.back_within_s else "running_out"
    if not (facts.closing_well if closes else facts.engine is EngineIs.WELL):
        if facts.stopped:
            return "idle"
        if facts.cancelled:
            return "fired" if fired else "idle"
        return "running_out"
    if facts.applies == "guard":
        return "watching"
    if facts.armed:
        return "armed"
    # A closing arms nothing anew; should it end without a word, the guard cancels.
    return "watching" if closes else "not_armed"


def _is_away(facts: DeadManFacts) -> bool:
    """The orders of an engine that left on purpose rest until it is back, or its time is over."""
    left = facts.mode is Mode.OPEN and facts.engine is EngineIs.LEFT
    return left and facts.applies != "none" and not facts.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadManRow:
    venue: str
    config: VenueConfig
    switch: DeadMansSwitch | None
    """The venue's own timer."""
    applies: str
    timeout_s: float
    state: str
    why: str
    not_covered: Sequence[str]
    refreshed_at: datetime | None = None
    refreshed_ago_s: float | None = None
    runs_out_in_s: float | None = None
    fired_at: datetime | None = None
    fired: VenueStatement | None = None
    """What the guard's own cancel came to."""

    def as_dict(self) -> dict[str, object]:
        """Plain JSON values, as docs/reference/dead-man.md lists them."""
        timer_takes_all = self.switch is not None and not self.config.exclusive
        return {
            "venue": self.venue,
            "applies": self.applies,
            "scope": "own orders" if self.switch is None else self.switch.scope,
            "timeout_s": self.timeout_s,
            "state": self.state,
            "why": self.why,
            "refreshed_at": _iso(self.refreshed_at),
            "refreshed_ago_s": _rounded(self.refreshed_ago_s),
            "runs_out_in_s": _rounded(self.runs_out_in_s),
            "fired_at": _iso(self.fired_at),
            "fired": None
            if self.fired is None
            else {
                "result": self.fired.result,
                "remaining": len(self.fired.orders),
                "by_hand": self.fired.by_hand,
            },
            "not_covered": list(self.not_covered),
            "also_cancels": "orders of others on this account" if timer_takes_all else "",
        }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
