"""An older copy of the desk database under a desk that has traded on: judged by the venue."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from tests.harness.paper_desk import PaperDesk, end_guard


def test_it_neither_lifts_the_latch_nor_repeats_an_order_nor_trades_by_old_books(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    desk = paper_desk
    desk.run("up")
    database = desk.folder / "state" / "desk.db"
    await_that(lambda: len(desk.venue_truth("fills")) >= 3, "it trades")
    copy = desk.folder / "old.db"
    _copy(database, copy)
    filled = len(desk.venue_truth("fills"))
    await_that(lambda: len(desk.venue_truth("fills")) >= filled + 3, "it trades on")
    desk.run("kill-switch", "activate", "--reason", "the disk is failing")
    before = desk.venue_truth("orders")
    _crash(desk)
    for each in ("desk.db", "desk.db-wal", "desk.db-shm"):
        (database.parent / each).unlink(missing_ok=True)
    copy.rename(database)

    # The latch is no part of what was restored.
    opened = desk.run("up").document
    assert opened["outcome"] == "safe"
    assert "the disk is failing" in opened["message"]
    assert len(desk.venue_truth("orders")) == len(before), "an order was sent while latched"

    # It trades again only by books that equal the venue's.
    desk.run("kill-switch", "deactivate", "--reason", "another disk", "--yes")
    assert desk.run("reconcile", expect=1).document["result"] == "differs"
    refused = desk.run("resume", expect=None)
    assert refused.status != 0, refused.text
    assert len(desk.venue_truth("orders")) == len(before), "it traded by old books"
    adopt(desk)
    # Cash is compared once positions agree; what the lost executions moved of it is adopted, too.
    found = desk.run("reconcile", expect=None).document
    assert found["result"] == "clean", found
    if found["cash"] == "differs":
        assert {d["kind"] for d in found["differences"] if d["currency"]} <= {
            "external_trade", "external_transfer", "fee_unknown",
        }  # fmt: skip
        adopt(desk)
    assert desk.run("reconcile").document["result"] == "clean"
    desk.run("resume")
    await_that(lambda: len(desk.venue_truth("orders")) > len(before), "it trades again")
    after = desk.venue_truth("orders")
    twice = [each for each, n in Counter(row["cl_ord_id"] for row in after).items() if n > 1]
    assert twice == []
    old = {row["cl_ord_id"] for row in before}
    epochs = {_epoch(row) for row in after if row["cl_ord_id"] not in old}
    assert not epochs & {_epoch(row) for row in before}, "an epoch was used again"
    closed = desk.run("down", "--yes").document
    assert (closed["remaining_orders"], closed["remaining_positions"]) == ([], [])


def adopt(desk: PaperDesk) -> None:
    done = desk.run("reconcile", "--adopt", "--reason", "the copy is older", "--yes", expect=None)
    assert done.document["result"] == "clean" and done.document["adopted"], done


def _copy(database: Path, to: Path) -> None:
    """As a backup takes it: consistent, while it is written."""
    with (
        contextlib.closing(sqlite3.connect(database)) as source,
        contextlib.closing(sqlite3.connect(to)) as target,
    ):
        source.backup(target)


def _crash(desk: PaperDesk) -> None:
    """SIGKILL to everything but the venue, which is not the desk."""
    venue = desk.service("venue-sim")["pid"]
    end_guard(desk)
    for process in desk.own_processes():
        with contextlib.suppress(psutil.Error):
            if process.pid != venue:
                process.send_signal(signal.SIGKILL)
    psutil.wait_procs([p for p in desk.own_processes() if p.pid != venue], timeout=20)


def _epoch(row: dict[str, Any]) -> str:
    return str(row["cl_ord_id"]).split("-")[1]
