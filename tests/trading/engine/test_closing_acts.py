"""Cancel, flatten and what the engine tells over HTTP."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from openbell.domain.orders import OrdStatus, Side
from openbell.errors import UsageError
from openbell.trading.engine import flatten

S = OrdStatus


async def hold(desk: Any, quantity: str, side: Side = Side.BUY) -> None:
    """A position of so much, from an order that was filled."""
    order = await desk.order(
        side=side, order_qty=Decimal(quantity), price=Decimal(99 if side is Side.BUY else 101)
    )
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.fill(order.cl_ord_id, quantity)
    await desk.until_status(order.cl_ord_id, S.FILLED)


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
async def test_a_flatten_closes_a_position_and_sends_no_more(desk: Any, side: Side) -> None:
    await desk.start()
    await hold(desk, "1.5", side)
    result = await desk.api.flatten({"mode": "market"})
    (leg,) = result.legs
    assert (leg.outcome, leg.side, leg.cum_qty) == ("FILLED", side.opposite, Decimal("1.5"))
    assert desk.position == 0
    assert desk.venue.held == 0
    assert (await desk.api.flatten({"mode": "market"})).legs == ()


async def test_a_flatten_that_hangs_on_its_way_is_not_sent_a_second_time(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The venue's requests carry no end. Three empty answers and a second after the time-out the order
    counted as never arrived, the next ask sent another one, and both filled: +10000, 0, -10000."""
    monkeypatch.setattr(flatten, "LEG_WITHIN_S", 0.5)
    endless = msgspec.structs.replace(desk.venue.capabilities, refuses_late_by_s=None)
    monkeypatch.setattr(desk.venue, "capabilities", endless)
    await desk.start()
    await hold(desk, "1")
    desk.venue.script.append("vanish")
    (leg,) = (await desk.api.flatten({"mode": "market", "run": "one"})).legs
    assert (leg.outcome, leg.cl_ord_id) == ("UNKNOWN", desk.venue.submitted()[-1])

    def empty_answers() -> int:
        return [what for what, key in desk.venue.log if key == leg.cl_ord_id].count("ask")

    await desk.until(lambda: empty_answers() >= 5)
    again = await desk.api.flatten({"mode": "market", "run": "two"})
    assert again.legs == ()
    assert leg.cl_ord_id in again.blocked[0]
    assert desk.venue.submitted()[-1] == leg.cl_ord_id
    assert desk.engine.in_doubt == 1

    desk.venue.rest(leg.cl_ord_id, Side.SELL)  # it lands
    desk.venue.fill(leg.cl_ord_id, "1")
    await desk.until_status(leg.cl_ord_id, S.FILLED)
    await desk.until(lambda: desk.position == 0)
    assert (await desk.api.flatten({"mode": "market", "run": "three"})).legs == ()
    assert desk.venue.held == 0


async def test_a_flatten_needs_leave_to_reduce_and_no_more(desk: Any) -> None:
    await desk.start()
    await hold(desk, "1")
    desk.grant = {"granted": False, "why_not": "nobody asked for it"}
    await desk.until(lambda: desk.engine.permit.scope() == "none")
    refused = await desk.api.flatten({"mode": "market"})
    assert refused.legs == ()
    assert "nobody asked for it" in refused.blocked[0]
    desk.grant = {"granted": True, "scope": "reduce", "ttl_s": 3.0}
    await desk.until(lambda: desk.engine.permit.scope() == "reduce")
    assert (await desk.send()).code == "no_permit"
    assert (await desk.api.flatten({"mode": "market"})).legs[0].outcome == "FILLED"
    assert desk.position == 0


async def test_a_halted_engine_flattens_only_on_the_controllers_word(desk: Any) -> None:
    await desk.start()
    await hold(desk, "1")
    await desk.api.halt({"reason": "closing"})
    assert (await desk.api.flatten({"mode": "market"})).legs == (), "trade is not reduce"
    desk.grant = {"granted": True, "scope": "reduce", "ttl_s": 3.0}
    assert (await desk.api.flatten({"mode": "market"})).legs[0].outcome == "FILLED"
    assert desk.engine.permit.scope() == "none", "halted as before"


