"""Watching processes end, and signalling them without hitting another that took the pid.

`ProcessWatch` is the port. `PidfdWatch` (Linux) hears of an exit from the kernel within
microseconds and signals through the pidfd, which never means another process. `PollWatch` (macOS,
old kernels) looks every 20 ms and compares start times before it signals.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
from typing import Protocol

from openbell.runtime.processes import ProcessTable

_GROUP_FLAG = 4
"""PIDFD_SIGNAL_PROCESS_GROUP, since Linux 6.9 (include/uapi/linux/pidfd.h)."""
_INFO_REQUEST = (3 << 30) | (64 << 16) | (0xFF << 8) | 11
"""PIDFD_GET_INFO: _IOWR(0xFF, 11, struct pidfd_info of 64 bytes), since Linux 6.13."""
_INFO_EXIT = 1 << 3
"""PIDFD_INFO_EXIT, since Linux 6.15: the exit status, also for those who are not the parent."""
_POLL_EVERY_S = 0.02


class WatchedProcess(Protocol):
    """One process that is watched until it ends or is let go."""

    pid: int
    exit: asyncio.Future[int | None]
    """Done when it has ended: its exit status, negative for a signal, None where unknown."""

    @property
    def start(self) -> int | None:
        """As in ProcessFacts, read once the watch was in place; None: unreadable, or it ended
        before it was asked for."""

    def signal(self, number: int) -> bool:
        """Signals the process. False: it has ended, or runs as a user we may not signal."""

    def signal_group(self, number: int) -> bool:
        """Signals every process of its group, also after it ended itself; 0 only asks. False: the
        group is empty, zombies counting as members."""

    def close(self) -> None:
        """Let it go; harmless when repeated."""


class ProcessWatch(Protocol):
    def child(self, pid: int) -> WatchedProcess:
        """Watches a child of this process and reaps it when it ends."""

    def other(self, pid: int) -> WatchedProcess | None:
        """Watches any process. None: there is none with this pid now. Compare `start` with what
        was expected before anything is sent to it."""


class PidfdWatch:
    """Linux 5.4 and newer."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table

    def child(self, pid: int) -> WatchedProcess:
        return _PidfdProcess(pid, os.pidfd_open(pid), self._table, is_child=True)

    def other(self, pid: int) -> WatchedProcess | None:
        try:
            descriptor = os.pidfd_open(pid)
        except (ProcessLookupError, ValueError, OverflowError):
            return None
        except OSError:  # EINVAL for a pid that is none
            return None
        return _PidfdProcess(pid, descriptor, self._table, is_child=False)


class _PidfdProcess:
    def __init__(self, pid: int, descriptor: int, table: ProcessTable, *, is_child: bool) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._table = table
        self._is_child = is_child
        self._start: int | None = None
        if not is_child:
            _ = self.start  # now: what is read later could be of a successor
        self._loop = asyncio.get_running_loop()
        self.exit: asyncio.Future[int | None] = self._loop.create_future()
        self._loop.add_reader(descriptor, self._on_exit)

    @property
    def start(self) -> int | None:
        # Of a child it can be read at any time until it is reaped, as its pid stays taken; while
        # it executes its program the kernel takes ten times as long to answer.
        if self._start is None and not (self._is_child and self.exit.done()):
            facts = self._table.facts(self.pid)
            self._start = facts.start if facts is not None else None
        return self._start

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._descriptor)
        status = self._reap() if self._is_child else self._status_from_kernel()
        if not self.exit.done():
            self.exit.set_result(status)

    def _reap(self) -> int | None:
        try:
            result = os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOHANG)
        except ChildProcessError:  # somebody else reaped it
            return self._status_from_kernel()
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    def _status_from_kernel(self) -> int | None:
        answer = bytearray(64)
        struct.pack_into("=Q", answer, 0, _INFO_EXIT)
        try:
            fcntl.ioctl(self._descriptor, _INFO_REQUEST, answer)
        except OSError:  # ENOTTY: an older kernel; ESRCH: reaped, and this kernel forgot it
            return None
        (mask,) = struct.unpack_from("=Q", answer, 0)
        if not mask & _INFO_EXIT:  # a zombie that its parent has not reaped yet
            return _status_of_zombie(self.pid)
        return os.waitstatus_to_exitcode(struct.unpack_from("=i", answer, 60)[0])

    def signal(self, number: int) -> bool:
        # A zombie that its parent has not reaped would still take the signal.
        if self._descriptor < 0 or self.exit.done():
            return False
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def signal_group(self, number: int) -> bool:
        if self._descriptor < 0:
            return False
        try:
            signal.pidfd_send_signal(self._descriptor, number, None, _GROUP_FLAG)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        except OSError:  # EINVAL before Linux 6.9
            return _signal_group_by_number(self, number, self._table)
        return True

    def close(self) -> None:
        if self._descriptor < 0:
            return
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        if not self.exit.done():
            self.exit.cancel()


