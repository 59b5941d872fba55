"""A burst of requests at a venue that limits new connections."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from openbell.venues import transport, turnstile
from openbell.venues.lanes import Lanes
from openbell.venues.transport import NoReplyError, NotSentError, Request, Transport


async def test_a_free_lane_is_taken_at_once_and_more_are_opened_only_where_none_gets_free() -> None:
    lanes = Lanes(2, 60.0, 4)  # on a busy machine a short window may end by itself
    for _ in range(50):
        await lanes.take()
        lanes.release()
    assert lanes.count == 2
    await lanes.take()
    await lanes.take()
    third = asyncio.ensure_future(lanes.take())
    await asyncio.sleep(0)
    assert not third.done()
    lanes.release()
    await third
    assert lanes.count == 2


async def test_lanes_open_at_the_venues_pace_up_to_their_limit() -> None:
    loop = asyncio.get_running_loop()
    lanes = Lanes(2, 0.2, 4)
    began_s = loop.time()
    for _ in range(4):
        await lanes.take()
    # Two at once, the third a window later, the fourth half a window after that.
    assert loop.time() - began_s >= 0.3
    assert lanes.count == 4
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await lanes.take()


class Slow:
    def __init__(self) -> None:
        self.connections: set[object] = set()
        self.go_on = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.connections.add(request.transport)
        await self.go_on.wait()
        return web.Response(body=b"{}")


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Slow, str]]:
    server = Slow()
    app = web.Application()
    app.router.add_get("/", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield server, f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_a_burst_shares_the_connections_that_may_be_opened(
    slow: tuple[Slow, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = slow
    monkeypatch.setattr(transport, "CONNECT_WINDOW_S", 60.0)  # longer than the burst may take
    server.go_on.set()
    sender = Transport(connects_per_s=2)
    requests = (sender.send(Request("GET", url, {}), timeout_s=10) for _ in range(30))
    replies = await asyncio.gather(*requests)
    assert {reply.status for reply in replies} == {200}
    assert len(server.connections) == 2
    await sender.close()


async def test_what_found_no_lane_was_not_sent(
    slow: tuple[Slow, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = slow
    monkeypatch.setattr(transport, "CONNECTIONS_MAX", 2)
    sender = Transport(connects_per_s=2)
    # Those that wait give up well before a lane becomes free.
    patience_s = (4.0, 4.0, 0.5, 0.5)
    requests = (sender.send(Request("GET", url, {}), timeout_s=each) for each in patience_s)
    ends = await asyncio.gather(*requests, return_exceptions=True)
    assert [type(end) for end in ends] == [NoReplyError, NoReplyError, NotSentError, NotSentError]
    assert len(server.connections) == 2
    await sender.close()


CONNECTING = """
import asyncio, sys, time
from openbell.venues.turnstile import Turnstile

async def main():
    turnstile = Turnstile(sys.argv[1], 2, float(sys.argv[2]))
    print(time.monotonic())
    for _ in range(3):
        await turnstile.take()
    print(time.monotonic())
    await asyncio.sleep(turnstile._window_s)  # a turn ends with its process

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="each process keeps the pace for itself")
async def test_processes_keep_the_venues_pace_together() -> None:
    """Each by itself keeps to two connections in a window; three of them would open six."""
    window_s = 0.5
    shared_as = f"test {os.getpid()} {time.monotonic_ns()}"
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CONNECTING, shared_as, str(window_s), stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]  # fmt: skip
    said = [(await process.communicate())[0].decode().split() for process in processes]
    assert [len(each) for each in said] == [2, 2, 2], "each came through"
    began_s, ended_s = (pick(float(each[at]) for each in said) for pick, at in ((min, 0), (max, 1)))
    # Nine turns, two in a window: the last is four windows after the first. Each by itself would
    # be through after one.
    assert ended_s - began_s >= 4 * window_s, said


@pytest.mark.skipif(sys.platform != "linux", reason="each process keeps the pace for itself")
async def test_a_stopped_process_does_not_keep_others_from_the_venue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The guard must come through beside an engine that hangs with all turns in its hands."""
    monkeypatch.setattr(turnstile, "WAIT_MAX_S", 0.3)
    shared_as = f"test {os.getpid()} {time.monotonic_ns()}"
    hanging, guard = (turnstile.Turnstile(shared_as, 2, 3600.0) for _ in range(2))
    await hanging.take()
    await hanging.take()
    async with asyncio.timeout(60):
        await guard.take()
