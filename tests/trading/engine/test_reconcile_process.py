"""Reconciliation by a real engine against the simulated venue, with what people and faults do there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.harness.engine_desk import EngineDesk, engine_desk

from openbell.domain.orders import OrdType, Side

D = Decimal


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[EngineDesk]:
    # It looks by itself so seldom that only the test's comparisons count.
    async with engine_desk(tmp_path, relayed=False, poll_every="60s") as made:
        await made.start()
        yield made


async def at_the_venue(desk: EngineDesk, method: str, path: str, **body: Any) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{desk.sim.url}/sim/v1/{path}", json=body) as reply,
    ):
        assert reply.status < 300, await reply.text()
        return await reply.json()


async def compare(desk: EngineDesk) -> dict[str, Any]:
    answer: dict[str, Any] = await desk.post("/v1/reconcile")
    return answer


async def until_cash_agrees(desk: EngineDesk) -> None:
    """Its opening is booked by the engine itself, when nothing moves."""
    async with asyncio.timeout(60):
        while True:
            state = await desk.get("/v1/state")
            if all(venue["cash"]["result"] == "agrees" for venue in state["venues"]):
                return
            await asyncio.sleep(0.05)


def kinds(answer: dict[str, Any]) -> set[str]:
    return {d["kind"] for d in answer["differences"] if d["status"] != "ok"}


async def rest_and_hold(desk: EngineDesk) -> None:
    """Two resting orders and a position."""
    bid = (await desk.touch()).bid_px
    for number in (1, 2):
        price = (bid * D("0.97")).quantize(D("0.01")) - number
        assert (await desk.send(f"r{number}", price=price)).taken
    bought = await desk.send(
        "m1", symbol="LTC/USDT", order_qty=D(3), ord_type=OrdType.MARKET, price=None
    )
    assert bought.taken, bought
    await desk.until_listed(2)
    await desk.until_agreed("LTC/USDT")


async def test_trades_and_orders_by_hand_are_explained_adopted_and_traded_on(
    desk: EngineDesk,
) -> None:
    await rest_and_hold(desk)
    await at_the_venue(
        desk, "POST", "orders", symbol="LTCUSDT", side="SELL", quantity="3", type="MARKET"
    )
    await at_the_venue(
        desk,
        "POST",
        "orders",
        symbol="ETHUSDT",
        side="BUY",
        quantity="1",
        type="LIMIT",
        price="900",
    )
    await at_the_venue(desk, "POST", "deposits", currency="BTC", amount="0.25")
    shown = await compare(desk)
    assert shown["result"] == "differs"
    told = {(d["symbol"], d["kind"]): d for d in shown["differences"]}
    assert set(told) == {
        ("LTC/USDT", "external_trade"), ("BTC/USDT", "unexplained"), ("ETH/USDT", "foreign_order"),
    }  # fmt: skip
    assert D(told["BTC/USDT", "unexplained"]["unexplained"]) == D("0.25")
    fills = [f for f in await desk.truth("fills") if f["symbol"] == "LTCUSDT"]
    assert {e["exec_id"] for e in told["LTC/USDT", "external_trade"]["executions"]} <= {
        f["exec_id"] for f in fills
    }

    body = {"digest": shown["digest"], "by": "alice", "reason": "closed by phone"}
    done = await desk.post("/v1/adopt", **body)
    assert (done["result"], len(done["adopted"])) == ("clean", 2)
    state = await desk.until_state("trading", True)
    assert state["epoch"] and desk.log().count("took over") == 1
    # The books are the venue's, and stay so over a crash.
    before = await desk.get("/v1/snapshot")
    await desk.kill()
    await desk.start()
    after = await desk.get("/v1/snapshot")
    for part in ("positions", "strategy_positions", "adopted"):
        assert after[part] == before[part]
    await until_cash_agrees(desk)
    told = await compare(desk)
    assert (told["result"], told["cash"]) == ("clean", "agrees")
    seq = (await desk.get("/v1/state"))["last_journal_seq"]
    for _ in range(10):
        await compare(desk)
    assert (await desk.get("/v1/state"))["last_journal_seq"] == seq


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "empty_list", "kinds": ["open_orders"]}, {"in_doubt", "incomplete"}),
        ({"kind": "truncated_page", "kinds": ["open_orders"], "keep": 1}, {"in_doubt"}),
        ({"kind": "http_status", "status": 503, "kinds": ["open_orders"]}, {"unreachable"}),
        ({"kind": "http_status", "status": 503, "kinds": ["account", "positions"]}, {"unreachable"}),
    ],
)  # fmt: skip
async def test_an_answer_that_lacks_something_is_unknown_and_books_nothing(
    desk: EngineDesk, fault: dict[str, Any], kind: set[str]
) -> None:
    await rest_and_hold(desk)
    assert (await compare(desk))["result"] == "clean"
    before = await desk.get("/v1/snapshot")
    await at_the_venue(desk, "POST", "control/faults", **fault)
    answer = await compare(desk)
    assert (answer["result"], answer["adoptable"]) == ("unknown", 0)
    assert kinds(answer) <= kind and kinds(answer)
    assert answer["unknown"] is True  # so does a closing read it
    await at_the_venue(desk, "DELETE", "control/faults")
    async with asyncio.timeout(30):
        while (await compare(desk))["result"] != "clean":
            await asyncio.sleep(0.05)
    after = await desk.get("/v1/snapshot")
    assert after["positions"] == before["positions"]
    assert len(await desk.until_listed(2)) == 2
    assert {o["side"] for o in await desk.truth("orders")} == {Side.BUY}


async def test_a_cut_list_of_executions_explains_less_and_says_so(desk: EngineDesk) -> None:
    await rest_and_hold(desk)
    await at_the_venue(
        desk, "POST", "orders", symbol="LTCUSDT", side="BUY", quantity="2", type="MARKET"
    )
    await at_the_venue(desk, "POST", "control/faults", kind="empty_list", kinds=["fills"])
    cut = await compare(desk)
    (difference,) = [d for d in cut["differences"] if d["status"] != "ok"]
    assert (difference["kind"], difference["executions"]) == ("unexplained", [])
    assert D(difference["unexplained"]) == D("1.998")  # the fee is taken out of it
    await at_the_venue(desk, "DELETE", "control/faults")
    full = await compare(desk)
    (difference,) = [d for d in full["differences"] if d["status"] != "ok"]
    assert (difference["kind"], D(difference["unexplained"])) == ("external_trade", 0)
    # What was shown without its executions is not what is there now.
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {'t' * 43}"}) as session,
        session.post(
            f"http://127.0.0.1:{desk._port}/v1/adopt",
            json={"digest": cut["digest"], "by": "a", "reason": "r"},
        ) as reply,
    ):
        assert reply.status == 409


async def test_a_busy_account_trades_on_and_stops_for_a_trade_by_hand(tmp_path: Path) -> None:
    """Looks and orders cross all the time. None of that is a difference; a trade by hand is, though
    some order of the symbol is always under way. It took up to 47 s."""
    async with engine_desk(tmp_path, relayed=False, poll_every="200ms") as desk:
        await desk.start()
        sent, refused = 0, asyncio.Event()

        async def trade(worker: int) -> None:
            nonlocal sent
            while True:
                side = Side.BUY if sent % 2 == 0 else Side.SELL
                sent += 1
                reply = await desk.send(
                    f"{worker}-{sent}", symbol="ETH/USDT", side=side, order_qty=D("0.05"),
                    ord_type=OrdType.MARKET, price=None,
                )  # fmt: skip
                if not reply.taken:
                    assert reply.code in {"not_reconciled", "no_permit"}, reply
                    refused.set()
                    return

        workers = [asyncio.create_task(trade(worker)) for worker in range(3)]
        try:
            async with asyncio.timeout(120):
                # Longer than routine looks take to use up what they may at once.
                while sent < 600:
                    assert not refused.is_set(), desk.log()
                    await asyncio.sleep(0.05)
            assert "books and venue differ" not in desk.log()
            await at_the_venue(
                desk, "POST", "orders", symbol="ETHUSDT", side="SELL", quantity="1", type="MARKET"
            )
            state = await desk.until_state("trading", False)
            assert "ETH/USDT" in state["why_not"]
            async with asyncio.timeout(60):
                await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        async with asyncio.timeout(60):
            while not (shown := await compare(desk))["adoptable"]:
                await asyncio.sleep(0.1)
        (told,) = [d for d in shown["differences"] if d["kind"] == "external_trade"]
        assert (told["symbol"], D(told["unexplained"])) == ("ETH/USDT", 0)
        (row,) = [
            row
            for row in (await desk.get("/v1/positions"))["positions"]
            if row["symbol"] == "ETH/USDT"
        ]
        assert row["differs"]
