"""Read by every Python process that is started with this folder in PYTHONPATH: makes a controller stop at a
given point of a step, so that a test can kill it exactly there. `tests.harness.run_points` asks for it.

In a process that runs no procedure nothing is done but to look for a variable and a module's name. Nothing
of this is in Openbell itself: a way to stop a run from outside has no business in what people run.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

WATCHED = "openbell.procedures.run"
FOLDER = os.environ.get("POINTS_OF_RUNS", "")
LOOK_EVERY_S = 0.01


async def at_point(step: str, point: str) -> None:
    """Waits here while `stopped` is in the folder, where this is the point that `stop-at` asks for."""
    wanted, stopped = Path(FOLDER, "stop-at"), Path(FOLDER, "stopped")
    try:
        asked = json.loads(wanted.read_text())
    except FileNotFoundError:
        return
    if (asked["step"], asked["point"]) != (step, point):
        return
    # One of two at once: the rename of the other finds nothing.
    with contextlib.suppress(FileNotFoundError):
        wanted.rename(stopped)
        while stopped.exists():
            await asyncio.sleep(LOOK_EVERY_S)


class StoppingJournal:
    """Of a run: the journal itself, and after each of its writes a point."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def step_started(self, step: str, index: int) -> None:
        await self._journal.step_started(step, index)
        await at_point(step, "begun")

    async def step_planned(self, step: str, *rest: Any) -> None:
        await self._journal.step_planned(step, *rest)
        await at_point(step, "planned")

    async def step_done(self, step: str, *rest: Any) -> None:
        await at_point(step, "verified")
        await self._journal.step_done(step, *rest)
        await at_point(step, "after")


def add_points(module: ModuleType) -> None:
    runner: Any = vars(module)["Runner"]
    make, verify = runner.__init__, runner._verify

    def made(self: Any, journal: Any, *rest: Any, **more: Any) -> None:
        make(self, StoppingJournal(journal), *rest, **more)

    async def verified(self: Any, step: Any, *rest: Any) -> Any:
        await at_point(step.name, "acted")
        return await verify(self, step, *rest)

    runner.__init__, runner._verify = made, verified


class Loader(importlib.abc.Loader):
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._inner.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        add_points(module)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            spec.loader = Loader(spec.loader)
        return spec


if FOLDER:
    sys.meta_path.insert(0, Finder())
