"""A guard that goes by an older desk file stops nothing by it, and is replaced; so is one with
credentials that were exchanged."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.controller.guard_keeper import GuardKeeper
from openbell.controller.run_board import LiveRun
from openbell.domain.desk_state import DeskTarget
from openbell.domain.scopes import Scope, ScopeKind
from openbell.errors import RefusedError
from openbell.guard import stopping as guard_stopping
from openbell.guard.stopping import Stopping
from openbell.kill.request import EmergencyRequest

DESK = """
[desk]
name = "d"
[services.one]
command = ["true"]
"""
VENUE = '[venues.a]\nurl = "http://127.0.0.1:1"\nsymbols = ["BTC/USDT"]\n'


@pytest.mark.parametrize(
    ("text", "outdated"),
    [(DESK, False), (DESK + "# a word\n", False), (DESK + "[venues", False), (DESK + VENUE, True)],
)
async def test_a_stop_by_a_desk_file_that_changed_is_refused(
    tmp_path: Any, text: str, outdated: bool
) -> None:
    (tmp_path / "desk.toml").write_text(DESK)
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    stopping = Stopping(layout, load_desk(tmp_path), {}, {})
    (tmp_path / "desk.toml").write_text(text)
    answers = stopping.answers(EmergencyRequest(reason="try", actor="ann").to_wire())
    if outdated:
        with pytest.raises(RefusedError, match="has changed"):
            await anext(answers)
    else:
        assert await anext(answers) == {"event": "taken"}
        await stopping.finish()


KEYED = DESK + (
    '[venues.a]\nadapter = "binance"\nurl = "https://a.example"\nsymbols = ["BTC/USDT"]\n'
    'environment = "practice"\nkey_env = "A_KEY"\nsecret_env = "A_SECRET"\n'
)
OLD, NEW = ("old", "old-secret"), ("new", "new-secret")


@pytest.mark.parametrize(
    ("held", "written", "mode", "why"),
    [
        (OLD, OLD, 0o600, ""),
        (OLD, NEW, 0o600, "the credentials of a have changed"),
        (None, OLD, 0o600, "no credentials of a"),
        (None, OLD, 0o644, "no credentials of a"),
        (OLD, NEW, 0o644, ""),  # nobody can read it: those at hand may still do
        (OLD, None, 0o600, ""),
    ],
)
async def test_a_stop_with_credentials_that_are_missing_or_changed_is_refused(
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    held: tuple[str, str] | None,
    written: tuple[str, str] | None,
    mode: int,
    why: str,
) -> None:
    """A key was revoked, another one put into `.env`: the guard went by the old one at every press."""
    monkeypatch.delenv("A_KEY", raising=False)
    monkeypatch.delenv("A_SECRET", raising=False)
    (tmp_path / "desk.toml").write_text(KEYED)
    env = tmp_path / ".env"
    env.write_text("" if written is None else "A_KEY={}\nA_SECRET={}\n".format(*written))
    env.chmod(mode)
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    stopping = Stopping(layout, load_desk(tmp_path), {}, {} if held is None else {"a": held})
    begun: list[EmergencyRequest] = []

    async def carry_out(request: EmergencyRequest, news: asyncio.Queue[dict[str, Any]]) -> None:
        begun.append(request)
        news.put_nowait({"event": "done", "final": True})

    monkeypatch.setattr(stopping, "_carry_out", carry_out)
    monkeypatch.setattr(guard_stopping, "READ_S", 30.0)
    request = EmergencyRequest(reason="try", actor="ann")
    if not why:
        assert [each["event"] async for each in stopping.answers(request.to_wire())] == [
            "taken",
            "done",
        ]
        return
    with pytest.raises(RefusedError, match=why) as refused:
        await anext(stopping.answers(request.to_wire()))
    assert not begun
    assert not any(secret in str(refused.value) for secret in (*OLD, *NEW) if "-" in secret)
    elsewhere = EmergencyRequest(scopes=(Scope(ScopeKind.VENUE, "b"),))
    assert (await anext(stopping.answers(elsewhere.to_wire())))["event"] == "taken", "not in scope"


async def test_a_guard_is_replaced_at_any_beat_that_shows_older_settings() -> None:
    desk: Any = SimpleNamespace(desk=SimpleNamespace(digest="new"), renewals=0)
    keeper = GuardKeeper(desk)
    asked: list[str] = []

    async def ask(do: str, **_: object) -> dict[str, Any]:
        asked.append(do)
        return {}

    keeper._ask = ask  # type: ignore[method-assign]

    async def beat(digest: str) -> list[str]:
        line = json.dumps({"event": "beat", "digest": digest}).encode()
        assert await keeper._hear(line, 1, said_hello=True)
        return asked

    assert await beat("new") == []
    assert await beat("old") == ["end"]
    assert await beat("old") == ["end"], "once for each file"
    desk.desk.digest = "newer"
    assert await beat("new") == ["end", "end"]
    assert await beat("newer") == ["end", "end"]
    desk.renewals = 1
    assert await beat("newer") == ["end", "end", "end"], "it has the credentials of before"
    assert await beat("newer") == ["end", "end", "end"], "once for each renewal"


async def test_an_opening_waits_for_the_guard_that_stays() -> None:
    """It said that the old one watches, which was replaced at its next beat."""
    file = SimpleNamespace(venues={"v": None})
    desk: Any = SimpleNamespace(
        desk=SimpleNamespace(digest="old", file=file),
        renewals=0,
        layout=None,
        auditor=SimpleNamespace(note=lambda *_, **__: None),
    )
    desk.desk.file.desk = SimpleNamespace(name="d")
    keeper = GuardKeeper(desk)
    asked: list[str] = []

    async def ask(do: str, **_: object) -> dict[str, Any]:
        asked.append(do)
        return {}

    keeper._ask = ask  # type: ignore[method-assign]

    async def hello(digest: str, pid: int) -> None:
        line = json.dumps({"event": "hello", "digest": digest}).encode()
        await keeper._hear(line, pid, said_hello=False)
        await keeper._tell_mode()

    desk.targets = SimpleNamespace(asked=DeskTarget.TRADING)
    await hello("old", 1)
    assert await keeper.opened() == ""
    assert asked == ["open", "open"]
    desk.desk.digest = "new"
    opening = asyncio.create_task(keeper.opened())
    async with asyncio.timeout(60):
        while "end" not in asked:
            await asyncio.sleep(0)
    assert not opening.done()
    keeper._is_gone(1)
    assert keeper.problem() == "starting: desk.toml changed", "the old one is no longer named"
    await hello("new", 2)
    assert await asyncio.wait_for(opening, 60) == ""
    assert keeper.view()["pid"] == 2  # type: ignore[index]
    assert asked.count("end") == 1


class LivesOn:
    """A guard that goes by an older desk file, and whose first answer to being ended is lost; the second time
    another one takes its place."""

    def __init__(self) -> None:
        self.digest = "old"
        self.ends = 0
        self._followers: list[asyncio.StreamWriter] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = json.loads(await reader.readline())
        told: dict[str, Any] = {"final": True}
        match question["do"]:
            case "watch":
                self._followers.append(writer)
                told = {"event": "hello", "digest": self.digest}
            case "end":
                self.ends += 1
                if self.ends == 1:
                    writer.close()
                    return
                self.digest = "new"
                told["ending"] = True
                for each in self._followers:
                    each.close()
        writer.write(json.dumps(told).encode() + b"\n")
        if question["do"] == "watch":
            await reader.read()
        writer.close()


async def test_a_guard_that_did_not_hear_that_it_is_to_end_is_followed_and_asked_again(
    tmp_path: Any,
) -> None:
    """It lived on and was taken for none: its hello had been heard, and no opening waited for it with
    success until the controller was started anew."""
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    desk = fake_controlled_desk(layout, digest="old", silent_after=600.0)
    guard = LivesOn()
    server = await asyncio.start_unix_server(guard.answer, layout.guard_socket)
    keeper = GuardKeeper(desk)
    keeping = asyncio.create_task(keeper.run())
    try:
        assert await keeper.opened(60) == ""
        desk.desk.digest = "new"
        assert "did not answer: end" in await keeper.opened(60)
        assert await keeper.opened(60) == ""
        assert (guard.ends, guard.digest) == (2, "new")
        assert keeper.problem() == ""
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        server.close()


HANGS_OVER_ITS_MODE = """
import json, os, signal, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
print("listens", flush=True)
while True:
    peer, _ = listening.accept()
    if json.loads(peer.recv(1 << 16))["do"] == "watch":
        peer.sendall(b'{"event": "hello", "digest": "d"}\\n')
        follower = peer
    else:
        os.kill(os.getpid(), signal.SIGSTOP)
