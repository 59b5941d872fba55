"""The kill switch at the gate: each scope stops exactly its orders, cancels and questions go on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from openbell.domain.orders import ClOrdID, OrderIntended, OrdStatus, OrdType, Purpose, Side
from openbell.domain.permit import PermitScope
from openbell.domain.scopes import DESK, parse_scope
from openbell.state.halts import Halt
from openbell.state.latch import Latches
from openbell.trading.messages import CancelIntent
from openbell.venues.transport import NotSentError

HALT = Halt("test", "a person", datetime.now(UTC))


@pytest.mark.parametrize(
    ("scope", "stopped"),
    [
        ("desk", True),
        ("venue:fake", True),
        ("venue:other", False),
        ("strategy:s", True),
        ("strategy:other", False),
        ("symbol:BTC/USDT", True),
        ("symbol:ETH/USDT", False),
    ],
)
async def test_a_scope_stops_its_orders_alone(desk: Any, scope: str, stopped: bool) -> None:
    engine = await desk.start()
    Latches(desk.layout).set([parse_scope(scope)], HALT)
    reply = await desk.send()
    if not stopped:
        assert reply.taken
        assert not engine.why_not_trading()
        return
    assert (reply.taken, reply.code) == (False, "latched")
    assert ("for " + scope in reply.text) == (scope != "desk")
    assert desk.venue.submitted() == []
    state = desk.api.state({})
    assert state["latch"] == {"active": scope == "desk", "scopes": [scope]}
    assert (state["why_not"] == "the kill switch is latched") == (scope == "desk")


async def test_cancels_and_questions_stay_open(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, OrdStatus.NEW)
    Latches(desk.layout).set([DESK], HALT)
    assert [row["cl_ord_id"] for row in (await desk.api.orders({}))["orders"]] == [order.cl_ord_id]
    cancel = CancelIntent(intent_id="c", strategy="s", cl_ord_id=order.cl_ord_id)
    assert (await desk.ask(cancel)).taken
    await desk.until_status(order.cl_ord_id, OrdStatus.CANCELED)


@pytest.mark.parametrize("scope", ["desk", "venue:fake", "symbol:BTC/USDT", "strategy:s"])
async def test_a_flatten_is_stopped_by_every_scope_but_a_strategy_s(desk: Any, scope: str) -> None:
    """It has no strategy: what is closed is the desk's position, whoever made it."""
    engine = await desk.start()
    bought = await desk.order(ord_type=OrdType.MARKET, price=None)
    await desk.until_status(bought.cl_ord_id, OrdStatus.FILLED)
    Latches(desk.layout).set([parse_scope(scope)], HALT)
    intent = desk.intent(strategy="", side=Side.SELL, ord_type=OrdType.MARKET, price=None)
    reply = await engine.desk.submit(intent, purpose=Purpose.FLATTEN)
    assert reply.taken == (scope == "strategy:s"), reply


async def test_a_latch_set_while_the_journal_is_written_stops_the_send(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await desk.start()
    append = engine.ledger._journal.append

    async def slow(events: Any) -> int:
        if isinstance(events[0], OrderIntended):
            Latches(desk.layout).set([parse_scope("symbol:BTC/USDT")], HALT)
        return await append(events)

    monkeypatch.setattr(engine.ledger._journal, "append", slow)
    reply = await desk.send()
    assert (reply.taken, reply.code) == (False, "latched")
    await desk.until_status(reply.cl_ord_id, OrdStatus.REJECTED)
    assert desk.venue.submitted() == []


@pytest.mark.parametrize(
    "why", ["latched", "halted", "the permit ran out", "fenced", "storage", "register"]
)
async def test_an_order_that_waited_for_a_connection_is_looked_at_before_its_first_byte(
    desk: Any, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """An adapter may have to wait seconds for a connection after it was given the order."""
    engine = await desk.start()
    free, waits = asyncio.Event(), asyncio.Event()
    submit = desk.venue.submit

    async def queued(order: Any) -> Any:
        waits.set()
        await free.wait()
        desk.venue.on_sent(order.cl_ord_id, 0)
        return await submit(order)

    monkeypatch.setattr(desk.venue, "submit", queued)
    order = await desk.order()
    await waits.wait()
    match why:
        case "latched":
            Latches(desk.layout).set([parse_scope("strategy:s")], HALT)
        case "halted":
            engine.gate.halted = "halted by a person"
        case "the permit ran out":
            engine.permit.give_up("a test")
        case "fenced":
            monkeypatch.setattr(engine.ledger, "retired", True)
        case "storage":
            engine.ledger.storage_problem = "storage failed"
        case "register":
            monkeypatch.setattr(engine.registering.register, "_places", {})
    with pytest.raises(NotSentError, match=why):
        engine.desk.on_sent(order.cl_ord_id, 0)
    with pytest.raises(NotSentError, match="no book"):
        engine.desk.on_sent(ClOrdID("another"), 0)
    free.set()
    await desk.until(lambda: desk.status(order.cl_ord_id) is not OrdStatus.PENDING_NEW)
    assert desk.venue.submitted() == []


async def test_a_flatten_that_waited_goes_on_under_a_halt_and_a_permit_to_reduce(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await desk.start()
    traded = await desk.order(ord_type=OrdType.MARKET, price=None)
    await desk.until_status(traded.cl_ord_id, OrdStatus.FILLED)
    intent = desk.intent(strategy="", side=Side.SELL, ord_type=OrdType.MARKET, price=None)
    reply = await engine.desk.submit(intent, purpose=Purpose.FLATTEN)
    engine.gate.halted = "halted by a person"
    monkeypatch.setattr(engine.permit, "scope", lambda: PermitScope.REDUCE)
    engine.desk.on_sent(reply.cl_ord_id, 0)
    with pytest.raises(NotSentError):
        engine.desk.on_sent(traded.cl_ord_id, 0)
    monkeypatch.setattr(engine.permit, "scope", lambda: PermitScope.NONE)
    with pytest.raises(NotSentError):
        engine.desk.on_sent(reply.cl_ord_id, 0)


async def test_the_engine_is_latched_from_its_start_and_after_a_restart(desk: Any) -> None:
    Latches(desk.layout).set([DESK], HALT)
    engine = await desk.start(until_trading=False)
    await desk.until(lambda: engine.reconciled)
    assert engine.why_not_trading() == "the kill switch is latched"
    assert (await desk.send()).code == "latched"
    await desk.crash()
    engine = await desk.start(until_trading=False)
    await desk.until(lambda: engine.reconciled)
    assert (await desk.send(order_qty=Decimal(2))).code == "latched"
    assert desk.venue.submitted() == []
