"""Work that may hang (a disk that answers nothing) on a thread that nobody has to wait for.

The loop's own threads are joined when a process ends: a stop that is through would then wait for
the dead disk after all. These are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T], timeout_s: float | None = None) -> T:
    """What `work` returns or raises. TimeoutError: it goes on, and its result is lost."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, daemon=True, name="aside").start()
    async with asyncio.timeout(timeout_s):
        return await done


async def opened_aside(work: Callable[[], T], timeout_s: float, close: Callable[[T], object]) -> T:
    """As `aside`, of what has to be closed: what comes after the time-out, as nobody would any more, is
    closed by `close`, on that thread."""
    guarded, given_up = threading.Lock(), False

    def opening() -> T:
        opened = work()
        with guarded:
            if given_up:
                close(opened)
        return opened

    try:
        return await aside(opening, timeout_s)
    finally:
        with guarded:
            given_up = True


def within(work: Callable[[], T], timeout_s: float) -> T:
    """As `aside`, for whoever runs on no event loop, or must not let go of it: it blocks for so long at
    most. Raises what `work` raises, and TimeoutError."""
    told: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            told.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True, name="within")
    thread.start()
    thread.join(timeout_s)
    if failed:
        raise failed[0]
    if not told:
        raise TimeoutError
    return told[0]
