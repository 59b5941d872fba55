"""The order journal: order, epochs, damage."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openbell.domain.ids import mint
from openbell.domain.orders import (
    CancelIntended,
    CancelRejected,
    ClOrdID,
    NewOrder,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderInDoubt,
    OrderIntended,
    OrderRejected,
)
from openbell.errors import (
    ConfigError,
    ConflictError,
    CorruptError,
    NotRunningError,
    StorageError,
)
from openbell.state.database import Database, open_database
from openbell.state.journal import SNAPSHOTS_KEPT, FencedError, Journal, JournalReader


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.take_over(tmp_path / "desk.db", "test")
    yield opened
    await opened.close()


def edit(path: Path, *statements: str) -> None:
    """Change the database behind the journal's back."""
    connection = sqlite3.connect(path)
    for trigger in ("journal_is_not_edited", "journal_is_not_cut"):
        connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def test_what_was_appended_is_read_in_order_without_gaps(
    journal: Journal, intent: Any
) -> None:
    assert journal.last_seq() == 0
    assert await journal.append([intent(1)]) == 1
    assert await journal.append([intent(2), intent(3), intent(4)]) == 4
    assert await journal.append([]) == 4
    entries = list(journal.read())
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    assert [entry.event for entry in entries] == [intent(n) for n in (1, 2, 3, 4)]
    assert {entry.epoch for entry in entries} == {journal.epoch}
    assert [entry.seq for entry in journal.read(after_seq=2)] == [3, 4]
    assert [entry.seq for entry in journal.read(after_seq=1, limit=2)] == [2, 3]
    assert list(journal.read(limit=0)) == []


async def test_reading_goes_on_past_one_page(journal: Journal, intent: Any) -> None:
    await journal.append([intent(n) for n in range(2500)])
    assert [entry.seq for entry in journal.read()] == list(range(1, 2501))
    assert len(list(journal.read(limit=1000))) == 1000


async def test_appends_at_the_same_time_are_all_there_each_in_its_order(
    journal: Journal, intent: Any
) -> None:
    async def one_after_the_other(task: int) -> list[int]:
        return [await journal.append([intent(task * 100 + n)]) for n in range(20)]

    seqs = await asyncio.gather(*(one_after_the_other(task) for task in range(25)))
    assert sorted(seq for task in seqs for seq in task) == list(range(1, 501))
    by_seq = {entry.seq: entry.event for entry in journal.read()}
    for task, its_seqs in enumerate(seqs):
        assert [by_seq[seq] for seq in its_seqs] == [intent(task * 100 + n) for n in range(20)]
        assert its_seqs == sorted(its_seqs)


async def test_taking_over_fences_the_writer_before_it(tmp_path: Path, intent: Any) -> None:
    old = await Journal.take_over(tmp_path / "desk.db", "old")
    await old.append([intent(1)])
    new = await Journal.take_over(tmp_path / "desk.db", "new")
    assert (new.epoch > old.epoch, new.last_seq()) == (True, 1)
    for events in ([intent(2)], [intent(3), intent(4)]):
        with pytest.raises(FencedError, match=f"epoch {old.epoch} is over"):
            await old.append(events)
    with pytest.raises(FencedError):
        await old.save_snapshot(1, b"stale")
    assert await new.append([intent(5)]) == 2
    assert [entry.event for entry in new.read()] == [intent(1), intent(5)]
    assert new.newest_snapshot() is None
    await old.close()
    await new.close()


async def test_a_database_that_was_lost_or_restored_repeats_no_epoch(tmp_path: Path) -> None:
    """ClOrdIDs are made from the epoch: the venue would take a new order for one it knows."""
    path, copy = tmp_path / "desk.db", tmp_path / "copy.db"
    now_s = 1_800_000_000

    async def take_over() -> int:
        journal = await Journal.take_over(path, "test", now_ns=lambda: now_s * 10**9)
        await journal.close()
        return journal.epoch

    epochs = [await take_over()]
    shutil.copy(path, copy)
    mishaps: list[Callable[[], object]] = [path.unlink, lambda: shutil.copy(copy, path)]
    for befall in mishaps:
        befall()
        now_s += 60
        epochs.append(await take_over())
    assert epochs == sorted(set(epochs)), "each later one is higher"
    assert mint("0123abcd", epochs[-1], 36**8), "and still leaves room for orders without end"


