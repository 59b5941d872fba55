"""From an intent over the bus to the venue, and what stops it on the way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from openbell.domain.orders import (
    OrderAccepted,
    OrderFilled,
    OrderIntended,
    OrderRejected,
    OrdStatus,
    Side,
)
from openbell.domain.scopes import DESK
from openbell.errors import StorageError
from openbell.state.halts import Halt
from openbell.state.latch import Latches
from openbell.trading.engine import order_desk
from openbell.trading.event_feed import EngineEventFeed
from openbell.trading.messages import CancelIntent, EngineEvent

S = OrdStatus


async def test_an_order_is_journaled_sent_filled_and_told(desk: Any) -> None:
    engine = await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.fill(order.cl_ord_id, "0.4")
    desk.venue.fill(order.cl_ord_id, "0.6", "99.5")
    await desk.until_status(order.cl_ord_id, S.FILLED)
    assert desk.position == 1
    feed = EngineEventFeed(desk.layout.run)
    told: list[EngineEvent] = []
    async with asyncio.timeout(60):
        async for message in feed:
            if isinstance(message, EngineEvent):
                told.append(message)
                if message.journal_seq == engine.ledger.last_seq:
                    break
    await feed.close()
    kinds = [type(e.event) for e in told]
    assert kinds[0] is OrderIntended
    assert kinds.count(OrderFilled) == 2
    assert OrderAccepted in kinds
    assert {e.strategy for e in told} == {"s"}
    assert [e.journal_seq for e in told] == list(range(1, len(told) + 1))


async def test_a_repeated_intent_makes_one_order(desk: Any) -> None:
    await desk.start()
    intent = desk.intent()
    desk.venue.script.append("hang")
    first, second = asyncio.create_task(desk.ask(intent)), asyncio.create_task(desk.ask(intent))
    await desk.venue.arrived.wait()
    replies = [await first, await second, await desk.ask(intent)]
    desk.venue.release.set()
    assert len({reply.cl_ord_id for reply in replies}) == 1
    assert all(reply.taken for reply in replies)
    assert len(desk.venue.submitted()) == 1
    await desk.stop()
    await desk.start()
    assert (await desk.ask(intent)).cl_ord_id == replies[0].cl_ord_id
    assert len(desk.venue.submitted()) == 1, "not after a restart either"


async def test_an_order_that_is_just_being_sent_makes_no_list_incomplete(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the books from the moment that its intent is journaled, and not at the venue yet: a
    list without it was told as an incomplete answer, so `openbell orders` ended as unverified."""
    engine = await desk.start()
    record, written, go_on = engine.ledger.record, asyncio.Event(), asyncio.Event()

    async def held(*events: Any) -> None:
        await record(*events)
        if isinstance(events[0], OrderIntended):
            written.set()
            await go_on.wait()

    monkeypatch.setattr(engine.ledger, "record", held)
    sending = asyncio.create_task(desk.order())
    await written.wait()
    answer = await desk.api.orders({})
    assert not desk.venue.submitted()
    assert answer["venues"]["fake"]["complete"] and answer["orders"] == []
    go_on.set()
    order = await sending
    await desk.until_status(order.cl_ord_id, S.NEW)
    assert [row["listed"] for row in (await desk.api.orders({}))["orders"]] == [True]


