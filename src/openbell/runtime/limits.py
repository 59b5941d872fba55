"""CPU and memory limits, where the system gives them; `support()` says which.

A delegated cgroup v2 holds a whole service, with all it forks, to both limits, and ends it at one
stroke (`cgroup.kill`). Without one, Linux still bounds each process's private memory
(RLIMIT_DATA, by prlimit on the child: the address space, RLIMIT_AS, would break programs that
reserve far more than they use); CPU is then not limited. macOS enforces neither.

A cgroup is used when it is ours to use: `OPENBELL_CGROUP` names it, or systemd marked our own as
delegated (`Delegate=yes`), or we may write to it without being root.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from openbell.config.services import Limits

_PERIOD_US = 100_000
"""The kernel's default period of cpu.max."""
_ENTER = 'echo $$ > "$0" && exec "$@"'
"""Enters the cgroup and becomes the service: same pid. Its arguments are never parsed as shell."""


@dataclass(frozen=True)
class LimitsSupport:
    """What is enforced here."""

    cpu: Literal["cgroup", "none"]
    memory: Literal["cgroup", "per process", "none"]
    cgroup: Path | None
    """The delegated folder under which each service gets its own."""
    why_not: str
    """What keeps the better way away; empty when both are by cgroup."""


def support(environ: Mapping[str, str] | None = None) -> LimitsSupport:
    """Looks at the system once per process, for the process's own environment."""
    return _look(
        os.environ.get("OPENBELL_CGROUP") if environ is None else environ.get("OPENBELL_CGROUP")
    )


@functools.cache
def _look(named: str | None) -> LimitsSupport:
    per_process: Literal["per process", "none"] = (
        "per process" if sys.platform == "linux" else "none"
    )
    folder, why_not = _delegated(named)
    if folder is None:
        return LimitsSupport("none", per_process, None, why_not)
    enabled = _enable(folder)
    missing = sorted({"cpu", "memory"} - enabled)
    return LimitsSupport(
        cpu="cgroup" if "cpu" in enabled else "none",
        memory="cgroup" if "memory" in enabled else per_process,
        cgroup=folder,
        why_not=f"cgroup {folder} has no {' and no '.join(missing)} controller" if missing else "",
    )


def _delegated(named: str | None) -> tuple[Path | None, str]:
    if named:
        folder = Path(named)
        if os.access(folder / "cgroup.procs", os.W_OK):
            return folder, ""
        return None, f"OPENBELL_CGROUP names {folder}, which is not a writable cgroup v2"
    mount = _cgroup2_mount()
    if mount is None:
        return None, "there is no cgroup v2"
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        return None, f"/proc/self/cgroup: {error.strerror}"
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    if own == "/":
        return None, "the controller is in the root cgroup, which is not delegated"
    folder = mount / own.lstrip("/")
    if not os.access(folder / "cgroup.procs", os.W_OK):
        return None, f"cgroup {own} is not writable"
    if os.geteuid() == 0 and not _marked_delegated(folder):
        return None, f"cgroup {own} is not marked as delegated (systemd: Delegate=yes)"
    return folder, ""


def _marked_delegated(folder: Path) -> bool:
    if sys.platform != "linux":
        return False
    for attribute in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, attribute) == b"1":
                return True
    return False


def _cgroup2_mount() -> Path | None:
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        mount, _, rest = line.partition(" - ")
        if rest.startswith("cgroup2 "):
            return Path(mount.split()[4])
    return None


def _enable(folder: Path) -> set[str]:
    """Hands the cpu and memory controllers down where the folder has them. EBUSY: processes sit
    in the folder itself (no internal processes); systemd's `DelegateSubgroup=` avoids that."""
    control = folder / "cgroup.subtree_control"
    for controller in ("cpu", "memory"):
        with contextlib.suppress(OSError):
            control.write_text(f"+{controller}")
    try:
        return set(control.read_text().split())
    except OSError:
        return set()


def _refuse_frozen(folder: Path) -> None:
    """One that an emergency stop froze stays frozen when its processes are gone: what is started in
    it would stand still before its first line. Thawed only when it is empty: what was frozen may
    never act again. Raises OSError."""
    freeze = folder / "cgroup.freeze"
    if not freeze.exists() or freeze.read_text().strip() != "1":
        return
    if (folder / "cgroup.procs").read_text().split():
        raise OSError(errno.EBUSY, "processes that were frozen by an emergency stop are left in it")
    freeze.write_text("0")


@dataclass(frozen=True)
class ServiceCgroup:
    """One service's folder under the delegated cgroup."""

    path: Path

    @classmethod
    def make(cls, parent: Path, desk_id: str, service: str, limits: Limits) -> ServiceCgroup:
        """Makes it and sets its limits. Raises OSError."""
        path = parent / f"openbell-{desk_id}-{service}"
        path.mkdir(exist_ok=True)
        _refuse_frozen(path)
        for name, value in (
            ("memory.max", "max" if limits.memory is None else str(limits.memory)),
            (
                "cpu.max",
                "max" if limits.cpu is None else f"{round(limits.cpu * _PERIOD_US)} {_PERIOD_US}",
            ),
        ):
            if (path / name).exists():
                (path / name).write_text(value)
        return cls(path)

    def entering(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The command that enters the cgroup first and then becomes `argv`."""
        return ("/bin/sh", "-c", _ENTER, str(self.path / "cgroup.procs"), *argv)

    def kill(self) -> bool:
        """Ends every process in it at once. False: the kernel (before 5.14) cannot."""
        try:
            (self.path / "cgroup.kill").write_text("1")
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """Harmless while processes are left in it or when it is gone."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


def limit_process_memory(pid: int, memory_bytes: int) -> bool:
    """Bounds the private memory of one process and of what it forks from now on. False: it ended,
    or this system cannot."""
    if sys.platform != "linux":
        return False
    import resource

    try:
        resource.prlimit(pid, resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    except (OSError, ValueError):
        return False
    return True
