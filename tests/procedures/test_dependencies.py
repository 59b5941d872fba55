"""What a desk depends on is asked in its own protocol: a port that opens proves little. Here by servers that
answer what they are told to; by real ones in `test_real_stores.py`."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.preflight import Dependency
from openbell.procedures.dependencies import DependencyFact, ask_dependency

STARTING_UP = (
    b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0Fpostmaster.c\0L2360\0\0"
)


WITHOUT_TLS = b"N"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def auth(code: int, more: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!i", code) + more)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """`await serve(answer, ...)`: a port where every connection gets an answer to each of its words, and is
    then held, or closed where there is none; with the words that came."""
    servers: list[asyncio.Server] = []
    open_writers: list[asyncio.StreamWriter] = []

    async def begin(*answers: bytes | None) -> tuple[int, list[bytes]]:
        came: list[bytes] = []

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_writers.append(writer)
            for answer in answers:
                came.append(await reader.read(1024))
                if answer is None:
                    writer.close()
                    return
                writer.write(answer)
            came.append(await reader.read(1024))

        servers.append(await asyncio.start_server(talk, "127.0.0.1", 0))
        return servers[-1].sockets[0].getsockname()[1], came

    yield begin
    for server in servers:
        server.close()
    for writer in open_writers:
        writer.close()


async def ask(tmp_path: Path, **keys: Any) -> DependencyFact:
    (tmp_path / "state").mkdir(exist_ok=True)
    layout = DeskLayout(tmp_path, tmp_path / "state")
    dependency = Dependency(**{"timeout": "20s", **keys})
    return await ask_dependency("it", dependency, layout, {"PATH": "/usr/bin:/bin"})


@pytest.mark.parametrize(
    ("answer", "serves", "why"),
    [
        (auth(0) + message(b"Z", b"I"), True, "serves ledger to desk"),
        (auth(0) + message(b"S", b"a\0b\0") + message(b"Z", b"I"), True, "serves ledger to desk"),
        (auth(10, b"SCRAM-SHA-256\0\0"), True, "asks desk for a password, which is not tried"),
        (auth(5, b"salt"), True, "asks desk for a password"),
        (message(b"E", STARTING_UP), False, "the database system is starting up (57P03)"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, "does not speak PostgreSQL"),
        (None, None, "without an answer"),
        (b"", None, "no answer within 0.3s"),
    ],
)
async def test_a_postgres_serves_or_says_why_not(
    serve: Any, tmp_path: Path, answer: bytes | None, serves: bool | None, why: str
) -> None:
    port, came = await serve(WITHOUT_TLS, answer)
    url = f"postgres://desk@127.0.0.1:{port}/ledger"
    fact = await ask(
        tmp_path, kind="postgres", url=url, timeout="300ms" if answer == b"" else "20s"
    )
    assert (fact.serves, why in fact.why) == (serves, True), fact
    asked, words = came[:2]
    assert asked == struct.pack("!ii", 8, 1234 << 16 | 5679)
    assert struct.unpack("!ii", words[:8]) == (len(words), 3 << 16)
    assert words[8:] == b"user\0desk\0database\0ledger\0\0"


@pytest.mark.parametrize(
    ("answer", "serves", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False, "does not speak PostgreSQL"),
        (b"E", False, "cannot begin a session"),
        (b"S", None, "no answer within 0.3s"),
        (None, None, "without an answer"),
    ],
)
async def test_what_answers_oddly_to_the_question_for_tls_does_not_serve(
    serve: Any, tmp_path: Path, answer: bytes | None, serves: bool | None, why: str
) -> None:
    port, _ = await serve(answer)
    url = f"postgres://127.0.0.1:{port}"
    fact = await ask(
        tmp_path, kind="postgres", url=url, timeout="300ms" if answer == b"S" else "20s"
    )
    assert (fact.serves, why in fact.why) == (serves, True), fact


@pytest.mark.parametrize(
    ("answer", "serves", "why"),
    [
        (auth(0) + message(b"Z", b"I"), True, "serves ledger to desk"),
        (message(b"E", STARTING_UP), False, "the database system is starting up (57P03); by TLS: "),
    ],
)
async def test_where_no_session_comes_of_tls_it_is_asked_without_as_psql_does(
    tmp_path: Path, answer: bytes, serves: bool, why: str
) -> None:
    """A server whose TLS is older than ours takes, or of which a proxy takes the first words alone."""
    begun: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(await reader.read(1024))
        if len(begun) == 1:
            writer.write(b"S")
            await reader.read(1024)
            writer.write(b"this is no handshake of TLS\r\n")
        else:
            writer.write(answer)
        await reader.read(1024)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgres://desk@127.0.0.1:{port}/ledger"
        fact = await ask(tmp_path, kind="postgres", url=url)
    assert (fact.serves, why in fact.why) == (serves, True), fact
    assert len(begun) == 2 and begun[1][8:] == b"user\0desk\0database\0ledger\0\0"


@pytest.mark.parametrize(
    ("answer", "serves", "why"),
    [
        (b"+PONG\r\n", True, "answers PING"),
        (b"-NOAUTH Authentication required.\r\n", True, "asks for a password"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", False, "LOADING"),
        (b"HTTP/1.1 400 Bad Request\r\n", False, "does not speak Redis"),
        (None, None, "without an answer"),
    ],
)
async def test_a_redis_serves_or_says_why_not(
    serve: Any, tmp_path: Path, answer: bytes | None, serves: bool | None, why: str
) -> None:
    port, came = await serve(answer)
    fact = await ask(tmp_path, kind="redis", url=f"redis://127.0.0.1:{port}")
    assert (fact.serves, why in fact.why) == (serves, True), fact
    assert came[0] == b"*1\r\n$4\r\nPING\r\n"


@pytest.mark.parametrize(("status", "serves"), [(204, True), (302, False), (503, False)])
async def test_a_page_counts_with_its_status(
    serve: Any, tmp_path: Path, status: int, serves: bool
) -> None:
    port, _ = await serve(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
    fact = await ask(tmp_path, kind="http", url=f"http://127.0.0.1:{port}/health")
    assert (fact.serves, fact.why) == (serves, f"answers {status}")


@pytest.mark.parametrize("kind", ["postgres", "redis", "http", "tcp"])
async def test_where_nobody_listens_nothing_serves(serve: Any, tmp_path: Path, kind: str) -> None:
    port, _ = await serve(None)
    server_port = port
    gone = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = gone.sockets[0].getsockname()[1]
    gone.close()
    await gone.wait_closed()
    assert port != server_port
    fact = await ask(tmp_path, kind=kind, url=f"{kind}://127.0.0.1:{port}")
    assert fact.serves is False and fact.why


@pytest.mark.parametrize("kind", ["postgres", "redis", "http"])
async def test_silence_is_unknown(serve: Any, tmp_path: Path, kind: str) -> None:
    port, _ = await serve(b"")
    fact = await ask(tmp_path, kind=kind, url=f"{kind}://127.0.0.1:{port}", timeout="300ms")
    assert (fact.serves, fact.why) == (None, "no answer within 0.3s")


@pytest.mark.parametrize(
    ("command", "serves", "why"),
    [
        (("sh", "-c", "echo fine"), True, "fine"),
        (("sh", "-c", "echo broken; exit 3"), False, "broken"),
        (("sh", "-c", "exit 3"), False, "exit status 3"),
        (("no-such-command-anywhere",), None, "cannot be run"),
        (("sh", "-c", "test -d {state}"), True, "exit status 0"),
    ],
)
async def test_a_command_counts_with_its_exit_status(
    tmp_path: Path, command: tuple[str, ...], serves: bool | None, why: str
) -> None:
    fact = await ask(tmp_path, kind="command", command=command)
    assert fact.serves is serves and why in fact.why
