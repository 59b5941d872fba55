"""What a closing says to people, and the lock that it holds against them."""

from __future__ import annotations

import asyncio
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.harness.closing_run import close, outcomes

from openbell.config.channels import Channel
from openbell.config.loader import parse_desk
from openbell.errors import StorageError
from openbell.procedures.closing import (
    lock,
)
from openbell.state.desk_lock import DeskLock

pytestmark = pytest.mark.usefixtures("impatient")


async def test_the_lock_comes_first_and_tells_what_the_desk_consists_of(
    fake_desk: Any, journal: Any
) -> None:
    statement = await close(fake_desk, journal)
    assert journal.lines[:3] == ["started lock", "done lock", "started halt_strategies"]
    evidence = journal.ended["lock"].evidence
    assert evidence["desk_digest"] == fake_desk.desk.digest
    assert set(evidence["services"]) == set(fake_desk.desk.file.services)
    assert "close-1 of ann" in evidence["lock"]
    assert statement.verified


def _speaks(fake_desk: Any, **commands: str) -> None:
    """Channels of commands that write what they are told into a file."""
    fake_desk.channels = replace(
        fake_desk.channels,
        channels={
            name: Channel(command=("sh", "-c", command), timeout="60s")  # type: ignore[arg-type]
            for name, command in commands.items()
        },
    )


