"""A venue that wants fewer requests: cancels are still carried out, without a storm; new orders
wait; and the desk says so."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
import pytest

from openbell.domain.connections import LinkState, engine_said
from openbell.domain.ids import mint
from openbell.domain.orders import ClOrdID, OrdStatus
from openbell.trading.engine.cancel_pace import FIRST_S, LONGEST_S, CancelPace
from openbell.trading.messages import CancelIntent

S = OrdStatus
ID = mint("0123abcd", 1, 1)


def cancels(desk: Any) -> int:
    return sum(what == "cancel" for what, _ in desk.venue.log)


async def ask_to_cancel(desk: Any, cl_ord_id: ClOrdID, times: int = 1) -> None:
    for number in range(times):
        intent = CancelIntent(intent_id=f"c{number}", strategy="s", cl_ord_id=cl_ord_id)
        assert (await desk.ask(intent)).taken


def test_pauses_double_up_to_the_longest_unless_the_venue_names_a_longer_one() -> None:
    pace = CancelPace()
    assert pace.wait_s(ID, 0.0) == 0
    waits = []
    for _ in range(8):
        pace.refused(ID, 100.0)
        waits.append(pace.wait_s(ID, 100.0))
    assert waits[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert waits[-1] == LONGEST_S
    pace.refused(ID, 100.0, retry_after_s=60.0)
    assert pace.wait_s(ID, 110.0) == 50
    pace.forget(ID)
    assert pace.wait_s(ID, 100.0) == 0


async def test_a_throttled_cancel_is_sent_again_by_itself_and_leaves_no_doubt(desk: Any) -> None:
    engine = await desk.start()
    desk.venue.mute = True  # Accepted by its answer alone: the stream's word may come later.
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.mute = False
    seen: list[OrdStatus] = []
    hear = engine.ledger._hear
    engine.ledger._hear = lambda message, order: (seen.append(order.status), hear(message, order))
    desk.venue.cancel_script.append("throttled")
    await ask_to_cancel(desk, order.cl_ord_id)
    await desk.until_status(order.cl_ord_id, S.CANCELED)
    assert seen == [S.PENDING_CANCEL, S.CANCELED]
    assert cancels(desk) == 2
    assert "held_back" in desk.api.state({})["venues"][0]


async def test_who_asks_again_at_every_quote_makes_no_storm(desk: Any) -> None:
    """The venue calls the order unknown, and does not tell what became of it either."""
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    del desk.venue.orders[order.cl_ord_id]
    desk.venue.hidden = 1 << 30
    await ask_to_cancel(desk, order.cl_ord_id, times=100)
    await desk.until(lambda: cancels(desk) >= 1)
    await ask_to_cancel(desk, order.cl_ord_id, times=100)
    assert cancels(desk) <= 2


async def test_a_closing_does_not_wait_for_the_pause(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.cancel_script.append("throttled")
    engine = desk.engine
    engine.canceller._pace.refused(order.cl_ord_id, asyncio.get_running_loop().time() + 60.0)
    await ask_to_cancel(desk, order.cl_ord_id)
    assert cancels(desk) == 0
    desk.venue.cancel_script.clear()
    result = await desk.api.cancel({})
    assert [each.outcome for each in result["results"]] == ["CANCELED"]


async def test_a_closing_cancels_in_batches_where_the_venue_takes_some(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = msgspec.structs.replace(desk.venue.capabilities, batch_cancel=2)
    monkeypatch.setattr(desk.venue, "capabilities", some)
    batches: list[int] = []

    async def cancel_many(symbol: str, cl_ord_ids: list[ClOrdID]) -> list[Any]:
        batches.append(len(cl_ord_ids))
        return [await desk.venue.cancel(symbol, each) for each in cl_ord_ids]

    monkeypatch.setattr(desk.venue, "cancel_many", cancel_many, raising=False)
    await desk.start()
    for _ in range(3):
        order = await desk.order()
        await desk.until_status(order.cl_ord_id, S.NEW)
    result = await desk.api.cancel({})
    assert (result["asked"], result["final"]) == (3, 3)
    assert batches == [2, 1]


async def test_after_a_throttled_order_the_gate_refuses_and_the_desk_says_why(desk: Any) -> None:
    await desk.start()
    desk.venue.script.append("throttled")
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.REJECTED)
    sent = len(desk.venue.submitted())
    reply = await desk.send()
    assert (reply.taken, reply.code) == (False, "throttled")
    assert len(desk.venue.submitted()) == sent
    row = desk.api.state({})["venues"][0]
    assert "limits" in row["held_back"]
    entry, _ = engine_said([row])
    state, why = entry.of("fake")
    assert state is LinkState.HELD_BACK
    assert re.search(r"limits are reached \(until \d\d:\d\d:\d\d UTC\)$", why), why
