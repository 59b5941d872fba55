"""Whoever carries out an emergency stop and stands still: found out, and ended, so that another goes on.

A carrier that dies gives its lock back; one that hangs, or that a terminal or a person has stopped, keeps
it for ever. Whoever follows it looks at its first thread, in the kernel's own books: a disk that is full
or answers nothing tells no sign of life, and must not cost a carrier its own.

    stopped (SIGSTOP, Ctrl-Z)                     ─▶ stuck after STOPPED_S
    waits for events or a lock, not woken once    ─▶ stuck after SILENT_S: a carrier wakes every BEAT_S
    waits for anything else, not woken once       ─▶ stuck after DISK_S: a busy disk takes its time,
                                                     also one of the network
    at work without one rest, its course begun    ─▶ stuck after LOOP_CPU_S of processor time of its own
    wants the processor, and is given none        ─▶ never: that is the machine's load, not its state

What always holds:
- Only whoever holds the lock is ended, or the process that began the course which is followed: known by
  pid and start time, and asked once more when it can no longer be exchanged for another.
- It has ended before its turn is taken: the lock says so, which the kernel frees at its end.
- It was killed at some moment, as any carrier may be: what it did is found as after any kill.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from openbell.runtime.processes import ProcessFacts, system_processes

BEAT_S = 0.25
"""A carrier's event loop wakes at least so often (`progress`), so that one which does nothing but wait for a
venue is not taken for one that hangs. It runs in the process's first thread."""
STOPPED_S = 0.5
SILENT_S = 2.0
"""Eight beats. A loaded machine is no reason to miss one: who waits for the processor is not at rest."""
DISK_S = 10.0
"""A carrier that makes its course on a disk which is busy with others' fsyncs is alive. So is one whose state
is kept by a server: the kernel shows that wait as any other, so that this is the rule and SILENT_S, where the
kernel names what no disk keeps waiting, the exception."""
LOOKS_MIN = 6
"""So many looks must have found it so: whoever looks may have stood still himself."""
LOOP_CPU_S = 10.0
"""To load the adapters takes one second of processor time, to plan ten thousand cancels less; no part of a
stop takes so much without one pause."""
LOOK_EVERY_S = 0.05
KILLED_S = 2.0
"""For a killed process to be seen to end."""
_LOCKS = Path("/proc/locks")
_NO_DISK = ("ep_poll", "do_epoll", "poll_", "do_poll", "do_sys_poll", "do_select", "futex")
"""As wchan names what waits for events, or for a lock between threads."""


class NotKilledError(Exception):
    """It stands still, and may go on at any moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A carrier at one moment, by its first thread."""

    at_s: float
    """Monotonic."""
    stopped: bool
    at_rest: bool
    """It waits for something else than the processor."""
    on_no_disk: bool
    """It waits for events, as a loop at rest does, or for a lock of its own, by the kernel's word."""
    rests: int | None
    """How often it has gone to rest; None: this system does not tell."""
    cpu_s: float


class Pulse:
    """Of one carrier. Pure: signs in, a verdict out."""

    def __init__(self) -> None:
        self._stopped: tuple[float, int] | None = None
        """Since when, and how many looks have found it so."""
        self._silent: tuple[float, int] | None = None
        self._rests: int | None = None
        self._cpu_s = 0.0
        """When it rested last, or its course was not there yet."""

    def take(self, sign: Sign, *, begun: bool = True) -> str:
        """Why it stands still; empty: it does not, as far as is known. `begun`: its course is there. Before,
        it loads what it needs, on whatever machine, and its work is not measured."""
        if sign.rests != self._rests or not begun:
            self._cpu_s = sign.cpu_s
        if sign.rests != self._rests:
            self._rests, self._silent = sign.rests, None
        self._stopped = _longer(self._stopped, sign.at_s) if sign.stopped else None
        resting = sign.at_rest and sign.rests is not None
        self._silent = _longer(self._silent, sign.at_s) if resting else None
        if _lasts(self._stopped, sign.at_s, STOPPED_S):
            return "it is stopped"
        silent_s = SILENT_S if sign.on_no_disk else DISK_S
        if _lasts(self._silent, sign.at_s, silent_s):
            return f"it has not moved for {silent_s:g} s"
        if sign.rests is not None and sign.cpu_s - self._cpu_s > LOOP_CPU_S:
            return f"it has run for {LOOP_CPU_S:g} s without one pause"
        return ""


def _longer(since: tuple[float, int] | None, at_s: float) -> tuple[float, int]:
    return (at_s, 1) if since is None else (since[0], since[1] + 1)


def _lasts(since: tuple[float, int] | None, now_s: float, long_s: float) -> bool:
    return since is not None and now_s - since[0] >= long_s and since[1] >= LOOKS_MIN


