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
from collections.abc import Iterable, Iterator
from pathlib import Path

import openbell
from openbell.runtime.spec import ServiceSpec

_KEPT_S = 1.0
"""An answer may be so old: a status looks at every service, several times a second."""
_OWN_MODULES = "openbell."


class CodeWatch:
    """Answers for all services of a desk."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, ...], Path], tuple[float, str]] = {}

    def recent(self, spec: ServiceSpec) -> str:
        """As `code_of`, at most a second old."""
        key = (spec.argv, spec.cwd)
        known = self._known.get(key)
        now = time.monotonic()
        if known is None or now - known[0] > _KEPT_S:
            known = self._known[key] = now, code_of(spec)
        return known[1]


def code_of(spec: ServiceSpec) -> str:
    """A digest of the code that its command would run now, hex."""
    whole = hashlib.sha256()
    for path in _files(spec):
        try:
            facts = os.stat(path)  # noqa: PTH116 - hundreds at a time, and a Path takes twice as long
        except OSError:
            continue
        whole.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return whole.hexdigest()


def _files(spec: ServiceSpec) -> Iterator[str]:
    program, *arguments = spec.argv
    search = spec.environment.get("PATH")
    found = shutil.which(program, path=search) if "/" not in program else str(spec.cwd / program)
    if found is not None:
        yield os.path.realpath(found)
    if "-m" in arguments[:-1]:
        module = arguments[arguments.index("-m") + 1]
        if module.startswith(_OWN_MODULES):
            yield from _modules(Path(openbell.__file__).parent.rglob("*.py"))
            yield from _modules(spec.cwd.glob("*.py"))
        return
    # The first one only: further arguments name files of data, which change all the time.
    script = next((each for each in arguments if not each.startswith("-")), None)
    if script is not None and len(script) < 4096 and (path := spec.cwd / script).is_file():
        yield os.path.realpath(path)


def _modules(paths: Iterable[Path]) -> list[str]:
    return sorted(map(str, paths))
