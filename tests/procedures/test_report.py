"""What an auditor reads of a run."""

from __future__ import annotations

from pathlib import Path

from openbell.procedures.evidence import file_facts
from openbell.procedures.report import RECORDED, chain_text, doubts, report_of
from openbell.state.audit import AuditLog
from openbell.state.database import open_database
from openbell.state.new_run import NewRun
from openbell.state.runs import RunStore


def test_an_end_that_the_audit_log_does_not_have_is_told(tmp_path: Path) -> None:
    """Before, such a record read as whole and no more was said: whoever rewrites it as a whole has
    only to take the one line away."""
    database = open_database(tmp_path / "desk.db")
    store = RunStore(database)
    run = store.begin(NewRun(kind="close", who="ann", version=4, plan=("verify",)))
    store.step_started(run, 1, "verify")
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, tmp_path / "audit.head")
    assert report_of(store, run, path)["chain"]["head_is_in_audit_log"] is None, "it goes on"
    store.step_done(run, 1, "done", {})
    head = store.finish(run, "done")

    chain = report_of(store, run, path)["chain"]
    assert (chain["whole"], chain["head_is_in_audit_log"]) == (True, False)
    assert "NOT in the audit log" in chain_text(chain)
    assert doubts(report_of(store, run, path))[0] == () and doubts(report_of(store, run, path))[1]
    log.append("controller", RECORDED, f"close-{run}", {"hash": head.hash})
    chain = report_of(store, run, path)["chain"]
    assert (chain["whole"], chain["head_is_in_audit_log"]) == (True, True)
    log.append("controller", RECORDED, f"close-{run}", {"hash": "0" * 64})
    assert "knows another end" in chain_text(report_of(store, run, path)["chain"])
    database.close()


def test_a_record_whose_evidence_is_changed_or_gone_does_not_hold(tmp_path: Path) -> None:
    database = open_database(tmp_path / "desk.db")
    store = RunStore(database)
    run = store.begin(NewRun(kind="close", who="ann", version=4, plan=("verify",)))
    store.step_started(run, 1, "verify")
    statement = tmp_path / "statement.json"
    statement.write_text("{}")
    store.step_done(run, 1, "done", {"files": [file_facts(statement)]})
    head = store.finish(run, "done")
    path = tmp_path / "audit.jsonl"
    AuditLog(path, tmp_path / "audit.head").append(
        "controller", RECORDED, f"close-{run}", {"hash": head.hash}
    )
    assert doubts(report_of(store, run, path)) == ((), ())
    statement.write_text("{} ")
    assert doubts(report_of(store, run, path))[0] == (f"{statement} was changed",)
    statement.unlink()
    assert doubts(report_of(store, run, path))[0] == (f"{statement} is gone",)
    database.close()