async def test_a_limit_flatten_takes_what_the_mid_gives(desk: Any) -> None:
    await desk.start()
    await hold(desk, "1")
    (leg,) = (await desk.api.flatten({"mode": "limit"})).legs
    assert leg.outcome == "EXPIRED"
    assert desk.position == 1
    submitted = desk.venue.orders[leg.cl_ord_id]
    assert submitted.price == 100


async def test_a_flatten_never_flips_whatever_rests_on_its_side(desk: Any) -> None:
    await desk.start()
    await hold(desk, "1")
    await desk.order(side=Side.SELL, order_qty=Decimal("0.4"), price=Decimal(101))
    (leg,) = (await desk.api.flatten({"mode": "market"})).legs
    assert leg.order_qty == Decimal("0.6"), "0.4 are under way already"


@pytest.mark.parametrize("mode", ["market", "limit"])
async def test_a_plan_is_what_the_flatten_then_orders(desk: Any, mode: str) -> None:
    """Split as the venue's rules want it, and where an order rests on the closing side as if that
    were withdrawn, which it is by then."""
    await desk.start()
    for quantity in ("90.5", "60"):  # more than one order takes
        await hold(desk, quantity)
    resting = await desk.order(side=Side.SELL, order_qty=Decimal(20), price=Decimal(101))
    await desk.until_status(resting.cl_ord_id, S.NEW)
    sent = len(desk.venue.submitted())

    def of(legs: Any) -> list[tuple[Side, Decimal, str]]:
        return [(leg.side, leg.order_qty, leg.symbol) for leg in legs]

    as_it_is = await desk.api.flatten_plan({"mode": mode})
    assert sum(leg.order_qty for leg in as_it_is.legs) == Decimal("130.5")
    plan = await desk.api.flatten_plan({"mode": mode, "orders": "gone"})
    assert len(plan.legs) == 2 and sum(leg.order_qty for leg in plan.legs) == Decimal("150.5")
    assert {str(leg.ord_type) for leg in plan.legs} == {mode.upper()}
    assert len(desk.venue.submitted()) == sent, "nothing is sent"
    await desk.api.cancel({})
    await desk.until_status(resting.cl_ord_id, S.CANCELED)
    done = await desk.api.flatten({"mode": mode})
    # A limit that does not fill at once ends the round: what is left is for the next one.
    assert of(done.legs) == of(plan.legs if mode == "market" else plan.legs[:1])
    orders = [desk.venue.orders[name] for name in desk.venue.submitted()[sent:]]
    assert [(order.side, order.order_qty, order.symbol) for order in orders] == of(done.legs)


async def test_a_plan_names_what_no_order_can_be_sent_for(desk: Any) -> None:
    await desk.start()
    await hold(desk, "1")
    desk.venue.held = Decimal(-1)
    plan = await desk.api.flatten_plan({"mode": "market"})
    assert (plan.legs, plan.blocked) == ((), (await desk.api.flatten({"mode": "market"})).blocked)
    assert "the venue -1" in plan.blocked[0]


async def test_a_flatten_orders_nothing_where_books_and_venue_differ_in_side(desk: Any) -> None:
    await desk.start()
    await hold(desk, "1")
    desk.venue.held = Decimal(-1)
    result = await desk.api.flatten({"mode": "market"})
    assert result.legs == ()
    assert "the venue -1" in result.blocked[0]


async def test_a_trade_by_hand_in_one_symbol_keeps_no_other_open(desk: Any) -> None:
    desk.settings["venues"]["fake"]["symbols"] = ("BTC/USDT", "ETH/USDT")
    desk.venue.others["ETH/USDT"] = Decimal(0)
    engine = await desk.start()
    await hold(desk, "1")
    await desk.api.halt({"reason": "closing"})
    desk.grant = {"granted": True, "scope": "reduce", "ttl_s": 3.0}
    desk.venue.others["ETH/USDT"] = Decimal(3)
    await desk.until(lambda: not engine.reconciled)
    result = await desk.api.flatten({"mode": "market"})
    assert [(leg.symbol, leg.outcome) for leg in result.legs] == [("BTC/USDT", "FILLED")]
    (blocked,) = result.blocked
    assert blocked.startswith("fake ETH/USDT: books and venue differ")
    assert "the venue 3" in blocked
    assert (desk.position, desk.venue.held) == (0, 0)


