"""Lost answers, restarts, venues that go and come back: no duplicate, no lost fill, no trading on
books that differ from the venue."""

from __future__ import annotations

import asyncio
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import pytest

from openbell.domain import ids
from openbell.domain.orders import OrdStatus, Side
from openbell.state.order_latency import LANDS_WITHIN_S
from openbell.trading.engine import ledger, tracker
from openbell.trading.engine.venue_link import LOOKS_BEFORE_MISMATCH
from openbell.trading.messages import CancelIntent
from openbell.venues.port import QueryCosts, StreamUp, VenueThrottledError

D = Decimal
S = OrdStatus


async def test_an_accepted_order_whose_answer_was_lost_is_found_and_not_sent_again(
    desk: Any,
) -> None:
    await desk.start()
    desk.venue.mute = True
    desk.venue.hidden = 1  # not told of at the first asking
    desk.venue.script.append("lost")
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    assert desk.venue.submitted() == [order.cl_ord_id]


async def test_an_order_that_never_arrived_is_rejected_after_many_askings_and_not_before(
    desk: Any,
) -> None:
    await desk.start()
    desk.venue.script.append("vanish")
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.UNKNOWN)
    await desk.until_status(order.cl_ord_id, S.REJECTED)
    asked = [key for what, key in desk.venue.log if what == "ask" and key == order.cl_ord_id]
    assert len(asked) >= 3
    assert "never_arrived" in desk.engine.ledger.books.orders[order.cl_ord_id].text
    assert desk.venue.submitted() == [order.cl_ord_id]


async def test_what_never_arrived_is_proven_as_soon_as_it_can_be_whatever_the_back_off(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The back-off asked again up to two seconds after the answer would have been proof; a desk
    whose engine was killed does not trade meanwhile."""
    monkeypatch.setattr(tracker, "ASK_AGAIN_S", (0.05, 0.05, 3600.0))
    await desk.start()
    desk.venue.script.append("vanish")
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.REJECTED)
    asked = [key for what, key in desk.venue.log if what == "ask" and key == order.cl_ord_id]
    assert len(asked) <= 8, "not asked without a pause either"


async def test_looks_do_not_ask_again_for_what_is_asked_for_nor_spend_the_budget_on_it(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look asked for each order in doubt, beside whoever did so already, and counted it as
    spent. After a take-over with a hundred of them the look that found agreement came up to 15
    seconds after the last one was resolved."""
    dear = QueryCosts(open_orders=0, positions=0, fills=0, order=0.5)
    capable = msgspec.structs.replace(desk.venue.capabilities, costs=dear)
    monkeypatch.setattr(desk.venue, "capabilities", capable)
    monkeypatch.setattr(tracker, "PUSHED_WITHIN_S", 3600.0)  # it asks only later
    await desk.start()
    desk.venue.mute = True
    desk.venue.script.append("lost")
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.UNKNOWN)
    await desk.crash()
    monkeypatch.setattr(tracker, "PUSHED_WITHIN_S", 1.0)
    looks = desk.venue.looks
    await desk.start(until_trading=False)
    await desk.until(lambda: desk.venue.looks > looks)
    link = desk.engine.links["fake"]
    await desk.until(lambda: "not booked yet" in link.why_not)
    await desk.until(lambda: link.reconciled)
    asked = [key for what, key in desk.venue.log if what == "ask" and key == order.cl_ord_id]
    assert len(asked) == 1


