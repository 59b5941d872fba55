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
    Column("version", BigInteger, nullable=False),
    Column("plan", Text, nullable=False),
    Column("head_seq", BigInteger, nullable=False),
    Column("head_hash", Text, nullable=False),
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

run_record = Table(
    "run_record",
    metadata,
    Column("run", BigInteger, ForeignKey("runs.run"), primary_key=True, nullable=False),
    Column("seq", BigInteger, primary_key=True, nullable=False),
    Column("line", LargeBinary, nullable=False),
)

run_effects = Table(
    "run_effects",
    metadata,
    Column("run", BigInteger, ForeignKey("runs.run"), primary_key=True, nullable=False),
    Column("effect", Text, primary_key=True, nullable=False),
    Column("what", Text, nullable=False),
    Column("intended_ns", BigInteger, nullable=False),
    Column("settled_ns", BigInteger),
    Column("outcome", Text),
)

requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    Column("act", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("used_ns", BigInteger),
    Column("boot_id", Text, nullable=False, server_default=""),
    Column("expires_mono_ns", BigInteger, nullable=False, server_default="0"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("request", Text, ForeignKey("requests.id"), primary_key=True, nullable=False),
    Column("approver", Text, primary_key=True, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
)