async def test_an_order_without_an_answer_is_told_beside_the_lists_and_missed_in_them_when_it_is_late(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop of its strategy, and a closing, took a complete list without it for the whole truth."""
    await desk.start()
    desk.venue.script.append("hang")
    order = await desk.order()
    await desk.venue.arrived.wait()
    monkeypatch.setattr(order_desk, "JUST_SENT_S", 3600.0)
    told = await desk.api.orders({})
    row = {"venue": "fake", "cl_ord_id": order.cl_ord_id, "symbol": "BTC/USDT", "strategy": "s"}
    assert (told["venues"]["fake"]["complete"], told["orders"], told["sending"]) == (
        True,
        [],
        [row],
    )
    monkeypatch.setattr(order_desk, "JUST_SENT_S", 0.0)
    told = await desk.api.orders({})
    assert not told["venues"]["fake"]["complete"]
    assert [(each["cl_ord_id"], each["listed"]) for each in told["orders"]] == [
        (order.cl_ord_id, False)
    ]
    desk.venue.release.set()
    await desk.until_status(order.cl_ord_id, S.NEW)
    await desk.until(lambda: not desk.engine.desk.under_way)
    assert (await desk.api.orders({}))["sending"] == []


async def test_a_rejected_order_is_final_and_counts_for_nothing(desk: Any) -> None:
    await desk.start()
    desk.venue.script.append("reject")
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.REJECTED)
    assert desk.position == 0


async def test_without_a_permit_orders_stop_and_cancels_do_not(desk: Any) -> None:
    engine = await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.grant = {"granted": False, "why_not": "the desk is closing"}
    await desk.until(lambda: engine.permit.scope() == "none")
    reply = await desk.send()
    assert (reply.taken, reply.code) == (False, "no_permit")
    cancel = CancelIntent(intent_id="c1", strategy="s", cl_ord_id=order.cl_ord_id)
    assert (await desk.ask(cancel)).taken
    await desk.until_status(order.cl_ord_id, S.CANCELED)
    assert len(desk.venue.submitted()) == 1


async def test_a_controller_that_is_gone_lets_the_permit_run_out(desk: Any) -> None:
    engine = await desk.start()
    await desk._controller.cleanup()
    assert (await desk.send()).taken, "the permit outlives the controller for a while"
    await desk.until(lambda: engine.permit.scope() == "none")
    assert (await desk.send()).code == "no_permit"


async def test_a_permit_that_ran_out_while_the_journal_was_written_sends_nothing(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes longer than the permit lives: the order is certain never to have been sent,
    so it ends as rejected and is not in doubt."""
    engine = await desk.start()
    append = engine.ledger._journal.append

    async def slow(events: Any) -> int:
        if isinstance(events[0], OrderIntended):
            engine.permit.give_up("meanwhile")
        return await append(events)

    monkeypatch.setattr(engine.ledger._journal, "append", slow)
    reply = await desk.send()
    assert (reply.taken, reply.code) == (False, "no_permit")
    await desk.until_status(reply.cl_ord_id, S.REJECTED)
    assert "never_sent" in engine.ledger.books.orders[reply.cl_ord_id].text
    assert desk.venue.submitted() == []


async def test_the_latch_stops_orders_at_once_and_its_end_lets_them_go_on(desk: Any) -> None:
    await desk.start()
    latches = Latches(desk.layout)
    set_now = latches.set([DESK], Halt("test", "a person", datetime.now(UTC))).latches
    assert (await desk.send()).code == "latched"
    assert desk.venue.submitted() == []
    latches.release(set_now)
    assert (await desk.send()).taken


async def test_a_halt_answers_after_the_last_send_has_left(desk: Any) -> None:
    await desk.start()
    desk.venue.script.append("hang")
    sending = asyncio.create_task(desk.send())
    await desk.venue.arrived.wait()
    halting = asyncio.create_task(desk.api.halt({"reason": "test"}))
    assert not (await asyncio.wait({halting}, timeout=0.1))[0]
    assert (await desk.send()).code == "halted"
    desk.venue.release.set()
    assert (await halting)["halted"] is True
    assert (await sending).taken
    desk.api.resume({})
    await desk.until(lambda: not desk.engine.why_not_trading())
    assert (await desk.send()).taken


async def test_a_full_disk_sends_nothing_and_trading_goes_on_when_there_is_space(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await desk.start()
    journal = engine.ledger._journal
    resting = await desk.order()
    await desk.until_status(resting.cl_ord_id, S.NEW)
    full = StorageError("the disk is full")

    async def refuse(*_: Any) -> int:
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(journal, "append", refuse)
        patch.setattr(journal, "save_snapshot", refuse)
        reply = await desk.send()
        assert (reply.taken, reply.code) == (False, "storage")
        assert (await desk.send()).code == "storage"
        assert len(desk.venue.submitted()) == 1
        assert "full" in engine.why_not_trading()
        # A cancel makes the risk smaller: it goes out even so.
        engine.canceller.start(resting.cl_ord_id, "test")
        await desk.until(lambda: ("cancel", resting.cl_ord_id) in desk.venue.log)
    await desk.until(lambda: not engine.why_not_trading())
    assert (await desk.send()).taken
    await desk.until_status(resting.cl_ord_id, S.CANCELED)


async def test_a_full_database_is_a_storage_error_all_the_way(desk: Any) -> None:
    engine = await desk.start()
    # A trigger that fails the insert is to the writer what a full disk is.
    with engine.ledger._journal._database.writing() as database:
        database.exec_driver_sql(
            "CREATE TRIGGER disk_full BEFORE INSERT ON journal "
            "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    assert (await desk.send()).code == "storage"
    assert desk.venue.submitted() == []
    with engine.ledger._journal._database.writing() as database:
        database.exec_driver_sql("DROP TRIGGER disk_full")
    await desk.until(lambda: not engine.why_not_trading())
    assert (await desk.send()).taken


async def test_a_fenced_engine_sends_nothing_for_ever(desk: Any) -> None:
    old = await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    new = await desk.start()
    assert new.ledger.epoch > old.ledger.epoch
    reply = await old.take(desk.intent())
    assert (reply.taken, reply.code) == (False, "storage")
    assert old.ledger.fenced.is_set()
    old.canceller.start(order.cl_ord_id, "too late")
    await old.canceller.idle()
    assert [what for what, _ in desk.venue.log].count("cancel") == 0
    assert len(desk.venue.submitted()) == 1
    await desk.stop(old)
    assert (await desk.send()).taken, "whoever was connected to the old one finds the new one"


async def test_an_idle_engine_learns_that_another_took_over(desk: Any) -> None:
    old = await desk.start()
    await desk.start()
    await asyncio.wait_for(old.ledger.fenced.wait(), 60)
    await desk.stop(old)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"venue": "nowhere"}, "bad_order"),
        ({"symbol": "ETH/USDT"}, "bad_order"),
        ({"order_qty": Decimal("0.0001")}, "bad_order"),
        ({"price": Decimal(50)}, "price_collar"),
        ({"price": Decimal("99.001")}, "bad_order"),
    ],
)
async def test_the_last_gate_refuses_by_name(desk: Any, changes: Any, code: str) -> None:
    await desk.start()
    reply = await desk.send(**changes)
    assert (reply.taken, reply.code) == (False, code)
    assert desk.venue.submitted() == []