"""


async def test_a_guard_that_hangs_over_its_mode_is_seen_to_be_silent(tmp_path: Any) -> None:
    """Nothing was read from it for as long as an answer about its switches may take, which is a minute."""
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    # Only what is started as this desk's guard is killed for one.
    as_guard = ["openbell.guard", "--desk", str(layout.desk)]
    program = [sys.executable, "-c", HANGS_OVER_ITS_MODE, str(layout.guard_socket), *as_guard]
    guard = subprocess.Popen(program, stdout=subprocess.PIPE)
    try:
        assert guard.stdout is not None and guard.stdout.readline() == b"listens\n"
        keeper = GuardKeeper(fake_controlled_desk(layout, digest="d", silent_after=0.5))
        keeping = asyncio.create_task(keeper.run())
        try:
            async with asyncio.timeout(30):
                assert await asyncio.to_thread(guard.wait) == -signal.SIGKILL
            assert "silent for 0.5s" in keeper.problem()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
    finally:
        guard.kill()
        guard.communicate()


def fake_controlled_desk(layout: DeskLayout, *, digest: str, silent_after: float) -> Any:
    """What a `GuardKeeper` asks of a controller's desk."""
    file = SimpleNamespace(
        venues={"v": None},
        desk=SimpleNamespace(name="d"),
        guard=SimpleNamespace(guard_silent_after=silent_after),
    )
    return SimpleNamespace(
        desk=SimpleNamespace(digest=digest, file=file),
        renewals=0,
        layout=layout,
        targets=SimpleNamespace(asked=DeskTarget.TRADING),
        auditor=SimpleNamespace(note=lambda *_, **__: None),
    )


async def test_the_controller_says_that_it_closes_for_as_long_as_that_run_goes_on() -> None:
    """One that was broken off in a controller that lives leaves the guard to withdraw what rests."""
    run = LiveRun("close-1", "close", "ann", {}, 0)
    board = SimpleNamespace(newest=run)
    target = SimpleNamespace(asked=DeskTarget.CLOSING)
    desk: Any = SimpleNamespace(
        desk=SimpleNamespace(file=SimpleNamespace(venues={"v": None})),
        renewals=0,
        board=board,
        targets=target,
    )
    keeper = GuardKeeper(desk)
    assert not keeper.holds
    await keeper.hold()
    assert keeper.holds
    run.emit({"event": "failed"})
    assert not keeper.holds
    board.newest = LiveRun("open-2", "open", "ann", {}, 0)
    assert not keeper.holds, "of another run"
    board.newest = LiveRun("close-3", "close", "ann", {}, 0)
    await keeper.resumed()
    assert not keeper.holds
