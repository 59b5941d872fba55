"""Damage to the desk database is found while it is written, and looking at it unlocks nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openbell.state import database_look
from openbell.state.database import Database, open_database
from openbell.state.database_look import HeaderLook, header_problem, look_at_pages

LOCK_IT = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    # The bytes that SQLite's readers share; in WAL mode each connection holds them as long as it is open.
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
    except OSError:
        print("held")
    else:
        print("free")
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Written to, in part not yet checkpointed, and open."""
    made = open_database(tmp_path / "desk.db")
    with made.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE filler (a INTEGER PRIMARY KEY, b BLOB)")
    for _ in range(3):
        with made.writing() as connection:
            connection.exec_driver_sql(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) "
                "INSERT INTO filler (b) SELECT randomblob(200) FROM n"
            )
    driver = made.driver_connection()
    driver.execute("PRAGMA wal_checkpoint(PASSIVE)")
    driver.execute("INSERT INTO filler (b) VALUES (x'00')")
    yield made
    driver.close()
    made.close()


def test_of_a_sound_one_nothing_is_told_while_it_is_written(database: Database) -> None:
    header = HeaderLook(database.path)
    for _ in range(3):
        assert header.look() == ""
        with database.writing() as connection:
            connection.exec_driver_sql("INSERT INTO filler (b) VALUES (randomblob(5000))")
    seen = look_at_pages(database.path)
    assert (seen.problem, seen.unknown) == ("", "")


def test_a_look_takes_no_lock_off_the_file(database: Database) -> None:
    """A descriptor that is closed would take all of this process's locks with it; the last process to
    close the database would then throw away what the engine has not brought back yet."""

    def locked() -> str:
        command = [sys.executable, "-c", LOCK_IT, str(database.path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert locked() == "held"
    header = HeaderLook(database.path)
    header.look()
    header.look()
    look_at_pages(database.path)
    assert locked() == "held"


def test_random_bytes_over_the_file_are_seen_at_the_next_look(database: Database) -> None:
    header = HeaderLook(database.path)
    assert header.look() == ""
    size = database.path.stat().st_size
    with database.path.open("r+b") as file:
        file.write(os.urandom(size))
    assert "overwritten" in header.look()


def test_a_page_that_is_overwritten_behind_a_sound_header_is_found(database: Database) -> None:
    """In the middle, which was written long before the last checkpoint."""
    at = database.path.stat().st_size // 4096 // 2 * 4096
    with database.path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 4096)
    assert HeaderLook(database.path).look() == ""
    assert look_at_pages(database.path).problem


def test_a_file_that_is_gone_or_was_replaced_is_told(database: Database) -> None:
    header = HeaderLook(database.path)
    assert header.look() == ""
    aside = database.path.with_suffix(".aside")
    database.path.rename(aside)
    assert "gone" in header.look()
    database.path.write_bytes(aside.read_bytes())
    assert "another file" in header.look()
    database.path.unlink()
    aside.rename(database.path)
    assert header.look() == ""


def test_where_there_is_none_yet_nothing_is_wrong(tmp_path: Path) -> None:
    header = HeaderLook(tmp_path / "desk.db")
    assert header.look() == ""
    (tmp_path / "desk.db").touch()
    assert header.look() == ""  # it is being made
    with sqlite3.connect(tmp_path / "desk.db") as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    assert header.look() == ""
    os.truncate(tmp_path / "desk.db", 0)
    assert header.look() == "its file is empty"


def test_every_field_of_the_header_is_looked_at(database: Database) -> None:
    sound = database.path.read_bytes()[:100]
    assert header_problem(sound) == ""
    assert "cut" in header_problem(sound[:60])
    for at in (0, 15, 16, 17, 18, 19, 68, 71):
        spoiled = bytearray(sound)
        spoiled[at] ^= 0xFF
        assert "overwritten" in header_problem(bytes(spoiled)), at


def test_a_look_that_takes_too_long_is_given_up_and_says_nothing_of_the_rest(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_look, "_STEPS", 1)
    seen = look_at_pages(database.path, seconds_max=-1.0)
    assert seen.problem == ""
    assert "not all of it" in seen.unknown
