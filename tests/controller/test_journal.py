"""The journal of a closing whose disk takes nothing more: nothing of before is forgotten by that."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.procedures import ExtraStep
from openbell.controller.journal import BestEffortJournal, DeskDatabase, RunJournal
from openbell.procedures.command_step import CommandStep, environment_of
from openbell.procedures.ports import EarlierEffect
from openbell.procedures.run import Runner
from openbell.procedures.step import Outcome, StepReport
from openbell.state.new_run import NewRun

RUNS = NewRun(kind="close", who="ann", why="end of day", params={})


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[DeskDatabase]:
    opened = DeskDatabase(tmp_path / "desk.db")
    yield opened
    opened.close()


def fill(folder: Path) -> None:
    """From now on the runs' tables can be read, and not written: as on a full disk."""
    connection = sqlite3.connect(folder / "desk.db")
    for table in ("run_steps", "run_effects", "run_record"):
        for change in ("INSERT", "UPDATE"):
            connection.execute(
                f"CREATE TRIGGER full_{table}_{change} BEFORE {change} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            )
    connection.commit()
    connection.close()


async def carry_out(
    folder: Path, journal: BestEffortJournal, verify: str = "test -e never", **more: Any
) -> StepReport:
    """A step of the desk's own whose command leaves a line in `runs`."""
    extra = ExtraStep(
        name="wire",
        command=("sh", "-c", "echo ran >> runs"),
        verify=("sh", "-c", verify),
        before="verify",
        **more,
    )
    layout = DeskLayout(desk=folder, state=folder / "state")
    environment = environment_of(extra, layout, os.environ, {}, "close-1", "")
    made = CommandStep(extra, layout, environment, journal)
    (report,) = await Runner(journal, lambda _: None).run([made])
    return report


def times_run(folder: Path) -> int:
    runs = folder / "runs"
    return len(runs.read_text().splitlines()) if runs.exists() else 0


async def test_a_command_that_was_cut_off_is_not_run_again_where_the_disk_is_full_now(
    database: DeskDatabase, tmp_path: Path
) -> None:
    """The journal, once it had failed at the step's STARTED, told that nothing had been done before:
    a transfer that was under way at the crash was made a second time."""
    number = await database.begin(RUNS)
    record = RunJournal(database, number)
    await record.intend("wire", "run wire.sh")
    await record.intend("told", "tell ops")
    await record.settle("told", EarlierEffect.DONE)
    fill(tmp_path)
    journal = BestEffortJournal(RunJournal(database, number))
    report = await carry_out(tmp_path, journal)
    assert report.outcome is Outcome.UNKNOWN, report.detail
    assert times_run(tmp_path) == 0
    assert await journal.earlier("told") is EarlierEffect.DONE, "it can still be read"
    assert await journal.earlier("other") is EarlierEffect.NONE


async def test_what_cannot_be_read_either_is_in_doubt_however_often_it_is_asked(
    database: DeskDatabase, tmp_path: Path
) -> None:
    number = await database.begin(RUNS)
    connection = sqlite3.connect(tmp_path / "desk.db")
    connection.execute("DROP TABLE run_effects")
    connection.commit()
    connection.close()
    journal = BestEffortJournal(RunJournal(database, number))
    for _ in range(3):
        assert await journal.earlier("wire") is EarlierEffect.IN_DOUBT


async def test_a_run_that_is_gone_on_with_without_the_disk_knows_what_it_had_done(
    database: DeskDatabase, tmp_path: Path
) -> None:
    """That it is gone on with could not be written down: it was another run then, that had done nothing."""
    number = await database.begin(RUNS)
    await RunJournal(database, number).intend("wire", "run wire.sh")
    fill(tmp_path)
    journal = BestEffortJournal(None, RunJournal(database, number))
    report = await carry_out(tmp_path, journal)
    assert report.outcome is Outcome.UNKNOWN and times_run(tmp_path) == 0


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "never on the disk"])
async def test_only_a_command_that_may_be_run_twice_is_run_without_its_intent_on_the_disk(
    database: DeskDatabase, tmp_path: Path, begun: bool
) -> None:
    number = await database.begin(RUNS)
    fill(tmp_path)
    record = RunJournal(database, number) if begun else None
    report = await carry_out(tmp_path, BestEffortJournal(record))
    assert report.outcome is Outcome.FAILED
    assert "cannot be written down" in report.detail and times_run(tmp_path) == 0
    again = await carry_out(tmp_path, BestEffortJournal(record), "test -e runs", repeat=True)
    assert again.outcome is Outcome.DONE and times_run(tmp_path) == 1
