"""A real PostgreSQL server of a test's own: a new cluster in a temporary folder, on loopback and on a socket.

It refuses to run as root: where the tests do, it is another user's.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.harness.installed import postgres_programs
from tests.harness.ports import free_ports

WAIT_S = 60.0
ACCEPTS, REFUSES = 0, 1
"""What `pg_isready` says of a server that takes sessions, and of one that answers that it takes none yet."""
_HBA = """\
local all postgres trust
host ledger,nowhere,crowded desk 127.0.0.1/32 trust
host ledger nobody 127.0.0.1/32 trust
host ledger scram 127.0.0.1/32 scram-sha-256
host ledger md5 127.0.0.1/32 md5
hostssl ledger encrypted 127.0.0.1/32 trust
"""
_MAKE = """\
CREATE ROLE desk LOGIN;
CREATE ROLE scram LOGIN PASSWORD 'canary';
CREATE ROLE md5 LOGIN PASSWORD 'canary';
CREATE ROLE encrypted LOGIN;
CREATE DATABASE ledger OWNER desk;
CREATE DATABASE crowded CONNECTION LIMIT 0;
"""


class PostgresServer:
    """Not started yet. Its database `ledger` is `desk`'s, who needs no password; `scram` and `md5` are asked
    for one; `encrypted` gets in by TLS alone, which it has from `encrypts()` on; of `nobody` there is no
    role, of `nowhere` no database; into `crowded` nobody gets; who is not named has no entry."""

    def __init__(self, folder: Path) -> None:
        self._programs = postgres_programs()
        self._folder = folder
        self._data = folder / "data"
        self._as = _somebody_else() if os.geteuid() == 0 else {}
        if self._as:
            os.chown(folder, self._as["user"], self._as["group"])
        (self.port,) = free_ports(1)
        self.process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust",
                  "--no-sync", "--no-locale", "-E", "UTF8")  # fmt: skip
        (self._data / "pg_hba.conf").write_text(_HBA)

    def url(self, user: str = "desk", database: str = "ledger") -> str:
        return f"postgres://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """It may take a moment to serve, which is what some wait to see."""
        with (self._folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self._programs / "postgres", "-D", self._data, "-p", str(self.port),
                    "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._folder}",
                    "-c", "fsync=off", "-c", "max_connections=10", "-c", "shared_buffers=8MB",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, **self._as,
            )  # fmt: skip

    def until(self, status: int) -> None:
        deadline = time.monotonic() + WAIT_S
        where = ("-h", str(self._folder), "-p", str(self.port))
        while self._done("pg_isready", *where).returncode != status:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def make(self) -> None:
        """Roles and databases, once it serves."""
        for line in _MAKE.splitlines():
            self.sql(line)

    def sql(self, command: str) -> str:
        return self._run(*self._psql(), "-c", command).stdout.strip()

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Somebody who is connected meanwhile."""
        name, *arguments = self._psql()
        held = subprocess.Popen(
            [self._programs / name, *arguments], text=True, cwd=self._folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **self._as,
        )  # fmt: skip
        assert held.stdin is not None and held.stdout is not None
        try:
            held.stdin.write("SELECT 'here';\n")
            held.stdin.flush()
            assert held.stdout.readline() == "here\n"
            yield
        finally:
            held.communicate(timeout=WAIT_S)

    def encrypts(self) -> None:
        """From its next look at its files on; with a certificate that nobody vouches for."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ledger")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        text = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption()
        )  # fmt: skip
        for file, content in (
            ("server.key", text), ("server.crt", certificate.public_bytes(Encoding.PEM)),
        ):  # fmt: skip
            path = self._data / file
            path.write_bytes(content)
            path.chmod(0o600)
            if self._as:
                os.chown(path, self._as["user"], self._as["group"])
        self.sql("ALTER SYSTEM SET ssl = on")
        self.send(signal.SIGHUP)

    def starts_slowly(self) -> None:
        """From now on it is starting up until `starts()`: it asks an archive for more of its log, as one
        does that is restored, and the archive lets it wait."""
        (self._data / "recovery.signal").touch()
        wait = f"until test -e {self._folder}/archive; do sleep 0.05; done; false"
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"restore_command = '{wait}'\n")

    def starts(self) -> None:
        (self._folder / "archive").touch()

    def send(self, number: signal.Signals) -> None:
        """To the server alone, not to what it has started."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; what it has started ends by itself, and has done so on return."""
        assert self.process is not None
        started = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait(WAIT_S)
        _, left = psutil.wait_procs(started, timeout=WAIT_S)
        assert not left, left

    def until_ended(self) -> None:
        assert self.process is not None
        self.process.wait(WAIT_S)

    def close(self) -> None:
        self.starts()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGQUIT)  # at once, without a word to who is connected
            self.process.wait(WAIT_S)

    def log(self) -> str:
        return (self._folder / "postgres.log").read_text()

    def _psql(self) -> tuple[str, ...]:
        where = ("-h", str(self._folder), "-p", str(self.port), "-U", "postgres", "-d", "postgres")
        return ("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", *where)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = self._done(program, *arguments)
        assert done.returncode == 0, f"{program}: {done.stdout}\n{done.stderr}"
        return done

    def _done(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._programs / program, *arguments], text=True, capture_output=True, check=False,
            timeout=WAIT_S, cwd=self._folder, stdin=subprocess.DEVNULL, **self._as,
        )  # fmt: skip


def _somebody_else() -> dict[str, Any]:
    """The user that Debian's package makes, or any."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise AssertionError("there is no user but root")


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    # Not in pytest's own folder, which is closed to other users; and short enough for a socket's address.
    folder = Path(tempfile.mkdtemp(prefix="ob-pg-"))
    server = None
    try:
        server = PostgresServer(folder)
        yield server
    finally:
        if server is not None:
            server.close()
        shutil.rmtree(folder)
