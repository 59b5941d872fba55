"""The states of a service and the moves between them: a table; an undefined move raises."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ServiceState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    """Spawned, not ready yet."""
    READY = "ready"
    DEGRADED = "degraded"
    """Runs, but its health probe fails."""
    BACKOFF = "backoff"
    """Exited unasked, or could not be restarted; waits before its next start."""
    FAILED = "failed"
    """Will not be started again by itself: a person must act."""
    STOPPING = "stopping"

    @property
    def is_running(self) -> bool:
        """A process of it exists."""
        return self in _RUNNING


UP = frozenset({ServiceState.READY, ServiceState.DEGRADED})
"""It was ready and runs: one whose health probe fails answers too."""
_RUNNING = frozenset(
    {ServiceState.STARTING, ServiceState.READY, ServiceState.DEGRADED, ServiceState.STOPPING}
)


class ServiceMove(StrEnum):
    SPAWN = "spawn"
    BECOME_READY = "become_ready"
    PROBE_FAILED = "probe_failed"
    """So many failures in a row as the desk file allows."""
    PROBE_PASSED = "probe_passed"
    EXIT_TO_RESTART = "exit_to_restart"
    """Exited unasked, and its restart policy allows another start."""
    MISS_START = "miss_start"
    """A restart could not be attempted (port held, record not writable); it is tried again."""
    EXIT_FOR_GOOD = "exit_for_good"
    """Exited unasked, and no other start is allowed."""
    EXIT_CLEANLY = "exit_cleanly"
    """Exited with status 0 under a policy that leaves it so."""
    GIVE_UP = "give_up"
    """Not ready in time, could not be spawned, or did not stop."""
    REPLACED = "replaced"
    """A second process of it, proven, is the service from now on."""
    STOP = "stop"
    GONE = "gone"
    """Its process group was seen empty after a stop."""
    HOLD = "hold"
    """It was to be started, or exited, while nothing of its kind may be started."""
    ADOPT = "adopt"
    """Found running by a restarted controller."""


_S, _M = ServiceState, ServiceMove

MOVES: Mapping[tuple[ServiceState, ServiceMove], ServiceState] = {
    (_S.STOPPED, _M.SPAWN): _S.STARTING,
    (_S.STOPPED, _M.ADOPT): _S.STARTING,
    (_S.STOPPED, _M.GIVE_UP): _S.FAILED,
    (_S.STARTING, _M.BECOME_READY): _S.READY,
    # Only of an adopted service: it runs, so it is neither killed nor called failed for not answering.
    (_S.STARTING, _M.PROBE_FAILED): _S.DEGRADED,
    (_S.STARTING, _M.EXIT_TO_RESTART): _S.BACKOFF,
    (_S.STARTING, _M.MISS_START): _S.BACKOFF,
    (_S.STARTING, _M.EXIT_FOR_GOOD): _S.FAILED,
    (_S.STARTING, _M.EXIT_CLEANLY): _S.STOPPED,
    (_S.STARTING, _M.GIVE_UP): _S.FAILED,
    (_S.STARTING, _M.HOLD): _S.STOPPED,
    (_S.STARTING, _M.STOP): _S.STOPPING,
    (_S.READY, _M.PROBE_FAILED): _S.DEGRADED,
    (_S.READY, _M.EXIT_TO_RESTART): _S.BACKOFF,
    (_S.READY, _M.EXIT_FOR_GOOD): _S.FAILED,
    (_S.READY, _M.EXIT_CLEANLY): _S.STOPPED,
    (_S.READY, _M.HOLD): _S.STOPPED,
    (_S.READY, _M.REPLACED): _S.READY,
    (_S.READY, _M.STOP): _S.STOPPING,
    (_S.DEGRADED, _M.PROBE_PASSED): _S.READY,
    (_S.DEGRADED, _M.EXIT_TO_RESTART): _S.BACKOFF,
    (_S.DEGRADED, _M.EXIT_FOR_GOOD): _S.FAILED,
    (_S.DEGRADED, _M.EXIT_CLEANLY): _S.STOPPED,
    (_S.DEGRADED, _M.HOLD): _S.STOPPED,
    (_S.DEGRADED, _M.REPLACED): _S.READY,
    (_S.DEGRADED, _M.STOP): _S.STOPPING,
    (_S.BACKOFF, _M.SPAWN): _S.STARTING,
    (_S.BACKOFF, _M.GIVE_UP): _S.FAILED,
    (_S.BACKOFF, _M.STOP): _S.STOPPED,
    (_S.FAILED, _M.SPAWN): _S.STARTING,
    (_S.FAILED, _M.STOP): _S.STOPPING,
    (_S.FAILED, _M.GONE): _S.STOPPED,
    (_S.STOPPING, _M.GONE): _S.STOPPED,
    (_S.STOPPING, _M.GIVE_UP): _S.FAILED,
}


class UndefinedMoveError(ValueError):
    """A move the table does not hold: a defect of the caller."""


def after(state: ServiceState, move: ServiceMove) -> ServiceState:
    """The state after a move. Raises UndefinedMoveError."""
    try:
        return MOVES[state, move]
    except KeyError:
        raise UndefinedMoveError(f"a service that is {state} cannot {move}") from None
