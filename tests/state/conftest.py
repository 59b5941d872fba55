"""Order events, child processes that can be killed, and a disk that is really full."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from openbell.domain.orders import ClOrdID, NewOrder, OrderIntended, OrdType, Side

MakeIntent = Callable[[int], OrderIntended]


@pytest.fixture
def intent() -> MakeIntent:
    """The intent of the n-th order."""

    def make(number: int) -> OrderIntended:
        cl_ord_id = ClOrdID(f"ob-{number}")
        order = NewOrder(
            cl_ord_id=cl_ord_id,
            venue="binance",
            symbol="BTC/USDT",
            side=Side.BUY,
            ord_type=OrdType.LIMIT,
            order_qty=Decimal("0.010"),
            price=Decimal("50000.10"),
        )
        return OrderIntended(cl_ord_id=cl_ord_id, at_ns=number, order=order)

    return make


Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """`spawn(script, *arguments)`: a Python process with its output in a pipe; killed at the end."""
    processes: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


class SmallDisk:
    """A file system of a few hundred kilobytes, to be filled and emptied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Take what is left, to the last block."""
        with (self.folder / f"filler-{uuid.uuid4().hex}").open("wb", buffering=0) as file:
            for size in (65536, 4096):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    def empty(self) -> None:
        for filler in self.folder.glob("filler-*"):
            filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("a small file system can be mounted by root on Linux only")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)
