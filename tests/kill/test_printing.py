"""Whoever reads of a stop, or does not, never holds it up."""

from __future__ import annotations

import asyncio
import fcntl
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from openbell.config.layout import DeskLayout
from openbell.kill.course import last_statement
from openbell.kill.printing import LINES_MAX, Printing, logged_by

PATIENCE_S = 120.0


@pytest.fixture
def full() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that takes no more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    yield reading, writing
    os.close(reading)


def _drained(reading: int) -> threading.Thread:
    def drain() -> None:
        while os.read(reading, 1 << 16):
            pass

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    return thread


def test_a_reader_that_hangs_costs_lines_and_no_time_and_gets_the_last_one_once_it_reads(
    full: tuple[int, int],
) -> None:
    reading, writing = full
    with os.fdopen(writing, "w") as stream:
        printing = Printing(stream)
        for number in range(LINES_MAX + 1000):
            printing.put(str(number))
        assert not printing.end("last", within_s=0.1)
        draining = _drained(reading)
        assert printing.settle(PATIENCE_S)
    draining.join(PATIENCE_S)
    assert not draining.is_alive()


def test_the_last_line_comes_after_all_others_and_one_that_went_away_is_no_trouble() -> None:
    stream = io.StringIO()
    printing = Printing(stream)
    for word in ("one", "two"):
        printing.put(word)
    assert printing.end("last", PATIENCE_S)
    assert stream.getvalue() == "one\ntwo\nlast\n"
    stream.close()
    assert printing.end("more", PATIENCE_S)
    assert Printing(None).end("nobody", PATIENCE_S)


def test_what_is_logged_goes_the_same_way() -> None:
    stream = io.StringIO()
    printing = Printing(stream)
    with logged_by(printing):
        record = logging.LogRecord("x", logging.ERROR, "", 0, "it is killed", (), None)
        assert logging.lastResort is not None
        logging.lastResort.handle(record)
    assert printing.settle(PATIENCE_S)
    assert stream.getvalue() == "it is killed\n"


async def test_a_stop_ends_while_nobody_reads_what_it_tells(
    tmp_path: Path, full: tuple[int, int]
) -> None:
    """A frozen ssh: the carrier stood still in the middle, with the lock in its hands."""
    reading, writing = full
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "openbell.kill", "--desk", str(tmp_path), "--events", "--alone",
        stdout=writing,
        stderr=writing,
    )  # fmt: skip
    os.close(writing)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while last_statement(layout) is None:
                await asyncio.sleep(0.02)
            while not _is_free(layout.emergency_lock):
                await asyncio.sleep(0.02)
            assert process.returncode is None, "it waits for a reader of its statement"
            told = b""
            while b'"done"' not in told:
                told += await asyncio.to_thread(os.read, reading, 1 << 16)
            assert await process.wait() == 7, "no desk.toml"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