class PollWatch:
    """Any system: one timer looks at every watched process in turn."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._watched: set[_PolledProcess] = set()
        self._timer: asyncio.TimerHandle | None = None

    def child(self, pid: int) -> WatchedProcess:
        return self._watch(pid, is_child=True)

    def other(self, pid: int) -> WatchedProcess | None:
        facts = self._table.facts(pid)
        return self._watch(pid, is_child=False) if facts is not None and facts.alive else None

    def _watch(self, pid: int, *, is_child: bool) -> WatchedProcess:
        process = _PolledProcess(pid, self._table, self._watched.discard, is_child=is_child)
        self._watched.add(process)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_POLL_EVERY_S, self._look)
        return process

    def _look(self) -> None:
        for process in tuple(self._watched):
            process.look()
        self._timer = (
            asyncio.get_running_loop().call_later(_POLL_EVERY_S, self._look)
            if self._watched
            else None
        )


class _PolledProcess:
    def __init__(self, pid: int, table: ProcessTable, forget: _Forget, *, is_child: bool) -> None:
        self.pid = pid
        self._table = table
        self._forget = forget
        self._is_child = is_child
        facts = table.facts(pid)
        self._start = facts.start if facts is not None else None
        self.exit: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    @property
    def start(self) -> int | None:
        return self._start

    def look(self) -> None:
        if self.exit.done():
            self._forget(self)
            return
        if self._is_child:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else reaped it
                self._ended(None)
                return
            if pid:
                self._ended(os.waitstatus_to_exitcode(status))
        elif not self._is_there():
            self._ended(None)

    def _ended(self, status: int | None) -> None:
        self._forget(self)
        self.exit.set_result(status)

    def _is_there(self) -> bool:
        facts = self._table.facts(self.pid)
        return facts is not None and facts.alive and facts.start == self._start

    def signal(self, number: int) -> bool:
        if self.exit.done() or not self._is_there():
            return False
        try:
            os.kill(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def signal_group(self, number: int) -> bool:
        return _signal_group_by_number(self, number, self._table)

    def close(self) -> None:
        self._forget(self)
        if not self.exit.done():
            self.exit.cancel()


class _Forget(Protocol):
    def __call__(self, process: _PolledProcess, /) -> None: ...


def choose_watch(table: ProcessTable) -> ProcessWatch:
    """The best watch this system has. A sandbox may forbid pidfds on a kernel that has them."""
    if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return PollWatch(table)
        return PidfdWatch(table)
    return PollWatch(table)


def _signal_group_by_number(leader: WatchedProcess, number: int, table: ProcessTable) -> bool:
    """`killpg`, unless another process has taken the leader's pid: a pid is not given out again
    while a group bears its number, so then nothing of ours is left in it."""
    facts = table.facts(leader.pid)
    if facts is not None and facts.start != leader.start:
        return False
    try:
        os.killpg(leader.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS: EPERM where only zombies are left
        return False
    return True


def _status_of_zombie(pid: int) -> int | None:
    """Field 52 of /proc/PID/stat, which the kernel fills only for those who may trace it; root and
    the same user may. A 0 could also mean "not allowed", so another user's is unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - bytes of a kernel file
            if os.fstat(file.fileno()).st_uid != os.geteuid() and os.geteuid() != 0:
                return None
            stat = file.read()
    except OSError:
        return None
    fields = stat[stat.rfind(b")") + 2 :].split()
    if fields[0] != b"Z" or len(fields) < 50:
        return None
    return os.waitstatus_to_exitcode(int(fields[49]))
