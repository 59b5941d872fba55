"""The order log: one JSON line per event, in the order in which things happened.

    {"event":"accept","at_ns":1760000000000000000,"order_id":...,"cl_ord_id":"...",...}

All events of a request go to the operating system in one write before the reply leaves, so a
process that is killed loses nothing it has told anybody. (A machine that loses power may: the log
is not fsynced, for the simulated venue is not what such a failure is drilled on.)

A last line that is torn is cut off when the log is opened again, and told. A line broken anywhere
else means that the file is not what was written: it is refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from openbell.errors import CorruptError, StorageError
from openbell_sim.events import Event

_encoder = msgspec.json.Encoder(decimal_format="string")
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


class OrderLog:
    """Opened for one venue process. `torn` is what was cut off the end on opening."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError."""
        self.path = path
        self.torn = b""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise StorageError(
                f"the order log {path} cannot be opened: {error.strerror}"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise StorageError(f"the order log {path} is held by another venue") from error

    def read(self) -> Iterator[Event]:
        """Every event since the log began. Raises CorruptError."""
        good = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    self.torn = line
                    os.ftruncate(self._fd, good)
                    return
                try:
                    event = _decoder.decode(line)
                except msgspec.MsgspecError as error:
                    raise CorruptError(
                        f"line {number} of the order log {self.path} is not an event: {error}",
                        hint="use another copy, or another --log file to begin anew",
                    ) from error
                yield event
                good += len(line)

    def append(self, events: Sequence[Event]) -> None:
        """Raises StorageError; what was written in part is taken back as far as possible."""
        data = b"".join(_encoder.encode(event) + b"\n" for event in events)
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            raise StorageError(f"the order log cannot be written: {error.strerror}") from error
        if written != len(data):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise StorageError("the order log cannot be written: the disk took only a part of it")

    def close(self) -> None:
        os.close(self._fd)
