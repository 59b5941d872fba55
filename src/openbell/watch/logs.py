"""The desk's logs: read, searched, merged and followed. Files only, so it works with no controller.

    read_logs(paths, LogQuery(since_ns=..., level="error"))   lines of several logs in time order
    LogFollower(paths).poll()                                  what was written since the last poll
    errors_since(paths, since_ns)                              what a person should have seen

`paths` maps a service's name to its log file. Rotation is by copying aside and cutting: the older
copies are `NAME.log.1` (newest), `NAME.log.2`, ...
"""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from openbell.config.layout import DeskLayout
from openbell.watch.log_file import first_at_or_after, lines_backward, opened
from openbell.watch.log_line import LogLine, is_at_least, parse_line

CONTROLLER = "controller"
"""The controller's own log goes by this name."""
GUARD = "guard"
"""And the guard's by this one."""

_READ_BYTES = 4 << 20
"""The most that one poll of a follower reads of one file."""


@dataclass(frozen=True)
class LogQuery:
    since_ns: int | None = None
    """Only lines of this moment or later."""
    tail: int | None = None
    """Only so many, the newest."""
    level: str | None = None
    """Only lines known to be of this level or a graver one."""

    def wants(self, line: LogLine) -> bool:
        return self.level is None or is_at_least(line, self.level)


def log_paths(layout: DeskLayout, services: Iterable[str]) -> dict[str, Path]:
    """The log file of each service; `controller` is the controller's, `guard` the guard's."""
    return {
        name: layout.controller_log if name == CONTROLLER else layout.service_log(name)
        for name in services
    }


def rotated(path: Path) -> list[Path]:
    """The log and its older copies, newest first."""
    copies = [
        (int(candidate.suffix[1:]), candidate)
        for candidate in path.parent.glob(f"{path.name}.*")
        if candidate.suffix[1:].isdigit()
    ]
    return [path, *(copy for _, copy in sorted(copies))]


def read_logs(paths: Mapping[str, Path], query: LogQuery) -> list[LogLine]:
    """The lines asked for, of all logs together, oldest first."""
    newest_first = [_newest_first(service, path, query) for service, path in paths.items()]
    merged = heapq.merge(*newest_first, key=_time_key, reverse=True)
    chosen = list(merged if query.tail is None else itertools.islice(merged, query.tail))
    chosen.reverse()
    return chosen


def errors_since(paths: Mapping[str, Path], since_ns: int, limit: int = 100) -> list[LogLine]:
    """Lines of level `error` or `critical` since then, oldest first, the newest `limit` of them."""
    return read_logs(paths, LogQuery(since_ns=since_ns, tail=limit, level="error"))


def text_since(path: Path, since_ns: int, limit_bytes: int) -> bytes:
    """The log's bytes since then, whole lines, at most the newest `limit_bytes`."""
    with opened(path) as data:
        if data is None:
            return b""
        start = first_at_or_after(data, since_ns)
        newest = len(data) - limit_bytes
        if start < newest:
            start = data.next_newline(newest) + 1
        return data.read(start, len(data))


def _time_key(line: LogLine) -> int:
    """Lines whose time is unknown sort as the oldest."""
    return -1 if line.at_ns is None else line.at_ns


def _newest_first(service: str, path: Path, query: LogQuery) -> Iterator[LogLine]:
    for file in rotated(path):
        with opened(file) as data:
            if data is None:
                continue
            lowest = 0 if query.since_ns is None else first_at_or_after(data, query.since_ns)
            for line in lines_backward(data, lowest, service):
                if query.wants(line):
                    yield line
            if lowest > 0:
                return  # what is older still is older than `since`


class LogFollower:
    """Reads what is appended. Holds no file open, so a rotated log's space is freed.

    A log that was cut (copied aside and truncated) is followed without a gap: what was written
    before the cut is read from its newest copy.
    """

    def __init__(self, paths: Mapping[str, Path], level: str | None = None) -> None:
        """Starts at the present end of each log; one that does not exist yet from its beginning."""
        self._paths = dict(paths)
        self._query = LogQuery(level=level)
        self._places = {service: _size(path) for service, path in self._paths.items()}
        self._rests = dict.fromkeys(self._paths, b"")
        self._times: dict[str, int | None] = dict.fromkeys(self._paths)

    def poll(self) -> list[LogLine]:
        """The lines that were completed since the last poll, in time order."""
        lines: list[LogLine] = []
        for service in self._paths:
            lines.extend(line for line in self._poll_one(service) if self._query.wants(line))
        lines.sort(key=_time_key)
        return lines

    def _poll_one(self, service: str) -> Iterator[LogLine]:
        for chunk in self._new_bytes(service):
            *whole, rest = (self._rests[service] + chunk).split(b"\n")
            self._rests[service] = rest
            for raw in whole:
                stripped = raw.rstrip()
                if stripped:
                    line = parse_line(stripped, service, self._times[service])
                    self._times[service] = line.at_ns
                    yield line

    def _new_bytes(self, service: str) -> Iterator[bytes]:
        path, place = self._paths[service], self._places[service]
        size = _size(path)
        if size < place:
            copy = path.with_name(f"{path.name}.1")
            if _size(copy) > place:
                yield _read(copy, place)
            place = 0
        chunk = _read(path, place) if size > place else b""
        self._places[service] = place + len(chunk)
        if chunk:
            yield chunk


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(path: Path, offset: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(descriptor, _READ_BYTES, offset)
    finally:
        os.close(descriptor)
