"""Opening, migrating and refusing databases."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import insert, select

from openbell.errors import ConfigError, CorruptError, NotRunningError, StorageError
from openbell.state import tables
from openbell.state.database import open_database
from openbell.state.migrations import MIGRATIONS, Migration

NEXT = MIGRATIONS[-1].version + 1


def test_a_new_database_is_durable_private_and_marked(tmp_path: Path) -> None:
    database = open_database(tmp_path / "desk.db")
    with database.reading() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "application_id")
        }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "application_id": 0x4F424C31,
    }
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    database.close()


def test_the_tables_for_queries_are_the_tables_that_the_migrations_make(tmp_path: Path) -> None:
    database = open_database(tmp_path / "desk.db")
    inspector = sqlalchemy.inspect(database.engine)
    assert set(inspector.get_table_names()) == set(tables.metadata.tables)
    for name, table in tables.metadata.tables.items():
        made = {c["name"]: c["nullable"] for c in inspector.get_columns(name)}
        assert made == {c.name: bool(c.nullable) for c in table.columns}, name
        primary = inspector.get_pk_constraint(name)["constrained_columns"]
        assert primary == [c.name for c in table.primary_key.columns], name
    database.close()


def test_opening_again_migrates_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        database = open_database(tmp_path / "desk.db")
        with database.reading() as connection:
            rows = connection.execute(select(tables.migrations.c.version)).scalars().all()
        assert rows == [migration.version for migration in MIGRATIONS]
        database.close()


def test_a_migration_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    broken = Migration(
        NEXT, "broken", {"sqlite": ("CREATE TABLE half (x INTEGER)", "CREATE nonsense")}
    )
    with pytest.raises(StorageError):
        open_database(tmp_path / "desk.db", migrations=[*MIGRATIONS, broken])
    mended = Migration(NEXT, "mended", {"sqlite": ("CREATE TABLE half (x INTEGER, y INTEGER)",)})
    database = open_database(tmp_path / "desk.db", migrations=[*MIGRATIONS, mended])
    columns = sqlalchemy.inspect(database.engine).get_columns("half")
    assert [column["name"] for column in columns] == ["x", "y"]
    database.close()


def test_a_schema_newer_than_the_code_is_refused(tmp_path: Path) -> None:
    newer = Migration(99, "of the future", {"sqlite": ("CREATE TABLE future (x INTEGER)",)})
    open_database(tmp_path / "desk.db", migrations=[*MIGRATIONS, newer]).close()
    with pytest.raises(ConfigError, match="schema version 99") as raised:
        open_database(tmp_path / "desk.db")
    assert raised.value.facts["known_version"] == MIGRATIONS[-1].version


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x INTEGER)")
    other.close()
    with pytest.raises(ConfigError, match="not one of Openbell's"):
        open_database(path)
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    other.close()


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "desk.db").write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(CorruptError):
        open_database(tmp_path / "desk.db")


def test_a_database_that_must_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError):
        open_database(tmp_path / "desk.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_neither_makes_nor_migrates_nor_writes(tmp_path: Path) -> None:
    path = tmp_path / "desk.db"
    with pytest.raises(NotRunningError):
        open_database(path, read_only=True)
    open_database(path).close()
    newer = Migration(NEXT, "later", {"sqlite": ("CREATE TABLE later (x INTEGER)",)})
    with pytest.raises(ConfigError, match=f"this Openbell reads {NEXT}") as raised:
        open_database(path, read_only=True, migrations=[*MIGRATIONS, newer])
    assert raised.value.facts["schema_version"] == NEXT - 1
    database = open_database(path, read_only=True)
    with pytest.raises(StorageError), database.writing() as connection:
        connection.execute(insert(tables.meta).values(name="a", value="b"))
    database.close()


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        open_database(tmp_path / "nowhere" / "desk.db")


def test_another_kind_of_database_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ConfigError) as raised:
        open_database("postgresql://desk:hunter2hunter2@db/desk")
    assert "hunter2" not in str(raised.value.as_dict())


def test_a_url_names_the_same_database(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path}/desk.db").close()
    assert (tmp_path / "desk.db").exists()


def test_a_block_that_fails_is_rolled_back(tmp_path: Path) -> None:
    database = open_database(tmp_path / "desk.db")
    with pytest.raises(ZeroDivisionError), database.writing() as connection:
        connection.execute(insert(tables.meta).values(name="a", value="b"))
        raise ZeroDivisionError
    with database.reading() as connection:
        assert connection.execute(select(tables.meta)).all() == []
    database.close()


def test_a_database_locked_for_too_long_is_a_storage_error(tmp_path: Path) -> None:
    database = open_database(tmp_path / "desk.db", busy_timeout_secs=0.05)
    holder = database.driver_connection()
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"), database.writing():
        pass
    holder.close()
    with database.writing():
        pass
    database.close()


OPENED_AT_ONCE = """
    import sys
    from pathlib import Path
    from openbell.state.database import open_database
    open_database(Path(sys.argv[1])).close()
"""


def test_processes_that_open_a_new_database_at_once_migrate_it_once(
    tmp_path: Path, spawn: Any
) -> None:
    processes = [spawn(OPENED_AT_ONCE, tmp_path / "desk.db") for _ in range(4)]
    for process in processes:
        assert process.wait(60) == 0, process.communicate()[1]
    database = open_database(tmp_path / "desk.db")
    with database.reading() as connection:
        assert len(connection.execute(select(tables.migrations)).all()) == len(MIGRATIONS)
    database.close()
