"""The guard's socket: what it answers, to whom, and that no client delays another."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from typing import Any

import pytest
from tests.harness.guarded_desk import GuardedDesk

from openbell.controller.guard_process import start_guard
from openbell.kill.course import courses
from openbell.state.latch import Latches


@pytest.fixture
def guard(make_guarded: Any) -> GuardedDesk:
    """A guard alone: nobody opened the desk, so it watches over no controller."""
    desk: GuardedDesk = make_guarded("binance", watch="20s")
    desk.layout.make()
    start_guard(desk.layout, desk.environ)
    desk.until(lambda: desk.guard_pid() is not None, "the guard answers")
    return desk


def connect(desk: GuardedDesk) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.connect(str(desk.layout.guard_socket))
    return connection


def answer(connection: socket.socket, line: bytes) -> dict[str, Any]:
    connection.sendall(line)
    with connection.makefile("rb") as file:
        return dict(json.loads(file.readline()))


def test_what_is_asked_wrongly_is_told_clearly_and_the_guard_goes_on(guard: GuardedDesk) -> None:
    for line, word in (
        (b"nonsense\n", "not a line with a JSON object"),
        (b"[]\n", "not a line with a JSON object"),
        (b"\xff\xfe\n", "not a line with a JSON object"),
        (b'{"what": 1}\n', '"do" is missing'),
        (b'{"do": "dance"}\n', 'does not know "dance"'),
        (b'{"do": "latch", "scopes": ["everything"]}\n', "everything"),
        (b'{"do": "latch", "scopes": 7}\n', "latch"),
        (b'{"do": "emergency_stop", "timeout_s": -1}\n', "timeout_s"),
        (b"x" * 200_000 + b"\n", "not a line with a JSON object"),
    ):
        with connect(guard) as connection:
            told = answer(connection, line)
        assert told["code"] == "usage" and told["final"] is True and word in told["error"], told
    assert not guard.layout.latch.exists() and not Latches(guard.layout).read(opened=False)
    assert guard.guard_pid() is not None


def test_clients_that_ask_nothing_or_read_nothing_delay_nobody(guard: GuardedDesk) -> None:
    silent = [connect(guard) for _ in range(20)]
    deaf = [connect(guard) for _ in range(5)]
    try:
        for connection in deaf:
            connection.sendall(b'{"do": "status"}\n' * 2000)
        assert guard.ask_guard("status", timeout_s=10)["pid"]
    finally:
        for connection in (*silent, *deaf):
            connection.close()


def test_several_questions_on_one_connection_are_answered_in_turn(guard: GuardedDesk) -> None:
    with connect(guard) as connection, connection.makefile("rb") as file:
        connection.sendall(b'{"do": "status"}\n{"do": "dead_man"}\n')
        assert json.loads(file.readline())["pid"] == guard.guard_pid()
        assert json.loads(file.readline())["venues"][0]["venue"] == "binance"


def test_only_this_user_can_connect(guard: GuardedDesk) -> None:
    for path in (guard.layout.guard_socket, guard.layout.beats_socket):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_uid == os.getuid()


def test_it_sets_the_latch_and_never_takes_one_away(guard: GuardedDesk) -> None:
    told = guard.ask_guard("latch", scopes=["venue:binance"], reason="try", actor="ann")
    assert told["latched"] and told["durable"] and told["recorded"]
    (latch,) = Latches(guard.layout).read(opened=False)
    assert (str(latch.scope), latch.halt.who, latch.halt.reason) == ("venue:binance", "ann", "try")
    assert "ann" in guard.layout.kill_switch_log.read_text()


def test_a_socket_that_was_cleaned_away_is_opened_again(guard: GuardedDesk) -> None:
    pid = guard.guard_pid()
    guard.layout.guard_socket.unlink()
    guard.until(lambda: guard.guard_pid() == pid, "the same guard is reachable again")


def test_a_controller_whose_beats_nobody_could_hear_is_not_killed(make_guarded: Any) -> None:
    desk = make_guarded("binance")
    desk.open()
    before = (desk.guard_pid(), desk.controller_pid())
    for path in (desk.layout.beats_socket, desk.layout.guard_socket):
        path.unlink()
    desk.until(desk.layout.beats_socket.exists, "beats are heard again")
    time.sleep(2.5)  # a controller that is not heard hangs after 1.5
    assert (desk.guard_pid(), desk.controller_pid()) == before
    assert "socket lost" in desk.guard_log()
    assert "controller hangs" not in desk.guard_log()


async def test_a_stop_whose_asker_went_before_it_was_taken_is_not_carried_out_later(
    make_guarded: Any,
) -> None:
    """A guard that is still loading hears the question when whoever asked has long gone on without
    it, and has perhaps opened the desk again: the late stop would end that one."""
    desk: GuardedDesk = make_guarded("binance", watch="20s")
    desk.layout.make()
    await desk.rest("binance", 2)
    start_guard(desk.layout, desk.environ)
    desk.until(desk.layout.guard_socket.exists, "it listens")
    desk.until(lambda: _asked_and_left(desk), "a question is taken in")
    desk.until_warm()
    # Asked after the other one, and answered: that one was dealt with.
    told = desk.ask_guard("emergency_stop", reason="mine", actor="ann")["statement"]
    assert told["result"] == "verified"
    assert courses(desk.layout.emergency) == ["001"], "the late one was carried out"
    assert told["reason"] == "mine"


def _asked_and_left(desk: GuardedDesk) -> bool:
    try:
        with connect(desk) as connection:
            connection.sendall(b'{"do": "emergency_stop", "reason": "late", "actor": "bob"}\n')
    except OSError:
        return False
    return True


async def test_an_emergency_stop_by_the_guard_goes_on_without_its_client(
    guard: GuardedDesk,
) -> None:
    guard.until_warm()
    await guard.rest("binance", 5)
    with connect(guard) as connection:
        told = answer(connection, b'{"do": "emergency_stop", "reason": "try", "actor": "ann"}\n')
        assert told["event"] == "taken"
    guard.until(lambda: guard.resting("binance") == 0, "every order is gone")
    stated = guard.ask_guard("emergency_stop", reason="again", actor="ann")["statement"]
    assert stated["result"] == "verified"