async def test_orders_under_way_count_against_the_limits(desk: Any) -> None:
    desk.settings["risk"] |= {"max_position": {"BTC/USDT": "1.5"}}
    await desk.start()
    replies = await asyncio.gather(*(desk.send() for _ in range(5)))
    assert [reply.taken for reply in replies].count(True) == 1
    assert {reply.code for reply in replies if not reply.taken} == {"limit_position"}


async def test_a_strategy_cancels_only_its_own_orders(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    cancel = CancelIntent(intent_id="c", strategy="other", cl_ord_id=order.cl_ord_id)
    assert (await desk.ask(cancel)).code == "unknown_order"


async def test_a_clean_stop_keeps_orders_and_the_next_start_folds_a_snapshot(desk: Any) -> None:
    await desk.start()
    order = await desk.order(side=Side.BUY)
    await desk.until_status(order.cl_ord_id, S.NEW)
    written = desk.engine.ledger.last_seq
    await desk.stop()
    assert desk.venue.orders[order.cl_ord_id].status is S.NEW
    engine = await desk.start()
    # A word of the venue may still be written while it stops, and the next start writes as well.
    assert engine.ledger._snapshot_seq >= written
    assert desk.status(order.cl_ord_id) is S.NEW
    assert not any(isinstance(e, OrderRejected) for e in engine.ledger._journal.read())