async def test_people_are_told_first_and_once(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """Also by a closing that is cut off after it has told them."""
    _speaks(fake_desk, ops='cat >> told; echo "$OPENBELL_EVENT" >> told')
    first = make_journal(dies_after="done announce")
    with pytest.raises(killed):
        await close(fake_desk, first)
    assert first.lines == ["started announce", "done announce"]
    fake_desk.earlier = first.ended
    statement = await close(fake_desk, make_journal())
    assert statement.verified, statement.summary
    told = (fake_desk.layout.desk / "told").read_text().splitlines()
    assert told[:2] == ["faked: SHUTTING DOWN, close-1 by ann: test", "closing"]
    assert told[2] == "faked: OFFLINE; close-1: closed and verified", "not told twice"


async def test_who_was_told_is_not_told_again_where_another_was_still_being_told(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """Before, a controller that was killed within the step left nothing of whom it had told."""
    _speaks(fake_desk, ops="cat >> ops", pager="test -e go || sleep 60; cat >> pager")
    seen = asyncio.Event()
    settle = fake_desk.effects.settle

    async def told(effect: str, outcome: Any) -> None:
        await settle(effect, outcome)
        seen.set()

    fake_desk.effects.settle = told
    first = asyncio.create_task(close(fake_desk, make_journal()))
    async with asyncio.timeout(60):
        await seen.wait()
    first.cancel()  # as its controller is gone
    with pytest.raises(asyncio.CancelledError):
        await first
    (fake_desk.layout.desk / "go").touch()
    statement = await close(fake_desk, make_journal())
    assert statement.verified, statement.summary
    for name in ("ops", "pager"):
        lines = (fake_desk.layout.desk / name).read_text().splitlines()
        assert [line for line in lines if "SHUTTING DOWN" in line] == [
            "faked: SHUTTING DOWN, close-1 by ann: test"
        ], name


async def test_people_who_were_told_of_another_end_are_told_of_this_one(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """Before, a channel that had been told that the desk is not closed, by an attempt that was cut off
    at its very end, never heard that it was."""
    _speaks(fake_desk, ops='echo "$OPENBELL_EVENT" >> told')
    order = fake_desk.own_order(1)
    fake_desk.venue.stuck = frozenset({order})
    first = make_journal(dies_after="done afterwards")
    with pytest.raises(killed):
        await close(fake_desk, first)
    fake_desk.venue.stuck = frozenset()
    fake_desk.earlier = first.ended
    statement = await close(fake_desk, make_journal())
    assert statement.verified, statement.summary
    told = (fake_desk.layout.desk / "told").read_text().split()
    assert told == ["closing", "not_closed", "closed"]


async def test_who_could_not_be_told_is_named_and_the_desk_is_closed_all_the_same(
    fake_desk: Any, journal: Any
) -> None:
    _speaks(fake_desk, ops="cat > told", deaf="exit 3", slow="sleep 60")
    fake_desk.channels = replace(
        fake_desk.channels,
        channels={
            name: each.model_copy(update={"timeout": 0.3 if name == "slow" else 60.0})
            for name, each in fake_desk.channels.channels.items()
        },
    )
    statement = await close(fake_desk, journal)
    assert statement.verified, "that the desk is closed was seen all the same"
    assert outcomes(statement)["announce"] == "failed"
    assert "deaf: exit status 3" in statement.summary
    assert "slow: no answer within 0.3s" in statement.summary
    assert journal.ended["announce"].evidence["told"] == {
        "ops": "told", "deaf": "failed", "slow": "unknown",
    }  # fmt: skip


async def test_afterwards_the_logs_are_archived_and_people_told_what_remains(
    fake_desk: Any, journal: Any
) -> None:
    _speaks(fake_desk, ops='if [ "$OPENBELL_EVENT" = closed ]; then cat > told; fi')
    fake_desk.layout.service_log("engine").write_text("one\n")
    statement = await close(fake_desk, journal)
    assert statement.verified, statement.summary
    assert (fake_desk.layout.desk / "told").read_text().splitlines() == [
        "faked: OFFLINE; close-1: closed and verified",
        "orders remaining at the venues: 1",
        "positions remaining at the venues: none",
        "P&L net: 1.5 USDT",
    ]
    evidence = journal.ended["afterwards"].evidence
    assert evidence["status"] == "offline" and evidence["went_wrong"] == []
    with tarfile.open(fake_desk.layout.archive / "close-1-logs.tar.gz") as archive:
        content = archive.extractfile("engine.log")
        assert content is not None and content.read() == b"one\n"


async def test_an_approval_that_nobody_was_asked_for_is_not_told_as_obtained(
    fake_desk: Any, journal: Any
) -> None:
    """Before, one that was wanted for a step which this closing has not counted as obtained."""
    wanted = b'[procedures.close.steps.announce]\napprovals = ["risk"]\n'
    text = fake_desk.desk.path.read_bytes() + wanted
    file = parse_desk(text, fake_desk.desk.path)
    fake_desk.desk = replace(fake_desk.desk, file=file)
    statement = await close(fake_desk, journal)
    (before, *_) = statement.document["checklists"]
    (approved,) = [each for each in before["checks"] if each["name"] == "approved"]
    assert approved["found"] == "not_configured", approved


async def test_a_desk_that_is_not_proven_closed_is_told_as_such(
    fake_desk: Any, journal: Any
) -> None:
    """Its services are up and write their logs: those stay where they are."""
    _speaks(fake_desk, ops='if [ "$OPENBELL_EVENT" = not_closed ]; then cat > told; fi')
    fake_desk.venue.stuck = frozenset({fake_desk.own_order(1)})
    statement = await close(fake_desk, journal)
    assert not statement.verified
    told = (fake_desk.layout.desk / "told").read_text()
    assert "NOT CLOSED, services are up" in told and "cancel_orders" in told
    assert not fake_desk.layout.archive.exists()
    wrong = journal.ended["afterwards"].evidence["went_wrong"]
    assert any(note.startswith("cancel_orders failed") for note in wrong)


async def test_logs_that_cannot_be_archived_are_told_of_and_keep_no_desk_open(
    fake_desk: Any, journal: Any
) -> None:
    fake_desk.layout.archive.write_text("in the way of the folder")
    statement = await close(fake_desk, journal)
    assert statement.verified and outcomes(statement)["afterwards"] == "failed"
    assert "afterwards: the logs are not archived" in statement.summary


async def test_a_lock_that_cannot_be_set_keeps_no_desk_open(
    fake_desk: Any, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(lock, "set_lock", full)
    statement = await close(fake_desk, journal)
    assert outcomes(statement)["lock"] == "failed"
    assert statement.services_stopped and not statement.verified
    assert fake_desk.venue.sent == ["market 0.5"]


@pytest.mark.parametrize(
    ("run", "planned"),
    [
        ("", []),
        ("close-2", []),
        ("close-1", ["lock deployments and configuration, so far by close-1"]),
    ],
)
def test_a_persons_lock_is_left_and_an_earlier_closings_taken_over(
    run: str, planned: list[str]
) -> None:
    held = DeskLock("audit", "ann", datetime(2026, 1, 31, tzinfo=UTC), run)
    assert list(lock.plan_lock(lock.LockFacts(held, "close-2")).lines()) == planned
