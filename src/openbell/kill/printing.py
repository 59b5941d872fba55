"""Lines of a stop to a terminal or a pipe, which may take none: Ctrl-S, a frozen ssh, a reader that hangs.

    put ─▶ a queue of LINES_MAX ─▶ a daemon thread ─▶ write(2)
      └ full: the line is dropped       └ nobody there any more: everything is

What always holds: whoever carries out a stop never waits for whoever reads of it; only the statement at its
end is waited for, FINAL_S at most. It is in the course as well.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import queue
import select
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

LINES_MAX = 10_000
"""What a stop of a large desk tells, several times over."""
FINAL_S = 60.0
"""For a person to press Ctrl-Q. Then the process ends all the same."""
_LOOK_EVERY_MS = 200


class Printing:
    """To one stream, as it is now."""

    def __init__(self, stream: TextIO | None) -> None:
        """None: it was closed before this process began."""
        self._lines: queue.Queue[str | threading.Event] = queue.Queue()
        self._stream = stream
        threading.Thread(target=self._run, daemon=True, name="printing").start()

    def put(self, text: str) -> None:
        """Never blocks, never raises."""
        if self._lines.qsize() < LINES_MAX:
            self._lines.put(text)

    def end(self, text: str, within_s: float = FINAL_S) -> bool:
        """The last of it; whether it was written, or nobody reads any more."""
        self._lines.put(text)
        return self.settle(within_s)

    def settle(self, within_s: float = 1.0) -> bool:
        """Whether everything so far was written, or nobody reads any more."""
        written = threading.Event()
        self._lines.put(written)
        return written.wait(within_s)

    def _run(self) -> None:
        gone = self._stream is None
        write = _nowhere if self._stream is None else _writer(self._stream)
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
            elif not gone:
                try:
                    write(line + "\n")
                except (OSError, ValueError):  # it went away, or was closed
                    gone = True


@contextlib.contextmanager
def logged_by(printing: Printing) -> Iterator[None]:
    """What modules log goes there too, where nobody has said where to: it would be written at once."""
    before = logging.lastResort
    logging.lastResort = _Handler(printing)
    try:
        yield
    finally:
        logging.lastResort = before


class _Handler(logging.Handler):
    def __init__(self, printing: Printing) -> None:
        super().__init__(logging.WARNING)
        self._printing = printing

    def emit(self, record: logging.LogRecord) -> None:
        self._printing.put(self.format(record))


def _nowhere(_text: str) -> None:
    pass


def _writer(stream: TextIO) -> Callable[[str], None]:
    """Past the stream's own buffer: a thread that hangs with its lock would keep the process from ending."""
    try:
        stream.flush()
        fd = stream.fileno()
    except (OSError, ValueError, io.UnsupportedOperation):

        def through(text: str) -> None:
            stream.write(text)
            stream.flush()

        return through
    encoding = stream.encoding or "utf-8"

    def write(text: str) -> None:
        data = memoryview(text.encode(encoding, errors="replace"))
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:  # another has made it so
                poll = select.poll()
                poll.register(fd, select.POLLOUT)
                poll.poll(_LOOK_EVERY_MS)

    return write
