"""The desk database's schema, as an ordered list of migrations.

A migration is never edited once released: a database somewhere has it. Each is applied in a
transaction of its own together with the row that records it, so a crash leaves the schema at one
version or the next. Applying is idempotent, and two processes that open a new database at the same
time apply each migration once: the version is read inside the write transaction.

The statements are SQL text, one tuple per database system, because what makes the journal safe
(the fence) is a trigger, which no common language of schemas covers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, inspect, select

from openbell.errors import ConfigError
from openbell.state import tables


@dataclass(frozen=True)
class Migration:
    version: int
    name: str
    statements: Mapping[str, tuple[str, ...]]
    """By SQLAlchemy dialect name: `{"sqlite": (...)}`."""


_FIRST_SQLITE = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT",
    """
    CREATE TABLE epochs (
        epoch INTEGER PRIMARY KEY NOT NULL,
        holder TEXT NOT NULL,
        taken_ns INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY NOT NULL,
        epoch INTEGER NOT NULL REFERENCES epochs (epoch),
        at_ns INTEGER NOT NULL,
        event BLOB NOT NULL,
        crc INTEGER NOT NULL
    ) STRICT
    """,
    # The fence stands in the database, the last hop of every append: a writer that forgets to look
    # at its epoch, or looked at it before it was stopped for a minute, is refused all the same.
    """
    CREATE TRIGGER journal_is_fenced BEFORE INSERT ON journal
    WHEN NEW.epoch IS NOT (SELECT max(epoch) FROM epochs)
    BEGIN SELECT RAISE(ABORT, 'fenced'); END
    """,
    """
    CREATE TRIGGER journal_is_not_edited BEFORE UPDATE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
    """,
    """
    CREATE TRIGGER journal_is_not_cut BEFORE DELETE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
    """,
    """
    CREATE TABLE snapshots (
        seq INTEGER PRIMARY KEY NOT NULL,
        epoch INTEGER NOT NULL REFERENCES epochs (epoch),
        at_ns INTEGER NOT NULL,
        data BLOB NOT NULL,
        crc INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TRIGGER snapshots_are_fenced BEFORE INSERT ON snapshots
    WHEN NEW.epoch IS NOT (SELECT max(epoch) FROM epochs)
    BEGIN SELECT RAISE(ABORT, 'fenced'); END
    """,
    """
    CREATE TABLE runs (
        run INTEGER PRIMARY KEY NOT NULL,
        kind TEXT NOT NULL,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        params TEXT NOT NULL,
        begun_ns INTEGER NOT NULL,
        finished_ns INTEGER,
        outcome TEXT
    ) STRICT
    """,
    "CREATE INDEX runs_unfinished ON runs (run) WHERE finished_ns IS NULL",
    """
    CREATE TABLE run_steps (
        run INTEGER NOT NULL REFERENCES runs (run),
        step INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        name TEXT NOT NULL,
        started_ns INTEGER NOT NULL,
        done_ns INTEGER,
        outcome TEXT,
        facts TEXT,
        evidence TEXT,
        PRIMARY KEY (run, step, attempt)
    ) STRICT
    """,
)

_PROCEDURES_SQLITE = (
    "ALTER TABLE runs ADD COLUMN version INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN plan TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE runs ADD COLUMN head_seq INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN head_hash TEXT NOT NULL DEFAULT ''",
    """
    CREATE TABLE run_record (
        run INTEGER NOT NULL REFERENCES runs (run),
        seq INTEGER NOT NULL,
        line BLOB NOT NULL,
        PRIMARY KEY (run, seq)
    ) STRICT
    """,
    """
    CREATE TRIGGER run_record_is_not_edited BEFORE UPDATE ON run_record
    BEGIN SELECT RAISE(ABORT, 'the record of a run is append-only'); END
    """,
    """
    CREATE TRIGGER run_record_is_not_cut BEFORE DELETE ON run_record
    BEGIN SELECT RAISE(ABORT, 'the record of a run is append-only'); END
    """,
    """
    CREATE TABLE run_effects (
        run INTEGER NOT NULL REFERENCES runs (run),
        effect TEXT NOT NULL,
        what TEXT NOT NULL,
        intended_ns INTEGER NOT NULL,
        settled_ns INTEGER,
        outcome TEXT,
        PRIMARY KEY (run, effect)
    ) STRICT
    """,
    """
    CREATE TABLE requests (
        id TEXT PRIMARY KEY NOT NULL,
        act TEXT NOT NULL,
        parameters TEXT NOT NULL,
        reason TEXT NOT NULL,
        asked_by TEXT NOT NULL,
        asked_ns INTEGER NOT NULL,
        expires_ns INTEGER NOT NULL,
        used_ns INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE approvals (
        request TEXT NOT NULL REFERENCES requests (id),
        approver TEXT NOT NULL,
        reason TEXT NOT NULL,
        at_ns INTEGER NOT NULL,
        PRIMARY KEY (request, approver)
    ) STRICT
    """,
)

_EXPIRY_SQLITE = (
    "ALTER TABLE requests ADD COLUMN boot_id TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE requests ADD COLUMN expires_mono_ns INTEGER NOT NULL DEFAULT 0",
)

MIGRATIONS: Sequence[Migration] = (
    Migration(1, "journal, snapshots and runs", {"sqlite": _FIRST_SQLITE}),
    Migration(2, "records of runs, effects and approvals", {"sqlite": _PROCEDURES_SQLITE}),
    Migration(3, "when a request expires, by a clock that nobody sets", {"sqlite": _EXPIRY_SQLITE}),
)

_VERSIONS_TABLE = {
    "sqlite": """
        CREATE TABLE IF NOT EXISTS migrations (
            version INTEGER PRIMARY KEY NOT NULL,
            name TEXT NOT NULL,
            applied_ns INTEGER NOT NULL
        ) STRICT
        """,
}


def schema_version(connection: Connection) -> int:
    """Version of the newest migration applied; 0 for an empty database."""
    if not inspect(connection).has_table(tables.migrations.name):
        return 0
    return connection.execute(select(func.max(tables.migrations.c.version))).scalar() or 0


def refuse_newer(version: int, database: str, known: Sequence[Migration] = MIGRATIONS) -> None:
    """ConfigError where the schema is newer than this code: it would misread or harm it."""
    newest = known[-1].version
    if version > newest:
        raise ConfigError(
            f"{database} has schema version {version}; this Openbell knows up to {newest}",
            hint="run the Openbell that wrote it, or a newer one; "
            "to go back, restore a checkpoint made before the upgrade",
            schema_version=version,
            known_version=newest,
        )


def apply_next(connection: Connection, known: Sequence[Migration] = MIGRATIONS) -> bool:
    """Apply one migration in the caller's write transaction. False: the schema is up to date."""
    dialect = connection.dialect.name
    connection.exec_driver_sql(_VERSIONS_TABLE[dialect])
    version = schema_version(connection)
    refuse_newer(version, "the desk database", known)
    following = next((migration for migration in known if migration.version > version), None)
    if following is None:
        return False
    for statement in following.statements[dialect]:
        connection.exec_driver_sql(statement)
    connection.execute(
        insert(tables.migrations).values(
            version=following.version, name=following.name, applied_ns=time.time_ns()
        )
    )
    return True
