"""The guard's life: lock, listen, load, watch, until it is told to end.

It listens before the desk file is read and before anything heavy is loaded: whoever starts it waits
for no venue. Ending it disarms nothing; a venue's timer then runs out unless another guard comes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import hashlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from openbell.config.layout import DESK_FILE, DeskLayout
from openbell.domain.dead_man import Mode
from openbell.errors import OpenbellError
from openbell.guard.record import GuardRecord, own_record, read_record, write_record
from openbell.guard.server import Answer, Fields, GuardServer, Handler, Peer
from openbell.kill.aside import aside
from openbell.kill.beats import Beat, BeatReceiver
from openbell.state.files import write_atomically
from openbell.state.lock import FileLock

if TYPE_CHECKING:
    from openbell.config.models import LoadedDesk
    from openbell.config.secrets import Secrets
    from openbell.guard.guard import Guard

REQUESTS = (
    "status", "watch", "dead_man", "emergency_stop", "latch", "open", "hold", "disarm", "detach",
    "end",
)  # fmt: skip


class Earlier(NamedTuple):
    """As in GuardRecord."""

    engine_heard: bool = False
    left_s: float | None = None
    mode: Mode = Mode.OPEN
    left: tuple[str, ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after an orderly end, 5 where another guard has the desk, else that of the
    error."""
    parser = argparse.ArgumentParser(prog="openbell.guard", description=__doc__)
    parser.add_argument("--desk", type=Path, required=True, help="desk.toml or its folder")
    parser.add_argument("--foreground", action="store_true", help="log to standard output")
    options = parser.parse_args(arguments)
    layout = DeskLayout.for_desk(options.desk.parent if options.desk.is_file() else options.desk)
    lock = FileLock(layout.guard_lock)
    try:
        layout.make()
        lock.acquire()
        if not options.foreground:
            _log_to(layout.guard_log)
        # What loading makes stays. To look through it for garbage again and again is a tenth of it.
        gc.disable()
        return asyncio.run(_live(layout))
    except (OpenbellError, OSError) as error:
        told = error.message if isinstance(error, OpenbellError) else str(error)
        hint = error.hint if isinstance(error, OpenbellError) else ""
        with contextlib.suppress(OSError):  # a log on a full disk must not hide the exit status
            print(f"openbell guard: {told}\n{hint}", file=sys.stderr)  # noqa: T201
        return error.exit_code if isinstance(error, OpenbellError) else 1
    finally:
        lock.release()


