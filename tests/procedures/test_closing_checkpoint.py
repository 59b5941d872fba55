"""The checkpoint of a closing: saved where a disk takes it, and evidence only where it was read back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.harness.closing_run import outcomes

from openbell.domain.service_state import ServiceState
from openbell.errors import StorageError
from openbell.procedures.closing import (
    closing_steps,
)
from openbell.procedures.closing.checkpoint import SaveCheckpoint
from openbell.procedures.closing.context import SavedCheckpoint
from openbell.procedures.closing.statement import closing_statement
from openbell.procedures.run import Runner
from openbell.procedures.step import Outcome

pytestmark = pytest.mark.usefixtures("impatient")


async def test_a_full_disk_keeps_no_desk_open(fake_desk: Any, journal: Any) -> None:
    """The checkpoint could not be written, and the closing ended there with everything running."""

    async def refuse(_: Path | None) -> Any:
        raise StorageError("no space left on device")

    closing = fake_desk.closing()
    closing.save_checkpoint = refuse
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
    statement = await closing_statement(closing, await runner.run(closing_steps(closing)))
    assert not statement.verified
    found = outcomes(statement)
    assert found["checkpoint"] == "failed"
    assert "no checkpoint was written" in statement.summary
    evidence = journal.ended["checkpoint"].evidence
    taken = json.loads(Path(evidence["extraction"]).read_text())
    assert taken["trading"] is None and "journal" in taken["trading_missing"]
    assert set(taken["logs"]) == {*fake_desk.desk.file.services, "controller"}
    assert (found["flatten"], found["stop_services"], found["verify"]) == ("done", "done", "done")
    assert set(fake_desk.services.states.values()) == {ServiceState.STOPPED}
    assert fake_desk.venue.position == 0


async def test_a_checkpoint_goes_elsewhere_where_its_own_folder_does_not_take_it(
    fake_desk: Any, journal: Any, tmp_path: Path
) -> None:
    """The state folder's disk is full, and so is the first of the others."""
    closing = fake_desk.closing()
    full, free = tmp_path / "full", tmp_path / "free"
    free.mkdir(mode=0o700)
    closing.elsewhere = (full, free)
    save = closing.save_checkpoint

    async def refuse(folder: Path | None) -> Any:
        if folder != free:
            raise StorageError(f"no space left on the disk of {folder or 'the state folder'}")
        return await save(folder)

    closing.save_checkpoint = refuse
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
    statement = await closing_statement(closing, await runner.run(closing_steps(closing)))
    assert statement.verified, statement.summary
    assert Path(statement.document["checkpoint"]).parent == free
    assert journal.ended["checkpoint"].evidence["not_taken"] == [
        "no space left on the disk of the state folder",
        f"no space left on the disk of {full}",
    ]


async def test_a_folder_that_is_slow_uses_up_neither_the_next_ones_time_nor_the_last_resorts(
    fake_desk: Any, journal: Any, tmp_path: Path
) -> None:
    """Before, the step's time ran out in the first folder, and nobody tried another."""
    free = tmp_path / "free"
    free.mkdir(mode=0o700)
    closing = fake_desk.closing()
    closing.elsewhere = (free,)
    save = closing.save_checkpoint
    gathered = 0

    async def gather() -> None:
        nonlocal gathered
        gathered += 1

    async def hang(folder: Path | None) -> Any:
        if folder != free:
            await asyncio.Event().wait()
        return await save(folder)

    async def hang_everywhere(_: Path | None) -> Any:
        await asyncio.Event().wait()

    closing.gather = gather
    for saves, outcome in ((hang, Outcome.DONE), (hang_everywhere, Outcome.FAILED)):
        closing.save_checkpoint, closing.checkpoint = saves, None
        step = SaveCheckpoint(closing, timeout_s=6.0)
        (report,) = await Runner(journal, lambda _: None).run([step])
        assert report.outcome is outcome, report.detail
        assert "the state folder: not written within " in report.detail
        assert "ran out of time" not in report.detail
    assert gathered == 2, "once in each attempt of the step"
    assert f"{free}: not written within" in report.detail
    assert Path(str(report.evidence["extraction"])).exists(), "the last resort was reached"


async def test_a_checkpoint_that_lacks_something_is_evidence_all_the_same(
    fake_desk: Any, journal: Any
) -> None:
    closing = fake_desk.closing()
    save = closing.save_checkpoint

    async def without_books(folder: Path | None) -> SavedCheckpoint:
        return replace(await save(folder), missing={"trading": "no answer; the journal: gone"})

    closing.save_checkpoint = without_books
    (report,) = await Runner(journal, lambda _: None).run([SaveCheckpoint(closing)])
    assert (
        report.outcome is Outcome.FAILED and "is not complete: trading: no answer" in report.detail
    )
    kept = journal.ended["checkpoint"].evidence
    paths = [each["path"] for each in kept["files"]]
    assert kept["path"] in paths and kept["extraction"] in paths, "and the last resort was taken"
    assert all(each["sha256"] for each in kept["files"])


async def test_a_checkpoint_that_breaks_after_it_was_saved_is_not_proven(
    fake_desk: Any, journal: Any
) -> None:
    """The file is cut when the services are stopped, after it was read back."""
    closing = fake_desk.closing()
    stop = fake_desk.services.stop

    async def stop_and_cut(name: str, *, reason: str) -> Any:
        if closing.checkpoint is not None:
            Path(closing.checkpoint).write_bytes(b"cut")
        return await stop(name, reason=reason)

    fake_desk.services.stop = stop_and_cut
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
    statement = await closing_statement(closing, await runner.run(closing_steps(closing)))
    assert not statement.verified and statement.services_stopped
    assert "the checkpoint cannot be read any more" in statement.summary
    assert outcomes(statement)["verify"] == "failed"
