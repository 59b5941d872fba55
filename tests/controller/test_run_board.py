"""One run at a time: who is second hears who was first, and nothing begins in an ending controller."""

from __future__ import annotations

import asyncio
import time

import pytest

from openbell.controller.run_board import LiveRun, RunBoard
from openbell.errors import ConflictError


def run(number: int, actor: str = "ann") -> LiveRun:
    return LiveRun(f"open-{number}", "open", actor, {}, time.time_ns())


async def test_the_second_of_two_is_refused_by_the_first_ones_run() -> None:
    board = RunBoard()
    await board.reserve("open", "ann")
    second = asyncio.create_task(board.reserve("open", "bob"))
    await asyncio.sleep(0)
    assert not second.done(), "which run it is is not known yet"
    board.add(run(7))
    with pytest.raises(ConflictError, match="open-7, begun by ann") as refused:
        await second
    assert refused.value.facts["run"] == "open-7"


async def test_the_second_goes_ahead_where_the_first_does_not_begin() -> None:
    board = RunBoard()
    await board.reserve("open", "ann")
    second = asyncio.create_task(board.reserve("close", "bob"))
    await asyncio.sleep(0)
    board.release()
    await second
    with pytest.raises(ConflictError, match="being closed: bob is about to begin"):
        board.refuse_second()


async def test_one_whose_beginning_takes_long_is_named_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("openbell.controller.run_board.BEGIN_S", 0.01)
    board = RunBoard()
    await board.reserve("open", "ann")
    with pytest.raises(ConflictError, match="ann is about to begin"):
        await board.reserve("open", "bob")


async def test_nothing_begins_in_a_controller_that_is_ending() -> None:
    board = RunBoard()
    board.end("the desk is closed")
    with pytest.raises(ConflictError, match="ending: the desk is closed"):
        await board.reserve("open", "ann")
    with pytest.raises(ConflictError), board.acting():
        pass


async def test_a_moment_is_settled_when_nothing_begins_and_nobody_acts() -> None:
    board = RunBoard()
    with board.acting():
        waiting = asyncio.create_task(board.settled())
        opening = asyncio.create_task(board.reserve("open", "ann"))
        await asyncio.sleep(0)
        assert not waiting.done()
    await opening
    await asyncio.sleep(0)
    assert not waiting.done(), "an opening is about to begin"
    board.release()
    await asyncio.wait_for(waiting, 10)


async def test_a_run_begins_after_the_single_act_under_way() -> None:
    """An opening began in the middle of a stop, and a resume went on after a closing had begun."""
    board = RunBoard()
    with board.acting():
        opening = asyncio.create_task(board.reserve("open", "ann"))
        await asyncio.sleep(0)
        assert not opening.done()
        with pytest.raises(ConflictError, match="ann is about to begin"), board.acting():
            pass
    await opening
    board.release()


@pytest.mark.parametrize("procedure", ["open", "close"])
async def test_a_single_act_that_takes_long_refuses_a_run_but_holds_up_no_closing(
    monkeypatch: pytest.MonkeyPatch, procedure: str
) -> None:
    monkeypatch.setattr("openbell.controller.run_board.BEGIN_S", 0.01)
    monkeypatch.setattr("openbell.controller.run_board.CLOSING_WAITS_S", 0.01)
    board = RunBoard()
    with board.acting():
        if procedure == "close":
            await board.reserve(procedure, "ann")
            return
        with pytest.raises(ConflictError, match="single act is under way"):
            await board.reserve(procedure, "ann")
    await board.reserve(procedure, "ann")


async def test_a_run_that_waited_begins_in_no_controller_that_ends_meanwhile() -> None:
    board = RunBoard()
    with board.acting():
        opening = asyncio.create_task(board.reserve("open", "ann"))
        await asyncio.sleep(0)
        board.end("the desk is closed")
    with pytest.raises(ConflictError, match="ending"):
        await opening