def _log_to(path: Path) -> None:
    """Standard output and error into the guard's log: a terminal that goes must not matter."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return  # without a log rather than without a guard
    sys.stdout.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


class _Reception:
    """Listens at once; questions and beats wait for the guard, which is still loading."""

    def __init__(self, layout: DeskLayout) -> None:
        self._layout = layout
        self.guard: asyncio.Future[Guard] = asyncio.get_running_loop().create_future()
        self.server = GuardServer(
            layout.guard_socket, {name: self._handler(name) for name in REQUESTS}
        )
        self.beats = BeatReceiver(layout.beats_socket, self._hear)
        self._early: list[tuple[Beat, float]] = []

    async def open(self) -> None:
        self.beats.open()
        await self.server.open()

    def admit(self, guard: Guard) -> None:
        self.guard.set_result(guard)
        for beat, at_s in self._early:
            guard.hear(beat, at_s)
        self._early.clear()

    async def close(self) -> None:
        self.beats.close()
        await self.server.close()

    async def keep_reachable(self) -> bool:
        """Somebody may have cleaned the run folder: nobody could press the emergency stop then, and
        no beat would arrive. Whether beats arrived all the time. Raises OSError, StorageError."""
        heard = self.beats.is_reachable()
        if heard and self.server.is_reachable():
            return True
        # No other folder: a state folder that is gone is none whose latches are released.
        self._layout.make_run()
        if not heard:
            self.beats.reopen()
        if not self.server.is_reachable():
            await self.server.reopen()
        self.guard.result().tell("socket_lost", why="its path led elsewhere: opened again")
        return heard

    def _handler(self, name: str) -> Handler:
        async def handle(fields: Fields, peer: Peer) -> Answer:
            guard = await asyncio.shield(self.guard)
            async for answer in guard.handlers()[name](fields, peer):
                yield answer

        return handle

    def _hear(self, beat: Beat, at_s: float) -> None:
        if self.guard.done():
            self.guard.result().hear(beat, at_s)
        else:
            self._early.append((beat, at_s))


async def _live(layout: DeskLayout) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    reception = _Reception(layout)
    await reception.open()
    try:
        return await _watch_over(layout, reception, ended)
    finally:
        await reception.close()


async def _watch_over(layout: DeskLayout, reception: _Reception, ended: asyncio.Event) -> int:
    from openbell.guard.guard import RECORD_S, Guard
    from openbell.kill.loading import keep_loaded, make_ready
    from openbell.service.logging import REDACTOR, configure, get_logger

    configure("guard")
    log = get_logger()
    earlier, note = _earlier(layout)
    watching = earlier.engine_heard
    record = own_record(watching, earlier.mode, earlier.left, earlier.left_s)
    try:
        await aside(lambda: write_record(layout.guard_record, record), RECORD_S)
    except OpenbellError as error:
        log.error("no record of the guard", why=error.message, alert=True)
    except TimeoutError:
        log.error("no record of the guard", why="the disk does not answer", alert=True)
    loaded, problem = await asyncio.to_thread(_load, layout)
    secrets, unreadable = _secrets(loaded, layout)
    if secrets is not None:
        REDACTOR.add(secrets.values())
    guard = Guard(layout, loaded, secrets, record, watching=watching, on_end=ended.set)
    guard.problem = "; ".join(filter(None, (problem, unreadable)))
    guard.keep_reachable = reception.keep_reachable
    log.info(
        "started", pid=record.pid, desk=loaded.file.desk.name, venues=list(loaded.file.venues),
        watching=watching,
    )  # fmt: skip
    for each in filter(None, (problem, unreadable, note)):
        log.error(each, alert=True)
    guard.start()
    reception.admit(guard)
    # What a stop loads on its way: whoever presses must not wait for it.
    await asyncio.to_thread(make_ready)
    gc.enable()
    ending = asyncio.create_task(ended.wait())
    opened = asyncio.create_task(_all_opened(guard))
    await asyncio.wait({ending, opened}, return_when=asyncio.FIRST_COMPLETED)
    keep_loaded()
    await ending
    opened.cancel()
    log.info("ending")
    await guard.stopping.finish()
    await guard.close()
    if guard.leaves_nothing:
        with contextlib.suppress(OSError, TimeoutError):
            await aside(lambda: layout.guard_record.unlink(missing_ok=True), RECORD_S)
    log.info("ended")
    return 0


async def _all_opened(guard: Guard) -> None:
    for warm in guard.venues.values():
        await warm.opened.wait()


def _earlier(layout: DeskLayout) -> tuple[Earlier, str]:
    """What an earlier guard of this boot knew, and what a person must be told. Of a record that cannot be
    read the worst is taken: that it had heard an engine, and that the desk is open."""
    from openbell.runtime.processes import system_processes

    try:
        record: GuardRecord | None = read_record(layout.guard_record)
    except ValueError as error:
        return Earlier(engine_heard=True), f"{error}: taken as if an engine had been heard"
    if record is None or record.boot_id != system_processes().boot_id():
        return Earlier(), ""
    return Earlier(record.engine_heard, record.left_s, record.mode, record.left), ""


def _load(layout: DeskLayout) -> tuple[LoadedDesk, str]:
    """The desk, and what is wrong with its file: then it is the desk as it was read last. Raises
    ConfigError where it was never read."""
    from openbell.config.loader import load_desk, parse_desk
    from openbell.config.models import LoadedDesk
    from openbell.errors import ConfigError

    file = layout.desk / DESK_FILE
    try:
        loaded = load_desk(layout.desk)
    except ConfigError as error:
        try:
            data = layout.guard_desk.read_bytes()
            kept = parse_desk(data, file)
        except (OSError, ConfigError):
            raise error from None
        digest = hashlib.sha256(data).hexdigest()
        why = f"{error.message}: the guard goes by the desk file as it was before"
        return LoadedDesk(file=kept, path=file, digest=digest), why
    with contextlib.suppress(OpenbellError, OSError):  # a full disk: the file itself is there
        write_atomically(layout.guard_desk, file.read_bytes())
    return loaded, ""


def _secrets(loaded: LoadedDesk, layout: DeskLayout) -> tuple[Secrets | None, str]:
    from openbell.config.secrets import load_secrets

    try:
        return load_secrets(loaded, layout), ""
    except OpenbellError as error:
        return None, f"no venue can be reached: {error.message}"
