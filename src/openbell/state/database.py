"""The desk database: SQLite by default, reached through SQLAlchemy Core.

Settings, and why (https://www.sqlite.org/pragma.html):
- `journal_mode=WAL`: readers never wait for the writer, nor it for them.
- `synchronous=FULL`: a commit that returned is on the disk. NORMAL would lose the last ones at a
  power cut, and an order would have been sent of which no journal knows.
- `fullfsync` (acts on macOS only): fsync reaches the disk itself.
- `busy_timeout`: SQLite has one writer at a time; another process's commit is waited for.
- Write transactions are BEGIN IMMEDIATE: they wait at the start, instead of failing in the middle
  because what they have read was changed meanwhile.

PostgreSQL (`DATABASE_URL`) is to be another branch of `open_database`, another entry in each
migration, and another writer in `journal`; queries go through Core already.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from openbell.errors import ConfigError, CorruptError, NotRunningError, OpenbellError, StorageError
from openbell.state.files import fsync_folder, storage_error
from openbell.state.migrations import (
    MIGRATIONS,
    Migration,
    apply_next,
    refuse_newer,
    schema_version,
)

APPLICATION_ID = 0x4F424C31
"""`OBL1` in SQLite's header field for it: tells `file` and us whose database it is."""

BUSY_TIMEOUT_SECS = 5.0
"""Ours. A commit of another process takes about a millisecond; one that takes seconds is stuck."""

_BEGIN = "openbell_begin"


class Database:
    """An open desk database. Thread-safe: every transaction takes a connection of its own."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self.engine = engine
        self.path = path
        self._opened: tuple[int, int, int] | None = None

    def note_opened(self) -> None:
        """For `is_unchanged`. StorageError, CorruptError."""
        self._opened = self._identity()

    def is_unchanged(self) -> bool:
        """Whether to open it now would come to the same: the file that was opened still stands at its
        path, and nobody has migrated it since `note_opened`. StorageError, CorruptError."""
        return self._opened is not None and self._identity() == self._opened

    def _identity(self) -> tuple[int, int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise storage_error(error, "open", self.path) from error
        with self.reading() as connection:
            version = connection.exec_driver_sql("SELECT max(version) FROM migrations").scalar_one()
        return found.st_dev, found.st_ino, version

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction: one consistent view. StorageError, CorruptError."""
        with self._transaction("BEGIN", "read") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction: committed and on the disk when the block has ended without an
        error, else rolled back. StorageError (full, locked, input/output), CorruptError."""
        with self._transaction("BEGIN IMMEDIATE", "write") as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, begin: str, doing: str) -> Iterator[Connection]:
        with _in_our_words(doing, self.path):
            with self.engine.connect().execution_options(**{_BEGIN: begin}) as connection:
                with connection.begin():
                    yield connection

    def driver_connection(self) -> sqlite3.Connection:
        """A connection of the driver's own, in autocommit mode, closed by the caller.

        For the journal's hot path only. Measured (ext4 on NVMe, one event a commit): 152 µs through
        the driver, 220 µs through Core, whose part is 45 to 70 µs of Python with the interpreter's
        lock held, that is, taken from the event loop that sends the orders.
        """
        with _in_our_words("open", self.path):
            raw = self.engine.raw_connection()
        connection = raw.driver_connection
        raw.detach()
        if not isinstance(connection, sqlite3.Connection):
            raise ConfigError("the journal is written to SQLite only")
        return connection

    def close(self) -> None:
        self.engine.dispose()


def open_database(
    where: str | Path,
    *,
    create: bool = True,
    read_only: bool = False,
    busy_timeout_secs: float = BUSY_TIMEOUT_SECS,
    migrations: Sequence[Migration] = MIGRATIONS,
) -> Database:
    """Open the database at a path or `sqlite:///` URL, made and migrated where needed.

    `create=False`: NotRunningError where there is none. `read_only` implies it, takes no write
    lock (a writer that hangs cannot hang a reader) and migrates nothing. ConfigError: another kind
    of URL, a schema newer than this code, a file of another program. CorruptError: not a database.
    StorageError: the disk.
    """
    path = _path_of(where)
    if create and not read_only:
        _create_private(path)
    elif not path.exists():
        raise NotRunningError(
            f"there is no desk database at {path}", hint="open the desk first", path=str(path)
        )
    database = Database(_engine(path, busy_timeout_secs, read_only), path)
    try:
        if read_only:
            _require_current(database, migrations)
        else:
            _use_write_ahead_log(database, busy_timeout_secs)
            _claim_for_openbell(database)
            _migrate(database, migrations)
    except OpenbellError:
        database.close()
        raise
    return database


def result_code(error: sqlite3.Error) -> int:
    """SQLite's extended result code; 0 for an error of the driver itself, which has none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code


