"""The guard's socket: lines of JSON, many clients, none of which can delay another.

    {"do": "status"}            one line back, with "final": true
    {"do": "watch"}             lines for as long as both live; its end tells that the guard is gone
    {"error": ..., "code": ...} what was asked wrongly

Only processes of this user are answered: the socket has mode 600, and the kernel is asked whose the
other end is. docs/reference/guard.md lists every request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from openbell.errors import OpenbellError, RefusedError, UsageError
from openbell.runtime.peer import credentials

_log = logging.getLogger(__name__)

LINE_MAX = 64 << 10
CLIENTS_MAX = 128
FIRST_LINE_S = 10.0
"""For a client to ask something; between two questions it may take as long as it likes."""
UNREAD_MAX = 1 << 20
"""Bytes kept for a client that does not read; then it is cut off."""
DRAIN_S = 5.0

Fields = Mapping[str, Any]
Peer = tuple[int, int] | None
"""Pid and uid."""
Answer = AsyncIterator[dict[str, Any]]
Handler = Callable[[Fields, Peer], Answer]

_encoder = msgspec.json.Encoder(enc_hook=str)


class GuardServer:
    """Serves the handlers by the word in `do`."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._inode = 0

    async def open(self) -> None:
        """Listens; a socket file that is there was left by a dead guard, as the caller holds the
        lock. Raises OSError."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._path))  # in a folder of mode 700
            self._path.chmod(0o600)
            listener.listen(CLIENTS_MAX)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=LINE_MAX)

    def is_reachable(self) -> bool:
        """Whether its path still leads here; somebody may have cleaned it away."""
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    async def reopen(self) -> None:
        """Listens under its path again; whoever is connected stays so."""
        if self._server is not None:
            self._server.close()
        await self.open()

    async def close(self) -> None:
        """Answers under way are cut off."""
        if self._server is not None:
            self._server.close()
        for client in tuple(self._clients):
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=1)
        if self.is_reachable():
            self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="client")
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer = credentials(writer.get_extra_info("socket"))
            if peer is not None and peer[1] not in (os.getuid(), 0):
                await _send(writer, _error(RefusedError("this desk belongs to another user")))
                return
            if len(self._clients) > CLIENTS_MAX:
                await _send(writer, _error(RefusedError("too many clients", hint="ask again")))
                return
            timeout_s: float | None = FIRST_LINE_S
            while line := await _line(reader, timeout_s):
                await self._answer(line, peer, reader, writer)
                timeout_s = None
        except (OSError, TimeoutError):
            pass  # it has gone, asked nothing, or does not read: nothing is owed to it
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    async def _answer(
        self,
        line: bytes,
        peer: Peer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            fields = _request(line)
            handler = self._handlers.get(fields["do"])
            if handler is None:
                known = ", ".join(self._handlers)
                raise UsageError(
                    f'the guard does not know "{fields["do"]}"', hint=f"known: {known}"
                )
            async for answer in handler(fields, peer):
                await _send(writer, answer)
        except OpenbellError as error:
            await _send(writer, _error(error))
        except (OSError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - one client's defect must not end the guard
            _log.exception("defect in a request")
            told = OpenbellError(f"a defect in the guard: {type(error).__name__}")
            await _send(writer, _error(told))


async def _line(reader: asyncio.StreamReader, timeout_s: float | None) -> bytes:
    """Empty at its end. One that is too long ends the connection: where it ends is not known."""
    try:
        async with asyncio.timeout(timeout_s):
            return await reader.readline()
    except ValueError:
        return b"\0\n"


async def _send(writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
    """Raises OSError or TimeoutError: it has gone, or does not read."""
    if writer.transport.get_write_buffer_size() > UNREAD_MAX:
        raise TimeoutError
    writer.write(_encoder.encode(answer) + b"\n")
    async with asyncio.timeout(DRAIN_S):
        await writer.drain()


def _request(line: bytes) -> dict[str, Any]:
    """Raises UsageError."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"not a line with a JSON object: {error}", hint='for example {"do": "status"}'
        ) from None
    if not isinstance(fields.get("do"), str):
        raise UsageError('"do" is missing', hint='for example {"do": "status"}')
    return fields


def _error(error: OpenbellError) -> dict[str, Any]:
    return {
        "error": error.message,
        "code": error.code,
        "hint": error.hint,
        "final": True,
    }