async def test_the_symbol_that_was_traded_by_hand_is_left_alone(desk: Any) -> None:
    engine = await desk.start()
    await hold(desk, "1")
    await desk.api.halt({"reason": "closing"})
    desk.grant = {"granted": True, "scope": "reduce", "ttl_s": 3.0}
    desk.venue.held += Decimal(2)
    await desk.until(lambda: not engine.reconciled)
    result = await desk.api.flatten({"mode": "market"})
    assert result.legs == ()
    assert "books and venue differ" in result.blocked[0]


async def test_while_anything_differs_no_strategy_trades(desk: Any) -> None:
    desk.settings["venues"]["fake"]["symbols"] = ("BTC/USDT", "ETH/USDT")
    desk.venue.others["ETH/USDT"] = Decimal(3)
    engine = await desk.start(until_trading=False)
    desk.grant = {"granted": True, "scope": "reduce", "ttl_s": 3.0}
    await desk.until(lambda: engine.permit.scope() == "reduce")
    assert (await desk.send()).code == "not_reconciled"


async def test_a_flatten_orders_no_more_than_the_venue_holds(desk: Any) -> None:
    await desk.start()
    await hold(desk, "1")
    desk.venue.held = Decimal("0.4")
    (leg,) = (await desk.api.flatten({"mode": "market"})).legs
    assert leg.order_qty == Decimal("0.4")
    assert desk.venue.held in (0, Decimal("0.4")), "refused if the difference was seen before"


async def test_the_same_flatten_asked_twice_orders_once(desk: Any) -> None:
    await desk.start()
    await hold(desk, "1")
    desk.venue.script.append("hang")
    body = {"mode": "market", "run": "close-1"}
    first = asyncio.create_task(desk.api.flatten(dict(body)))
    await desk.until(lambda: len(desk.venue.submitted()) == 2)
    second = asyncio.create_task(desk.api.flatten(dict(body)))
    desk.venue.release.set()
    legs = [(await task).legs for task in (first, second)]
    assert legs[0][0].cl_ord_id == legs[1][0].cl_ord_id
    assert len(desk.venue.submitted()) == 2
    assert desk.position == 0


async def test_a_flatten_that_nobody_waits_for_any_more_orders_nothing(desk: Any) -> None:
    await desk.start()
    await hold(desk, "1")
    late = int(desk.clock() * 1e9)
    result = await desk.api.flatten({"mode": "market", "valid_until_mono_ns": late})
    assert result.legs == ()
    assert "no longer waits" in result.blocked[0]
    assert len(desk.venue.submitted()) == 1
    in_time = late + 60 * 10**9
    result = await desk.api.flatten({"mode": "market", "valid_until_mono_ns": in_time})
    assert result.legs[0].outcome == "FILLED"


async def test_dust_is_called_dust(desk: Any) -> None:
    await desk.start()
    await hold(desk, "0.06")
    desk.venue.held = Decimal("0.06")
    order = await desk.order(side=Side.SELL, order_qty=Decimal("0.055"), price=Decimal(101))
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.fill(order.cl_ord_id, "0.055")
    await desk.until(lambda: desk.position == Decimal("0.005"))
    result = await desk.api.flatten({"mode": "market"})
    assert result.legs == ()
    assert [dust.quantity for dust in result.dust] == [Decimal("0.005")]
    (row,) = (await desk.api.positions({}))["positions"]
    assert row["dust"] is True


async def test_cancel_answers_when_every_order_is_final(desk: Any) -> None:
    await desk.start()
    orders = [await desk.order(strategy=s) for s in ("a", "a", "b")]
    for order in orders:
        await desk.until_status(order.cl_ord_id, S.NEW)
    result = await desk.api.cancel({"strategy": "a"})
    assert (result["asked"], result["final"]) == (2, 2)
    assert desk.status(orders[2].cl_ord_id) is S.NEW
    result = await desk.api.cancel({})
    assert [r.outcome for r in result["results"]] == ["CANCELED"]
    assert (await desk.api.cancel({}))["asked"] == 0


