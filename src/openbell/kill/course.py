"""The course of an emergency stop: an append-only log of its own, and the lock of who carries it out.

    state/emergency.lock         flock: whoever carries out an emergency stop holds it
    state/emergency-beside.lock  flock: one of those that go on beside it
    state/emergency/001.jsonl    one file a carrier, one event a line; the last is `{"event": "ended"}`, or
                                 `{"event": "left", "why"}` of a stop that stood still in its carrier

Invariants
- Nothing here can keep a stop from going on. What the disk does not take is told once, and then left.
- Whoever finds the lock held follows the course of its holder. Should the holder die, the kernel
  frees the lock, and whoever follows takes it and goes on from what it observes. One that stands still
  is ended first (`stuck`).
- A course that had ended before somebody came is not followed: what it says was so before.

Synced at the borders of phases, so that a crash costs the last events of a phase and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import DESK
from openbell.errors import ConflictError, StorageError
from openbell.kill.aside import aside, opened_aside
from openbell.kill.marker import course_numbers, read_marker
from openbell.kill.patient_lock import DiskHangsError, PatientLock
from openbell.runtime.processes import system_processes
from openbell.state.files import fsync, storage_error, write_all
from openbell.state.latch import Latches

Event = Mapping[str, Any]
Tell = Callable[[Event], None]
"""Called on the event loop with each event as it happens; it must not block. What it raises is
logged and stops nothing."""

POLL_S = 0.02
"""flock knows "now" and "for ever", nothing between; and a file tells nobody that it has grown."""
LATCHES_S = 0.5
BEGUN_S = 0.5
"""How long is waited for a disk that is to make the file of a course."""
NEWS_S = 0.5
"""How long for one that is to tell what another's course says: its lock is looked at all the same."""
KEPT_S = 1.0
"""How long is waited for a disk that is to keep something before an order is sent."""

_log = logging.getLogger(__name__)


class _Border:
    """In the lines of a course: whoever put it there waits until what is before it is kept."""

    def __init__(self) -> None:
        self.passed = threading.Event()
        self.kept = False


class Course:
    """Written by one carrier, on a thread of its own: a disk that hangs must not hold up the stop.
    `begin` never raises, and waits BEGUN_S at most."""

    def __init__(self, name: str, fd: int, tell: Tell) -> None:
        self.name = name
        """`001`; empty where it is kept in no file."""
        self.problem = ""
        """Why it, or the rest of it, is in no file."""
        self._fd = fd
        self._tell = tell
        self._lines: queue.SimpleQueue[bytes | _Border | None] = queue.SimpleQueue()
        """None: a border between phases."""
        self._written = threading.Event()
        self._closing = False
        if fd >= 0:
            threading.Thread(target=self._write, daemon=True, name="course").start()

    @classmethod
    async def begin(cls, folder: Path, tell: Tell) -> Course:
        """The next course. Where it cannot be made, one that only tells."""
        try:
            # Should the disk come back later: an empty course is that of nobody.
            name, fd = await opened_aside(
                lambda: _made(folder), BEGUN_S, lambda made: os.close(made[1])
            )
            return cls(name, fd, tell)
        except TimeoutError:  # it is an OSError as well
            problem = "the course of the stop is in no file: the disk does not answer"
        except OSError as error:
            problem = _problem(error, folder)
        course = cls("", -1, tell)
        course.problem = problem
        return course

    def add(self, event: str, **fields: object) -> None:
        line = msgspec.json.encode({"event": event, **fields})
        if self._fd >= 0:
            self._lines.put(line + b"\n")
        try:
            # As whoever follows the file hears it: plain JSON values.
            self._tell(msgspec.json.decode(line))
        except Exception:  # noqa: BLE001 - the stop goes on
            _log.exception("whoever follows the stop raised")

    def sync(self) -> None:
        """A border between phases."""
        self._lines.put(None)

    async def kept(self, timeout_s: float = KEPT_S) -> bool:
        """Whether everything that was added so far is on the disk. False: it is not, or is not known
        to be."""
        border = _Border()
        if self._fd < 0 or self._written.is_set():
            return False
        self._lines.put(border)
        await aside(lambda: border.passed.wait(timeout_s))
        return border.kept

    async def close(self, timeout_s: float = 1.0) -> None:
        """Returns when everything is on the disk, or was given up."""
        if self._fd < 0:
            return
        self._closing = True
        self._lines.put(None)
        try:
            await aside(self._written.wait, timeout_s)
        except TimeoutError:
            self.problem = self.problem or "the disk did not take the course of the stop in time"

    def _write(self) -> None:
        """Of its thread. What the disk refuses once is not tried again: an fsync that failed would
        report success for what is gone."""
        border: _Border | None = None
        try:
            while True:
                line = self._lines.get()
                if isinstance(line, bytes):
                    write_all(self._fd, line)
                    continue
                border = line
                fsync(self._fd)
                if border is not None:
                    border.kept = True
                    border.passed.set()
                    border = None
                if self._closing and self._lines.empty():
                    return
        except OSError as error:
            self.problem = _problem(error, Path(self.name))
            _log.error("%s", self.problem)
        finally:
            os.close(self._fd)
            self._fd = -1
            self._written.set()
            if border is not None:
                border.passed.set()


