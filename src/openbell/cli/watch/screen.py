"""A terminal that is drawn in place: only rows that changed are written, and it is given back as it
was, however the view ends."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""The alternate screen, no cursor, no wrapping."""
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
REVERSED, PLAIN = "\x1b[7m", "\x1b[0m"
STANDS_OUT = ("ALERT", "  ALERT", "LIVE", "NO CONTROLLER")


def changes(before: Sequence[str], after: Sequence[str]) -> str:
    """What to write so that a screen that shows `before` shows `after`."""
    written = []
    for row in range(max(len(before), len(after))):
        old = before[row] if row < len(before) else ""
        new = after[row] if row < len(after) else ""
        if old != new:
            text = f"{REVERSED}{new}{PLAIN}" if new.startswith(STANDS_OUT) else new
            written.append(f"\x1b[{row + 1};1H{text}\x1b[K")
    return "".join(written)


class Screen:
    """The terminal on standard output, and keys from standard input where that is one too."""

    def __init__(self) -> None:
        self._out = sys.stdout.fileno()
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._saved: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._shown: list[str] = []
        self._size = (0, 0)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)

    def __enter__(self) -> Screen:
        try:
            for number, handler in (
                (signal.SIGWINCH, self._resized),
                (signal.SIGTERM, self._ended),
                (signal.SIGHUP, self._ended),
                (signal.SIGTSTP, self._suspended),
            ):
                self._handlers[number] = signal.signal(number, handler)
            self._take()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        os.close(self._woken)
        os.close(self._wake)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        try:
            size = os.get_terminal_size(self._out)
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def draw(self, frame: Callable[[int, int], Sequence[str]]) -> None:
        """`frame(columns, lines)` gives the rows."""
        size = self.size
        rows = list(frame(*size))
        if size != self._size:
            self._write("\x1b[2J")
            self._shown, self._size = [], size
        self._write(changes(self._shown, rows))
        self._shown = rows

    def wait(self, timeout_s: float) -> str:
        """The keys pressed within this time; returns at once with them, or when the window has
        another size."""
        watched = [self._woken, *([] if self._keys is None else [self._keys])]
        ready, _, _ = select.select(watched, [], [], timeout_s)
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._keys in ready:
            pressed = os.read(self._keys, 64) if self._keys is not None else b""
            if not pressed:
                self._keys = None  # its other end is closed: no more keys come
            return pressed.decode(errors="replace")
        return ""

    def _take(self) -> None:
        if self._keys is not None:
            self._saved = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._shown, self._size = [], (0, 0)
        self._write(ENTER)

    def _give_back(self) -> None:
        try:
            self._write(LEAVE)
            if self._keys is not None and self._saved is not None:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._saved)
        except (OSError, termios.error):
            return  # the terminal itself is gone

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or "utf-8", "replace")
        while data:
            data = data[os.write(self._out, data) :]

    def _resized(self, _number: int, _frame: FrameType | None) -> None:
        try:
            os.write(self._wake, b".")
        except BlockingIOError:
            return  # it is woken already

    def _ended(self, number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def _suspended(self, number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal as it was, and the view takes it again after."""
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Here again with SIGCONT.
        signal.signal(number, self._suspended)
        self._take()
        self._resized(number, None)
