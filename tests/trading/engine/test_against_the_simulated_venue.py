"""The engine as a process against the simulated venue, judged by the venue's own record."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.harness.closing_of_engine import Unwritten, closing_of
from tests.harness.engine_desk import engine_desk, running_sim

from openbell.domain.ids import parse
from openbell.domain.orders import OrdType, Side
from openbell.procedures.plans import plan_document
from openbell.procedures.run import Runner


async def test_killed_between_an_order_and_its_answer_it_makes_no_duplicate(folder: Path) -> None:
    """The venue has accepted the order; its answer never comes; the engine is killed. What starts
    next finds the order at the venue, whoever repeats the intent."""
    async with engine_desk(folder) as desk:
        assert desk.cutter is not None
        await desk.start()
        price = (await desk.touch()).bid_px * Decimal("0.98")
        price = price.quantize(Decimal("0.01"))
        desk.cutter.armed = True
        reply = await desk.send("i1", price=price)
        assert reply.taken, reply
        await desk.cutter.seen.wait()
        await desk.kill()
        await desk.start()
        state = await desk.get("/v1/state")
        assert (state["in_doubt"], state["phase"]) == (0, "ready")
        sent_under = parse(reply.cl_ord_id)
        assert sent_under is not None
        assert state["epoch"] > sent_under.epoch
        again = await desk.send("i1", price=price)
        assert again.cl_ord_id == reply.cl_ord_id
        orders = await desk.truth("orders")
        assert [order["cl_ord_id"] for order in orders] == [reply.cl_ord_id]
        rows = await desk.until_listed(1)
        assert [(row["cl_ord_id"], row["own"], row["strategy"]) for row in rows] == [
            (reply.cl_ord_id, True, "s")
        ]
        assert await desk.terminate() == 0, desk.log()
        (order,) = await desk.truth("orders")
        assert order["status"] == "NEW", "a stop leaves orders where they are"


async def test_an_answer_that_is_lost_is_asked_for(folder: Path) -> None:
    async with engine_desk(folder) as desk:
        assert desk.cutter is not None
        await desk.start()
        desk.cutter.armed = True
        reply = await desk.send("i1", ord_type=OrdType.MARKET)
        assert reply.taken, reply
        await desk.cutter.seen.wait()
        async with asyncio.timeout(30):  # it is past the cutter, and at the venue soon
            while not await desk.truth("fills"):
                await asyncio.sleep(0.02)
        assert await desk.until_agreed("BTC/USDT") > 0
        await desk.until_state("in_doubt", 0)
        assert len(await desk.truth("orders")) == 1


async def test_it_trades_cancels_flattens_as_planned_and_agrees_with_the_venue(
    folder: Path,
) -> None:
    """By the steps of a closing. What their plan shows is, order by order, what the venue's own log has
    of it afterwards: nobody else changed the desk meanwhile."""
    async with engine_desk(folder) as desk:
        await desk.start()
        touch = await desk.touch()
        far = (touch.bid_px * Decimal("0.97")).quantize(Decimal("0.01"))
        resting = [await desk.send(f"r{n}", price=far) for n in range(3)]
        assert all(reply.taken for reply in resting)
        for n, side in enumerate((Side.BUY, Side.BUY, Side.SELL)):
            assert (await desk.send(f"m{n}", side=side, ord_type=OrdType.MARKET)).taken
        assert (
            await desk.send("m3", symbol="ETH/USDT", side=Side.SELL, ord_type=OrdType.MARKET,
                            order_qty=Decimal("0.5"))
        ).taken  # fmt: skip
        for symbol in ("BTC/USDT", "ETH/USDT"):
            assert await desk.until_agreed(symbol)
        await desk.until_listed(3)
        await desk.post("/v1/halt", reason="test")
        before = {order["cl_ord_id"]: order for order in await desk.truth("orders")}
        plan = await plan_document("close", closing_of(desk)[1])
        rows: dict[str, Any] = {row["name"]: row for row in plan["steps"]}  # type: ignore[attr-defined]
        assert {order["cl_ord_id"] for order in await desk.truth("orders")} == before.keys(), (
            "a plan sends nothing"
        )

        desk.scope = "reduce"
        await desk.post("/v1/resume")
        closing, steps = closing_of(desk)
        events: list[dict[str, Any]] = []
        runner = Runner(Unwritten(), events.append, on_report=closing.note)
        reports = {each.name: each for each in await runner.run(steps)}
        assert {str(each.outcome) for each in reports.values()} == {"done"}, reports
        done = {each["step"]: each["plan"] for each in events if each["event"] == "step_planned"}
        assert done["cancel_orders"] == rows["cancel_orders"]["actions"] == ["cancel 3 open orders"]
        assert done["wait_for_orders"] == rows["wait_for_orders"]["actions"] == []
        legs = reports["flatten"].evidence["orders"]
        assert isinstance(legs, list)
        assert {leg["outcome"] for leg in legs} == {"FILLED"}, legs
        # What it cost can be told, against the mid before.
        assert all(Decimal(leg["mid_px"]) > 0 for leg in legs), legs

        after = {order["cl_ord_id"]: order for order in await desk.truth("orders")}
        gone = {name for name, order in after.items() if order["status"] == "CANCELED"}
        assert gone == {row["cl_ord_id"] for row in rows["cancel_orders"]["details"]}
        sent = [
            (order["symbol"], order["side"], order["ord_type"], Decimal(order["order_qty"]))
            for name, order in after.items()
            if name not in before
        ]
        planned = [
            (
                row["symbol"].replace("/", ""),
                leg["side"],
                leg["ord_type"],
                Decimal(leg["order_qty"]),
            )
            for row in rows["flatten"]["details"]
            for leg in row["orders"]
        ]
        assert len(planned) == 2 and sorted(sent) == sorted(planned)
        report = await desk.post("/v1/reconcile")
        assert report["ok"], report
        held = (await desk.get("/v1/positions"))["positions"]
        assert all(Decimal(r["quantity"]) == Decimal(r["venue_quantity"]) for r in held)
        assert all(r["dust"] or Decimal(r["quantity"]) == 0 for r in held), held
        assert (await desk.get("/v1/orders"))["orders"] == []
        health = await desk.get("/health")
        assert health["status"] == "ok", health
        assert "openbell_intent_to_sent_seconds_count" in await desk.get("/metrics")


async def test_a_venue_that_is_killed_and_comes_back_finds_the_desk_trading_again(
    folder: Path,
) -> None:
    async with engine_desk(folder) as desk:
        await desk.start()
        far = ((await desk.touch()).bid_px * Decimal("0.97")).quantize(Decimal("0.01"))
        first = await desk.send("r1", price=far)
        assert first.taken
        await desk.until_listed(1)
        desk.sim.kill()
        state = await desk.until_state("phase", "waiting_for_venue")
        assert state["venues"][0]["connected"] is False
        assert (await desk.get("/health"))["status"] == "degraded"
        assert not (await desk.send("r2", price=far)).taken
        async with running_sim(folder, port=desk.sim.port):
            await desk.until_state("trading", True)
            assert [row["cl_ord_id"] for row in await desk.until_listed(1)] == [first.cl_ord_id]
            assert (await desk.post("/v1/cancel"))["final"] == 1


async def test_a_second_engine_takes_over_and_the_first_ends_saying_so(folder: Path) -> None:
    async with engine_desk(folder) as desk:
        await desk.start()
        first = desk._process
        assert first is not None
        epoch = (await desk.get("/v1/state"))["epoch"]
        await desk.start()
        assert await first.wait() == 5
        assert "another engine took over" in desk.log()
        assert (await desk.get("/v1/state"))["epoch"] > epoch