def _made(folder: Path) -> tuple[str, int]:
    """The name of a new course, and its file. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = max(course_numbers(folder), default=0) + 1
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    while True:
        name = f"{number:03d}"
        try:
            return name, os.open(_path(folder, name), flags, 0o600)
        except FileExistsError:
            number += 1


def _problem(error: OSError, path: Path) -> str:
    return storage_error(error, "keep the course of the stop in", path).message


class Turn:
    """The lock, or somebody who holds it. A disk or folder that takes no lock, or does not answer, keeps
    nobody from stopping."""

    def __init__(self, layout: DeskLayout) -> None:
        self.problem = ""
        """Why there is no lock."""
        self.unanswered = False
        """The disk does not say whether another one holds it."""
        self._lock = PatientLock(layout.emergency_lock)

    async def take(self) -> bool:
        """False: another one holds it."""
        try:
            return await self._lock.take()
        except StorageError as error:
            self.unanswered = isinstance(error, DiskHangsError)
            self.problem = f"{error.message}; this stop goes on without the lock"
            return True

    def give_back(self) -> None:
        self._lock.give_back()


class CourseReader:
    """One course, as it grows: what was read is not read, and not decoded, again."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._path = _path(folder, name)
        self._read = 0

    def news(self) -> list[dict[str, Any]]:
        """Events since the last look; a line that is being written waits for its end, one that was
        damaged is left out. Never raises."""
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123
                file.seek(self._read)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        events = []
        for line in whole.split(b"\n"):
            with contextlib.suppress(msgspec.DecodeError):
                events.append(msgspec.json.decode(line, type=dict[str, Any]))
        return events


class Following:
    """Whoever came second reads the first one's course, and takes over when the first one dies.

    Of a course that has no end yet only the newest is followed, and only while its carrier lives:
    what a carrier that was killed had written says nothing of the one who holds the lock now and has
    not begun its own yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over: set[str] | None = None
        """Courses that had ended before anybody asked for news; None: nobody did."""
        self.name = ""
        self.began: tuple[int, int] | None = None
        """Pid and start time of whoever began the course that is followed."""
        self._reader: CourseReader | None = None
        self._reading: asyncio.Task[list[dict[str, Any]]] | None = None

    async def news(self) -> list[dict[str, Any]]:
        """Events of the course under way that were not given yet; none while the disk does not say."""
        if self._reading is None:
            self._reading = asyncio.create_task(aside(self._read))
            await asyncio.wait([self._reading], timeout=NEWS_S)
        if not self._reading.done():
            return []
        reading, self._reading = self._reading, None
        return reading.result()

    def _read(self) -> list[dict[str, Any]]:
        """One at a time."""
        if self._over is None:
            names = courses(self._folder)
            self._over = {n for n in names if is_over(self._folder, n)}
        for name in reversed(courses(self._folder)):
            if name in self._over:
                continue
            if self._reader is not None and name == self.name:
                return self._reader.news()
            reader = CourseReader(self._folder, name)
            events = reader.news()
            if not has_carrier(events[0] if events else {}):
                if events:
                    self._over.add(name)
                continue
            self.name, self._reader = name, reader
            self.began = _began(events)
            return events
        return []


def has_carrier(begun: Mapping[str, Any]) -> bool:
    """Whether the process that began the course lives. One that wrote nothing yet may be torn."""
    pid, start = begun.get("pid"), begun.get("start")
    facts = system_processes().facts(pid) if isinstance(pid, int) else None
    return facts is not None and facts.alive and start in (None, facts.start)


def _began(events: list[dict[str, Any]]) -> tuple[int, int] | None:
    pid, start = (events[0].get(key) if events else None for key in ("pid", "start"))
    return (pid, start) if isinstance(pid, int) and isinstance(start, int) else None


def courses(folder: Path) -> list[str]:
    """Their names, oldest first."""
    return [f"{number:03d}" for number in sorted(course_numbers(folder))]


def read_course(folder: Path, name: str) -> list[dict[str, Any]]:
    """Its events so far, as `CourseReader` has them. Never raises."""
    return CourseReader(folder, name).news()


def begun_in(folder: Path, name: str) -> dict[str, Any]:
    """The event that it begins with; empty where it is not there yet, or was torn. Never raises."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        with open(_path(folder, name), "rb") as file:  # noqa: PTH123
            line = file.readline()
        event = msgspec.json.decode(line, type=dict[str, Any]) if line.endswith(b"\n") else {}
        return event if event.get("event") == "begun" else {}
    return {}


