"""A bus socket whose path was cleaned away is found under it again, and takes nobody's place."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from openbell.config.layout import DeskLayout
from openbell.trading import bus_watch
from openbell.trading.bus import Publisher, Requester, Responder, Subscriber
from openbell.trading.bus_watch import Bound, keep_reachable
from openbell.trading.messages import ReplayReply, ReplayRequest

WAIT_S = 60.0
TOPIC = "engine"


def request() -> ReplayRequest:
    return ReplayRequest(after_seq=0)


async def answer(_: ReplayRequest) -> ReplayReply:
    return ReplayReply(events=(), last_seq=7)


@contextlib.asynccontextmanager
async def kept(layout: DeskLayout, bound: Iterable[Bound]) -> AsyncIterator[None]:
    watching = asyncio.create_task(keep_reachable(layout, lambda: bound))
    yield
    assert not watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def found(path: Path) -> None:
    async with asyncio.timeout(WAIT_S):
        while not path.exists():
            await asyncio.sleep(0.005)


@pytest.fixture
def layout(run: Path, monkeypatch: pytest.MonkeyPatch) -> DeskLayout:
    monkeypatch.setattr(bus_watch, "LOOK_S", 0.005)
    made = DeskLayout(desk=run, state=run)
    made.make()
    return made


async def test_a_peer_that_starts_after_the_folder_was_cleaned_is_answered(
    layout: DeskLayout,
) -> None:
    """The engine, market-data and risk-management bound their sockets once: a strategy that was started
    again after a cleaner of the temporary folder had been there could reach nobody."""
    path = layout.run / "intents.sock"
    responder = Responder[ReplayRequest, ReplayReply](path, ReplayRequest, answer)
    before = Requester[ReplayRequest, ReplayReply](path, ReplayReply)
    assert (await before.ask(request(), timeout_s=WAIT_S)).last_seq == 7
    async with kept(layout, [responder]):
        for _ in range(3):
            shutil.rmtree(layout.run)
            await found(path)
            after = Requester[ReplayRequest, ReplayReply](path, ReplayReply)
            assert (await after.ask(request(), timeout_s=WAIT_S)).last_seq == 7
            await after.close()
        assert (await before.ask(request(), timeout_s=WAIT_S)).last_seq == 7
        assert before.counters.resent == 0, "whoever was connected noticed nothing"
    assert not responder.is_replaced
    assert [each.name for each in layout.run.iterdir()] == ["intents.sock"]
    await before.close()
    await responder.close()
    assert list(layout.run.iterdir()) == []


async def test_a_publisher_is_heard_by_those_of_before_and_by_those_of_after(
    layout: DeskLayout,
) -> None:
    path = layout.run / "market.sock"
    publisher = Publisher(path, producer="p/1")
    before = Subscriber(path, {TOPIC: ReplayReply})

    async def publish() -> None:
        while True:
            publisher.publish(TOPIC, ReplayReply(events=(), last_seq=1))
            await asyncio.sleep(0.005)

    publishing = asyncio.create_task(publish())
    async with asyncio.timeout(WAIT_S):
        assert (await before.receive()).gap, "the first of all"
        async with kept(layout, [publisher]):
            path.unlink()
            await found(path)
        after = Subscriber(path, {TOPIC: ReplayReply})
        await after.receive()
        while (await before.receive()).envelope.seq < 20:
            pass
    assert before.counters.lost == 0, (
        "nothing that was published meanwhile is lost to those of before"
    )
    publishing.cancel()
    for each in (before, after, publisher):
        each.close()


async def test_a_name_that_a_successor_took_is_left_to_it(layout: DeskLayout) -> None:
    path = layout.run / "intents.sock"
    old = Publisher(path, producer="p/1")
    new = Publisher(path, producer="p/2")
    assert not old.is_gone, "somebody is there"
    taken = path.stat().st_ino
    fds = Path("/proc/self/fd")
    open_files = len(list(fds.iterdir()))
    for _ in range(20):
        assert old.reopen() is False, "it came between the look and the act"
    assert path.stat().st_ino == taken
    async with asyncio.timeout(WAIT_S):
        while len(list(fds.iterdir())) > open_files:  # ZeroMQ closes them beside us
            await asyncio.sleep(0.005)
    new.close()
    assert old.is_gone and old.reopen(), "the one that was to take over has gone"
    assert path.exists()
    old.close()
    assert list(layout.run.iterdir()) == []
    assert not old.is_gone, "it is closed: nobody is to open it again"


async def test_a_folder_that_cannot_be_made_is_told_once_and_tried_again(
    layout: DeskLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    log = SimpleNamespace(error=lambda event, **_: told.append(event))
    monkeypatch.setattr(bus_watch, "log", log)
    path = layout.run / "market.sock"
    publisher = Publisher(path, producer="p/1")
    async with kept(layout, [publisher]):
        shutil.rmtree(layout.run)
        layout.run.touch()  # in its place
        async with asyncio.timeout(WAIT_S):
            while not told:
                await asyncio.sleep(0.005)
        layout.run.unlink()
        await found(path)
    assert told == [
        "a bus socket cannot be opened again",
        "bus sockets were cleaned away: opened again",
    ]
    publisher.close()
