"""The press asks the guard first, and does without it when it is gone, hangs, or ends in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kill.small_desk import SmallDesk, small_desk

from openbell.domain.scopes import DESK
from openbell.kill.emergency_statement import EmergencyStatement, LatchSet
from openbell.kill.guard_client import (
    GuardGoneError,
    GuardRefusedError,
    ask_guard,
)
from openbell.kill.request import EmergencyRequest
from openbell.state.latch import Latches

Answer = Callable[[dict[str, Any], asyncio.StreamWriter], Awaitable[None]]

STATED = EmergencyStatement(
    course="007", reason="by the guard", actor="alice", scopes=("desk",), flatten=False,
    account_wide=False, began="2026-01-31T12:00:00+00:00", took_s=0.1, carrier_pid=1,
    latch=LatchSet(set=True, durable=True),
)  # fmt: skip


@contextlib.asynccontextmanager
async def guard(desk: SmallDesk, answer: Answer) -> AsyncIterator[list[dict[str, Any]]]:
    """One that answers as told; what it was asked."""
    asked: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            asked.append(json.loads(await reader.readline()))
            await answer(asked[-1], writer)
        writer.close()

    server = await asyncio.start_unix_server(serve, str(desk.layout.guard_socket))
    try:
        yield asked
    finally:
        server.close()


def say(writer: asyncio.StreamWriter, **line: Any) -> None:
    writer.write(json.dumps(line).encode() + b"\n")


async def carried_out(question: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    say(writer, event="taken", course="007")
    say(writer, event="at_work")
    say(writer, event="venue", what="verified", venue="x", at_ns=1)
    say(writer, event="done", statement=STATED.to_wire(), final=True)


async def test_the_guard_carries_it_out_and_its_statement_is_told(tmp_path: Path) -> None:
    async with small_desk(tmp_path / "desk") as desk, guard(desk, carried_out) as asked:
        pressed = await desk.press("--reason", "stop", "--flatten")
        assert pressed.status == 0
        assert pressed.statement["course"] == "007"
        assert [each["event"] for each in pressed.events] == ["venue", "done"]
        (question,) = asked
        assert question["do"] == "emergency_stop"
        assert (question["reason"], question["flatten"]) == ("stop", True)
        assert question["scopes"] == ["desk"]
        # Before it was asked, and told to it, so that it is not set again.
        (latch,) = Latches(desk.layout).read()
        assert question["set_already"] == [latch.id]


async def hangs(question: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def ends_in_the_middle(question: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    say(writer, event="taken", course="007")
    writer.write(b'{"event": "ven')


async def refuses(question: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    say(writer, error="not now", code="conflict", final=True)


async def talks_nonsense(question: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    say(writer, event="taken", course="007")
    say(writer, event="done", statement={"result": "verified"}, final=True)


@pytest.mark.parametrize("answer", [hangs, ends_in_the_middle, refuses, talks_nonsense])
async def test_without_the_guard_it_is_done_here(tmp_path: Path, answer: Answer) -> None:
    async with small_desk(tmp_path / "desk") as desk, guard(desk, answer):
        desk.rest(3)
        pressed = await desk.press()
        assert pressed.status == 0, pressed
        assert pressed.statement["course"] == "001"
        assert pressed.heard("alone")
        assert desk.own_open() == []


async def test_a_guard_that_is_stopped_is_waited_for_a_tenth_of_a_second(tmp_path: Path) -> None:
    """It listens, and nobody accepts."""
    async with small_desk(tmp_path / "desk") as desk, guard(desk, hangs):
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(GuardGoneError):
            async for _ in ask_guard(desk.layout, {"do": "status"}):
                pass
        assert asyncio.get_running_loop().time() - began_s < 5


async def test_its_refusal_is_told_with_its_code(tmp_path: Path) -> None:
    async with small_desk(tmp_path / "desk") as desk, guard(desk, refuses):
        with pytest.raises(GuardRefusedError, match="not now") as refused:
            async for _ in ask_guard(desk.layout, {"do": "status"}, first_within_s=5):
                pass
        assert refused.value.code == "conflict"


def test_a_request_is_the_same_after_its_journey() -> None:
    request = EmergencyRequest(reason="r", actor="a", flatten=True, timeout_s=5, set_already=("x",))
    assert request.scopes == (DESK,)
    told = json.loads(json.dumps({"do": "emergency_stop", **request.to_wire()}))
    assert EmergencyRequest.from_wire(told) == request


@pytest.mark.parametrize(
    "fields",
    [{"scopes": ["venue:"]}, {"timeout_s": 0}, {"flatten": "yes"}, {"scopes": "desk"}],
)
def test_a_request_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        EmergencyRequest.from_wire(fields)
