"""alpaca-py 0.44, unmodified, against the Alpaca face: only its URLs are changed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.harness.clients import client_program

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, OrdType, Side
from openbell.venues.alpaca.venue import AlpacaVenue
from openbell.venues.credentials import Credentials
from openbell.venues.port import Unknown
from openbell_sim import testing
from openbell_sim.testing import VenueThread, venue_thread

SCRIPT = Path(__file__).parents[1] / "clients" / "alpaca_py.py"


@pytest.fixture(scope="module")
def sim() -> Iterator[VenueThread]:
    with venue_thread("--face", "alpaca", "--no-limits") as venue:
        yield venue


def tell(sim: VenueThread | Gateway, tale: str) -> dict[str, Any]:
    given = {"url": sim.url, "key": testing.KEY, "secret": testing.SECRET}
    done = subprocess.run(
        [client_program("vendors"), str(SCRIPT), tale],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def call(sim: VenueThread, path: str) -> Any:
    with urllib.request.urlopen(sim.url + path, timeout=30) as response:
        return json.load(response)


def test_it_reads_the_account_the_clock_and_the_assets(sim: VenueThread) -> None:
    told = tell(sim, "account")
    assert told["status"] == "ACTIVE"
    assert told["money"][0] == "USD"
    assert told["money"][-1] == "2"
    assert told["open"] is True
    assert told["days"] == 5
    assert told["assets"] == ["AAPL", "MSFT", "SPY"]
    assert told["asset"] is True
    assert told["no asset"] == [404, 40410000, "asset not found for NOPE"]
    assert told["configured"] is False


def test_it_places_replaces_finds_and_cancels_orders(sim: VenueThread) -> None:
    told = tell(sim, "orders")
    low = told["price"]
    assert told["placed"] == ["first", "limit", _text(low), "2"]
    assert told["twice"] == [422, 40010001, "client_order_id must be unique"]
    assert told["found"] == [True, "new"]
    assert told["replaced"] == [True, True, True, "replaced", "3"]
    assert told["cancelled"] == "canceled"
    assert told["cancelled twice"] == [422, 42210000, 'order is already in "canceled" state']
    assert told["nobody's"][:2] == [404, 40410000]
    assert told["stops"] == ["stop", "stop_limit", "99"]
    assert told["two newest"] == [_text(low - 2), _text(low - 1)]
    assert told["of one symbol"] == ["stop_limit"]
    # The first one among them: the client cuts its time to microseconds before it asks.
    assert told["later"] == 7
    assert told["mass cancel"] == [200] * 5
    assert told["left"] == 0
    assert told["immediate"] == "canceled"
    off_grid, too_much, unknown, part, tiny, short, auction = told["refused"]
    assert off_grid[:2] == [422, 42210000]
    assert "sub-penny increment" in off_grid[2]
    assert too_much == [403, 40310000, "insufficient buying power"]
    assert unknown == [422, 42210000, 'asset "NOPE" not found']
    assert part == [422, 42210000, "fractional orders must be DAY orders"]
    assert tiny == [403, 40310000, "cost basis must be >= minimal amount of order 1"]
    assert short == [422, 42210000, "fractional orders cannot be sold short"]
    assert auction == [422, 42210000, "this venue simulates no auctions: opg"]


def test_it_holds_closes_and_shorts_positions(sim: VenueThread) -> None:
    told = tell(sim, "positions")
    assert told["reply"] == ["pending_new", "0"]
    assert told["filled"] == ["10", True]
    assert told["held"] == ["10", "long", "10"]
    assert told["flip"] == [
        403,
        40310000,
        "insufficient qty available for order (requested: 11, available: 10)",
    ]
    assert told["half"] == "5"
    assert told["in dollars"] == ["1000", None, True]
    assert told["sides"] == {"AAPL": "long", "MSFT": "long", "SPY": "short"}
    assert told["power"] is True
    assert told["closed"] == [200, 200, 200]
    assert told["left"] == []
    assert told["nothing to close"] == [404, 40410000, "position does not exist"]


def test_it_reads_market_data(sim: VenueThread) -> None:
    assert tell(sim, "data") == {
        "quote": True,
        "trade": True,
        "bar": True,
        "bars": True,
        "trades": True,
        "snapshot": "AAPL",
    }


def test_it_hears_of_its_orders(sim: VenueThread) -> None:
    told = tell(sim, "updates")
    assert told["events"] == ["new", "fill"]
    assert told["own"] is True
    assert told["fill"] == [1.0, "1", True]


def test_it_hears_quotes_and_trades(sim: VenueThread) -> None:
    assert tell(sim, "stream") == {"quote": ["AAPL", True], "delay": True, "trade": ["AAPL", True]}


async def test_it_posts_an_order_four_times_where_our_adapter_posts_once(
    gateway: Gateway, sim: VenueThread
) -> None:
    """Behind a gateway that loses the replies to orders. alpaca-py repeats a POST after 504 (and
    429); the client order id, which the venue takes once, is what keeps it one order."""
    told = await asyncio.to_thread(tell, gateway, "one_order")
    assert gateway.posts == 4
    assert told == {"told": [504, ""], "found": "new", "listed": 1}
    rows = call(sim, "/sim/v1/orders")["orders"]
    statuses = [row["status"] for row in rows if row["cl_ord_id"] == "sent-by-alpaca-py"]
    assert statuses == ["NEW", "REJECTED", "REJECTED", "REJECTED"]

    config = VenueConfig(adapter="alpaca", url=gateway.url, symbols=("AAPL/USD",))
    venue = AlpacaVenue("sim", config, Credentials(testing.KEY, testing.SECRET))
    gateway.posts = 0
    try:
        order = NewOrder(
            cl_ord_id=ClOrdID("sent-by-us"),
            venue="sim",
            symbol="AAPL/USD",
            side=Side.BUY,
            ord_type=OrdType.LIMIT,
            order_qty=Decimal(1),
            price=Decimal(100),
        )
        assert isinstance(await venue.submit(order), Unknown)
        assert gateway.posts == 1
        found = await venue.order("AAPL/USD", order.cl_ord_id)
        assert found is not None
        assert found.status is OrdStatus.NEW
    finally:
        await venue.close()
    rows = call(sim, "/sim/v1/orders")["orders"]
    assert [row["status"] for row in rows if row["cl_ord_id"] == "sent-by-us"] == ["NEW"]


@dataclass
class Gateway:
    """Forwards to the venue, and answers every POST with 504."""

    target: str
    url: str = ""
    posts: int = 0

    async def serve(self, request: web.Request) -> web.Response:
        headers = {
            name: request.headers[name] for name in request.headers if "APCA" in name.upper()
        }
        async with aiohttp.ClientSession() as session:
            async with session.request(
                request.method,
                self.target + request.raw_path,
                data=await request.read(),
                headers=headers,
            ) as reply:
                body = await reply.read()
        if request.method == "POST":
            self.posts += 1
            return web.Response(status=504)
        return web.Response(status=reply.status, body=body, content_type="application/json")


@pytest.fixture
async def gateway(sim: VenueThread) -> AsyncIterator[Gateway]:
    made = Gateway(sim.url)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def _text(price: float) -> str:
    return f"{price:.2f}".rstrip("0").rstrip(".")
