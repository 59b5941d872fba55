"""Runs of procedures: what was begun, which steps were started and done, and how it ended.

STARTED is on the disk before a step acts, DONE after it was verified, so that whoever comes after
a crash knows where the run stood. A step begun again (after a crash, or by a failure policy) is a
new attempt; the earlier one stays as it was left.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, func, insert, select, update

from openbell.errors import UsageError
from openbell.state.database import Database
from openbell.state.tables import run_steps, runs


@dataclass(frozen=True)
class StepRecord:
    step: int
    """Position in the run's plan, from 0."""
    attempt: int
    """From 1."""
    name: str
    started_at: datetime
    done_at: datetime | None
    """None: never known to be done; its effects must be looked for."""
    outcome: str | None
    facts: Mapping[str, Any]
    evidence: str


@dataclass(frozen=True)
class RunRecord:
    run: int
    kind: str
    """Name of the procedure: `open`, `close`, ..."""
    who: str
    why: str
    params: Mapping[str, Any]
    begun_at: datetime
    finished_at: datetime | None
    outcome: str | None
    steps: tuple[StepRecord, ...]
    """In the order in which they were started."""


class RunStore:
    """Runs in the desk database. Thread-safe; each call is one short transaction (about 1 ms).

    Every method: StorageError where the database cannot be read or written; what was asked for is
    then not recorded, and must not be done.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, kind: str, who: str, why: str, params: Mapping[str, Any]) -> int:
        """Record a new run and return its number."""
        row = {
            "kind": kind,
            "who": who,
            "why": why,
            "params": _as_json(params),
            "begun_ns": time.time_ns(),
        }
        with self._database.writing() as connection:
            return int(
                connection.execute(insert(runs).values(row).returning(runs.c.run)).scalar_one()
            )

    def step_started(self, run: int, index: int, name: str) -> int:
        """Record that a step is about to act; returns which attempt this is, from 1."""
        with self._database.writing() as connection:
            _require_unfinished(connection, run)
            attempt = (_last_attempt(connection, run, index) or 0) + 1
            connection.execute(
                insert(run_steps).values(
                    run=run, step=index, attempt=attempt, name=name, started_ns=time.time_ns()
                )
            )
            return attempt

    def step_done(
        self, run: int, index: int, outcome: str, facts: Mapping[str, Any], evidence: str = ""
    ) -> None:
        """Record how the newest attempt of a step ended."""
        with self._database.writing() as connection:
            attempt = _last_attempt(connection, run, index)
            changed = connection.execute(
                update(run_steps)
                .where(
                    run_steps.c.run == run,
                    run_steps.c.step == index,
                    run_steps.c.attempt == attempt,
                    run_steps.c.done_ns.is_(None),
                )
                .values(
                    done_ns=time.time_ns(),
                    outcome=outcome,
                    facts=_as_json(facts),
                    evidence=evidence,
                )
            ).rowcount
            if changed != 1:
                raise ValueError(f"step {index} of run {run} is done but was not started")

    def finish(self, run: int, outcome: str) -> None:
        """Record the run's end."""
        with self._database.writing() as connection:
            _require_unfinished(connection, run)
            connection.execute(
                update(runs)
                .where(runs.c.run == run)
                .values(finished_ns=time.time_ns(), outcome=outcome)
            )

    def unfinished(self) -> tuple[RunRecord, ...]:
        """Runs without an end, oldest first: to be continued, or declared abandoned."""
        return self._select(select(runs).where(runs.c.finished_ns.is_(None)).order_by(runs.c.run))

    def get(self, run: int) -> RunRecord:
        """UsageError: there is no such run."""
        found = self._select(select(runs).where(runs.c.run == run))
        if not found:
            raise UsageError(f"there is no run {run}", hint="see the list of runs", run=run)
        return found[0]

    def list(self, limit: int = 20) -> tuple[RunRecord, ...]:
        """The newest runs, newest first."""
        return self._select(select(runs).order_by(runs.c.run.desc()).limit(limit))

    def _select(self, query: Select[Any]) -> tuple[RunRecord, ...]:
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            steps = connection.execute(
                select(run_steps)
                .where(run_steps.c.run.in_([row.run for row in rows]))
                .order_by(run_steps.c.started_ns, run_steps.c.step, run_steps.c.attempt)
            ).all()
        return tuple(_run(row, (step for step in steps if step.run == row.run)) for row in rows)


def _last_attempt(connection: Connection, run: int, index: int) -> int | None:
    query = select(func.max(run_steps.c.attempt)).where(
        run_steps.c.run == run, run_steps.c.step == index
    )
    attempt: int | None = connection.execute(query).scalar()
    return attempt


def _require_unfinished(connection: Connection, run: int) -> None:
    row = connection.execute(select(runs.c.finished_ns).where(runs.c.run == run)).one_or_none()
    if row is None or row.finished_ns is not None:
        raise ValueError(f"run {run} {'is finished' if row else 'was never begun'}")


def _run(row: Row[Any], steps: Iterable[Row[Any]]) -> RunRecord:
    return RunRecord(
        run=row.run,
        kind=row.kind,
        who=row.who,
        why=row.why,
        params=msgspec.json.decode(row.params),
        begun_at=_utc(row.begun_ns),
        finished_at=None if row.finished_ns is None else _utc(row.finished_ns),
        outcome=row.outcome,
        steps=tuple(map(_step, steps)),
    )


def _step(row: Row[Any]) -> StepRecord:
    return StepRecord(
        step=row.step,
        attempt=row.attempt,
        name=row.name,
        started_at=_utc(row.started_ns),
        done_at=None if row.done_ns is None else _utc(row.done_ns),
        outcome=row.outcome,
        facts=msgspec.json.decode(row.facts) if row.facts else {},
        evidence=row.evidence or "",
    )


def _as_json(value: Mapping[str, Any]) -> str:
    """Decimal, datetime and enums become strings, dataclasses objects."""
    return msgspec.json.encode(dict(value)).decode()


def _utc(ns: int) -> datetime:
    # By integers: a float of seconds cannot hold today's microseconds exactly.
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)