async def test_passive_orders_stay_where_that_is_asked_for(desk: Any) -> None:
    await desk.start()
    passive, other = await desk.order(post_only=True), await desk.order()
    for order in (passive, other):
        await desk.until_status(order.cl_ord_id, S.NEW)
    told = {row["cl_ord_id"]: row["passive"] for row in (await desk.api.orders({}))["orders"]}
    assert told == {passive.cl_ord_id: True, other.cl_ord_id: False}
    result = await desk.api.cancel({"passive_stay": True})
    assert (result["asked"], result["final"]) == (1, 1)
    assert desk.status(passive.cl_ord_id) is S.NEW
    assert desk.status(other.cl_ord_id) is S.CANCELED


async def test_a_cancel_that_loses_to_a_fill_tells_so(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, S.NEW)
    desk.venue.cancel_script.append("fill first")
    result = await desk.api.cancel({"cl_ord_ids": [order.cl_ord_id]})
    assert [r.outcome for r in result["results"]] == ["FILLED"]


async def test_an_order_that_the_venue_does_not_list_is_told_all_the_same(desk: Any) -> None:
    """An empty list with status 200 looked like a desk without orders."""
    await desk.start()
    resting, filled = await desk.order(), await desk.order()
    for order in (resting, filled):
        await desk.until_status(order.cl_ord_id, S.NEW)
    (row, _) = (await desk.api.orders({}))["orders"]
    assert row["listed"] is True
    desk.venue.mute, desk.venue.lists_orders = True, False
    desk.venue.fill(filled.cl_ord_id, "1", tell=False)
    answer = await desk.api.orders({})
    assert answer["venues"]["fake"]["complete"] is False
    (row,) = answer["orders"]
    assert (row["cl_ord_id"], row["listed"], row["status"]) == (resting.cl_ord_id, False, S.NEW)
    assert desk.status(filled.cl_ord_id) is S.FILLED, "it was asked for"
    desk.venue.lists_orders = True
    answer = await desk.api.orders({})
    assert answer["venues"]["fake"]["complete"] is True
    assert [row["listed"] for row in answer["orders"]] == [True]


async def test_every_answer_can_be_encoded_and_has_the_documented_keys(desk: Any) -> None:
    await desk.start()
    await hold(desk, "1")
    await desk.order()
    state = desk.api.state({})
    documented = {
        "phase", "trading", "why_not", "epoch", "permit", "latch", "last_journal_seq", "in_doubt",
        "last_order_sent_ns", "venues", "pnl",
    }  # fmt: skip
    assert documented <= state.keys()
    assert {"held", "scope", "expires_in_s"} <= state["permit"].keys()
    (row,) = (await desk.api.orders({}))["orders"]
    assert {
        "venue", "cl_ord_id", "venue_order_id", "symbol", "side", "ord_type", "price", "order_qty",
        "cum_qty", "leaves_qty", "status", "age_s", "strategy", "own", "passive",
        "listed",
    } <= row.keys()  # fmt: skip
    for answer in (
        state,
        await desk.api.orders({}),
        await desk.api.positions({}),
        await desk.api.reconcile({}),
        desk.api.snapshot({}),
        await desk.api.cancel({}),
        await desk.api.flatten({"mode": "market"}),
    ):
        assert msgspec.json.decode(msgspec.json.encode(answer))


@pytest.mark.parametrize(
    ("act", "fields"),
    [
        ("flatten", {}),
        ("flatten", {"mode": "quickly"}),
        ("cancel", {"venu": "fake"}),
        ("cancel", {"venue": "nowhere"}),
        ("halt", {"reason": 5}),
    ],
)
async def test_a_request_that_is_not_understood_is_refused(
    desk: Any, act: str, fields: dict[str, Any]
) -> None:
    await desk.start(until_trading=False)
    with pytest.raises(UsageError):
        await getattr(desk.api, act)(fields)
