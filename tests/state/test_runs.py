"""Runs of procedures: durable before a step acts, and told truly after a crash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.errors import StorageError, UsageError
from openbell.state.audit_record import LINE_BYTES_MAX
from openbell.state.database import Database, open_database
from openbell.state.migrations import MIGRATIONS
from openbell.state.new_run import NewRun
from openbell.state.requests import RequestStore, StoredRequest
from openbell.state.run_detail import shortened
from openbell.state.runs import Effect, RunStore


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "desk.db")
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> RunStore:
    return RunStore(database)


def test_a_run_is_told_as_it_went(store: RunStore) -> None:
    run = store.begin(
        NewRun(kind="close", who="operator", why="end of day", params={"flatten": "aggressive"})
    )
    assert [r.run for r in store.unfinished()] == [run]
    assert store.step_started(run, 0, "halt strategies") == 1
    store.step_done(run, 0, "done", {"halted": 3}, "three answered HALTED")
    store.step_started(run, 1, "cancel orders")
    store.step_done(run, 1, "done", {})
    store.finish(run, "verified")
    assert store.unfinished() == ()
    told = store.get(run)
    assert (told.kind, told.who, told.why) == ("close", "operator", "end of day")
    assert told.params == {"flatten": "aggressive"}
    assert told.outcome == "verified"
    assert told.finished_at is not None
    assert told.begun_at <= told.steps[0].started_at <= told.finished_at
    assert [(s.step, s.name, s.outcome) for s in told.steps] == [
        (0, "halt strategies", "done"),
        (1, "cancel orders", "done"),
    ]
    assert told.steps[0].facts == {"halted": 3}
    assert told.steps[0].evidence == "three answered HALTED"


def test_a_step_begun_again_is_a_new_attempt_and_the_old_one_stays(store: RunStore) -> None:
    run = store.begin(NewRun(kind="close", who="operator"))
    store.step_started(run, 0, "cancel orders")
    assert store.step_started(run, 0, "cancel orders") == 2
    store.step_done(run, 0, "done", {})
    assert [(s.attempt, s.outcome) for s in store.get(run).steps] == [(1, None), (2, "done")]


def test_facts_with_money_and_dataclasses_are_kept(store: RunStore) -> None:
    @dataclass
    class Position:
        quantity: Decimal

    run = store.begin(NewRun(kind="close", who="operator"))
    store.step_started(run, 0, "flatten")
    store.step_done(run, 0, "done", {"pnl": Decimal("1.10"), "left": [Position(Decimal("0.1"))]})
    assert store.get(run).steps[0].facts == {"pnl": "1.10", "left": [{"quantity": "0.1"}]}


def test_the_list_is_newest_first_and_bounded(store: RunStore) -> None:
    runs = [store.begin(NewRun(kind="open", who="operator")) for _ in range(5)]
    assert [r.run for r in store.list(3)] == runs[:1:-1]
    assert [r.run for r in store.unfinished()] == runs


def test_an_unknown_run_is_said_to_be_so(store: RunStore) -> None:
    with pytest.raises(UsageError, match="no run 7"):
        store.get(7)


def test_moves_that_cannot_be_are_defects(store: RunStore) -> None:
    run = store.begin(NewRun(kind="open", who="operator"))
    with pytest.raises(ValueError, match="was not started"):
        store.step_done(run, 0, "done", {})
    store.step_started(run, 0, "start")
    store.step_done(run, 0, "done", {})
    with pytest.raises(ValueError, match="was not started"):
        store.step_done(run, 0, "done", {})
    store.finish(run, "done")
    with pytest.raises(ValueError, match="finished"):
        store.finish(run, "done")
    with pytest.raises(ValueError, match="finished"):
        store.step_started(run, 1, "late")
    with pytest.raises(ValueError, match="never begun"):
        store.step_started(99, 0, "nowhere")


def test_threads_may_share_a_store(tmp_path: Path) -> None:
    # SQLite's writers take no turns: on a busy machine one of six may wait for longer than it does by
    # itself.
    store = RunStore(open_database(tmp_path / "shared.db", busy_timeout_secs=60))

    def one_run(number: int) -> int:
        run = store.begin(NewRun(kind="open", who="operator", params={"n": number}))
        for step in range(5):
            store.step_started(run, step, f"step {step}")
            store.step_done(run, step, "done", {"step": step})
        store.finish(run, "done")
        return run

    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(one_run, range(18)))
    assert len(set(runs)) == 18
    for run in store.list(18):
        assert [step.facts for step in run.steps] == [{"step": n} for n in range(5)]


def test_a_run_survives_the_process_that_began_it(tmp_path: Path, spawn: Any) -> None:
    child = spawn(
        """
        import os, signal, sys
        from pathlib import Path
        from openbell.state.database import open_database
        from openbell.state.new_run import NewRun
        from openbell.state.runs import RunStore

        store = RunStore(open_database(Path(sys.argv[1])))
        run = store.begin(NewRun(kind="close", who="operator"))
        store.step_started(run, 0, "cancel orders")
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path / "desk.db",
    )
    assert child.wait(60) == -9
    database = open_database(tmp_path / "desk.db")
    (run,) = RunStore(database).unfinished()
    assert [(s.name, s.done_at, s.outcome) for s in run.steps] == [("cancel orders", None, None)]
    database.close()