def database_error(error: sqlite3.Error, doing: str, path: Path) -> StorageError | CorruptError:
    """SQLite's error in ours, sorted by its result code (https://www.sqlite.org/rescode.html)."""
    code = result_code(error)
    name = getattr(error, "sqlite_errorname", None) or "SQLITE_ERROR"
    facts = {"path": str(path), "sqlite": name}
    match code & 0xFF:  # the rest says more of the same kind
        case sqlite3.SQLITE_FULL:
            hint = f"free space on the file system of {path.parent}"
            return StorageError(f"cannot {doing} {path}: the disk is full", hint=hint, **facts)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            hint = f"see which process holds it: lsof {path}"
            return StorageError(
                f"cannot {doing} {path}: another process holds it locked", hint=hint, **facts
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            hint = "keep the file for study and restore a checkpoint"
            return CorruptError(f"{path} is damaged: {error} ({name})", hint=hint, **facts)
        case _:
            return StorageError(f"cannot {doing} {path}: {error} ({name})", **facts)


@contextlib.contextmanager
def _in_our_words(doing: str, path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:  # from settings made as a connection opens
        raise database_error(error, doing, path) from error
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise database_error(error.orig, doing, path) from error
        raise


def _path_of(where: str | Path) -> Path:
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    url = sqlalchemy.make_url(where)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise ConfigError(
            f"{url.render_as_string(hide_password=True)} is not a database this version can use",
            hint="use sqlite:///PATH, or leave it out for the desk's own",
        )
    return Path(url.database)


def _create_private(path: Path) -> None:
    """Make the file with mode 600 before SQLite does by the umask; its -wal and -shm follow it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.close(fd)
        fsync_folder(path.parent)
    except FileExistsError:
        return
    except OSError as error:
        raise storage_error(error, "create", path) from error


def _engine(path: Path, busy_timeout_secs: float, read_only: bool) -> Engine:
    engine = create_engine(
        sqlalchemy.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": busy_timeout_secs, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        assert isinstance(connection, sqlite3.Connection)
        # None: the driver opens no transaction behind our back; `begin` below does.
        connection.isolation_level = None
        # query_only rather than a read-only file: reading a write-ahead log takes locks in a file
        # beside it, which must then be made by someone.
        reading = (f"query_only={'ON' if read_only else 'OFF'}",)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "fullfsync=ON", *reading):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


def _use_write_ahead_log(database: Database, busy_timeout_secs: float) -> None:
    """The mode is a property of the file, so this changes it once in the file's life. The change
    needs the file alone and does not heed the busy time-out, hence the loop."""
    deadline = time.monotonic() + busy_timeout_secs
    connection = database.driver_connection()
    try:
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            except sqlite3.OperationalError as error:
                busy = result_code(error) & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
                continue
            if mode != "wal":
                raise ConfigError(
                    f"{database.path} cannot have a write-ahead log (it says {mode!r})",
                    hint="keep the state folder on a local file system",
                )
            return
    except sqlite3.Error as error:
        raise database_error(error, "open", database.path) from error
    finally:
        connection.close()


def _claim_for_openbell(database: Database) -> None:
    """Mark a new database as ours; refuse one that is another program's."""
    with database.reading() as connection:
        if _is_ours(connection, database.path):
            return
    with database.writing() as connection:
        if not _is_ours(connection, database.path):  # another process may have been faster
            connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")


def _is_ours(connection: Connection, path: Path) -> bool:
    """False for an empty database. ConfigError: another program's."""
    owner = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    if owner == APPLICATION_ID:
        return True
    objects = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    if owner != 0 or objects != 0:
        raise ConfigError(
            f"{path} is a database, but not one of Openbell's",
            hint="name another path; nothing in this one was changed",
        )
    return False


def _require_current(database: Database, known: Sequence[Migration]) -> None:
    with database.reading() as connection:
        version = schema_version(connection) if _is_ours(connection, database.path) else 0
    refuse_newer(version, str(database.path), known)
    if version < known[-1].version:
        raise ConfigError(
            f"{database.path} has schema version {version}; this Openbell reads "
            f"{known[-1].version}",
            hint="open the desk with this Openbell once: that migrates it",
            schema_version=version,
            known_version=known[-1].version,
        )


def _migrate(database: Database, known: Sequence[Migration]) -> None:
    with database.reading() as connection:
        version = schema_version(connection)
    refuse_newer(version, str(database.path), known)
    while version < known[-1].version:
        with database.writing() as connection:
            apply_next(connection, known)
            version = schema_version(connection)
