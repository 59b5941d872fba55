"""Beats: datagrams by which engine and controller tell the guard that they are well.

    {"from": "engine", "service": "execution-engine", "pid": 42, "epoch": 7, "mono_ns": ...,
     "stage": "active"}

The sender neither waits nor raises: a guard that is gone, hung or full of beats must not touch what
trades. It sends from its own event loop, so a loop that hangs does not beat. An engine that ends as
it was told to says so with its last one (`stopped`); a standby's say `standby`. A controller whose run
closes the desk, and has told the guard to hold, says `closing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

ACTIVE, STANDBY, STOPPED, CLOSING = "active", "standby", "stopped", "closing"
_BYTES_MAX = 2048
_AT_ONCE = 64


class Beat(msgspec.Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    sender: Literal["engine", "controller"]
    service: str = ""
    pid: int = 0
    epoch: int = 0
    mono_ns: int = 0
    """The system's monotonic clock, as the sender read it."""
    stage: str = ACTIVE


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Beat)


class BeatSender:
    """Sends beats to a desk's guard, whether there is one or not."""

    def __init__(
        self, path: Path, sender: Literal["engine", "controller"], service: str = ""
    ) -> None:
        self._path = str(path)
        self._sender: Literal["engine", "controller"] = sender
        self._service = service
        self._socket: socket.socket | None = None

    def send(self, *, epoch: int = 0, stage: str = ACTIVE) -> bool:
        """Whether the system took it; nobody may have read it."""
        beat = Beat(
            sender=self._sender,
            service=self._service,
            pid=os.getpid(),
            epoch=epoch,
            mono_ns=time.monotonic_ns(),
            stage=stage,
        )
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto(_encoder.encode(beat), self._path)
        except OSError:  # no guard, or one that does not read
            return False
        return True

    async def run(self, every_s: float, beat: Callable[[], tuple[int, str] | None]) -> None:
        """Sends for ever what `beat` gives: epoch and stage; None: not well, so nothing."""
        while True:
            now = beat()
            if now is not None:
                self.send(epoch=now[0], stage=now[1])
            await asyncio.sleep(every_s)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class BeatReceiver:
    """Hears beats on a socket of mode 600 that takes the place of a dead guard's."""

    def __init__(self, path: Path, hear: Callable[[Beat, float], None]) -> None:
        """`hear` gets a beat and the monotonic second it counts from."""
        self._path = path
        self._hear = hear
        self.unreadable = 0
        self._socket: socket.socket | None = None
        self._inode = 0

    def open(self) -> None:
        """Within a running event loop. Raises OSError."""
        self._path.unlink(missing_ok=True)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        try:
            receiver.bind(str(self._path))
            self._path.chmod(0o600)
            self._inode = self._path.stat().st_ino
        except BaseException:
            receiver.close()
            raise
        self._socket = receiver
        asyncio.get_running_loop().add_reader(receiver.fileno(), self._read)

    def is_reachable(self) -> bool:
        """Whether its path still leads here; somebody may have cleaned it away."""
        try:
            return self._socket is not None and self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def reopen(self) -> None:
        """Hears under its path again. Raises OSError."""
        if self._socket is not None:
            self._read()
            self._end()
        self.open()

    def _end(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        assert self._socket is not None
        for _ in range(_AT_ONCE):
            try:
                data = self._socket.recv(_BYTES_MAX)
            except OSError:  # nothing more for now
                return
            try:
                beat = _decoder.decode(data)
            except msgspec.MsgspecError:
                self.unreadable += 1
                continue
            now_ns = time.monotonic_ns()
            # One that waited while this process was stopped counts from when it was sent.
            sent_ns = beat.mono_ns if 0 < beat.mono_ns <= now_ns else now_ns
            self._hear(beat, sent_ns / 1e9)

    def close(self) -> None:
        reachable = self.is_reachable()
        self._end()
        if reachable:
            with contextlib.suppress(OSError):
                self._path.unlink()