def test_a_full_disk_is_refused_and_nothing_is_half_recorded(small_disk: Any) -> None:
    database = open_database(small_disk.folder / "desk.db")
    store = RunStore(database)
    run = store.begin(NewRun(kind="close", who="operator"))
    small_disk.fill()
    started = 0
    with pytest.raises(StorageError):
        for step in range(1000):
            store.step_started(run, step, "x" * 1000)
            started += 1
    assert len(store.get(run).steps) == started
    small_disk.empty()
    store.finish(run, "abandoned")
    database.close()


# --- the record, effects, requests -----------------------------------------------------------------


def finished_run(store: RunStore) -> int:
    run = store.begin(
        NewRun(
            kind="close",
            who="ann",
            why="end of day",
            params={"flatten": "keep"},
            version=3,
            plan=("halt", "flatten"),
        )
    )
    store.step_started(run, 1, "halt")
    store.note(run, "controller", "step.planned", "halt", {"before": {"n": 1}, "plan": ["x"]})
    store.step_done(run, 1, "done", {"detail": "quiet"})
    store.finish(run, "done")
    return run


def test_a_run_keeps_the_version_and_the_steps_it_was_begun_with(database: Database) -> None:
    store = RunStore(database)
    record = store.get(finished_run(store))
    assert (record.version, record.plan) == (3, ("halt", "flatten"))


def test_a_run_keeps_what_was_said_of_its_steps_when_it_was_begun(database: Database) -> None:
    store = RunStore(database)
    rules = {"halt": {"timeout_s": 5.0, "on_failure": "warn", "approvals": ["risk"]}}
    run = store.begin(NewRun(kind="close", who="ann", rules=rules))
    store.note(run, "joe", "run.resumed", "close-1", {"rules": {"halt": {}}})
    assert store.begun_under(run) == rules
    assert store.begun_under(finished_run(store)) == {}
    assert store.begun_under(99) == {}, "of none that there is"


def test_the_record_of_a_run_is_one_chain_up_to_its_head(database: Database) -> None:
    store = RunStore(database)
    runs_made = [finished_run(store), finished_run(store)]
    for run in runs_made:
        lines, verdict = store.record(run)
        assert (verdict.finding, verdict.records) == ("whole", 5)
        actions = [json.loads(line)["action"] for line in lines]
        assert actions == ["run.begun", "step.started", "step.planned", "step.done", "run.ended"]


@pytest.mark.parametrize("line", range(5))
@pytest.mark.parametrize("how", ["edited", "gone"])
def test_a_record_that_was_changed_is_found_out(database: Database, line: int, how: str) -> None:
    """The triggers keep honest code from it; whoever owns the file can drop them."""
    store = RunStore(database)
    run = finished_run(store)
    with database.writing() as connection:
        for trigger in ("run_record_is_not_edited", "run_record_is_not_cut"):
            connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
        if how == "gone":
            connection.exec_driver_sql(f"DELETE FROM run_record WHERE seq = {line + 1}")
        else:
            (text,) = connection.exec_driver_sql(
                f"SELECT line FROM run_record WHERE seq = {line + 1}"
            ).one()
            forged = bytes(text).replace(b'"actor":"', b'"actor":"x', 1)
            connection.exec_driver_sql(
                f"UPDATE run_record SET line = ? WHERE seq = {line + 1}", (forged,)
            )
    _, verdict = store.record(run)
    # A missing last line leaves a chain that holds; its head, in the run's row, tells.
    assert verdict.finding != "whole"


def test_the_record_is_append_only(database: Database) -> None:
    store = RunStore(database)
    finished_run(store)
    for statement in ("UPDATE run_record SET line = x'00'", "DELETE FROM run_record"):
        with pytest.raises(StorageError), database.writing() as connection:
            connection.exec_driver_sql(statement)


