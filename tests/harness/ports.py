"""Free ports for processes that listen a moment later.

A port that the kernel names is free again as soon as it is let go, and may be named to another test,
or be the near end of somebody's connection, before the process is up. So they are counted through,
below the ports that the kernel gives out, and each process of tests has a range of its own.
"""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _EACH, _WORKERS = 10_000, 1_500, 14
"""Linux gives out ports from 32768 on, macOS from 49152."""


def _range() -> range:
    """By pytest-xdist's number of this process; without it by process id, for runs beside each other."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "")
    number = int(name.removeprefix("gw")) if name else os.getpid()
    first = _FIRST + number % _WORKERS * _EACH
    return range(first, first + _EACH)


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
