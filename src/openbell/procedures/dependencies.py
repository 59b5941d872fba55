"""What a desk needs and does not run itself, asked each in its own way.

PostgreSQL and Redis are spoken to in their own protocols, since a port that takes connections proves
little: a PostgreSQL that recovers after a crash, or a Redis that loads its data, takes them long before
it serves. As `psql` does, PostgreSQL is spoken to by TLS where it can: some let nobody in without. No
password is known here. Where one is asked for, the server has proven that it serves, and that is what
is said; whoever uses it finds out whether theirs is good.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from openbell.config.layout import DeskLayout
from openbell.config.preflight import Dependency
from openbell.errors import FailedError, OpenbellError
from openbell.procedures.command_step import filled
from openbell.runtime.commands import run_command

_MESSAGE_MAX = 300
_GOODBYE_S = 1.0
_PROTOCOL_3 = 196608
"""PostgreSQL's protocol 3.0: 3 << 16 ("Message Formats", StartupMessage)."""
_TLS_REQUEST = struct.pack("!ii", 8, 80877103)
""""Message Formats", SSLRequest."""
_NOT_POSTGRES = "what answers there does not speak PostgreSQL's protocol"
_ASKS_FOR = {
    2: "Kerberos",
    3: "a password",
    5: "a password",
    7: "GSSAPI",
    9: "SSPI",
    10: "a password",
}
"""Authentication requests by code ("Message Formats", Authentication...)."""


@dataclass(frozen=True)
class DependencyFact:
    """What became of asking it."""

    name: str
    kind: str
    required: bool
    serves: bool | None
    """None: it could not be asked, or gave no answer that could be understood."""
    why: str
    """What it said, or why it is not known to serve."""
    took_ms: float | None = None


async def ask_dependency(
    name: str, dependency: Dependency, layout: DeskLayout, environment: Mapping[str, str]
) -> DependencyFact:
    """Never raises for what the dependency does. `environment`: what a command sees."""
    begun = time.monotonic()
    if dependency.kind == "command":
        # It keeps its own time, so that whatever it has started ends with it.
        argv = filled(dependency.command, layout)
        ran = await run_command(
            argv, cwd=layout.desk, environment=environment, timeout_s=dependency.timeout
        )
        told = None if ran.status is None else ran.status == 0
        return _fact(name, dependency, told, ran.told, begun)
    serves: bool | None = False
    try:
        async with asyncio.timeout(dependency.timeout):
            match dependency.kind:
                case "postgres":
                    why = await _postgres(dependency)
                case "redis":
                    why = await _redis(dependency)
                case "http":
                    why = await _http(dependency)
                case _:
                    async with _connected(dependency):
                        why = "takes connections"
        serves = True
    except TimeoutError:
        serves, why = None, f"no answer within {dependency.timeout:g}s"
    except (ConnectionResetError, asyncio.IncompleteReadError):
        serves, why = None, "ended the connection without an answer"
    except OpenbellError as error:
        why = error.message
    except OSError as error:
        why = error.strerror or str(error)
    return _fact(name, dependency, serves, why, begun)


def _fact(
    name: str, dependency: Dependency, serves: bool | None, why: str, begun_s: float
) -> DependencyFact:
    took_ms = round((time.monotonic() - begun_s) * 1000, 1)
    return DependencyFact(name, dependency.kind, dependency.required, serves, why, took_ms)


@contextlib.asynccontextmanager
async def _connected(
    dependency: Dependency,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = dependency.place
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        # By TLS each side waits for the other's goodbye, and this one may hang.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await writer.wait_closed()
        writer.transport.abort()


# --- PostgreSQL ------------------------------------------------------------------------------------


async def _postgres(dependency: Dependency) -> str:
    """Begins a session as `psql` would, and ends it: where the server can TLS and no session comes of it (an
    old protocol, an odd key), without. Raises FailedError with the server's own words."""
    try:
        return await _session(dependency, by_tls=True)
    except ssl.SSLError as error:
        by_tls = error.reason or str(error)
    try:
        return await _session(dependency, by_tls=False)
    except FailedError as error:
        raise FailedError(f"{error.message}; by TLS: {by_tls}") from error


async def _session(dependency: Dependency, *, by_tls: bool) -> str:
    """ssl.SSLError: none by TLS."""
    parts = urlsplit(dependency.url or "")
    user = unquote(parts.username or "postgres")
    database = unquote(parts.path.strip("/")) or user
    words = b"".join(text.encode() + b"\0" for text in ("user", user, "database", database)) + b"\0"
    async with _connected(dependency) as (reader, writer):
        if by_tls:
            await _encrypt(reader, writer)
        writer.write(struct.pack("!ii", len(words) + 8, _PROTOCOL_3) + words)
        await writer.drain()
        while True:
            kind, body = await _message(reader)
            if kind == b"E":
                raise FailedError(_error_text(body))
            if kind == b"R":
                (code,) = struct.unpack("!i", body[:4])
                if code != 0:
                    asks = _ASKS_FOR.get(code, f"authentication {code}")
                    return f"serves; it asks {user} for {asks}, which is not tried"
            elif kind == b"Z":
                writer.write(b"X" + struct.pack("!i", 4))
                return f"serves {database} to {user}"


async def _encrypt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Where the server can. Some have no entry for whoever comes without, and would be taken for one that
    refuses the user."""
    writer.write(_TLS_REQUEST)
    await writer.drain()
    answer = await reader.readexactly(1)
    if answer == b"S":
        # Whose certificate it is does not matter: no secret is sent, and nothing is believed but that it
        # serves.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        await writer.start_tls(context)
    elif answer == b"E":
        raise FailedError("cannot begin a session")
    elif answer != b"N":
        raise FailedError(_NOT_POSTGRES)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    if kind not in b"RSKZNE" or not 4 <= length <= 1 << 16:
        raise FailedError(_NOT_POSTGRES)
    return kind, await reader.readexactly(length - 4)


def _error_text(body: bytes) -> str:
    """`FATAL: the database system is starting up (57P03)`, of an ErrorResponse's fields."""
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    said = f"{fields.get(b'S', 'ERROR')}: {fields.get(b'M', 'no message')}"
    return f"{said} ({fields[b'C']})" if b"C" in fields else said


# --- the others ------------------------------------------------------------------------------------


async def _redis(dependency: Dependency) -> str:
    async with _connected(dependency) as (reader, writer):
        writer.write(b"*1\r\n$4\r\nPING\r\n")
        await writer.drain()
        line = await reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError
        said = line.decode(errors="replace").strip()[:_MESSAGE_MAX]
        if said == "+PONG":
            return "answers PING"
        if said.startswith("-NOAUTH"):
            return "serves; it asks for a password, which is not tried"
        if said.startswith("-"):
            raise FailedError(said[1:])
        raise FailedError("what answers there does not speak Redis's protocol")


async def _http(dependency: Dependency) -> str:
    # Later than this module: a desk without such a dependency does not need it here.
    from openbell.http_library import aiohttp

    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(dependency.url or "", allow_redirects=False) as reply,
        ):
            if not 200 <= reply.status < 300:
                raise FailedError(f"answers {reply.status}")
            return f"answers {reply.status}"
    except aiohttp.ClientError as error:
        raise FailedError(f"cannot be asked: {str(error)[:_MESSAGE_MAX]}") from error
