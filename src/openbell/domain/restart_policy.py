"""Whether and when a service that exited unasked is started again.

A pure function: facts in, one of three decisions out. Times are seconds of any one clock that does
not jump; the caller says what time it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RestartPolicy:
    """`[services.NAME.restart]`; durations in seconds."""

    policy: Literal["always", "on-failure", "never"]
    backoff_s: float
    """Wait before the first restart; doubled at each further one within the window."""
    backoff_max_s: float
    limit: int
    """So many restarts within the window, then a person must act."""
    window_s: float


@dataclass(frozen=True)
class Restart:
    """Start it again after so many seconds."""

    after_s: float


@dataclass(frozen=True)
class GiveUp:
    """It has failed; a person must act."""

    why: str


@dataclass(frozen=True)
class Leave:
    """It ended as it may; there is nothing to do."""


def decide(
    policy: RestartPolicy, exit_status: int | None, restarted_at: Sequence[float], now: float
) -> Restart | GiveUp | Leave:
    """What to do about a service that exited unasked.

    `exit_status` is negative for a signal and None where it is unknown, which counts as a failure:
    unknown is never success. `restarted_at` are the times of its earlier restarts, oldest first;
    those older than the window are forgotten, so the back-off starts anew after a calm time.
    """
    if policy.policy == "never":
        return Leave() if exit_status == 0 else GiveUp("its restart policy is never")
    if policy.policy == "on-failure" and exit_status == 0:
        return Leave()
    recent = sum(1 for at in restarted_at if now - at < policy.window_s)
    if recent >= policy.limit:
        if policy.limit == 0:
            return GiveUp("its restart limit is 0")
        return GiveUp(f"restarted {recent} times within {policy.window_s:g}s, which is its limit")
    # The exponent is capped before the power is taken: 2.0 ** 1024 raises.
    doubled = policy.backoff_s * 2.0 ** min(recent, 60)
    return Restart(min(doubled, max(policy.backoff_max_s, 0.0)))


MISSED_START_MIN_S = 1.0
"""Between tries to start what cannot even be spawned, whatever the back-off: a foreign holder of a
port or a full disk goes away by a person's hand."""


def after_missed_start(policy: RestartPolicy, missed: int) -> Restart | GiveUp:
    """What to do about a restart that could not be attempted: port held, record not writable.

    `missed` such in a row, this one included. The service has not run, so it has not crashed: the
    limit does not count it, the back-off does, and the tries go on until the condition is gone.
    """
    if policy.policy == "never":
        return GiveUp("its restart policy is never")
    doubled = policy.backoff_s * 2.0 ** min(missed, 60)
    return Restart(max(min(doubled, policy.backoff_max_s), MISSED_START_MIN_S))


def still_counting(restarted_at: Sequence[float], window_s: float, now: float) -> tuple[float, ...]:
    """Those restarts that a later decision can still count."""
    return tuple(at for at in restarted_at if now - at < window_s)
