"""tradelocker 0.56.2, unmodified, against the TradeLocker face: only its environment is another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.harness.clients import client_program

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID, NewOrder, OrdType, Side
from openbell.venues.credentials import Credentials
from openbell.venues.port import Unknown
from openbell.venues.tradelocker.venue import TradeLockerVenue
from openbell_sim import testing
from openbell_sim.testing import VenueThread, venue_thread

SCRIPT = Path(__file__).parents[1] / "clients" / "tradelocker_tales.py"
FACE = ("--face", "tradelocker", "--symbols", "EURUSD,USDJPY,NAS100")


@pytest.fixture(scope="module")
def sim() -> Iterator[VenueThread]:
    with venue_thread(*FACE, "--limit-scale", "0") as venue:
        yield venue


async def tell(sim: VenueThread, tale: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        client_program("vendors"), "-W", "ignore", str(SCRIPT), tale,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    given = {"url": sim.url, "email": testing.KEY, "password": testing.SECRET}
    out, errors = await asyncio.wait_for(process.communicate(json.dumps(given).encode()), 120)
    assert process.returncode == 0, errors.decode()[-3000:]
    told: dict[str, Any] = json.loads(out)
    return told


async def test_the_official_client_works_unmodified(sim: VenueThread) -> None:
    """It sleeps a second before every request, so its tales are told at once, in symbols of their own."""
    names = ("account", "market", "orders", "positions", "closing")
    told = dict(zip(names, await asyncio.gather(*(tell(sim, name) for name in names)), strict=True))
    assert all(tale.pop("sleeps") for tale in told.values())
    state = told["account"].pop("state")
    assert state[3] == 26
    assert told["account"] == {
        "accounts": [1, 1, "USD"],
        "trade_accounts": ["1"],
        "refreshed": True,
    }
    assert told["market"] == {
        "id": [278, "EURUSD"],
        "routes": ["452", "1152263"],
        "details": [100_000, 0.01, "USD"],
        "quotes": [["ap", "as", "bp", "bs"], True],
        "depth": [True, True],
        "bars": [["t", "o", "h", "l", "c", "v"], True],
        "day": ["c", "h", "l", "o", "v"],
        "session": [3, 6],
        "continuous": True,
        "limit": ["SECONDS", 1_000_000],
        "no_data": 0,
    }
    refusal = "Invalid quantity: check lot step, minimum and maximum lot"
    assert told["orders"] == {
        "row": ["New", 0.1, 100.0, "tale-1"],
        "types": ["limit", "stop"],
        "stop": 200.0,
        "modified": [True, 101.0],
        "deleted": [True, False],
        "ended": ["Cancelled", "tale-1"],
        "refused": [refusal, refusal],
        "cleared": [True, 0],
    }
    assert told["positions"] == {
        "row": ["buy", 0.03, "tale-2", 0],
        "brackets": [["limit", "stop"], True],
        "found": True,
        "reduced": [True, 0.02],
    }
    assert told["closing"] == {
        "by_id": ["sell", True, 0],
        "all": [True, 0],
        "executed": [2.0, 2],
    }


async def test_the_official_client_makes_four_orders_of_one_where_ours_makes_one() -> None:
    """A connection that is cut after the order arrived. It posts again, three times, and tells its
    caller of one order or of none; the venue has all of them, under one `strategyId`. Ours says
    Unknown, and finds the one."""
    with venue_thread(*FACE, "--limit-scale", "0") as sim:
        async with aiohttp.ClientSession() as http:
            await _lose_replies(http, sim, 3)
            assert (await tell(sim, "hazard"))["ended"] == "placed"
            assert await _orders(http, sim, "once") == 4

            await _lose_replies(http, sim, 3)
            venue = _ours(sim)
            await venue.connect()
            order = NewOrder(
                cl_ord_id=ClOrdID("ob00000000-1-1"),
                venue="sim",
                symbol="EUR/USD",
                side=Side.BUY,
                ord_type=OrdType.LIMIT,
                order_qty=Decimal(1000),
                price=Decimal("1.00000"),
            )
            assert isinstance(await venue.submit(order), Unknown)
            found = await venue.order("EUR/USD", order.cl_ord_id)
            await venue.close()
            assert found is not None
            assert await _orders(http, sim, order.cl_ord_id) == 1


def _ours(sim: VenueThread) -> TradeLockerVenue:
    config = VenueConfig(
        adapter="tradelocker", url=sim.url, symbols=("EUR/USD",), options={"server": "SIM"}
    )
    return TradeLockerVenue("sim", config, Credentials(testing.KEY, testing.SECRET))


async def _lose_replies(http: aiohttp.ClientSession, sim: VenueThread, count: int) -> None:
    url = f"{sim.url}/sim/v1/control/faults"
    async with http.delete(url):
        pass
    fault = {"kind": "drop_reply", "kinds": ["submit"], "count": count}
    async with http.post(url, json=fault) as reply:
        assert reply.status == 201, await reply.text()


async def _orders(http: aiohttp.ClientSession, sim: VenueThread, cl_ord_id: str) -> int:
    async with http.get(f"{sim.url}/sim/v1/orders") as reply:
        rows = (await reply.json())["orders"]
    return sum(row["cl_ord_id"] == cl_ord_id for row in rows)
