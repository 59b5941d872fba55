"""What a process that hangs can still be made to tell: where it stands.

SIGQUIT is what asks for it by custom: Go and Java print their stacks, and so does Python where it has
registered faulthandler for it, as every `openbell.service` has. It is sent only to a process that
catches it: any other would be ended by it and might leave a core, in which keys would be found. Of those the
kernel is asked what their threads wait for, which costs nothing and holds no memory of theirs.
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


_THREADS_TOLD = 8


def waits_of(pid: int) -> str:
    """What the threads of a process do, by /proc: name, state and what they wait for in the kernel, as far as
    this user may see it. Empty where there is no /proc, or no such process."""
    try:
        threads = sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda each: int(each.name))
    except OSError:
        return ""
    told = [text for each in threads[:_THREADS_TOLD] if (text := _wait_of(each))]
    more = len(threads) - _THREADS_TOLD
    return "; ".join([*told, *([f"{more} more threads"] if more > 0 else [])])


def _wait_of(thread: Path) -> str:
    # "7 (name) S 1 ...": the name may hold blanks and brackets itself.
    name, _, rest = _read(thread / "stat").partition(" (")[2].rpartition(") ")
    if not rest:
        return ""
    where = _read(thread / "wchan")
    call = _read(thread / "syscall").split(" ")[0]
    told = [f"in {where}"] if where not in ("", "0") else []
    told += [f"system call {call}"] if call.lstrip("-").isdigit() and call != "-1" else []
    return f"{name} {rest[0]} {', '.join(told)}".rstrip()


def _read(path: Path) -> str:
    """Empty where it is not there, or not for us: another thread's end, another kernel, another user."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
