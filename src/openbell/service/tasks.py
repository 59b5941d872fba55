"""Background tasks that cannot die unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from openbell.service.health import CheckResult, failing, ok
from openbell.service.logging import alert

TaskBody = Callable[[], Awaitable[None]]

CANCEL_AGAIN_S = 1.0
"""A body may take a cancellation for something else (of `asyncio.wait_for` on Python 3.11, say, or
of a library's time-out) and go on: it is cancelled again so often until it has ended. Long enough
for an orderly end."""


class Tasks:
    """Runs the service's background tasks. One that ends unasked makes health failing for good."""

    def __init__(self) -> None:
        self._bodies: list[tuple[str, TaskBody]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._ended: dict[str, str] = {}
        self._started = False
        self._stopping = False

    def add(self, body: TaskBody, name: str) -> None:
        """Runs from now on, or from the service's start on."""
        if self._started:
            self._spawn(body, name)
        else:
            self._bodies.append((name, body))

    def start(self) -> None:
        self._started = True
        for name, body in self._bodies:
            self._spawn(body, name)

    def check(self) -> CheckResult:
        if self._ended:
            return failing("; ".join(f"{name}: {why}" for name, why in self._ended.items()))
        return ok(f"{len(self._running)} running")

    async def cancel(self) -> None:
        """End them all and wait for it."""
        self._stopping = True
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(tuple(self._running), timeout=CANCEL_AGAIN_S)

    def _spawn(self, body: TaskBody, name: str) -> None:
        task = asyncio.create_task(self._supervise(body, name), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _supervise(self, body: TaskBody, name: str) -> None:
        try:
            await body()
        except asyncio.CancelledError:
            if not self._stopping:
                self._report(name, "was cancelled", None)
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - reported by alert and health
            self._report(name, f"{type(error).__name__}: {error}", error)
        else:
            if not self._stopping:
                self._report(name, "ended", None)

    def _report(self, name: str, why: str, error: BaseException | None) -> None:
        self._ended[name] = why
        alert("background task died", task=name, why=why, exc_info=error)
