"""A venue is greeted by a process of its own: is it there, does it know us, what time has it."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.procedures.preflight_facts import Surroundings, look
from openbell_sim import testing

DESK = """
[desk]
name = "greeting"
[venues.there]
environment = "practice"
url = "{url}"
key_env = "THERE_KEY"
secret_env = "THERE_SECRET"
symbols = ["BTC/USDT"]
[venues.gone]
environment = "practice"
url = "http://127.0.0.1:{gone}"
key_env = "THERE_KEY"
secret_env = "THERE_SECRET"
symbols = ["BTC/USDT"]
[preflight]
timeout = "60s"
[services.a]
command = ["true"]
"""


@pytest.mark.timeout(180)
async def test_a_venue_is_reached_with_our_credentials_and_has_the_time(tmp_path: Path) -> None:
    closed = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    gone = closed.sockets[0].getsockname()[1]
    closed.close()
    await closed.wait_closed()
    async with testing.running_venue() as venue:
        (tmp_path / "desk.toml").write_text(DESK.format(url=venue.url, gone=gone))
        environ = {"THERE_KEY": testing.KEY, "THERE_SECRET": testing.SECRET}
        layout = DeskLayout.for_desk(tmp_path, {})
        around = Surroundings(load_desk(tmp_path), layout, environ, engine_runs=False, force=False)
        found = await look(around)
        past_an_engine = await look(dataclasses.replace(around, engine_runs=True))
    assert past_an_engine.greetings == (), "a second user of its key would overtake its nonces"
    assert found.missing == ()
    hosts = {each.venue: each.connected for each in found.hosts}
    assert hosts == {"there": True, "gone": False}
    greeted = {each.name: each for each in found.greetings}
    there = greeted["there"]
    assert there.reached is True and there.took_ms is not None, there
    assert there.skew_ms is not None and abs(there.skew_ms) < 60_000, "measured, on a busy machine"
    assert not greeted["gone"].reached and greeted["gone"].why
    assert greeted["gone"].skew_ms is None
    told = str(found)
    assert testing.SECRET not in told and testing.KEY not in told