def test_of_facts_that_are_too_long_for_a_record_only_the_longest_leave_their_size(
    database: Database,
) -> None:
    """Ten thousand reconciled positions made a step one of which the record knew neither that it had
    ended nor how."""
    store = RunStore(database)
    run = store.begin(NewRun(kind="close", who="ann", plan=("reconcile",)))
    store.step_started(run, 1, "reconcile")
    rows = [
        {"venue": "a", "symbol": f"S{n}/USD", "books": "1.5", "said": "1.5"} for n in range(20_000)
    ]
    files = [{"path": "t.csv", "sha256": "ab"}]
    facts = {"detail": "agrees", "tables": {"positions": rows, "cash": []}, "files": files}
    store.step_done(run, 1, "done", facts)
    lines, verdict = store.record(run)
    assert verdict.finding == "whole" and len(lines[-1]) <= LINE_BYTES_MAX
    told = json.loads(lines[-1])["detail"]
    assert (told["outcome"], told["attempt"], told["after"]["detail"]) == ("done", 1, "agrees")
    assert told["after"]["files"] == files and told["after"]["tables"]["cash"] == []
    left = told["after"]["tables"]["positions"]
    # The whole of it is in the run's step, and the record shows that it is the same.
    kept = msgspec.json.encode(store.get(run).steps[-1].facts["tables"]["positions"])
    assert left == {"too_long_bytes": len(kept), "sha256": hashlib.sha256(kept).hexdigest()}


@given(
    st.recursive(
        st.text(max_size=400) | st.integers(0, 10**6),
        lambda inner: (
            st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=9), inner, max_size=6)
        ),
        max_leaves=40,
    ),
    st.integers(200, 3000),
)
def test_shortened_facts_fit_and_those_that_fit_are_left_as_they_are(facts: Any, most: int) -> None:
    detail = {"outcome": "done", "after": facts}
    before = msgspec.json.encode(detail)
    kept = shortened(detail, most)
    assert msgspec.json.encode(detail) == before, "the facts themselves are not touched"
    assert len(msgspec.json.encode(kept)) <= most
    if len(before) <= most:
        assert kept == detail


def test_a_table_of_short_values_leaves_its_size_as_a_whole() -> None:
    detail = {
        "outcome": "done",
        "after": {"detail": "agrees", "by_symbol": {str(n): n for n in range(9999)}},
    }
    kept = shortened(detail, 1000)
    assert (kept["outcome"], kept["after"]["detail"]) == ("done", "agrees")
    assert kept["after"]["by_symbol"]["too_long_bytes"] > 9999


def test_an_effect_is_in_doubt_from_its_intent_until_it_is_settled(database: Database) -> None:
    store = RunStore(database)
    run = store.begin(NewRun(kind="close", who="ann"))
    assert store.effect(run, "announce") is None
    store.intend(run, "announce", "run tell.sh")
    assert store.effect(run, "announce") == Effect("run tell.sh", None)
    store.settle(run, "announce", "done")
    assert store.effect(run, "announce") == Effect("run tell.sh", "done")
    store.intend(run, "announce", "run tell.sh")
    assert store.effect(run, "announce") == Effect("run tell.sh", None)
    assert store.effect(store.begin(NewRun(kind="close", who="ann")), "announce") is None


def test_requests_and_their_approvals_are_read_as_they_were_given(database: Database) -> None:
    store = RequestStore(database)
    now = datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
    asked = StoredRequest(
        id="a1", act="procedure-step", parameters={"run": ("close-1",), "roles": ("risk", "operator")},
        reason="why", asked_by="ann", asked_at=now, expires_at=now + timedelta(minutes=15),
        used=False, approvals=(), boot_id="this", expires_mono_ns=900_000_000_001,
    )  # fmt: skip
    store.add(asked)
    assert store.newest(5) == (asked,)
    for _ in range(2):
        store.approve("a1", "bob", "looked")
    (kept,) = store.newest(5)
    assert [(each.approver, each.reason) for each in kept.approvals] == [("bob", "looked")]
    assert [store.use("a1"), store.use("a1")] == [True, False]
    assert store.newest(5)[0].used


def test_a_request_that_an_earlier_version_kept_waits_on_by_the_systems_clock(
    tmp_path: Path,
) -> None:
    old = open_database(tmp_path / "desk.db", migrations=MIGRATIONS[:2])
    with old.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO requests (id, act, parameters, reason, asked_by, asked_ns, expires_ns)"
            " VALUES ('a1', 'kill-switch-release', '{}', 'why', 'ann', 1000, 901000)"
        )
    old.close()
    database = open_database(tmp_path / "desk.db")
    (kept,) = RequestStore(database).newest(5)
    assert (kept.id, kept.used, kept.boot_id, kept.expires_mono_ns) == ("a1", False, "", 0)
    RequestStore(database).add(replace(kept, id="a2", boot_id="this", expires_mono_ns=7))
    assert {each.id: each.boot_id for each in RequestStore(database).newest(5)} == {
        "a1": "",
        "a2": "this",
    }
    database.close()
