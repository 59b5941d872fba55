"""Guard and controller watch each other: what to do about the other one now.

    gone              start another, after a back-off that doubles
    silent too long   it hangs: kill it for certain, then start another; sooner where the kernel says
                      that it is stopped
    too many          a rest until the window has passed; a person is told

Pure: facts in, one act out. Seconds are of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

BACKOFF_S, BACKOFF_MAX_S = 0.1, 5.0
LIMIT, WINDOW_S = 5, 60.0
"""So many starts within the window, then a rest: what dies at once again dies of something that
another start does not mend."""
FROZEN_SHARE = 0.4
"""Of the silence that counts, for one that the kernel says is stopped by a signal: it does not come back
by itself, and is not slow. Two beats are missing by then, so that nobody's short look at it counts."""
START_S = 30.0
"""How long one that was started may take to be heard."""


class Act(StrEnum):
    NOTHING = "nothing"
    START = "start"
    KILL = "kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFacts:
    wanted: bool
    """The desk is meant to be open, and its end was not asked for."""
    alive: bool | None
    """None: it is not known which process it is, so only its silence counts."""
    silent_s: float
    """Since it was heard, or since it was first waited for."""
    silent_after_s: float
    since_start_s: float | None
    """Since one was started that was not heard yet; None: there is none."""
    started_s: Sequence[float] = ()
    """How long ago each earlier start was."""
    gone_s: float = 0.0
    """Since it was seen to be gone."""
    frozen: bool = False
    """It lives, and is stopped by a signal."""


@dataclass(frozen=True, slots=True)
class Decision:
    act: Act
    resting: bool = False
    """Too many starts: waiting."""


def decide(facts: PeerFacts) -> Decision:
    if not facts.wanted:
        return Decision(Act.NOTHING)
    if facts.alive is True:
        silence_s = facts.silent_after_s * (FROZEN_SHARE if facts.frozen else 1.0)
        grace = START_S if facts.since_start_s is not None else silence_s
        waited = facts.since_start_s if facts.since_start_s is not None else facts.silent_s
        return Decision(Act.KILL if waited >= grace else Act.NOTHING)
    if facts.alive is None and facts.silent_s < facts.silent_after_s:
        return Decision(Act.NOTHING)
    recent = sum(1 for ago in facts.started_s if ago < WINDOW_S)
    if recent >= LIMIT:
        return Decision(Act.NOTHING, resting=True)
    wait = 0.0 if recent == 0 else min(BACKOFF_S * 2.0 ** (recent - 1), BACKOFF_MAX_S)
    return Decision(Act.START if facts.gone_s >= wait else Act.NOTHING)