async def test_an_engine_that_ends_leaves_no_asking_behind(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The asking that closing cancelled found its order still in doubt, and began anew."""
    monkeypatch.setattr(tracker, "ASK_AGAIN_S", (3600.0,))
    await desk.start()
    before = asyncio.all_tasks()
    desk.venue.script.append("vanish")
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.UNKNOWN)
    asking = desk.engine.links["fake"].tracker
    await desk.until(lambda: asking.is_resolving(order.cl_ord_id))
    await desk.stop()
    await asyncio.sleep(0)  # what a cancelled task leaves to be called
    assert not asking.is_resolving(order.cl_ord_id)
    assert asking.in_doubt == 0
    assert [task for task in asyncio.all_tasks() - before if "_run" in repr(task.get_coro())] == []
    assert desk.status(order.cl_ord_id) is S.UNKNOWN, "the next engine asks"


async def test_an_order_that_is_wrongly_taken_for_gone_is_found_again(desk: Any) -> None:
    """The venue says "no such order" many times over, and lists it afterwards."""
    await desk.start()
    desk.venue.script.append("lost")
    desk.venue.mute = True
    desk.venue.complete = False
    desk.venue.hidden = 1000
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.REJECTED)
    desk.venue.hidden = 0
    desk.venue.complete = True
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.mute = False
    desk.venue.fill(order.cl_ord_id, "1")
    await desk.until(lambda: desk.position == 1)


async def test_a_restart_with_an_order_in_doubt_makes_no_duplicate(desk: Any) -> None:
    """The engine dies between the send and its answer; its successor asks."""
    await desk.start()
    desk.venue.script.append("hang")
    sending = asyncio.create_task(desk.send())
    await desk.venue.arrived.wait()
    reply = await sending
    assert reply.taken
    await desk.crash()
    desk.venue.rest(reply.cl_ord_id)
    desk.venue.fill(reply.cl_ord_id, "0.3", tell=False)
    await desk.start()
    assert desk.status(reply.cl_ord_id) is S.PARTIALLY_FILLED
    assert desk.position == Decimal("0.3")
    assert desk.venue.submitted() == [reply.cl_ord_id]


async def test_a_restart_takes_an_order_for_never_arrived_only_after_the_old_permit_is_over(
    desk: Any,
) -> None:
    """Its engine might only be suspended, and send as long as its permit lives."""
    desk.settings["permit"] = {"ttl": "2s", "renew_every": "100ms"}
    await desk.start()
    desk.venue.script.append("hang")
    sending = asyncio.create_task(desk.send())
    await desk.venue.arrived.wait()
    reply = await sending
    await desk.crash()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    engine = await desk.start(until_trading=False)
    await desk.until(lambda: engine.links["fake"].connected)
    assert engine.why_not_trading()
    assert (await desk.send()).code in {"no_permit", "not_reconciled"}
    await desk.until_status(reply.cl_ord_id, S.REJECTED)
    assert loop.time() - begun >= 2.0
    await desk.until(lambda: not engine.why_not_trading())
    assert desk.venue.submitted() == [reply.cl_ord_id]


async def test_an_engine_says_in_how_long_an_order_without_an_answer_can_land_no_more(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling restart gave up after 30 s, wherever one order had no answer as the engine was stopped."""
    endless = msgspec.structs.replace(desk.venue.capabilities, refuses_late_by_s=None)
    monkeypatch.setattr(desk.venue, "capabilities", endless)
    desk.settings["permit"] = {"ttl": "600s", "renew_every": "100ms"}

    def ends_in_s() -> float:
        (venue,) = desk.api.state({})["venues"]
        told: float = venue["doubt_ends_in_s"]
        return told

    await desk.start()
    assert ends_in_s() == 0
    desk.venue.script.append("vanish")
    reply = await desk.send()
    await desk.until_status(reply.cl_ord_id, S.UNKNOWN)
    assert 0 < ends_in_s() <= 0.3 + LANDS_WITHIN_S
    await desk.crash()
    await desk.start(until_trading=False)
    await desk.until(lambda: desk.api.state({})["venues"][0]["in_doubt"])
    assert 600 < ends_in_s() <= 600 + 0.3 + LANDS_WITHIN_S, (
        "from its own start, and after the permit"
    )
    desk.venue.rest(reply.cl_ord_id, Side.BUY)
    await desk.until(lambda: not desk.engine.why_not_trading())
    assert ends_in_s() == 0


async def test_fills_that_came_while_the_engine_was_away_are_booked_once(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.fill(order.cl_ord_id, "0.5")
    await desk.until(lambda: desk.position == Decimal("0.5"))
    await desk.stop()
    desk.venue.fill(order.cl_ord_id, "0.5", tell=False)
    for _ in range(3):
        engine = await desk.start()
        assert desk.status(order.cl_ord_id) is S.FILLED
        assert desk.position == 1
        seq = engine.ledger.last_seq
        await desk.api.reconcile({})
        assert engine.ledger.last_seq == seq, "reconciling again changes nothing"
        await desk.stop()


async def test_fills_that_are_asked_for_again_after_their_order_could_be_forgotten_count_once(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A venue was away for longer than final orders are kept. What was executed shortly before is
    listed again; with the order forgotten the engine adopted it anew, and held twice as much."""
    await desk.start()
    desk.venue.names_orders = True
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.fill(order.cl_ord_id, "1")
    await desk.until_status(order.cl_ord_id, S.FILLED)
    desk.venue.is_down = True
    await desk.until(lambda: not desk.engine.links["fake"].connected)
    monkeypatch.setattr(ledger, "FORGET_FINAL_AFTER_S", 0.0)
    await desk.engine.ledger.save_snapshot()
    desk.venue.is_down = False
    await desk.until(lambda: desk.engine.links["fake"].connected)
    assert (await desk.api.reconcile({}))["ok"] is True
    assert desk.position == 1


async def test_a_fill_that_beats_the_cancel_is_booked(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.cancel_script.append("fill first")
    await desk.ask(CancelIntent(intent_id="c", strategy="s", cl_ord_id=order.cl_ord_id))
    await desk.until_status(order.cl_ord_id, S.FILLED)
    assert desk.position == 1


async def test_a_fill_told_after_the_cancel_is_booked(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.mute = True
    desk.venue.fill(order.cl_ord_id, "0.25", tell=False)
    await desk.ask(CancelIntent(intent_id="c", strategy="s", cl_ord_id=order.cl_ord_id))
    await desk.until_status(order.cl_ord_id, S.CANCELED)
    assert desk.position == Decimal("0.25"), "an end is booked after the fills before it"


async def test_a_cancel_whose_answer_was_lost_is_asked_after(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.mute = True
    desk.venue.cancel_script.append("lost")
    await desk.ask(CancelIntent(intent_id="c", strategy="s", cl_ord_id=order.cl_ord_id))
    await desk.until_status(order.cl_ord_id, S.CANCELED)


async def test_a_cancel_waits_for_its_orders_own_answer(desk: Any) -> None:
    await desk.start()
    desk.venue.script.append("hang")
    reply = await desk.send()
    await desk.ask(CancelIntent(intent_id="c", strategy="s", cl_ord_id=reply.cl_ord_id))
    desk.venue.release.set()
    await desk.until_status(reply.cl_ord_id, S.CANCELED)
    kinds = [what for what, key in desk.venue.log if key == reply.cl_ord_id and what != "ask"]
    assert kinds == ["submit", "cancel"]


async def test_what_the_stream_did_not_tell_is_found_by_looking(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.drop_stream()
    desk.venue.mute = True
    desk.venue.fill(order.cl_ord_id, "1", tell=False)
    await desk.until_status(order.cl_ord_id, S.FILLED)
    assert desk.position == 1


async def test_fills_the_venue_counts_and_does_not_list_are_inferred_and_replaced(
    desk: Any,
) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.mute = True
    desk.venue.lists_fills = False
    desk.venue.fill(order.cl_ord_id, "1", "98", tell=False)
    await desk.until_status(order.cl_ord_id, S.FILLED)
    assert desk.engine.ledger.books.orders[order.cl_ord_id].inferred_qty == 1
    desk.venue.lists_fills = True
    await desk.api.reconcile({})
    known = desk.engine.ledger.books.orders[order.cl_ord_id]
    assert (known.inferred_qty, known.cum_qty, known.avg_px) == (0, 1, 98)
    assert desk.position == 1


async def test_a_position_that_no_order_explains_blocks_trading_until_it_is_gone(
    desk: Any,
) -> None:
    await desk.start()
    desk.venue.held += Decimal(2)  # someone bought by hand
    await desk.until(lambda: not desk.engine.links["fake"].reconciled)
    reply = await desk.send()
    assert reply.code in {"not_reconciled", "no_permit"}
    report = await desk.api.reconcile({})
    assert report["ok"] is False
    assert report["mismatches"][0]["symbol"] == "BTC/USDT"
    desk.venue.held -= Decimal(2)
    await desk.until(lambda: not desk.engine.why_not_trading())


async def test_a_trade_by_hand_beside_orders_under_way_stops_trading_within_three_looks(
    desk: Any,
) -> None:
    """Some order of a symbol is under way at every look of a busy account: the difference counted as
    one that may pass, and trading went on."""
    await desk.start()
    link = desk.engine.links["fake"]
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.lists_orders = False  # as of one that was sent while the venue was asked
    looks = desk.venue.looks
    await desk.until(lambda: desk.venue.looks > looks + LOOKS_BEFORE_MISMATCH + 1)
    assert not link.stands(), "the order may explain what it will"
    assert link.reconciled
    desk.venue.held += Decimal(7)
    await desk.until(lambda: not link.reconciled)
    assert "beyond what orders under way explain" in link.why_not
    (row,) = [r for r in (await desk.api.positions({}))["positions"] if r["symbol"] == "BTC/USDT"]
    assert "more than the books" in row["differs"]
    (venue,) = desk.api.state({})["venues"]
    assert venue["differs"] == link.why_not
    assert (await desk.send()).code in {"not_reconciled", "no_permit"}
    desk.venue.held -= Decimal(7)
    desk.venue.lists_orders = True
    await desk.until(lambda: not desk.engine.why_not_trading())
    assert not link.stands()


async def test_a_mismatch_at_the_start_blocks_the_first_order(desk: Any) -> None:
    desk.venue.held = Decimal(1)
    engine = await desk.start(until_trading=False)
    await desk.until(lambda: engine.phase == "reconciling" and engine.links["fake"].last)
    assert (await desk.send()).code in {"not_reconciled", "no_permit"}
    assert desk.venue.submitted() == []
    assert all(not asked["reconciled"] for asked in desk.asked)


async def test_an_incomplete_list_is_not_an_empty_one(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    await desk.stop()
    desk.venue.complete = False
    engine = await desk.start(until_trading=False)
    await desk.until(lambda: engine.links["fake"].last is not None)
    assert not engine.reconciled
    assert (await desk.api.reconcile({}))["unknown"] is True
    assert desk.status(order.cl_ord_id) is S.NEW
    desk.venue.complete = True
    await desk.until(lambda: not engine.why_not_trading())


async def test_an_order_of_others_is_shown_and_left_alone(desk: Any) -> None:
    desk.venue.rest("somebody-elses")
    engine = await desk.start()
    rows = (await desk.api.orders({}))["orders"]
    assert [(row["cl_ord_id"], row["own"]) for row in rows] == [("somebody-elses", False)]
    assert (await desk.api.cancel({}))["asked"] == 0
    assert engine.links["fake"].foreign == 1
    assert [what for what, _ in desk.venue.log] == []


async def test_an_own_order_the_journal_never_held_is_adopted_and_can_be_cancelled(
    desk: Any,
) -> None:
    """As after an old copy of the journal was restored."""
    stray = ids.mint(desk.layout.desk_id, 7, 1)
    desk.venue.rest(stray, Side.SELL)
    desk.venue.fill(stray, "0.5", tell=False)
    await desk.start()
    assert desk.position == Decimal("-0.5")
    result = await desk.api.cancel({})
    assert [(r.cl_ord_id, r.outcome) for r in result["results"]] == [(stray, "CANCELED")]


async def test_a_venue_down_at_the_start_is_waited_for(desk: Any) -> None:
    desk.venue.is_down = True
    engine = await desk.start(until_trading=False)
    await desk.until(lambda: "down" in engine.links["fake"].why_not)
    assert desk.api.state({})["phase"] == "waiting_for_venue"
    assert (await desk.send()).taken is False
    assert desk.venue.submitted() == []
    desk.venue.is_down = False
    await desk.until(lambda: not engine.why_not_trading())
    assert desk.api.state({})["phase"] == "ready"


async def test_a_venue_that_makes_no_sense_is_down_until_it_does_again(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that raises what no port names must not end the link: the desk would trade on
    with books that nothing is compared with."""
    engine = await desk.start()

    async def nonsense() -> None:
        raise InvalidOperation

    with monkeypatch.context() as patched:
        patched.setattr(desk.venue, "positions", nonsense)
        engine.links["fake"].look_soon("test")
        await desk.until(lambda: not engine.links["fake"].connected)
        assert "makes no sense" in engine.links["fake"].why_not
        assert (await desk.send()).taken is False
    await desk.until(lambda: not engine.why_not_trading())
    assert (await desk.send()).taken


async def test_order_events_that_make_no_sense_are_a_gap_and_go_on(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = desk.venue.stream
    begun = 0

    async def broken() -> Any:
        nonlocal begun
        begun += 1
        if begun == 1:
            yield StreamUp()
            raise KeyError("a state that nobody knows")
        async for event in real():
            yield event

    monkeypatch.setattr(desk.venue, "stream", broken)
    engine = await desk.start()
    await desk.until(lambda: "makes no sense" in engine.links["fake"].stream_why)
    assert engine.links["fake"].streaming is False
    await desk.until(lambda: engine.links["fake"].streaming)


async def test_a_venue_that_dies_later_leaves_orders_unknown_and_comes_back_by_itself(
    desk: Any,
) -> None:
    engine = await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.is_down = True
    desk.venue.mute = True
    await desk.until(lambda: not engine.links["fake"].connected)
    assert (await desk.send()).code in {"venue_down", "not_reconciled"}
    state = desk.api.state({})["venues"][0]
    assert (state["connected"], state["open_orders"], state["positions"]) == (False, None, None)
    assert (await desk.api.orders({}))["venues"]["fake"]["ok"] is False
    assert desk.status(order.cl_ord_id) is S.NEW, "not gone: unknown"
    desk.venue.fill(order.cl_ord_id, "1", tell=False)
    desk.venue.is_down = False
    await desk.until(lambda: not engine.why_not_trading())
    assert desk.status(order.cl_ord_id) is S.FILLED
    assert (await desk.send()).taken


async def test_a_venue_that_lost_an_accepted_order_is_believed_only_after_many_askings(
    desk: Any,
) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    del desk.venue.orders[order.cl_ord_id]
    await desk.until_status(order.cl_ord_id, S.CANCELED)
    asked = [key for what, key in desk.venue.log if what == "ask" and key == order.cl_ord_id]
    assert len(asked) >= 3
    assert "lost_by_venue" in desk.engine.ledger.books.orders[order.cl_ord_id].text


async def test_a_protective_order_that_the_venue_drops_is_told_and_nothing_is_sent_for_it(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was found and booked, and nobody heard that the position stands without it."""
    engine = await desk.start()
    bought = await desk.order(price=D(101))
    desk.venue.fill(bought.cl_ord_id, "1")
    await desk.until(lambda: desk.position == 1)
    exit_order = await desk.order(side=Side.SELL, price=D(102))
    await desk.until_status(exit_order.cl_ord_id, S.NEW)
    submitted = desk.venue.submitted()
    capsys.readouterr()
    del desk.venue.orders[exit_order.cl_ord_id]
    await desk.until_status(exit_order.cl_ord_id, S.CANCELED)
    said: list[str] = []

    def told() -> list[str]:
        said.extend(capsys.readouterr().out.splitlines())
        return [line for line in said if "the venue lost an order that it had accepted" in line]

    await desk.until(told)
    (line,) = told()
    assert exit_order.cl_ord_id in line and "alert" in line
    await desk.until(lambda: not engine.why_not_trading())
    assert (desk.position, desk.venue.held) == (1, 1), "what was held is held"
    assert desk.venue.submitted() == submitted, (
        "whether to protect it again is the strategy's to decide"
    )
    # One that never arrived was never there to protect anything.
    desk.venue.script.append("vanish")
    never = await desk.order(side=Side.SELL, price=D(102))
    await desk.until_status(never.cl_ord_id, S.REJECTED)
    assert len(told()) == 1


async def test_an_order_that_filled_is_never_shown_as_working_while_its_fills_are_asked_for(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is pushed, and the venue holds back its list of fills: the fill is inferred at once,
    and not one cancel is sent to an order that is gone."""
    engine = await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.mute = True
    seen: list[OrdStatus] = []
    hear = engine.ledger._hear

    def watch(message: Any, order: Any) -> None:
        seen.append(order.status)
        hear(message, order)

    monkeypatch.setattr(engine.ledger, "_hear", watch)

    async def throttled(*_: Any, **__: Any) -> Any:
        raise VenueThrottledError("held back", retry_after_s=30.0)

    monkeypatch.setattr(desk.venue, "fills", throttled)
    desk.venue.cancel_script.append("fill first")
    cancel = CancelIntent(intent_id="c1", strategy="s", cl_ord_id=order.cl_ord_id)
    assert (await desk.ask(cancel)).taken
    await desk.until_status(order.cl_ord_id, S.FILLED)
    assert S.NEW not in seen[seen.index(S.PENDING_CANCEL) :]
    assert desk.position == 1