async def test_epochs_go_up_though_the_clock_stands_or_was_set_back(tmp_path: Path) -> None:
    epochs = []
    for now_s in (1_800_000_000, 1_800_000_000, 5, 1_800_000_001):
        journal = await Journal.take_over(
            tmp_path / "desk.db", "test", now_ns=lambda now_s=now_s: now_s * 10**9
        )
        epochs.append(journal.epoch - 1_800_000_000)
        await journal.close()
    assert epochs == [0, 1, 2, 3]


async def test_a_stale_snapshot_is_fenced_without_an_append_before_it(
    tmp_path: Path, intent: Any
) -> None:
    old = await Journal.take_over(tmp_path / "desk.db", "old")
    await old.append([intent(1)])
    new = await Journal.take_over(tmp_path / "desk.db", "new")
    with pytest.raises(FencedError):
        await old.save_snapshot(1, b"stale")
    await old.close()
    await new.close()


async def test_the_fence_stands_in_the_database_whoever_writes(
    tmp_path: Path, journal: Journal
) -> None:
    connection = sqlite3.connect(tmp_path / "desk.db")
    values = "(1, {epoch}, 0, x'00', 0)"
    for epoch in (0, journal.epoch - 1, journal.epoch + 1, "NULL"):
        with pytest.raises(sqlite3.IntegrityError, match="fenced"):
            connection.execute(f"INSERT INTO journal VALUES {values.format(epoch=epoch)}")
    connection.close()


