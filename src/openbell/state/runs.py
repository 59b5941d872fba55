"""Runs of procedures: what was begun, which steps were started and done, and how it ended.

STARTED is on the disk before a step acts, DONE after it was verified, so that whoever comes after
a crash knows where the run stood. A step begun again (after a crash, or by a failure policy) is a
new attempt; the earlier one stays as it was left.

Each of these writes also adds a line to the run's record, in the same transaction: lines chained by
their hashes as the audit log's are (`state.audit_record`), their head in the run's own row.

An effect that must not repeat is intended before it is brought about and settled afterwards: an
intent without an outcome is in doubt, and nobody brings it about again blindly.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, bindparam, insert, select, update

from openbell.errors import CorruptError, UsageError
from openbell.state.audit_record import EMPTY, LINE_BYTES_MAX, AuditHead, AuditRecord, seal
from openbell.state.audit_verdict import AuditVerdict, judge
from openbell.state.database import Database
from openbell.state.new_run import NewRun
from openbell.state.run_detail import DETAIL_BYTES_MAX, shortened
from openbell.state.tables import run_effects, run_record, run_steps, runs

_RECORD_ACTOR = "controller"

RESUMED = "run.resumed"
"""The action of the line that tells who went on with a run, and what they asked for (`parameters`)."""
_RESUMED = RESUMED.encode()

# Of the writes of every step: made once, as making a statement takes longer than carrying it out.
_OF_RUN = runs.c.run == bindparam("of_run")
_NEWEST_ATTEMPT = (
    select(run_steps)
    .where(run_steps.c.run == bindparam("of_run"), run_steps.c.step == bindparam("of_step"))
    .order_by(run_steps.c.attempt.desc())
    .limit(1)
)
_NEW_ATTEMPT = insert(run_steps)
_END_ATTEMPT = (
    update(run_steps)
    .where(
        run_steps.c.run == bindparam("of_run"),
        run_steps.c.step == bindparam("of_step"),
        run_steps.c.attempt == bindparam("of_attempt"),
    )
    .values(
        done_ns=bindparam("ended_ns"),
        outcome=bindparam("as_outcome"),
        facts=bindparam("with_facts"),
        evidence=bindparam("with_evidence"),
    )
)
_ENDED = select(runs.c.finished_ns).where(_OF_RUN)
_HEAD = select(runs.c.head_seq, runs.c.head_hash).where(_OF_RUN)
_NEW_LINE = insert(run_record)
_MOVE_HEAD = (
    update(runs)
    .where(_OF_RUN)
    .values(head_seq=bindparam("new_seq"), head_hash=bindparam("new_hash"))
)


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
    version: int = 0
    """Of the procedure, when the run was begun; 0: it was begun before there were any."""
    plan: tuple[str, ...] = ()
    """Names of the steps that it was begun with."""


@dataclass(frozen=True)
class Effect:
    """Something that must not be brought about twice."""

    what: str
    outcome: str | None
    """None: intended, and whether it was brought about is not known."""


class RunStore:
    """Runs in the desk database. Thread-safe; each call is one short transaction (about 1 ms).

    Every method: StorageError where the database cannot be read or written; what was asked for is
    then not recorded, and must not be done.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, new: NewRun) -> int:
        """Record a new run and return its number."""
        row = {
            "kind": new.kind,
            "who": new.who,
            "why": new.why,
            "params": _as_json(new.params),
            "begun_ns": time.time_ns(),
            "version": new.version,
            "plan": msgspec.json.encode(new.plan).decode(),
            "head_seq": EMPTY.seq,
            "head_hash": EMPTY.hash,
        }
        with self._database.writing() as connection:
            run = int(
                connection.execute(insert(runs).values(row).returning(runs.c.run)).scalar_one()
            )
            detail = {
                "why": new.why,
                "parameters": dict(new.params),
                "version": new.version,
                "steps": list(new.plan),
                "rules": {step: dict(said) for step, said in new.rules.items()},
            }
            _add(connection, run, new.who, "run.begun", new.kind, detail)
            return run

    def step_started(self, run: int, index: int, name: str) -> int:
        """Record that a step is about to act; returns which attempt this is, from 1."""
        with self._database.writing() as connection:
            _require_unfinished(connection, run)
            newest = connection.execute(_NEWEST_ATTEMPT, _step_of(run, index)).one_or_none()
            attempt = 1 if newest is None else int(newest.attempt) + 1
            row = {
                "run": run, "step": index, "attempt": attempt, "name": name,
                "started_ns": time.time_ns(),
            }  # fmt: skip
            connection.execute(_NEW_ATTEMPT, row)
            _add(connection, run, _RECORD_ACTOR, "step.started", name, {"attempt": attempt})
            return attempt

    def step_done(
        self, run: int, index: int, outcome: str, facts: Mapping[str, Any], evidence: str = ""
    ) -> None:
        """Record how the newest attempt of a step ended."""
        with self._database.writing() as connection:
            at_ns = time.time_ns()
            newest = connection.execute(_NEWEST_ATTEMPT, _step_of(run, index)).one_or_none()
            if newest is None or newest.done_ns is not None:
                raise ValueError(f"step {index} of run {run} is done but was not started")
            ended = {
                **_step_of(run, index), "of_attempt": newest.attempt, "ended_ns": at_ns,
                "as_outcome": outcome, "with_facts": _as_json(facts), "with_evidence": evidence,
            }  # fmt: skip
            connection.execute(_END_ATTEMPT, ended)
            detail = {
                "outcome": outcome,
                "attempt": newest.attempt,
                "seconds": round((at_ns - newest.started_ns) / 1e9, 3),
                "after": dict(facts),
            }
            _add(connection, run, _RECORD_ACTOR, "step.done", newest.name, detail)

    def note(
        self, run: int, actor: str, action: str, subject: str, detail: Mapping[str, Any]
    ) -> None:
        """Add a line to the run's record: what was observed and planned, approvals, ..."""
        with self._database.writing() as connection:
            _add(connection, run, actor, action, subject, detail)

    def finish(self, run: int, outcome: str, detail: Mapping[str, Any] | None = None) -> AuditHead:
        """Record the run's end. Returns the head of its record, to be kept elsewhere too."""
        with self._database.writing() as connection:
            _require_unfinished(connection, run)
            connection.execute(
                update(runs)
                .where(runs.c.run == run)
                .values(finished_ns=time.time_ns(), outcome=outcome)
            )
            told = {"outcome": outcome, **(detail or {})}
            return _add(connection, run, _RECORD_ACTOR, "run.ended", outcome, told)

    # --- effects that must not repeat ------------------------------------------------------------

    def intend(self, run: int, effect: str, what: str) -> None:
        """On the disk before the effect is brought about. Intended again: in doubt again."""
        with self._database.writing() as connection:
            where = (run_effects.c.run == run, run_effects.c.effect == effect)
            at_ns = time.time_ns()
            changed = connection.execute(
                update(run_effects)
                .where(*where)
                .values(what=what, intended_ns=at_ns, settled_ns=None, outcome=None)
            ).rowcount
            if not changed:
                connection.execute(
                    insert(run_effects).values(run=run, effect=effect, what=what, intended_ns=at_ns)
                )
            _add(connection, run, _RECORD_ACTOR, "effect.intended", effect, {"what": what})

    def settle(self, run: int, effect: str, outcome: str) -> None:
        """What became of it is known."""
        with self._database.writing() as connection:
            connection.execute(
                update(run_effects)
                .where(run_effects.c.run == run, run_effects.c.effect == effect)
                .values(settled_ns=time.time_ns(), outcome=outcome)
            )
            _add(connection, run, _RECORD_ACTOR, "effect.settled", effect, {"outcome": outcome})

    def effect(self, run: int, effect: str) -> Effect | None:
        """None: it was never intended."""
        query = select(run_effects).where(run_effects.c.run == run, run_effects.c.effect == effect)
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Effect(row.what, row.outcome)

    # --- reading ---------------------------------------------------------------------------------

    def unfinished(self) -> tuple[RunRecord, ...]:
        """Runs without an end, oldest first: to be continued, or declared abandoned."""
        return self._select(select(runs).where(runs.c.finished_ns.is_(None)).order_by(runs.c.run))

    def get(self, run: int) -> RunRecord:
        """UsageError: there is no such run."""
        found = self._select(select(runs).where(runs.c.run == run))
        if not found:
            raise UsageError(
                f"there is no run {run}", hint="`openbell procedure history` lists them", run=run
            )
        return found[0]

    def as_asked_last(self, run: int) -> RunRecord:
        """The run with what it was asked for by whoever went on with it last: it may have been something
        else than when it was begun. UsageError: there is no such run. CorruptError."""
        record = self.get(run)
        with self._database.reading() as connection:
            lines = connection.execute(
                select(run_record.c.line)
                .where(run_record.c.run == run)
                .order_by(run_record.c.seq.desc())
            ).scalars()
            for line in map(bytes, lines):
                if _RESUMED in line and (asked := _asked_on_going_on(line)) is not None:
                    return replace(record, params={**record.params, **asked})
        return record

    def begun_under(self, run: int) -> Mapping[str, Mapping[str, Any]]:
        """By step: what the desk said of it when the run was begun, as its record has it; empty of a run
        from before that was kept. CorruptError."""
        with self._database.reading() as connection:
            line = connection.execute(
                select(run_record.c.line)
                .where(run_record.c.run == run)
                .order_by(run_record.c.seq)
                .limit(1)
            ).scalar_one_or_none()
        rules = None if line is None else _said_in(bytes(line)).detail.get("rules")
        return rules if isinstance(rules, dict) else {}

    def list(
        self, limit: int = 20, kind: str | None = None, asked_for: str = ""
    ) -> tuple[RunRecord, ...]:
        """The newest runs, newest first. `asked_for`: those with a parameter whose name begins so."""
        query = select(runs).order_by(runs.c.run.desc()).limit(limit)
        if asked_for:
            query = query.where(runs.c.params.contains(f'"{asked_for}', autoescape=True))
        return self._select(query if kind is None else query.where(runs.c.kind == kind))

    def record(self, run: int) -> tuple[tuple[bytes, ...], AuditVerdict]:
        """The lines of a run's record, and whether their chain holds, up to its head."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(runs.c.head_seq, runs.c.head_hash).where(runs.c.run == run)
            ).one_or_none()
            lines = connection.execute(
                select(run_record.c.line).where(run_record.c.run == run).order_by(run_record.c.seq)
            ).all()
        head = EMPTY if row is None or not row.head_hash else AuditHead(row.head_seq, row.head_hash)
        told = tuple(bytes(each.line) for each in lines)
        return told, judge(told, head)

    def _select(self, query: Select[Any]) -> tuple[RunRecord, ...]:
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            steps = connection.execute(
                select(run_steps)
                .where(run_steps.c.run.in_([row.run for row in rows]))
                .order_by(run_steps.c.started_ns, run_steps.c.step, run_steps.c.attempt)
            ).all()
        return tuple(_run(row, (step for step in steps if step.run == row.run)) for row in rows)


def _add(
    connection: Connection,
    run: int,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, Any],
) -> AuditHead:
    """The next line of a run's record, and its head; in the caller's transaction."""
    row = connection.execute(_HEAD, {"of_run": run}).one()
    head = AuditHead(row.head_seq, row.head_hash) if row.head_hash else EMPTY
    said = {
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": msgspec.to_builtins(dict(detail), str_keys=True),
    }
    line, record = seal(head, said)
    if len(line) > LINE_BYTES_MAX:
        line, record = seal(head, {**said, "detail": shortened(said["detail"], DETAIL_BYTES_MAX)})
    connection.execute(_NEW_LINE, {"run": run, "seq": record.seq, "line": line})
    moved = {"of_run": run, "new_seq": record.seq, "new_hash": record.hash}
    connection.execute(_MOVE_HEAD, moved)
    return AuditHead(record.seq, record.hash)


def _asked_on_going_on(line: bytes) -> Mapping[str, Any] | None:
    """None: the line tells of something else."""
    said = _said_in(line)
    asked = said.detail.get("parameters")
    return asked if said.action == RESUMED and isinstance(asked, dict) else None


def _said_in(line: bytes) -> AuditRecord:
    try:
        return msgspec.json.decode(line, type=AuditRecord)
    except msgspec.DecodeError as error:
        raise CorruptError(f"a line of a run's record cannot be read: {error}") from error


def _step_of(run: int, index: int) -> dict[str, int]:
    return {"of_run": run, "of_step": index}


def _require_unfinished(connection: Connection, run: int) -> None:
    row = connection.execute(_ENDED, {"of_run": run}).one_or_none()
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
        version=row.version,
        plan=tuple(msgspec.json.decode(row.plan)),
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
