"""The template as its author's users have it: installed beside Openbell, found by entry point."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.examples.moon_server import KEY, SECRET, MoonServer, running_moon

REPOSITORY = Path(__file__).parents[2]
TEMPLATE = REPOSITORY / "examples" / "venue-adapter"

DESK = """
[desk]
name = "d"
[venues.luna]
adapter = "moon"
url = "{url}"
symbols = ["BTC/USD", "ETH/USD"]
key_env = "MOON_KEY"
secret_env = "MOON_SECRET"
[services.engine]
command = ["true"]
port = 7999
role = "engine"
venues = ["luna"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the package. Nothing is fetched for it."""
    folder = tmp_path_factory.mktemp("installed")
    pip = ["pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    made = run([*pip, "--no-build-isolation", "--target", str(folder), str(TEMPLATE)])
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def moon() -> Iterator[MoonServer]:
    """In a thread of its own: the commands are waited for."""
    server, ready = MoonServer(), threading.Event()
    loop = asyncio.new_event_loop()
    ended: list[asyncio.Event] = []

    async def serve() -> None:
        async with running_moon(server):
            ended.append(asyncio.Event())
            ready.set()
            await ended[0].wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    assert ready.wait(30)
    yield server
    loop.call_soon_threadsafe(ended[0].set)
    thread.join()
    loop.close()


@pytest.fixture
def desk(moon: MoonServer, tmp_path: Path) -> Path:
    (tmp_path / "desk.toml").write_text(DESK.format(url=moon.url))
    (tmp_path / ".env").write_text(f"MOON_KEY={KEY}\nMOON_SECRET={SECRET}\n")
    (tmp_path / ".env").chmod(0o600)
    return tmp_path


def run(arguments: list[str], path: Path | None = None, **more: str) -> Any:
    """A Python module in a process of its own, in the repository; `path`: what is importable
    besides."""
    environ = {**os.environ, **more}
    environ.pop("PYTHONPATH", None)
    if path is not None:
        environ["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=REPOSITORY,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def openbell(desk: Path, path: Path | None, *arguments: str) -> tuple[int, Any]:
    ran = run(["openbell", "--desk", str(desk), *arguments, "--json"], path)
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def test_a_desk_lists_a_venue_whose_adapter_another_package_brings(
    installed: Path, desk: Path, moon: MoonServer
) -> None:
    status, document = openbell(desk, installed, "venues")
    (row,) = document["venues"]
    assert (status, row["adapter"], row["credentials"], row["error"]) == (0, "moon", True, "")
    assert row["capabilities"]["lookup_by_cl_ord_id"] is True
    assert moon.requests == {}, "listing asks venues nothing"


def test_without_the_package_the_adapter_is_not_known(desk: Path) -> None:
    status, document = openbell(desk, None, "venues")
    assert status == 1
    assert 'no venue adapter "moon"' in document["venues"][0]["error"]


def test_the_venue_is_tried_with_an_order_that_is_placed_found_cancelled_and_seen_gone(
    installed: Path, desk: Path, moon: MoonServer
) -> None:
    status, document = openbell(desk, installed, "venues", "test", "luna", "--order")
    results = {check["name"]: check["result"] for check in document["checks"]}
    assert (status, document["ok"]) == (0, True), document
    assert set(results.values()) == {"ok"}
    (order,) = moon.moon.orders
    assert (order.status, order.filled) == ("cancelled", 0)
    assert order.client_id.startswith("ob")


FEED = """
import asyncio, sys
from openbell.config.models import Venue
from openbell.trading.feeds import make_feed

async def first_quote():
    feed = make_feed("luna", Venue(adapter="moon", url=sys.argv[1], symbols=("BTC/USD",)))
    (rules,) = await feed.connect()
    messages = feed.messages()
    quote = await anext(messages)
    await messages.aclose()
    await feed.close()
    print(rules.tick_size, quote.bid_px, quote.ask_px)

asyncio.run(first_quote())
"""


def test_its_quotes_come_by_the_polled_feed_and_need_no_credentials(
    installed: Path, moon: MoonServer, tmp_path: Path
) -> None:
    (tmp_path / "feed_of_moon.py").write_text(FEED)
    ran = run(
        ["feed_of_moon", moon.url],
        Path(f"{installed}{os.pathsep}{tmp_path}"),
    )
    assert ran.stdout.split() == ["0.01", "50000.10", "50000.30"], ran.stderr
    assert "GET /v1/account" not in moon.requests


def test_the_conformance_suite_runs_over_the_adapter_of_another_package(installed: Path) -> None:
    """Everything that the venue has is tried, and nothing fails."""
    ran = run(
        ["pytest", "-q", "-p", "no:cacheprovider", "tests/venues/conformance"],
        installed,
        OPENBELL_SUBJECT="tests.examples.moon_subject:SUBJECT",
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) > 40, ran.stdout
    assert "not tested" not in ran.stdout
