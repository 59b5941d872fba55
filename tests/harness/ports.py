"""Free ports for processes that listen a moment later.

A port that the kernel names is free again as soon as it is let go, and may be named to another test,
or be the near end of somebody's connection, before the process is up. So they are counted through,
below the ports that the kernel gives out, and each process of tests has a range of its own, which it
holds by a lock as long as it lives: a desk that is down for a moment holds none of its ports.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from pathlib import Path

_FIRST, _EACH, _WORKERS = 10_000, 1_500, 14
"""Linux gives out ports from 32768 on, macOS from 49152."""


def _range() -> range:
    """The first one that nobody holds, from this process's own on: by pytest-xdist's number of it."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    own = int(name.removeprefix("gw")) if name else os.getpid()
    number = next(
        (each for each in range(own, own + _WORKERS) if _is_ours(each % _WORKERS)), own
    )  # fmt: skip
    first = _FIRST + number % _WORKERS * _EACH
    return range(first, first + _EACH)


def _is_ours(number: int) -> bool:
    """Taken until this process ends. A lock file of another user counts as held."""
    path = Path(tempfile.gettempdir()) / f"openbell-test-ports-{number}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True


_numbers = itertools.cycle(_range())


def free_ports(count: int) -> list[int]:
    """So many, on which nobody listens on loopback; none is told twice within a thousand."""
    found: list[int] = []
    for port in itertools.islice(_numbers, _EACH):
        with socket.socket() as one:
            # As servers do: an old connection in TIME_WAIT holds nobody off.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} ports are free from {_FIRST} on")


def free_port() -> int:
    return free_ports(1)[0]
