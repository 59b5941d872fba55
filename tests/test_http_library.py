"""The HTTP library comes without the machine's certificates, and has them before its first handshake."""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ASK = """
import asyncio, ssl, sys
before = ssl.SSLContext.set_default_verify_paths
from openbell.http_library import aiohttp
assert ssl.SSLContext.set_default_verify_paths is before
made = aiohttp.connector._SSL_CONTEXT_VERIFIED
assert type(made) is not ssl.SSLContext, "its certificates were read at once"

async def ask():
    async with aiohttp.ClientSession() as session:
        async with session.get(sys.argv[1]) as answer:
            return await answer.text()

try:
    print(asyncio.run(ask()))
except aiohttp.ClientConnectorCertificateError:
    print("not trusted")
assert type(made) is ssl.SSLContext
print(made.cert_store_stats()["x509"])
"""


@dataclass(frozen=True)
class Server:
    url: str
    certificate: Path
    other: Path
    """Of somebody else."""


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """One for `localhost`, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    of = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(of)
        .issuer_name(of)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    certificate, key = _certificate(tmp_path, "served")
    other, _ = _certificate(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nflat")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "localhost", 0, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield Server(f"https://localhost:{port}/", certificate, other)


async def _asked(url: str, trusted: Path) -> list[str]:
    """The answer, and how many certificates were trusted by then."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", ASK, url],
        env={**os.environ, "SSL_CERT_FILE": str(trusted), "SSL_CERT_DIR": str(trusted)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:2]


async def test_a_machines_certificate_is_trusted_though_it_is_read_late(server: Server) -> None:
    assert await _asked(server.url, server.certificate) == ["flat", "1"]


async def test_what_the_machine_does_not_trust_is_refused(server: Server) -> None:
    assert await _asked(server.url, server.other) == ["not trusted", "1"]
