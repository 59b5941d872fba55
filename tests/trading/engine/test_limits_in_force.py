"""Limits changed while an engine runs: from the next order on, for whoever trades, and in doubt tight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from openbell.domain.orders import OrderIntended, OrdStatus, OrdType, Purpose, Side
from openbell.state.risk_limits import LimitsChange, change_limits
from openbell.trading.engine.api import EngineApi
from openbell.trading.engine.engine import Engine, Setup

D = Decimal


@pytest.fixture
def tighten(desk: Any) -> Callable[..., int]:
    """Writes what a controller would, and gives the version."""

    def write(**limits: str) -> int:
        changed = LimitsChange(
            limits={name.replace("__BTC", ":BTC/USDT"): D(value) for name, value in limits.items()},
            reason="storm", who="ann", at=datetime.now(UTC),
        )  # fmt: skip
        return change_limits(desk.layout.risk_limits, lambda _: (changed,)).version

    return write


async def test_the_next_order_is_judged_by_what_was_just_written(
    desk: Any, tighten: Callable[..., int]
) -> None:
    """An engine that is started again applies it too, and what only reduces always passes."""
    await desk.start()
    bought = await desk.order(ord_type=OrdType.MARKET, price=None)
    await desk.until_status(bought.cl_ord_id, OrdStatus.FILLED)
    version = tighten(max_position__BTC="1.5", max_order_notional="1000")
    assert (await desk.send()).code == "limit_position"
    told = desk.api.state({})["limits"]
    assert (told["version"], told["problem"]) == (version, "")
    assert told == desk.api.limits({})
    assert told["limits"]["max_position:BTC/USDT"] == "1.5"
    await desk.stop()
    await desk.start()
    assert desk.api.limits({}) == told
    assert (await desk.send()).code == "limit_position"
    assert (await desk.send(side=Side.SELL, price=D(101))).taken, "it only makes it smaller"
    change_limits(desk.layout.risk_limits, lambda _: ())
    assert desk.api.limits({})["version"] == version + 1
    assert (await desk.send()).taken


async def test_an_order_that_passed_the_limits_before_is_not_sent_any_more(
    desk: Any, tighten: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await desk.start()
    append = engine.ledger._journal.append

    async def slow(events: Any) -> int:
        if isinstance(events[0], OrderIntended):
            tighten(max_position__BTC="0.5")
        return int(await append(events))

    monkeypatch.setattr(engine.ledger._journal, "append", slow)
    reply = await desk.send()
    assert (reply.taken, reply.code) == (False, "limits_changed")
    await desk.until_status(reply.cl_ord_id, OrdStatus.REJECTED)
    assert desk.venue.submitted() == []
    # Nothing is kept of it, from a step after its end was booked.
    await desk.until(lambda: engine.gate._passed_under == {})


async def test_limits_that_cannot_be_read_let_no_position_grow_and_every_one_shrink(
    desk: Any,
) -> None:
    engine = await desk.start()
    bought = await desk.order(ord_type=OrdType.MARKET, price=None)
    await desk.until_status(bought.cl_ord_id, OrdStatus.FILLED)
    desk.layout.risk_limits.write_bytes(b"{")
    assert (await desk.send()).code == "limits_unknown"
    assert "limits" in engine.why_not_trading()
    assert desk.api.limits({})["problem"]
    sell = desk.intent(strategy="", side=Side.SELL, ord_type=OrdType.MARKET, price=None)
    assert (await engine.desk.submit(sell, purpose=Purpose.FLATTEN)).taken
    await desk.until(lambda: desk.position == 0)


async def test_a_standby_that_takes_over_applies_them(
    desk: Any, tighten: Callable[..., int]
) -> None:
    first = await desk.start()
    setup = Setup(
        service="standby", file=first.setup.file, layout=desk.layout, token=desk.token,
        venues={"fake": desk.venue},
    )  # fmt: skip
    standby = await Engine.stand_by(setup)
    desk._running[standby] = [asyncio.create_task(body()) for _, body in standby.tasks()]
    api = EngineApi(standby)
    version = tighten(max_position__BTC="0.5")
    told = api.limits({})
    assert (told, told["version"]) == (desk.api.limits({}), version), "before it takes over, too"
    epoch = first.ledger.epoch
    await desk.crash()
    await api.promote({"after_epoch": epoch, "predecessor_gone": True})
    await desk.until(lambda: not standby.why_not_trading() and bool(standby.market.quotes))
    assert standby.ledger.epoch > epoch
    assert (await desk.send()).code == "limit_position"
    assert (await desk.send(order_qty=D("0.4"))).taken
