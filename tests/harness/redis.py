"""A real Redis of a test's own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.installed import redis_server
from tests.harness.ports import free_ports


@contextmanager
def redis(folder: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """On loopback, and it writes nothing down; its port and its process."""
    (port,) = free_ports(1)
    command = [redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", *options]
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield port, process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
