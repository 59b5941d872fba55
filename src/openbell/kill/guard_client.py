"""Asks the guard over its unix socket: lines of JSON, one question, one or more answers.

    {"do": "emergency_stop", "reason": ..., "scopes": ["desk"], ...}
    {"event": "taken", "course": "003"}          at once
    {"event": "frozen", ...} ...                 the course, as it goes
    {"event": "done", "statement": {...}, "final": true}

The last line of every answer has `"final": true`; an error is
`{"error": text, "code": code, "final": true}`. A guard that does not answer, or ends in the middle,
is no error of whoever asks: it is gone, and the caller does without.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.kill.course import Tell
from openbell.kill.emergency_statement import EmergencyStatement
from openbell.kill.request import EmergencyRequest

ANSWER_S = 0.1
"""For the first line, from the connect on."""
LINE_MAX = 64 << 20
"""Bytes: a statement may list thousands of orders."""
SILENT_S = 5.0
"""A guard that carries out a stop says something at least so often: it repeats that it is at work."""
ALIVE = "at_work"
"""The event that says no more than that."""


class GuardGoneError(Exception):
    """No guard answers, or it ended, or hung, before it had answered in full."""


class NoGuardError(GuardGoneError):
    """Nobody listens on its socket."""


class GuardRefusedError(Exception):
    """It answered with an error; `code` as in `openbell.errors`."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


async def ask_guard(
    layout: DeskLayout,
    question: Mapping[str, Any],
    *,
    first_within_s: float = ANSWER_S,
    each_within_s: float | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Its answers as they come, the final one last. Raises GuardGoneError, GuardRefusedError."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(first_within_s):
            path = str(layout.guard_socket)
            reader, writer = await asyncio.open_unix_connection(path, limit=LINE_MAX)
            _require_own(writer)
            writer.write(msgspec.json.encode(question) + b"\n")
            await writer.drain()
            answer = _decoded(await reader.readline())
        while True:
            if "error" in answer:
                raise GuardRefusedError(str(answer["error"]), str(answer.get("code", "failed")))
            yield answer
            if answer.get("final") is True:
                return
            async with asyncio.timeout(each_within_s):
                answer = _decoded(await reader.readline())
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NoGuardError("no guard is running") from error
    except (OSError, TimeoutError, ValueError) as error:
        raise GuardGoneError(str(error) or type(error).__name__) from error
    finally:
        if writer is not None:
            writer.close()


async def stop_by_guard(
    layout: DeskLayout, request: EmergencyRequest
) -> AsyncIterator[dict[str, Any]]:
    """The course's events, `{"event": "done", "statement"}` last. Raises GuardGoneError, at any
    moment, and GuardRefusedError."""
    question = {"do": "emergency_stop", **request.to_wire()}
    taken = False
    async for event in ask_guard(layout, question, each_within_s=SILENT_S):
        if not taken and event.get("event") != "taken":
            raise GuardGoneError("it did not take the stop")
        taken = True
        if event.get("event") not in (ALIVE, "taken"):
            yield event
        if event.get("event") == "done":
            return
    raise GuardGoneError("it ended without a statement")


async def emergency_stop_by_guard(
    layout: DeskLayout, request: EmergencyRequest, tell: Tell
) -> EmergencyStatement:
    """Raises as `stop_by_guard`."""
    async for event in stop_by_guard(layout, request):
        if event.get("event") == "done":
            try:
                return EmergencyStatement.from_wire(event["statement"])
            except (KeyError, ValueError) as error:
                raise GuardGoneError(f"its statement cannot be read: {error}") from error
        tell(event)
    raise GuardGoneError("it ended without a statement")


def _decoded(line: bytes) -> dict[str, Any]:
    """Raises ValueError; a line that was cut off is one."""
    if not line.endswith(b"\n"):
        raise ValueError("it closed the connection")
    return msgspec.json.decode(line, type=dict[str, Any])


def _require_own(writer: asyncio.StreamWriter) -> None:
    """Raises OSError where the peer is another user's: it would be asked to stop in vain."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    peer = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid not in (os.getuid(), 0):
        raise PermissionError(f"the guard's socket belongs to user {uid}")
