"""Asking a service whether it is ready or healthy, and making sure that it is the one who answers.

A neighbour on the same port answers 200 as well, so a probe that connects passes only when the
socket that listens belongs to a process of the service.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openbell.runtime.logs import NewLines
from openbell.runtime.ports import LOOPBACKS, holder_of
from openbell.runtime.process_watch import ProcessWatch

_BODY_MAX_BYTES = 64 << 10
"""Read at most so much of an answer; a health document is a few hundred bytes."""


@dataclass(frozen=True)
class ProbeResult:
    """`reason` says why it did not pass; `response_ms` is None where nobody answered."""

    passed: bool
    reason: str = ""
    response_ms: float | None = None


async def probe_http(
    port: int, path: str, timeout_s: float, *, status: int | None = None
) -> tuple[ProbeResult, str]:
    """One GET, and the host that answered. Passes on `status`, or on any 2xx where it is None.

    Straight on the loop's socket calls, with a connection of its own each time: accepting is part
    of what is probed. A hundred a second cost a few percent of a core.
    """
    began = time.perf_counter()
    host = LOOPBACKS[0]
    try:
        async with asyncio.timeout(timeout_s):
            connection, host = await _connect(port)
            try:
                got = await _get(connection, host, port, path)
            finally:
                connection.close()
    except TimeoutError:
        return ProbeResult(False, f"no answer on port {port} within {timeout_s:g}s"), host
    except OSError as error:
        return ProbeResult(False, _refusal(port, error)), host
    took_ms = (time.perf_counter() - began) * 1000
    if got is None:
        return ProbeResult(False, f"what answers on port {port} does not speak HTTP", took_ms), host
    if got == status or (status is None and 200 <= got < 300):
        return ProbeResult(True, "", took_ms), host
    return ProbeResult(False, f"GET {path} answered {got}", took_ms), host


async def probe_tcp(port: int, timeout_s: float) -> tuple[ProbeResult, str]:
    """One connection, closed at once, and the host that took it."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(timeout_s):
            connection, host = await _connect(port)
            connection.close()
    except TimeoutError:
        return ProbeResult(False, f"no answer on port {port} within {timeout_s:g}s"), LOOPBACKS[0]
    except OSError as error:
        return ProbeResult(False, _refusal(port, error)), LOOPBACKS[0]
    return ProbeResult(True, "", (time.perf_counter() - began) * 1000), host


def stranger_on(port: int) -> str:
    """Who answers on a port in the service's stead, as the reason of a failed probe."""
    holder = holder_of(port)
    if holder is None:
        return f"nobody listens on port {port} any more"
    who = "a process of another user" if holder.pid is None else f"pid {holder.pid}"
    command = f" ({holder.command})" if holder.command else ""
    return f"port {port} answered by {who}{command}, not by this service"


async def probe_exec(
    command: tuple[str, ...],
    cwd: Path,
    environment: Mapping[str, str],
    watch: ProcessWatch,
    timeout_s: float,
) -> ProbeResult:
    """Runs the command to its end; exit status 0 passes. It is killed with its group when late."""
    began = time.perf_counter()
    try:
        child = subprocess.Popen(  # noqa: ASYNC220 - a vfork, under a millisecond
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return ProbeResult(False, f"the probe command cannot be run: {error}")
    child.returncode = 0  # reaped by the watch: Popen has nothing left to do
    process = watch.child(child.pid)
    try:
        await asyncio.wait((process.exit,), timeout=timeout_s)
        if not process.exit.done():
            return ProbeResult(False, f"the probe command did not end within {timeout_s:g}s")
        took_ms = (time.perf_counter() - began) * 1000
        status = process.exit.result()
        if status == 0:
            return ProbeResult(True, "", took_ms)
        return ProbeResult(False, f"the probe command exited with status {status}", took_ms)
    finally:
        if not process.exit.done():
            process.signal_group(9)
            await asyncio.wait((process.exit,), timeout=1)
        process.close()


class LogProbe:
    """Searches the lines that one start has written so far, each of them once."""

    def __init__(self, path: Path, offset: int, pattern: str) -> None:
        self._lines = NewLines(path, offset)
        self._pattern = re.compile(pattern)
        self._text = pattern

    def look(self) -> ProbeResult:
        for line in self._lines.read():
            if self._pattern.search(line):
                return ProbeResult(True)
        return ProbeResult(False, f"its log has no line that matches {self._text!r} yet")


async def _connect(port: int) -> tuple[socket.socket, str]:
    """A connection to the first loopback address that takes one. Raises the first OSError."""
    refused: OSError | None = None
    for host in LOOPBACKS:
        try:
            connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:  # IPv6 is switched off
            refused = refused or error
            continue
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (host, port))
        except OSError as error:
            connection.close()
            refused = refused or error
        except asyncio.CancelledError:
            connection.close()
            raise
        else:
            return connection, host
    assert refused is not None, "there is at least one loopback address"
    raise refused


async def _get(connection: socket.socket, host: str, port: int, path: str) -> int | None:
    """The status of the answer; None where it is not HTTP. Reads the body too: closing before it
    is read would reset the connection under the service."""
    loop = asyncio.get_running_loop()
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    await loop.sock_sendall(
        connection,
        f"GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: openbell-probe\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n".encode("latin-1", "replace"),
    )
    answer = b""
    while len(answer) < _BODY_MAX_BYTES:
        chunk = await loop.sock_recv(connection, _BODY_MAX_BYTES)
        if not chunk:
            break
        answer += chunk
        head, blank, body = answer.partition(b"\r\n\r\n")
        if blank:
            length = re.search(rb"(?i)\r\ncontent-length:[ \t]*(\d+)", head)
            if length is not None and len(body) >= int(length[1]):
                break
    line = re.match(rb"HTTP/1\.[01] (\d{3})[ \r]", answer)
    return int(line[1]) if line is not None else None


def _refusal(port: int, error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens on port {port}"
    return f"port {port}: {error.strerror or error}"
