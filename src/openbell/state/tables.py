"""The desk database's tables as SQLAlchemy Core sees them, for queries.

They are made by `migrations`, never from here; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, MetaData, Table, Text

metadata = MetaData()

migrations = Table(
    "migrations",
    metadata,
    Column("version", BigInteger, primary_key=True, nullable=False),
    Column("name", Text, nullable=False),
    Column("applied_ns", BigInteger, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True, nullable=False),
    Column("value", Text, nullable=False),
)

epochs = Table(
    "epochs",
    metadata,
    Column("epoch", BigInteger, primary_key=True, nullable=False),
    Column("holder", Text, nullable=False),
    Column("taken_ns", BigInteger, nullable=False),
)

journal = Table(
    "journal",
    metadata,
    Column("seq", BigInteger, primary_key=True, nullable=False),
    Column("epoch", BigInteger, ForeignKey("epochs.epoch"), nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("event", LargeBinary, nullable=False),
    Column("crc", BigInteger, nullable=False),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("seq", BigInteger, primary_key=True, nullable=False),
    Column("epoch", BigInteger, ForeignKey("epochs.epoch"), nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("crc", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("run", BigInteger, primary_key=True, nullable=False),
    Column("kind", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("begun_ns", BigInteger, nullable=False),
    Column("finished_ns", BigInteger),
    Column("outcome", Text),
)

run_steps = Table(
    "run_steps",
    metadata,
    Column("run", BigInteger, ForeignKey("runs.run"), primary_key=True, nullable=False),
    Column("step", BigInteger, primary_key=True, nullable=False),
    Column("attempt", BigInteger, primary_key=True, nullable=False),
    Column("name", Text, nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("done_ns", BigInteger),
    Column("outcome", Text),
    Column("facts", Text),
    Column("evidence", Text),
)
