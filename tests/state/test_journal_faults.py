"""The journal against kill -9, full disks and stopped writers, with real processes and disks."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from openbell.errors import StorageError
from openbell.state.journal import Journal, JournalReader

APPENDS_FOR_EVER = """
    import asyncio, sys, time
    from pathlib import Path
    from openbell.domain.orders import ClOrdID, OrderInDoubt
    from openbell.state.journal import Journal

    async def main():
        journal = await Journal.take_over(Path(sys.argv[1]), "child")
        async def task(name):
            number = 0
            while True:
                number += 1
                event = OrderInDoubt(cl_ord_id=ClOrdID(f"{name}-{number}"), at_ns=0, why="test")
                events = [event] * (1 + number % 3)
                seq = await journal.append(events)
                print(f"{seq} {event.cl_ord_id}", flush=True)
        await asyncio.gather(*(task(name) for name in "abc"))

    asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged_before", [1, 40, 400])
async def test_kill_9_loses_nothing_that_was_acknowledged(
    tmp_path: Path, spawn: Any, intent: Any, acknowledged_before: int
) -> None:
    path = tmp_path / "desk.db"
    child = spawn(APPENDS_FOR_EVER, path)
    lines = [child.stdout.readline() for _ in range(acknowledged_before)]
    child.kill()
    rest, _ = child.communicate(timeout=60)
    # The last line may itself be cut by the kill.
    lines += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    journal = await Journal.take_over(path, "after the crash")
    found = {entry.seq: entry.event.cl_ord_id for entry in journal.read()}
    for line in lines:
        seq, cl_ord_id = line.split()
        assert found[int(seq)] == cl_ord_id
    assert list(found) == list(range(1, len(found) + 1))
    assert await journal.append([intent(1)]) == len(found) + 1
    await journal.close()


WRITES_WHEN_TOLD = """
    import asyncio, sys
    from pathlib import Path
    from openbell.domain.orders import ClOrdID, OrderInDoubt
    from openbell.state.journal import FencedError, Journal

    async def main():
        journal = await Journal.take_over(Path(sys.argv[1]), "child")
        event = OrderInDoubt(cl_ord_id=ClOrdID("child"), at_ns=0, why="test")
        for _ in sys.stdin:
            try:
                print(await journal.append([event]), flush=True)
            except FencedError:
                print("fenced", flush=True)

    asyncio.run(main())
"""


def stop(process: Any) -> None:
    """SIGSTOP, and wait until the system says that it stands still."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


async def test_a_writer_stopped_while_another_took_over_writes_nothing_when_it_wakes(
    tmp_path: Path, spawn: Any, intent: Any
) -> None:
    child = spawn(WRITES_WHEN_TOLD, tmp_path / "desk.db")
    child.stdin.write("go\n")
    child.stdin.flush()
    assert child.stdout.readline() == "1\n"
    stop(child)
    journal = await Journal.take_over(tmp_path / "desk.db", "successor")
    assert await journal.append([intent(1)]) == 2
    child.stdin.write("go\ngo\n")
    child.stdin.flush()
    child.send_signal(signal.SIGCONT)
    assert child.stdout.readline() == "fenced\n"
    assert child.stdout.readline() == "fenced\n"
    (before, after) = journal.read()
    assert (before.seq, after.seq) == (1, 2)
    assert before.epoch < after.epoch == journal.epoch
    await journal.close()


STOPPED_IN_A_COMMIT = """
    import sys
    from pathlib import Path
    from openbell.state.database import open_database

    connection = open_database(Path(sys.argv[1])).driver_connection()
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    sys.stdin.read()
"""


async def test_a_writer_stopped_within_a_commit_holds_its_successor_up_until_it_is_killed(
    tmp_path: Path, spawn: Any, intent: Any
) -> None:
    child = spawn(STOPPED_IN_A_COMMIT, tmp_path / "desk.db")
    assert child.stdout.readline() == "locked\n"
    stop(child)
    waiting = asyncio.create_task(Journal.take_over(tmp_path / "desk.db", "successor"))
    done, _ = await asyncio.wait({waiting}, timeout=0.2)
    assert not done
    reader = JournalReader.open(tmp_path / "desk.db")
    assert reader.last_seq() == 0, "whoever only looks is not held up"
    reader.close()
    child.kill()
    journal = await waiting
    assert await journal.append([intent(1)]) == 1
    await journal.close()


async def test_a_full_disk_is_refused_and_the_journal_works_again_with_space(
    small_disk: Any, intent: Any
) -> None:
    path = small_disk.folder / "desk.db"
    journal = await Journal.take_over(path, "test")
    acknowledged = {await journal.append([intent(n)]): intent(n) for n in range(10)}
    for round_ in range(3):
        small_disk.fill()
        refused = 0
        for n in range(2000):
            event = intent(1000 * (round_ + 1) + n)
            try:
                acknowledged[await journal.append([event])] = event
            except StorageError as error:
                assert "full" in error.message or "SQLITE_IOERR" in error.message
                refused += 1
                if refused == 20:
                    break
        assert refused == 20
        with pytest.raises(StorageError):
            await journal.append([intent(n) for n in range(2000)])
        small_disk.empty()
        event = intent(100 + round_)
        acknowledged[await journal.append([event])] = event
    assert {entry.seq: entry.event for entry in journal.read()} == acknowledged
    await journal.close()
    reader = JournalReader.open(path)
    assert {entry.seq: entry.event for entry in reader.read()} == acknowledged
    reader.close()


LIMITED = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from openbell.domain.orders import ClOrdID, OrderInDoubt
    from openbell.errors import StorageError
    from openbell.state.journal import Journal

    def limit(size):
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    async def main():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        path = Path(sys.argv[1])
        journal = await Journal.take_over(path, "child")
        event = OrderInDoubt(cl_ord_id=ClOrdID("x"), at_ns=0, why="w" * 1000)
        acknowledged = [await journal.append([event]) for _ in range(10)]
        wal = path.with_name(path.name + "-wal").stat().st_size
        limit(wal + 20_000)
        refused = 0
        while refused < 5:
            try:
                acknowledged.append(await journal.append([event]))
            except StorageError:
                refused += 1
        limit(resource.RLIM_INFINITY)
        acknowledged.append(await journal.append([event]))
        assert [entry.seq for entry in journal.read()] == acknowledged, acknowledged
        assert acknowledged == list(range(1, len(acknowledged) + 1))
        await journal.close()
        print("ok", len(acknowledged))

    asyncio.run(main())
"""


def test_a_file_that_may_not_grow_is_refused_and_the_journal_works_again_when_it_may(
    tmp_path: Path, spawn: Any
) -> None:
    """The same as a full disk, by a limit that needs no privilege."""
    child = spawn(LIMITED, tmp_path / "desk.db")
    out, err = child.communicate(timeout=60)
    assert out.startswith("ok"), err
