"""What a process that hangs can still be made to tell: where it stands.

SIGQUIT is what asks for it by custom: Go and Java print their stacks, and so does Python where it has
registered faulthandler for it, as every `openbell.service` has. It is sent only to a process that
catches it: any other would be ended by it and might leave a core, in which keys would be found.
"""

from __future__ import annotations

import signal
from pathlib import Path

STACK_SIGNAL = signal.SIGQUIT


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for this signal. False where that cannot be known."""
    return _holds(pid, ("SigCgt",), number)


def awaits(pid: int, number: int) -> bool:
    """Whether the signal was sent to the process and not taken yet."""
    return _holds(pid, ("SigPnd", "ShdPnd"), number)


def _holds(pid: int, masks: tuple[str, ...], number: int) -> bool:
    """Whether a mask of /proc/PID/status holds the signal; False where there is no /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    bit = 1 << (number - 1)
    return any(
        int(mask, 16) & bit
        for name, _, mask in (line.partition(":") for line in lines)
        if name in masks
    )
