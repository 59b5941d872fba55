"""The backups that a desk declares, each known by the newest file that it leaves."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openbell.config.backups import READ_BACK, Backup
from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.procedures.command_step import filled
from openbell.runtime.commands import run_command
from openbell.runtime.plan import plain_environment


@dataclass(frozen=True)
class BackupFact:
    """What was found of one."""

    name: str
    required: bool
    max_age_s: float
    min_bytes: int
    path: str = ""
    """Of the newest file; empty where there is none."""
    age_s: float | None = None
    size: int | None = None
    whole: bool | None = None
    """It was read back. None: it was not, or not to the end."""
    why: str = ""
    """What reading it back said, or why there is nothing to read."""


async def look_at_backups(
    desk: LoadedDesk, layout: DeskLayout, environ: Mapping[str, str]
) -> tuple[BackupFact, ...]:
    """All at once, in the order of the desk file. Never raises for what is found."""
    environment = plain_environment(layout, environ)
    declared = desk.file.backups.items()
    return tuple(
        await asyncio.gather(*(_look(name, each, layout, environment) for name, each in declared))
    )


def _place(backup: Backup, layout: DeskLayout) -> Path:
    return Path(os.path.normpath(layout.desk / filled([backup.folder], layout)[0]))


async def _look(
    name: str, backup: Backup, layout: DeskLayout, environment: Mapping[str, str]
) -> BackupFact:
    def fact(**found: object) -> BackupFact:
        return BackupFact(name, backup.required, backup.max_age, backup.min_size, **found)  # type: ignore[arg-type]

    folder = _place(backup, layout)
    try:
        async with asyncio.timeout(backup.timeout):
            newest = await asyncio.to_thread(_newest, folder, backup.files)
    except TimeoutError:
        return fact(why=f"{folder} did not answer within {backup.timeout:g}s")
    except OSError as error:
        return fact(why=f"{folder}: {error.strerror or error}", whole=False)
    if newest is None:
        return fact(why=f"no file {backup.files} in {folder}", whole=False)
    path, modified_s, size = newest
    found = {"path": str(path), "age_s": time.time() - modified_s, "size": size}
    if backup.verify:
        argv = [word.replace("{file}", str(path)) for word in filled(backup.verify, layout)]
    elif path.suffix in READ_BACK:
        argv = [sys.executable, "-m", "openbell.procedures.read_back", str(path)]
    else:
        return fact(**found, why="nothing says whether it can be restored: give `verify`")
    ran = await run_command(
        argv, cwd=layout.desk, environment=environment, timeout_s=backup.timeout
    )
    whole = None if ran.status is None else ran.status == 0
    return fact(**found, whole=whole, why=ran.told)


def _newest(folder: Path, pattern: str) -> tuple[Path, float, int] | None:
    """With when it was changed last, in seconds since the epoch, and its bytes. Raises OSError."""
    folder.stat()  # else a folder that is not there would pass for an empty one
    found = []
    for path in folder.glob(pattern):
        if path.is_file():
            seen = path.stat()
            found.append((path, seen.st_mtime, seen.st_size))
    return max(found, key=lambda each: each[1], default=None)
