"""Facts about processes: from /proc where there is one, from psutil elsewhere (macOS).

A process is known by its pid together with its start time; a pid alone is reused (32,768 of them
wrap in seconds). What cannot be read is None, and whoever acts on processes treats None as "not
ours": nothing is signalled on a guess.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MARK_VARIABLE = "OPENBELL_MARK"
"""`desk id:service:generation` in the environment of every process of a service, inherited by
whatever it forks, so that a process that left its group is still told from others'."""

_MARK_PREFIX = MARK_VARIABLE.encode() + b"="
_READ_MAX = 1 << 20
"""Bytes; the kernel allows an environment of megabytes, the mark is put first."""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One process at one moment."""

    pid: int
    start: int
    """When it started: clock ticks since boot on Linux, wall-clock microseconds elsewhere. Only
    ever compared for equality."""
    parent: int
    group: int
    session: int
    alive: bool
    """False for a zombie: it has ended, only nobody has reaped it yet."""
    frozen: bool
    """Stopped by SIGSTOP or a terminal: catches no signal but SIGKILL until continued."""
    cpu_s: float
    """CPU time used so far, user and system."""
    memory_bytes: int
    """Resident."""


class ProcessTable(Protocol):
    """What the runtime asks of the system's process table."""

    def boot_id(self) -> str:
        """Changes at each boot: start times and pids of another boot mean nothing."""

    def facts(self, pid: int) -> ProcessFacts | None:
        """None: no such process, or not readable."""

    def mark(self, pid: int) -> str | None:
        """Its OPENBELL_MARK. None: it has none, or its environment is not readable."""

    def hides_mark(self, pid: int) -> bool:
        """Whether it may have one that we may not read: its program has file capabilities, or it has made
        itself undumpable, and we are an ordinary user."""

    def command(self, pid: int) -> str | None:
        """Its command line with blanks between the arguments, or its name in brackets."""

    def everything(self) -> Iterator[ProcessFacts]:
        """Every readable process."""


class LinuxProcesses:
    """Reads /proc directly: 10 microseconds a process, where psutil takes 100."""

    def __init__(self) -> None:
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def boot_id(self) -> str:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def facts(self, pid: int) -> ProcessFacts | None:
        stat = _read(f"/proc/{pid}/stat")
        if not stat:
            return None
        # The name stands in parentheses and may itself hold blanks and parentheses.
        fields = stat[stat.rfind(b")") + 2 :].split()
        state = fields[0]
        return ProcessFacts(
            pid=pid,
            start=int(fields[19]),
            parent=int(fields[1]),
            group=int(fields[2]),
            session=int(fields[3]),
            alive=state not in (b"Z", b"X", b"x"),
            frozen=state == b"T",
            cpu_s=(int(fields[11]) + int(fields[12])) / self._ticks_per_s,
            memory_bytes=int(fields[21]) * self._page_bytes,
        )

    def mark(self, pid: int) -> str | None:
        environment = _read(f"/proc/{pid}/environ")
        if not environment:
            return None
        for variable in environment.split(b"\0"):
            if variable.startswith(_MARK_PREFIX):
                return os.fsdecode(variable[len(_MARK_PREFIX) :])
        return None

    def hides_mark(self, pid: int) -> bool:
        try:
            os.close(os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC))
        except PermissionError:
            return True
        except OSError:  # it has ended
            return False
        return False

    def command(self, pid: int) -> str | None:
        line = _read(f"/proc/{pid}/cmdline")
        if line:
            return os.fsdecode(line.rstrip(b"\0").replace(b"\0", b" "))
        name = _read(f"/proc/{pid}/comm")
        return f"[{os.fsdecode(name).strip()}]" if name else None

    def everything(self) -> Iterator[ProcessFacts]:
        for name in os.listdir("/proc"):  # noqa: PTH208 - names are all that is needed, 200 a scan
            if name.isdigit() and (found := self.facts(int(name))) is not None:
                yield found


class PsutilProcesses:
    """The same facts from psutil, for systems without /proc."""

    def boot_id(self) -> str:
        # psutil.boot_time() moves when the clock is set; the boot session's uuid does not.
        asked = subprocess.run(
            ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"),
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode != 0 or not asked.stdout.strip():
            raise OSError(f"cannot tell this boot from another: {asked.stderr.strip()}")
        return asked.stdout.strip()

    def facts(self, pid: int) -> ProcessFacts | None:
        import psutil

        try:
            process = psutil.Process(pid)
            with process.oneshot():
                status = process.status()
                times = process.cpu_times()
                return ProcessFacts(
                    pid=pid,
                    start=round(process.create_time() * 1_000_000),
                    parent=process.ppid(),
                    group=os.getpgid(pid),
                    session=os.getsid(pid),
                    alive=status not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD),
                    frozen=status == psutil.STATUS_STOPPED,
                    cpu_s=times.user + times.system,
                    memory_bytes=process.memory_info().rss,
                )
        except (psutil.Error, OSError):
            return None

    def mark(self, pid: int) -> str | None:
        import psutil

        try:
            return psutil.Process(pid).environ().get(MARK_VARIABLE)
        except (psutil.Error, OSError):
            return None

    def hides_mark(self, pid: int) -> bool:
        import psutil

        try:
            psutil.Process(pid).environ()
        except (psutil.AccessDenied, PermissionError):
            return True
        except (psutil.Error, OSError):
            return False
        return False

    def command(self, pid: int) -> str | None:
        import psutil

        try:
            process = psutil.Process(pid)
            return " ".join(process.cmdline()) or f"[{process.name()}]"
        except (psutil.Error, OSError):
            return None

    def everything(self) -> Iterator[ProcessFacts]:
        import psutil

        for pid in psutil.pids():
            if (found := self.facts(pid)) is not None:
                yield found


@functools.cache
def system_processes() -> ProcessTable:
    """The process table of this system."""
    return LinuxProcesses() if Path("/proc/self/stat").exists() else PsutilProcesses()


def this_boot() -> str:
    """Its id; empty where the machine does not say: then nothing of an earlier moment is of this boot
    for certain."""
    try:
        return system_processes().boot_id()
    except OSError:
        return ""


def _read(path: str) -> bytes | None:
    """The file's bytes; None where it is gone or may not be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(file, _READ_MAX)
    except OSError:  # the process ended between the two calls
        return None
    finally:
        os.close(file)