def statement_in(folder: Path, name: str) -> dict[str, Any] | None:
    """What it ended with; None: it has no end. Never raises."""
    return ended([_last_event(folder, name)])


def left_in(folder: Path, name: str) -> str:
    """Why its carrier, which may live on, left it unfinished; empty: it did not, or it ended after all.
    Never raises."""
    return _why_left(_last_event(folder, name))


def is_over(folder: Path, name: str) -> bool:
    """Whether nothing more comes of it, by its own word."""
    last = _last_event(folder, name)
    return ended([last]) is not None or bool(_why_left(last))


def _last_event(folder: Path, name: str) -> dict[str, Any]:
    """Its last whole line, which alone is decoded; empty where there is none."""
    try:
        with open(_path(folder, name), "rb") as file:  # noqa: PTH123
            lines = file.read().rsplit(b"\n", 2)
    except OSError:
        return {}
    with contextlib.suppress(IndexError, msgspec.DecodeError):
        return msgspec.json.decode(lines[-2], type=dict[str, Any])
    return {}


def _why_left(event: Event) -> str:
    return str(event.get("why") or "it does not say why") if event.get("event") == "left" else ""


def ended(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The statement a course ended with; None: it has not ended."""
    for event in reversed(events):
        if event.get("event") == "ended" and isinstance(event.get("statement"), dict):
            statement: dict[str, Any] = event["statement"]
            return statement
    return None


async def still_holds(layout: DeskLayout, statement: Mapping[str, Any]) -> bool:
    """Whether nobody released since what that stop latched: what it proved of a part of a desk was so
    then, and is so no more where orders went on. A desk that was stopped as a whole has no engine."""
    if str(DESK) in (statement.get("scopes") or ()):
        return True
    latched = set((statement.get("latch") or {}).get("ids") or ())
    try:
        there = await aside(
            lambda: {each.id for each in Latches(layout).read(opened=False)}, LATCHES_S
        )
    except TimeoutError:
        return False
    return latched <= there


def last_statement(layout: DeskLayout) -> dict[str, Any] | None:
    """Of the newest course that has one, whichever stop it was of. What became of the stop that holds the
    desk tells `stop_seen`."""
    folder = layout.emergency
    for name in reversed(courses(folder)):
        found = statement_in(folder, name)
        if found is not None:
            return found
    return None


def under_way(layout: DeskLayout) -> bool:
    """Whether somebody carries out an emergency stop now, with the turn or beside whoever has it."""
    return is_held(layout.emergency_lock) or is_held(layout.emergency_beside_lock)


def is_held(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Shared: two who ask at the same moment do not take each other for a carrier.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def refuse_under_way(layout: DeskLayout) -> None:
    """Raises ConflictError while an emergency stop of the whole desk is under way."""
    if read_marker(layout) is not None and under_way(layout):
        raise ConflictError(
            "an emergency stop is under way",
            hint="wait for its end: `openbell status` shows it; a stop that stands still is ended, and "
            "carried on, by one more `openbell emergency-stop`",
        )


async def turns(turn: Turn, timeout_s: float | None = None) -> AsyncIterator[bool]:
    """Yields False each time the lock is still held by another, and True once it is ours; ends then,
    or when the time is over."""
    loop = asyncio.get_running_loop()
    deadline_s = None if timeout_s is None else loop.time() + timeout_s
    while not await turn.take():
        yield False
        if deadline_s is not None and loop.time() >= deadline_s:
            return
        await asyncio.sleep(POLL_S)
    yield True


def _path(folder: Path, name: str) -> str:
    return f"{folder}/{name}.jsonl"