async def test_entries_can_be_neither_changed_nor_deleted(
    tmp_path: Path, journal: Journal, intent: Any
) -> None:
    await journal.append([intent(1)])
    connection = sqlite3.connect(tmp_path / "desk.db")
    for statement in ("UPDATE journal SET at_ns = 0", "DELETE FROM journal"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


async def test_of_many_that_take_over_at_once_exactly_one_remains(
    tmp_path: Path, intent: Any
) -> None:
    path = tmp_path / "desk.db"
    journals = await asyncio.gather(*(Journal.take_over(path, f"engine {n}") for n in range(6)))
    assert len({journal.epoch for journal in journals}) == 6
    outcomes = await asyncio.gather(
        *(journal.append([intent(journal.epoch)]) for journal in journals), return_exceptions=True
    )
    won = [j.epoch for j, o in zip(journals, outcomes, strict=True) if not isinstance(o, Exception)]
    assert won == [max(journal.epoch for journal in journals)]
    assert all(isinstance(o, FencedError) for o in outcomes if isinstance(o, Exception))
    for opened in journals:
        await opened.close()


async def test_a_changed_bit_is_found_and_what_stands_before_it_is_given(
    tmp_path: Path, journal: Journal, intent: Any
) -> None:
    await journal.append([intent(n) for n in (1, 2, 3)])
    edit(
        tmp_path / "desk.db",
        "UPDATE journal SET event = CAST(replace(event, '50000.10', '50000.11') AS BLOB) "
        "WHERE seq = 2",
    )
    read = journal.read()
    assert next(read).event == intent(1)
    with pytest.raises(CorruptError, match="entry 2 is damaged") as raised:
        next(read)
    assert raised.value.facts["seq"] == 2


@pytest.mark.parametrize("column", ["epoch", "at_ns"])
async def test_a_changed_number_is_found_too(
    tmp_path: Path, journal: Journal, intent: Any, column: str
) -> None:
    await journal.append([intent(1)])
    edit(tmp_path / "desk.db", f"UPDATE journal SET {column} = {column} + 1")
    with pytest.raises(CorruptError, match="entry 1 is damaged"):
        list(journal.read())


async def test_a_missing_entry_is_found(tmp_path: Path, journal: Journal, intent: Any) -> None:
    await journal.append([intent(n) for n in (1, 2, 3)])
    edit(tmp_path / "desk.db", "DELETE FROM journal WHERE seq = 2")
    with pytest.raises(CorruptError, match="entry 2 is missing"):
        list(journal.read())


async def test_the_newest_snapshots_are_kept_and_a_damaged_one_is_passed_over_aloud(
    tmp_path: Path, journal: Journal, intent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert journal.newest_snapshot() is None
    for seq in range(1, SNAPSHOTS_KEPT + 3):
        await journal.append([intent(seq)])
        await journal.save_snapshot(seq, b"books after %d" % seq)
    newest = SNAPSHOTS_KEPT + 2
    assert journal.newest_snapshot() == (newest, b"books after %d" % newest)
    edit(tmp_path / "desk.db", f"UPDATE snapshots SET data = x'ff' WHERE seq = {newest}")
    with caplog.at_level(logging.ERROR):
        assert journal.newest_snapshot() == (newest - 1, b"books after %d" % (newest - 1))
    assert f"journal entry {newest} is damaged" in caplog.text
    edit(tmp_path / "desk.db", "UPDATE snapshots SET data = x'ff'")
    assert journal.newest_snapshot() is None


async def test_a_snapshot_of_what_has_not_happened_is_refused(journal: Journal) -> None:
    with pytest.raises(ValueError, match="ends at 0"):
        await journal.save_snapshot(1, b"")


async def test_a_reader_sees_what_the_writer_committed(
    tmp_path: Path, journal: Journal, intent: Any
) -> None:
    reader = JournalReader.open(tmp_path / "desk.db")
    assert (reader.last_seq(), reader.current_epoch()) == (0, journal.epoch)
    await journal.append([intent(1)])
    assert reader.last_seq() == 1
    assert [entry.event for entry in reader.read()] == [intent(1)]
    reader.close()


def test_a_reader_of_a_desk_that_was_never_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError):
        JournalReader.open(tmp_path / "desk.db")


async def test_closing_commits_what_was_asked_for_and_refuses_more(
    tmp_path: Path, intent: Any
) -> None:
    journal = await Journal.take_over(tmp_path / "desk.db", "test")
    waiting = [asyncio.create_task(journal.append([intent(n)])) for n in range(50)]
    await asyncio.sleep(0)  # every task has asked
    await journal.close()
    assert sorted(await asyncio.gather(*waiting)) == list(range(1, 51))
    await journal.close()
    with pytest.raises(StorageError, match="closed"):
        await journal.append([intent(51)])


async def test_a_caller_that_is_cancelled_disturbs_nobody(journal: Journal, intent: Any) -> None:
    tasks = [asyncio.create_task(journal.append([intent(n)])) for n in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [n for n, o in enumerate(outcomes) if isinstance(o, asyncio.CancelledError)] == [3]
    assert await journal.append([intent(10)]) == 11


async def test_after_a_failed_fsync_nothing_is_believed_any_more(
    journal: Journal, intent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fsync would succeed without the bytes that the first one lost."""

    def fails(*_: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_commit", fails)
        with pytest.raises(StorageError, match="SQLITE_IOERR_FSYNC"):
            await journal.append([intent(1)])
    with pytest.raises(StorageError, match="SQLITE_IOERR_FSYNC"):
        await journal.append([intent(2)])
    assert list(journal.read()) == []


async def test_an_error_after_the_commit_does_not_reuse_its_seq(
    journal: Journal, intent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit may have succeeded although it reported an error: the entry stands, in doubt."""
    real = journal._commit

    def commits_and_fails(*arguments: Any) -> None:
        before = journal._last_seq
        real(*arguments)
        journal._last_seq = before
        raise sqlite3.OperationalError("reported wrongly")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_commit", commits_and_fails)
        with pytest.raises(StorageError):
            await journal.append([intent(1)])
    assert await journal.append([intent(2)]) == 2
    assert [entry.event for entry in journal.read()] == [intent(1), intent(2)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_defect_in_the_writer_leaves_nobody_waiting(
    journal: Journal, intent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(journal, "_commit", breaks)
    outcomes = await asyncio.wait_for(
        asyncio.gather(*(journal.append([intent(n)]) for n in range(20)), return_exceptions=True),
        30,
    )
    assert all(isinstance(outcome, StorageError) for outcome in outcomes)
    with pytest.raises(StorageError, match="ZeroDivisionError"):
        await journal.append([intent(1)])


ids = st.text(min_size=1, max_size=36).map(ClOrdID)
texts = st.text(max_size=50)
times = st.integers(0, 2**63 - 1)
amounts = st.decimals(allow_nan=False, allow_infinity=False)
common = {"cl_ord_id": ids, "at_ns": times}
orders = st.builds(
    NewOrder,
    cl_ord_id=ids,
    venue=texts,
    symbol=texts,
    order_qty=amounts,
    price=st.none() | amounts,
    strategy=texts,
    intent_id=texts,
)
events: st.SearchStrategy[OrderEvent] = st.one_of(
    st.builds(OrderIntended, **common, order=orders),
    st.builds(OrderAccepted, **common, venue_order_id=texts),
    st.builds(OrderRejected, **common, code=texts, text=texts),
    st.builds(OrderInDoubt, **common, why=texts),
    st.builds(
        OrderFilled,
        **common,
        exec_id=texts,
        last_qty=amounts,
        last_px=amounts,
        fee=amounts,
        fee_currency=texts,
        is_maker=st.booleans(),
        venue_time_ns=times,
        inferred=st.booleans(),
    ),
    st.builds(CancelIntended, **common, reason=texts),
    st.builds(CancelRejected, **common, code=texts, text=texts),
    st.builds(OrderCanceled, **common, reason=texts),
    st.builds(OrderExpired, **common, reason=texts),
)


def exactly(decimal: Decimal | None) -> str | None:
    """`1.0 == 1.00`, but a price is sent with its digits."""
    return None if decimal is None else str(decimal)


@given(batches=st.lists(st.lists(events, max_size=5), max_size=5))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_event_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[OrderEvent]]
) -> None:
    async def through_the_journal() -> list[OrderEvent]:
        path = tmp_path_factory.mktemp("journal") / "desk.db"
        journal = await Journal.take_over(path, "test")
        for batch in batches:
            await journal.append(batch)
        await journal.close()
        reader = JournalReader.open(path)
        entries = [entry.event for entry in reader.read()]
        reader.close()
        return entries

    written = [event for batch in batches for event in batch]
    read = asyncio.run(through_the_journal())
    assert read == written
    for before, after in zip(written, read, strict=True):
        if isinstance(before, OrderFilled) and isinstance(after, OrderFilled):
            assert exactly(before.last_px) == exactly(after.last_px)
        if isinstance(before, OrderIntended) and isinstance(after, OrderIntended):
            assert exactly(before.order.price) == exactly(after.order.price)


async def test_an_epoch_is_taken_only_after_the_one_that_was_named(tmp_path: Path) -> None:
    """A promotion that comes late, or twice, takes nothing."""
    path = tmp_path / "desk.db"
    first = await Journal.take_over(path, "a pid 1", after_epoch=0)
    second = await Journal.take_over(path, "b pid 2", after_epoch=first.epoch)
    with pytest.raises(ConflictError):
        await Journal.take_over(path, "a pid 1", after_epoch=first.epoch)
    reader = JournalReader.open(path)
    assert reader.current_holder() == (second.epoch, "b pid 2")
    reader.close()
    for journal in (first, second):
        await journal.close()


def opened_ahead(path: Path) -> Database:
    opened = open_database(path)
    opened.note_opened()
    return opened


async def test_what_was_opened_ahead_is_taken_over_as_it_is(tmp_path: Path, intent: Any) -> None:
    path = tmp_path / "desk.db"
    opened = opened_ahead(path)
    first = await Journal.take_over(path, "a pid 1")
    await first.append([intent(1)])
    second = await Journal.take_over(path, "b pid 2", after_epoch=first.epoch, opened=opened)
    assert second._database is opened
    assert await second.append([intent(2)]) == 2
    with pytest.raises(FencedError):
        await first.append([intent(3)])
    for journal in (first, second):
        await journal.close()


async def test_one_whose_file_was_replaced_since_is_opened_anew(
    tmp_path: Path, intent: Any
) -> None:
    path, other = tmp_path / "desk.db", tmp_path / "restored.db"
    restored = await Journal.take_over(other, "a pid 1")
    await restored.append([intent(1)])
    await restored.close()
    opened = opened_ahead(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    other.rename(path)
    journal = await Journal.take_over(path, "b pid 2", after_epoch=restored.epoch, opened=opened)
    assert journal._database is not opened
    assert journal.last_seq() == 1
    await journal.close()


async def test_one_that_a_newer_version_has_migrated_since_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "desk.db"
    opened = opened_ahead(path)
    edit(path, "INSERT INTO migrations (version, name, applied_ns) VALUES (999, 'x', 1)")
    with pytest.raises(ConfigError):
        await Journal.take_over(path, "b pid 2", opened=opened)
