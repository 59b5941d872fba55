"""What `openbell emergency-stop` says at its end."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from openbell.cli.commands.emergency_stop import _uninterrupted
from openbell.cli.emergency_text import InOrder, statement_text
from openbell.config.layout import DeskLayout
from openbell.domain.scopes import DESK
from openbell.kill.emergency_statement import EmergencyStatement, LatchSet
from openbell.state.halts import Halt
from openbell.state.latch import Latches
from openbell.state.lock import FileLock


def _text(latch: LatchSet, *scopes: str, flatten: bool = False) -> str:
    stated = EmergencyStatement(
        course="001", reason="", actor="ann", scopes=scopes or ("desk",), flatten=flatten,
        account_wide=False, began="2026-01-31T12:00:00+00:00", took_s=1.0, carrier_pid=1, latch=latch,
    )  # fmt: skip
    return statement_text(stated.to_wire())


def test_a_desk_that_could_not_be_latched_is_not_said_to_be() -> None:
    """It said that the desk stays latched, and exited with 9."""
    text = _text(LatchSet(set=False, durable=False, problems=("the disk is full",)))
    assert "NOT LATCHED" in text
    assert "the latch: the disk is full" in text
    assert "nothing holds new orders back" in text
    assert "stays latched" not in text


def test_one_that_may_not_outlive_a_crash_says_so() -> None:
    text = _text(LatchSet(set=True, durable=False, problems=("the disk does not answer",)))
    assert "LATCHED, BUT IT MAY NOT OUTLIVE A CRASH" in text
    assert "the latch: the disk does not answer" in text
    assert "the desk stays latched" in text


def test_what_is_latched_and_kept_needs_no_more_words() -> None:
    latch = LatchSet(set=True, durable=True)
    assert "LATCHED" not in _text(latch).replace("stays latched", "")
    assert "the desk stays latched" in _text(latch)
    assert "stays latched: venue:v" in _text(latch, "venue:v")


def test_zero_is_said_of_orders_and_of_positions_only_where_they_were_to_be_closed() -> None:
    """It said VERIFIED ZERO over three open positions, and nothing of them."""
    latch = LatchSet(set=True, durable=True)
    kept = _text(latch)
    assert "VERIFIED ZERO OPEN ORDERS\n" in kept
    assert "POSITIONS STAY, and were not looked at" in kept
    assert "`openbell emergency-stop --flatten`" in kept
    closed = _text(latch, flatten=True)
    assert "VERIFIED ZERO OPEN ORDERS AND POSITIONS\n" in closed
    assert "POSITIONS STAY" not in closed


_BEGUN = {"event": "begun", "request": {"scopes": ["desk"]}}
_LISTED = {"event": "venue", "venue": "v", "what": "listed", "orders": 2, "spared": 0}
_ZERO = {"event": "venue", "venue": "v", "what": "verified"}
_LATCHED = {"event": "latched", "latch": {"set": True, "problems": []}}
_FROZEN = {"event": "frozen", "services": [{"service": "engine", "result": "not_running"}]}


def test_the_latch_and_the_freeze_are_printed_before_the_cancels_that_went_beside_them() -> None:
    told: list[str] = []
    lines = InOrder(told.append, lambda: 0.0)
    for event in (_BEGUN, _LISTED, _LATCHED, _ZERO, _FROZEN):
        lines.hear(event)
    assert told == [
        "+ latched", "- engine does not run", "  v: 2 open orders", "  v: verified zero open orders",
    ]  # fmt: skip


def test_a_freeze_that_takes_long_holds_no_line_back_and_none_is_lost() -> None:
    told: list[str] = []
    now_s = 0.0
    lines = InOrder(told.append, lambda: now_s)
    for event in (_BEGUN, _LISTED):
        lines.hear(event)
    assert told == []
    now_s = 2.0
    lines.hear(_ZERO)
    assert told == ["  v: 2 open orders", "  v: verified zero open orders"]
    lines.hear(_LATCHED)
    assert told[-1] == "+ latched"

    broken_off: list[str] = []
    lines = InOrder(broken_off.append, lambda: 0.0)
    lines.hear(_LISTED)
    lines.flush()
    assert broken_off == ["  v: 2 open orders"]


def test_a_stop_of_a_part_waits_for_no_freeze() -> None:
    told: list[str] = []
    lines = InOrder(told.append, lambda: 0.0)
    for event in ({"event": "begun", "request": {"scopes": ["venue:v"]}}, _LISTED, _LATCHED):
        lines.hear(event)
    assert told == ["+ latched", "  v: 2 open orders"]


@pytest.mark.parametrize(
    ("latched", "carried", "said"),
    [
        (True, False, ("LEFT UNFINISHED", "the kill switch stays set", "press again")),
        (False, False, ("LEFT UNFINISHED", "NOT KNOWN TO BE SET", "press again")),
        (True, True, ("carries the stop on", "`openbell status`")),
    ],
)
async def test_whoever_presses_ctrl_c_twice_is_told_what_is_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    latched: bool,
    carried: bool,
    said: tuple[str, ...],
) -> None:
    """All that was said was "Aborted!"."""
    # By the command's own limit a slow machine is a disk that hangs, of which nothing is known.
    monkeypatch.setattr("openbell.cli.commands.emergency_stop._LOOK_S", 60.0)
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    if latched:
        Latches(layout).set((DESK,), Halt("a drill", "ann", datetime.now(UTC)))
    lock = FileLock(layout.emergency_lock)
    if carried:
        lock.acquire()
    told: list[str] = []

    async def stop() -> EmergencyStatement:
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(60):
            while not told:
                await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        raise AssertionError

    try:
        with pytest.raises(click.Abort):
            await _uninterrupted(stop(), layout, told.append)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        lock.release()
    assert "the stop goes on" in told[0]
    assert all(words in told[1] for words in said), told