@dataclass(frozen=True, slots=True)
class Stuck:
    """A carrier that stands still."""

    pid: int
    start: int
    why: str


class Watch:
    """Looks at whoever holds the lock at `lock`. Use it on one event loop."""

    def __init__(self, lock: Path) -> None:
        self._lock = lock
        self._who: tuple[int, int] | None = None
        self._pulse = Pulse()
        self._looked_s = float("-inf")

    def look(self, now_s: float, began: tuple[int, int] | None) -> Stuck | None:
        """`began`: pid and start time of who began the course that is followed, for a system that
        does not say who holds a lock. Never raises; this process itself is never stuck."""
        if now_s - self._looked_s < LOOK_EVERY_S:
            return None
        self._looked_s = now_s
        who = self.holder(began)
        if who != self._who:
            self._who, self._pulse = who, Pulse()
        sign = None if who is None else read_sign(who[0], now_s)
        if who is None or sign is None:
            return None
        why = self._pulse.take(sign, begun=who == began)
        return Stuck(*who, why) if why else None

    def holder(self, began: tuple[int, int] | None) -> tuple[int, int] | None:
        """Pid and start time of who holds the lock, where that is another process for certain."""
        told, pid = _lock_told(self._lock)
        facts = None if pid is None else system_processes().facts(pid)
        if not told and began is not None:
            facts = system_processes().facts(began[0])
            if facts is not None and facts.start != began[1]:
                facts = None
        if facts is None or not facts.alive or facts.pid == os.getpid():
            return None
        return facts.pid, facts.start

    def end(self, stuck: Stuck, began: tuple[int, int] | None) -> bool:
        """As `kill_for_certain`; one that holds the lock no more is left alone."""
        who = (stuck.pid, stuck.start)
        return kill_for_certain(stuck.pid, lambda: self.holder(began) == who)


def kill_for_certain(pid: int, still: Callable[[], bool]) -> bool:
    """SIGKILL to this process if `still` says that it is the one that is meant, asked when its pid can
    no longer come to mean another. Blocks for KILLED_S at most.

    False: it was not seen to end; killed it is, so nothing of it runs again. NotKilledError: it was not.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (OSError, AttributeError):
        raise NotKilledError(f"process {pid} cannot be held on to") from None
    try:
        if not still():
            return True
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(KILLED_S * 1000))
    except ProcessLookupError:
        return True
    except OSError as error:
        raise NotKilledError(f"process {pid} cannot be killed: {error.strerror}") from error
    finally:
        os.close(descriptor)


def read_sign(pid: int, now_s: float) -> Sign | None:
    """Of its first thread; None: there is none, or it is not readable."""
    facts = system_processes().facts(pid)
    if facts is None or not facts.alive:
        return None
    status = _read(Path(f"/proc/{pid}/task/{pid}/status"))
    state, rests = "", None
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "State":
            state = value.strip()[:1]
        elif name == "voluntary_ctxt_switches":
            rests = int(value)
    return Sign(
        at_s=now_s,
        stopped=facts.frozen or state == "T",
        at_rest=state not in ("", "R"),
        on_no_disk=state == "S" and _waits_for(pid).startswith(_NO_DISK),
        rests=rests,
        cpu_s=_first_thread_cpu_s(pid, facts),
    )


def _first_thread_cpu_s(pid: int, facts: ProcessFacts) -> float:
    stat = _read(Path(f"/proc/{pid}/task/{pid}/stat"))
    fields = stat[stat.rfind(")") + 2 :].split()
    with contextlib.suppress(ValueError, IndexError):
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return facts.cpu_s


def _waits_for(pid: int) -> str:
    """The function of the kernel that its first thread waits in; `0` or empty where that is not told."""
    return _read(Path(f"/proc/{pid}/task/{pid}/wchan")).strip()


def lock_holder(path: Path) -> int | None:
    """The process that holds `path` exclusively by flock, as the kernel has it (proc_locks(5)); None:
    nobody, or it does not tell."""
    return _lock_told(path)[1]


def _lock_told(path: Path) -> tuple[bool, int | None]:
    """Whether the kernel tells who holds it, and who does; None: nobody. It does not where its books cannot
    be read, or name the device of no lock as the file does (overlayfs, btrfs), or name no process of ours."""
    try:
        facts = path.stat()
        books = _LOCKS.read_text()
    except OSError:
        return False, None
    device = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:"
    file = f"{device}{facts.st_ino}"
    told = False
    for line in books.splitlines():
        fields = line.split()
        # `1: FLOCK  ADVISORY  WRITE 4715 fe:00:2147314 0 EOF`; one that waits has `->` after its number.
        if len(fields) < 6:
            continue
        told = told or fields[5].startswith(device)
        if fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5] == file:
            pid = int(fields[4])
            return pid > 0, pid if pid > 0 else None
    return told, None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
