"""Orders that land long after they were given up, at venues whose requests carry no end, judged by the
venue's own record."""

from __future__ import annotations

import asyncio
import itertools
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.venues.subjects import Subject
from tests.venues.subjects.alpaca import SUBJECT as ALPACA
from tests.venues.subjects.tradelocker import SUBJECT as TRADELOCKER

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import OrdStatus, OrdType
from openbell.trading.engine import flatten
from openbell.trading.messages import quote_topic
from openbell.venues.credentials import Credentials
from openbell.venues.port import net_positions
from openbell.venues.registry import open_venue
from openbell_sim.testing import venue_thread

TIMEOUT_S = 1.0
HELD_S = 6.0
"""Longer than the time-out, the longest latency seen, and three empty answers after them."""


@asynccontextmanager
async def desk_on(subject: Subject, folder: Path, make_desk: Any) -> AsyncIterator[Any]:
    """An engine over the venue's own adapter, trading; `desk.sim_url` tells the venue's record."""
    keys = {"SIM_KEY": subject.key, "SIM_SECRET": subject.secret}
    arguments = (
        "--face", subject.face, "--key-env", "SIM_KEY", "--secret-env", "SIM_SECRET", *subject.sim,
        "--deposit", f"{subject.funds}=1000000",
    )  # fmt: skip
    with venue_thread(*arguments, environ=keys) as sim:
        symbol = subject.symbols[0]
        config = VenueConfig(
            adapter=subject.adapter, url=sim.url, symbols=(symbol,), timeout=TIMEOUT_S,
            poll_every=0.2, **subject.config,
        )  # fmt: skip
        desk = make_desk(folder)
        desk.sim_url = sim.url
        desk.venue = venue = open_venue("fake", config, Credentials(subject.key, subject.secret))
        desk.settings["venues"]["fake"] |= {
            "url": sim.url, "symbols": (symbol,), "timeout": f"{TIMEOUT_S:g}s",
        }  # fmt: skip
        assert venue.capabilities.refuses_late_by_s is None

        async def quote() -> None:
            while True:
                if hasattr(desk, "engine") and desk.engine.links["fake"].connected:
                    desk._market.publish(quote_topic("fake", symbol), await venue.quote(symbol))
                await asyncio.sleep(0.2)

        desk._quote = quote
        await desk.open()
        try:
            await desk.start()
            yield desk
        finally:
            await desk.close()


@pytest.mark.parametrize("subject", [ALPACA, TRADELOCKER], ids=lambda subject: subject.name)
async def test_an_order_that_lands_after_its_time_out_is_the_desks_and_is_never_given_up(
    folder: Path, make_desk: Any, subject: Subject
) -> None:
    """It counted as never arrived two seconds after its time-out, for good; then it rested, or filled,
    and was nobody's."""
    symbol = subject.symbols[0]
    async with desk_on(subject, folder, make_desk) as desk:
        price = (await desk.venue.quote(symbol)).bid_px * Decimal("0.98")
        price -= price % Decimal(subject.coarse_tick)
        order = {"symbol": symbol, "order_qty": subject.quantity, "price": price}
        first = await desk.order(**order)
        await desk.until_status(first.cl_ord_id, OrdStatus.NEW)

        await hang_next(desk)
        late = await desk.order(**order)
        await desk.until_status(late.cl_ord_id, OrdStatus.UNKNOWN)
        await desk.until_status(late.cl_ord_id, OrdStatus.NEW, OrdStatus.REJECTED)
        assert desk.status(late.cl_ord_id) is OrdStatus.NEW
        sent = [subject.own_id(row["cl_ord_id"]) for row in await rows_of(desk)]
        assert sent == [first.cl_ord_id, late.cl_ord_id]


async def test_a_flatten_that_lands_late_is_sent_once_and_turns_no_position_round(
    folder: Path, make_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a closing asks: again under another name while something is held. The position was +10000, 0
    and -10000 by the venue's record, and the closing called it verified."""
    monkeypatch.setattr(flatten, "LEG_WITHIN_S", 0.5)
    async with desk_on(TRADELOCKER, folder, make_desk) as desk:
        instrument = ("fake", TRADELOCKER.symbols[0])

        def held() -> Decimal:
            position: Decimal = desk.engine.ledger.books.position(*instrument).quantity
            return position

        await desk.order(
            symbol=instrument[1],
            order_qty=TRADELOCKER.quantity,
            ord_type=OrdType.MARKET,
            price=None,
        )
        await desk.until(lambda: held() == TRADELOCKER.quantity)
        await hang_next(desk)
        sent: set[str] = set()
        doubted = False
        async with asyncio.timeout(90):
            for number in itertools.count():
                told = await desk.api.flatten({"mode": "market", "run": f"run-{number}"})
                sent |= {leg.cl_ord_id for leg in told.legs}
                doubted |= desk.engine.in_doubt > 0
                if not held() and not desk.engine.in_doubt:
                    break
                await asyncio.sleep(0.2)
            assert doubted, "its answer came in time, so nothing was tried"
            while True:  # also what was given up on its way
                rows = await rows_of(desk)
                if sent <= {TRADELOCKER.own_id(row["cl_ord_id"]) for row in rows}:
                    break
                await asyncio.sleep(0.2)
        assert [row["side"] for row in rows] == ["BUY", "SELL"]
        assert not any(net_positions(await desk.venue.positions()).values())


async def hang_next(desk: Any) -> None:
    fault = {"kind": "hang", "hold_s": HELD_S, "kinds": ["submit", "close_position"], "count": 1}
    await asyncio.to_thread(_told, desk.sim_url, "control/faults", {"faults": [fault]})


async def rows_of(desk: Any) -> list[dict[str, Any]]:
    """Every order that ever reached the venue."""
    told = await asyncio.to_thread(_told, desk.sim_url, "orders")
    rows: list[dict[str, Any]] = told["orders"]
    return rows


def _told(url: str, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        f"{url}/sim/v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
