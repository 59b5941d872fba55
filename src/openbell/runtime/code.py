"""Which code a command would run now, told by the files it names: changed since a process was
started, that process runs older code.

Seen are the program, the script or archive it is given first, and, of Openbell's own services, the
package and the modules beside the desk file (strategies). Not seen is what a command does not name: a
library, a file that is read at run time. Files are told by size and time of change, not by content,
so a file that was written again unchanged counts as changed: it costs a restart that was not needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import openbell
from openbell.runtime.spec import ServiceSpec

_KEPT_S = 1.0
"""An answer may be so old: a status looks at every service, several times a second."""
_OWN_MODULES = "openbell."
_OWN_PACKAGE = os.path.dirname(openbell.__file__)  # noqa: PTH120 - walked as text, as below

Facts = tuple[tuple[str, int, int], ...]
"""Path, size and time of change in nanoseconds of each file, sorted."""


class CodeWatch:
    """Answers for all services of a desk."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, ...], Path], tuple[float, str]] = {}
        self._package: tuple[float, Facts] | None = None

    def recent(self, spec: ServiceSpec) -> str:
        """As `code_of`, at most a second old."""
        key = (spec.argv, spec.cwd)
        known = self._known.get(key)
        now = time.monotonic()
        if known is None or now - known[0] > _KEPT_S:
            at, own = self._recent_package(now) if _runs_own_module(spec) else (now, ())
            known = self._known[key] = at, _digest(spec, own)
        return known[1]

    def _recent_package(self, now: float) -> tuple[float, Facts]:
        """When it was read, and its modules: once for all services that run one of them."""
        if self._package is None or now - self._package[0] > _KEPT_S:
            self._package = now, _modules(_OWN_PACKAGE, deep=True)
        return self._package


def code_of(spec: ServiceSpec) -> str:
    """A digest of the code that its command would run now, hex."""
    return _digest(spec, _modules(_OWN_PACKAGE, deep=True) if _runs_own_module(spec) else ())


def _digest(spec: ServiceSpec, own: Facts) -> str:
    """`own`: of Openbell's package, where the command runs a module of it."""
    whole = hashlib.sha256()
    for path, size, changed_ns in (*_named_files(spec), *own):
        whole.update(f"{path}\0{size}\0{changed_ns}\0".encode())
    return whole.hexdigest()


def _named_files(spec: ServiceSpec) -> Iterator[tuple[str, int, int]]:
    """The program, and its script or the modules beside the desk file."""
    program, *arguments = spec.argv
    search = spec.environment.get("PATH")
    found = shutil.which(program, path=search) if "/" not in program else str(spec.cwd / program)
    if found is not None:
        yield from _facts(os.path.realpath(found))
    if (module := _module(spec)) is not None:
        if module.startswith(_OWN_MODULES):
            yield from _modules(str(spec.cwd), deep=False)
        return
    # The first one only: further arguments name files of data, which change all the time.
    script = next((each for each in arguments if not each.startswith("-")), None)
    if script is not None and len(script) < 4096 and (path := spec.cwd / script).is_file():
        yield from _facts(os.path.realpath(path))


def _module(spec: ServiceSpec) -> str | None:
    """What `-m` names."""
    arguments = spec.argv[1:]
    return arguments[arguments.index("-m") + 1] if "-m" in arguments[:-1] else None


def _runs_own_module(spec: ServiceSpec) -> bool:
    return (_module(spec) or "").startswith(_OWN_MODULES)


def _facts(path: str) -> Facts:
    try:
        facts = os.stat(path)  # noqa: PTH116
    except OSError:
        return ()
    return ((path, facts.st_size, facts.st_mtime_ns),)


def _modules(folder: str, *, deep: bool) -> Facts:
    """Of each `.py` file in it, and in the folders below; what cannot be read is passed over."""
    found: list[tuple[str, int, int]] = []
    folders = [folder]
    while folders:
        try:
            # Hundreds at a time: through `Path` it takes four times as long.
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.name.endswith(".py"):
                        found.extend(_facts(entry.path))
                    elif (
                        deep and entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False)
                    ):
                        folders.append(entry.path)
        except OSError:
            continue
    return tuple(sorted(found))
