"""A closing proves what it says, survives being killed anywhere, and never calls unknown done."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.cli.commands.down import closing_statement_text
from openbell.config.channels import Channel
from openbell.config.loader import parse_desk
from openbell.domain.orders import (
    NewOrder,
    OrderAccepted,
    OrderFilled,
    OrderIntended,
    OrdType,
    Side,
)
from openbell.domain.scopes import DESK as WHOLE_DESK
from openbell.domain.service_state import ServiceState
from openbell.errors import StorageError
from openbell.procedures.closing import (
    PROCEDURE,
    closing_steps,
    halt_strategies,
    lock,
    verify,
)
from openbell.procedures.closing.cancel_orders import judge_cancel, plan_cancel
from openbell.procedures.closing.checkpoint import SaveCheckpoint
from openbell.procedures.closing.context import SavedCheckpoint
from openbell.procedures.closing.disconnect import (
    Disconnect,
    DisconnectFacts,
    plan_disconnect,
)
from openbell.procedures.closing.flatten import (
    FlattenFacts,
    judge_flatten,
    order_rows,
    plan_flatten,
    slippage_told,
)
from openbell.procedures.closing.halt_strategies import HaltFacts, judge_halt, plan_halt
from openbell.procedures.closing.picture import Picture, from_engine
from openbell.procedures.closing.reconcile import judge_reconciliation
from openbell.procedures.closing.statement import Statement, closing_statement
from openbell.procedures.closing.stop_market_data import plan_stop_market_data
from openbell.procedures.closing.stop_services import plan_stop
from openbell.procedures.closing.stopping import StopFacts
from openbell.procedures.desk_voices import EngineSays, StrategySays
from openbell.procedures.plans import plan_document
from openbell.procedures.ports import Facts
from openbell.procedures.run import Runner
from openbell.procedures.step import OnFailure, Outcome, StepReport
from openbell.service_client import Answer
from openbell.state.database import open_database
from openbell.state.desk_lock import DeskLock
from openbell.state.halts import Halt
from openbell.state.journal import Journal
from openbell.state.latch import Latches
from openbell.state.nothing_sent import NothingSent
from openbell.watch.log_line import LogLine

STEPS = (
    "lock",
    "halt_strategies",
    "cancel_orders",
    "flatten",
    "wait_for_orders",
    "reconcile",
    "checkpoint",
    "stop_market_data",
    "disconnect",
    "stop_services",
    "stop_venues",
    "verify",
    "afterwards",
)

DESK = parse_desk(
    b"""[desk]
name = "x"
[venues.sim]
url = "http://h:1"
symbols = ["BTC/USDT"]
taker_fee = "0.1%"
[services.s]
command = ["true"]
""",
    Path("desk.toml"),
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their pauses, so that no test waits."""
    from openbell.procedures.closing import cancel_orders, flatten, wait_for_orders

    monkeypatch.setattr(cancel_orders, "_RETRY_S", 0.01)
    monkeypatch.setattr(flatten, "_RETRY_S", 0.01)
    monkeypatch.setattr(wait_for_orders, "_POLL_S", 0.01)


async def close(desk: Any, journal: Any, **wishes: Any) -> Statement:
    closing = desk.closing(**wishes)
    for step in (steps := closing_steps(closing)):
        if step.name in ("cancel_orders", "flatten"):
            step.timeout_s = 0.3  # type: ignore[misc]
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
    return await closing_statement(closing, await runner.run(steps))


def outcomes(statement: Statement) -> dict[str, str]:
    return {step["name"]: step["outcome"] for step in statement.document["steps"]}


async def test_a_desk_is_closed_flat_and_proven(fake_desk: Any, journal: Any) -> None:
    statement = await close(fake_desk, journal)
    assert statement.verified, statement.summary
    assert outcomes(statement) == dict.fromkeys(STEPS, "done")
    document = statement.document
    assert document["asked"] == "venue", "the last word is the venue's, past everything of ours"
    assert document["remaining_positions"] == []
    assert [row["own"] for row in document["remaining_orders"]] == [False]
    assert document["pnl"] == {"net": "1.5", "currency": "USDT"}
    (row,) = document["reconciliation"]
    assert (row["books"], row["venue_says"], row["status"]) == ("0", "0", "ok")
    text = closing_statement_text(dict(document), {})
    assert "BTC/USDT      0    0  agrees" in text, text
    assert document["checkpoint"].endswith(".ckpt")
    assert fake_desk.venue.sent == ["market 0.5"]
    assert journal.ended["flatten"].evidence["orders"][0]["slippage"] == "0.5"
    (step,) = [each for each in document["steps"] if each["name"] == "flatten"]
    assert step["detail"] == "flat, asked from the venue; slippage 0.5000 USDT"


def test_slippage_is_told_by_currency_and_what_is_not_known_as_such() -> None:
    leg = {
        "venue": "sim", "symbol": "BTC/USDT", "side": "BUY", "order_qty": "2", "cum_qty": "2",
        "avg_px": "101", "mid_px": "100", "mid_age_s": 1.0, "outcome": "FILLED", "text": "",
    }  # fmt: skip
    better = {**leg, "symbol": "ETH/EUR", "side": "SELL"}
    old, nothing = (
        {**leg, "mid_age_s": 60.0},
        {**leg, "cum_qty": "0", "avg_px": None, "mid_px": None},
    )
    rows = order_rows([leg, better, old, nothing, {**leg, "mid_px": None}], 5.0)
    assert [row["slippage"] for row in rows] == ["2", "-2", None, "0", None]
    assert slippage_told(rows) == "slippage 2.00 USDT, -2.00 EUR, not known of 2 orders"
    assert slippage_told([]) == ""
    assert slippage_told([], untold=True) == "slippage not known of what the engine did not tell of"
    held = ({"venue": "sim", "symbol": "BTC/USDT", "venue_quantity": "1"},)
    found = judge_flatten(
        Picture(source="engine", positions=held), rows[:1], ("sim BTC/USDT: no permit: halted",)
    )
    assert found.outcome is Outcome.FAILED
    assert (
        "no order was sent for sim BTC/USDT: no permit: halted; slippage 2.00 USDT" in found.detail
    )


async def test_the_permit_to_trade_goes_before_anything_is_cancelled(
    fake_desk: Any, journal: Any
) -> None:
    await close(fake_desk, journal)
    asked = fake_desk.asks.asked
    assert asked[:2] == ["/v1/halt", "/v1/resume"]
    assert asked.index("/v1/halt") < asked.index("/v1/cancel") < asked.index("/v1/flatten")


@pytest.mark.parametrize(
    "line", [f"{when} {step}" for step in STEPS for when in ("started", "done")]
)
async def test_a_closing_killed_anywhere_is_gone_on_with(
    fake_desk: Any, make_journal: Any, killed: Any, line: str
) -> None:
    """Killed after any line of its journal, then asked for again: it ends as an undisturbed one,
    and nothing was sent twice. Also where the simulated venue, who alone knows what remains, was
    stopped by then: its last word is in the journal."""
    first = make_journal(dies_after=line)
    with pytest.raises(killed):
        await close(fake_desk, first)
    fake_desk.earlier = first.ended
    statement = await close(fake_desk, make_journal())
    assert statement.services_stopped
    assert fake_desk.venue.sent == ["market 0.5"]
    assert statement.verified, statement.summary


async def test_kept_orders_and_positions_are_kept(fake_desk: Any, journal: Any) -> None:
    statement = await close(fake_desk, journal, flatten="keep", orders="keep")
    assert statement.verified, statement.summary
    assert len(statement.document["remaining_orders"]) == 3
    assert len(statement.document["remaining_positions"]) == 1
    assert outcomes(statement)["cancel_orders"] == "skipped"
    assert fake_desk.venue.sent == []


async def test_passive_orders_are_kept_and_the_others_cancelled(
    fake_desk: Any, journal: Any
) -> None:
    kept, going = fake_desk.own_order(1), fake_desk.own_order(2)
    fake_desk.venue.passive = frozenset({kept})
    statement = await close(fake_desk, journal, flatten="keep", orders="keep-passive")
    assert statement.verified, statement.summary
    assert set(fake_desk.venue.orders) == {kept, "someone-else"}
    assert going not in fake_desk.venue.orders
    evidence = journal.ended["cancel_orders"].evidence
    assert evidence["kept"] == [kept]
    assert {row["cl_ord_id"] for row in statement.document["remaining_orders"]} == {
        kept, "someone-else",
    }  # fmt: skip


@pytest.mark.parametrize(
    "line", [f"{when} {step}" for step in STEPS for when in ("started", "done")]
)
async def test_passive_orders_are_kept_wherever_the_closing_is_killed(
    fake_desk: Any, make_journal: Any, killed: Any, line: str
) -> None:
    """Which are passive only the engine tells; when it is gone, what it told is in the record."""
    kept = fake_desk.own_order(1)
    fake_desk.venue.passive = frozenset({kept})
    first = make_journal(dies_after=line)
    wishes = {"flatten": "keep", "orders": "keep-passive"}
    with pytest.raises(killed):
        await close(fake_desk, first, **wishes)
    fake_desk.earlier = first.ended
    statement = await close(fake_desk, make_journal(), **wishes)
    assert statement.verified, statement.summary
    assert set(fake_desk.venue.orders) == {kept, "someone-else"}


async def test_without_an_engine_no_order_is_taken_for_passive(
    fake_desk: Any, journal: Any
) -> None:
    fake_desk.venue.passive = frozenset({fake_desk.own_order(1)})
    fake_desk.asks.deaf = frozenset({"engine"})
    statement = await close(fake_desk, journal, flatten="keep", orders="keep-passive")
    assert set(fake_desk.venue.orders) == {"someone-else"}
    assert outcomes(statement)["cancel_orders"] == "done"


async def test_an_order_that_does_not_go_is_told_beside_the_passive_ones(
    fake_desk: Any, journal: Any
) -> None:
    kept, stuck = fake_desk.own_order(1), fake_desk.own_order(2)
    fake_desk.venue.passive, fake_desk.venue.stuck = frozenset({kept}), frozenset({stuck})
    statement = await close(fake_desk, journal, flatten="keep", orders="keep-passive")
    assert not statement.verified and not statement.services_stopped
    assert "1 order remains" in statement.summary
    assert journal.ended["cancel_orders"].evidence["kept"] == [kept]


async def test_conservative_sends_limits_first(fake_desk: Any, journal: Any) -> None:
    await close(fake_desk, journal, flatten="conservative", conservative_wait_s=60.0)
    assert fake_desk.venue.sent == ["limit 0.5"]


async def test_an_order_that_does_not_go_keeps_the_services_up(
    fake_desk: Any, journal: Any
) -> None:
    fake_desk.venue.stuck = frozenset({fake_desk.own_order(1)})
    statement = await close(fake_desk, journal)
    assert not statement.verified and not statement.services_stopped
    found = outcomes(statement)
    assert found["cancel_orders"] == "failed"
    assert (found["checkpoint"], found["stop_services"]) == ("done", "skipped")
    assert fake_desk.services.states["engine"] is ServiceState.READY
    assert statement.document["remaining_orders"]


async def test_force_stops_them_and_still_says_what_remains(fake_desk: Any, journal: Any) -> None:
    fake_desk.venue.stuck = frozenset({fake_desk.own_order(1)})
    statement = await close(fake_desk, journal, force=True)
    assert statement.services_stopped and not statement.verified
    own = [row for row in statement.document["remaining_orders"] if row["own"]]
    assert [row["cl_ord_id"] for row in own] == [fake_desk.own_order(1)]


async def test_an_unreachable_venue_is_unknown_and_not_flat(fake_desk: Any, journal: Any) -> None:
    fake_desk.venue.reachable = False
    statement = await close(fake_desk, journal)
    assert not statement.verified
    found = outcomes(statement)
    assert {found[name] for name in ("cancel_orders", "flatten", "reconcile")} == {"unknown"}
    assert found["stop_services"] == "skipped"
    document = statement.document
    assert document["unknown"] == [
        "venue sim: no route",
        "position sim BTC/USDT: the venue did not say, our books hold 0.5",
    ]
    assert document["remaining_orders"] is None, "an empty list would be somebody's answer"
    assert document["remaining_positions"] is None and document["dust"] is None
    assert "differ" not in statement.summary, "books that were not compared do not differ"
    assert statement.summary.startswith("what remains is not known (venue sim: no route; ")
    assert statement.summary.endswith(
        "not verified: cancel_orders, flatten, wait_for_orders, reconcile"
    )


async def test_what_no_venue_could_be_asked_is_not_an_empty_list(
    fake_desk: Any, journal: Any
) -> None:
    """With a dead engine and a dead line, by force: everything is stopped and nothing is known."""
    fake_desk.services.states["engine"] = ServiceState.FAILED
    fake_desk.venue.reachable = False
    statement = await close(fake_desk, journal, force=True)
    document = statement.document
    assert document["asked"] == "none"
    assert [document[key] for key in ("remaining_orders", "remaining_positions", "dust")] == [
        None,
        None,
        None,
    ]
    assert document["unknown"] == ["venue sim: no route"]
    assert "0 " not in str([step["detail"] for step in document["steps"]][1:5])


def test_what_some_venues_said_is_listed_and_the_others_are_named() -> None:
    order = {"cl_ord_id": "a", "own": True}
    orders = Answer(
        {
            "venues": {"x": {"ok": True, "complete": True}, "y": {"ok": False, "error": "down"}},
            "orders": [order],
        },
        200,
    )
    rows = [
        {"venue": "x", "symbol": "B", "quantity": "0", "venue_quantity": "0"},
        {"venue": "y", "symbol": "B", "quantity": "0", "venue_quantity": None},
    ]
    picture = from_engine(orders, Answer({"positions": rows}, 200), in_doubt=0)
    assert picture.orders == (order,)
    assert picture.unknown[0] == "venue y: down"
    assert picture.tells_orders and not picture.tells_positions and not picture.known
    assert picture.describe().startswith("at least 1 open order, not known: venue y: down")


async def test_nothing_remains_only_where_every_venue_said_so(fake_desk: Any) -> None:
    """One venue had told that it holds nothing, of another it was not known: the statement said
    "positions remaining: none" and, below, that a position was unknown."""
    closing = fake_desk.closing()
    venues = {"x": {"ok": True, "complete": True}, "y": {"ok": True, "complete": True}}
    rows = [
        {"venue": "x", "symbol": "B", "quantity": "0", "venue_quantity": "0"},
        {"venue": "y", "symbol": "B", "quantity": "0.002", "venue_quantity": None},
        {"venue": "y", "symbol": "C", "quantity": "1", "venue_quantity": "1", "dust": True},
    ]
    orders = Answer({"venues": venues, "orders": []}, 200)
    closing.final = from_engine(orders, Answer({"positions": rows}, 200), in_doubt=0)
    statement = await closing_statement(closing, ())
    document = statement.document
    assert not statement.verified
    assert document["remaining_positions"] is None
    assert document["remaining_orders"] == [], "of the orders every venue has told"
    assert [row["symbol"] for row in document["dust"]] == ["C"]
    text = closing_statement_text({**document, "verified": False}, {})
    assert "positions remaining at the venue: not determined" in text
    assert "orders remaining at the venue: none" in text
    assert "dust, too small to close: at least 1" in text


def test_an_order_in_doubt_may_be_open() -> None:
    orders = Answer({"venues": {"x": {"ok": True, "complete": True}}, "orders": []}, 200)
    picture = from_engine(orders, Answer({"positions": []}, 200), in_doubt=1)
    assert not picture.tells_orders and picture.tells_positions


async def test_with_a_dead_engine_the_venue_is_asked_and_cancelled_past_it(
    fake_desk: Any, journal: Any
) -> None:
    """Nobody else may send an order, so the position stays, and is told."""
    fake_desk.services.states["engine"] = ServiceState.FAILED
    statement = await close(fake_desk, journal)
    assert not statement.verified
    found = outcomes(statement)
    assert (found["cancel_orders"], found["flatten"]) == ("done", "failed")
    assert set(fake_desk.venue.orders) == {"someone-else"}
    assert fake_desk.venue.position == Decimal("0.5")
    assert [row["symbol"] for row in statement.document["remaining_positions"]] == ["BTC/USDT"]


async def booked(desk: Any, counter: int, quantity: str, *, open_too: bool = False) -> None:
    """What an engine of an earlier opening left in the journal: a position, perhaps an order."""
    cl_ord_id = desk.own_order(counter)
    order = NewOrder(
        cl_ord_id=cl_ord_id,
        venue="sim",
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        order_qty=Decimal(quantity) * (2 if open_too else 1),
        price=Decimal(10),
    )
    journal = await Journal.take_over(desk.layout.database, "test")
    await journal.append(
        (
            OrderIntended(cl_ord_id=cl_ord_id, at_ns=1, order=order),
            OrderAccepted(cl_ord_id=cl_ord_id, at_ns=2, venue_order_id="1"),
            OrderFilled(
                cl_ord_id=cl_ord_id,
                at_ns=3,
                exec_id="1",
                last_qty=Decimal(quantity),
                last_px=Decimal(10),
                fee=Decimal(0),
                fee_currency="USDT",
                is_maker=True,
            ),
        )
    )
    await journal.close()


@pytest.fixture
def partly_open(fake_desk: Any) -> Any:
    """As after `up --only venue`: the engine has never run in this opening."""
    fake_desk.services.states |= {
        "engine": ServiceState.STOPPED,
        "strategies": ServiceState.STOPPED,
    }
    fake_desk.venue.orders, fake_desk.venue.position = {}, Decimal(0)
    open_database(fake_desk.layout.database).close()
    return fake_desk


async def test_a_desk_opened_without_its_engine_proves_itself_flat(
    partly_open: Any, journal: Any
) -> None:
    """It ended "not proven closed" although nothing had traded: nobody compared the books."""
    statement = await close(partly_open, journal)
    assert statement.verified, statement.summary
    assert outcomes(statement)["reconcile"] == "done"


@pytest.mark.parametrize("known", [True, False])
async def test_the_venues_of_a_desk_that_can_have_sent_nothing_are_not_asked(
    partly_open: Any, journal: Any, known: bool
) -> None:
    """One that never came up, or is out of reach, would keep it from being closed; as it does where that
    is not known."""
    partly_open.venue.reachable = False
    if known:
        partly_open.nothing_sent = NothingSent("close-1", "2026-01-31T12:00:00+00:00")
    statement = await close(partly_open, journal)
    assert statement.verified is known
    asked = ("cancel_orders", "flatten", "wait_for_orders", "reconcile", "checkpoint")
    skipped = [name for name in asked if outcomes(statement)[name] == "skipped"]
    assert skipped == (list(asked) if known else [])
    assert (partly_open.venue.errands == 0) is known
    document = statement.document
    assert document["remaining_orders"] is None and document["remaining_positions"] is None
    text = closing_statement_text(dict(document), {})
    assert ("orders remaining at the venue: not asked" in text) is known
    assert ("nothing that can send an order was started since close-1" in text) is known
    assert not statement.left_nothing, "an earlier one has proven it, and this one asked nobody"
    verification = next(each for each in document["checklists"] if each["name"] == "verification")
    checks = {each["name"]: each["found"] for each in verification["checks"]}
    if known:
        assert checks["checkpoint_exists"] == checks["checkpoint_valid"] == "not_configured"


async def test_a_closing_proves_that_it_left_nothing_only_where_nothing_rests(
    fake_desk: Any, journal: Any
) -> None:
    assert (await close(fake_desk, journal)).left_nothing, "what rests is another desk's"


async def test_a_closing_that_keeps_orders_has_left_something(fake_desk: Any, journal: Any) -> None:
    fake_desk.venue.position = Decimal(0)
    statement = await close(fake_desk, journal, flatten="keep", orders="keep")
    assert statement.verified and not statement.left_nothing


async def test_a_closing_that_keeps_positions_has_left_something(
    fake_desk: Any, journal: Any
) -> None:
    statement = await close(fake_desk, journal, flatten="keep")
    assert statement.verified and not statement.left_nothing


async def test_books_of_earlier_openings_count_without_an_engine(
    partly_open: Any, journal: Any
) -> None:
    await booked(partly_open, 1, "0.5")
    partly_open.venue.position = Decimal("0.5")
    statement = await close(partly_open, journal, flatten="keep")
    assert statement.verified, statement.summary


@pytest.mark.parametrize(
    ("held", "open_too", "told"),
    [
        ("0", False, "sim BTC/USDT: the books hold 0.5, the venue 0"),
        ("0.5", True, "the end of 1 order is not booked"),
    ],
)
async def test_a_difference_that_no_engine_explains_is_unknown(
    partly_open: Any, journal: Any, held: str, open_too: bool, told: str
) -> None:
    await booked(partly_open, 1, "0.5", open_too=open_too)
    partly_open.venue.position = Decimal(held)
    statement = await close(partly_open, journal, flatten="keep")
    assert not statement.verified
    step = next(step for step in statement.document["steps"] if step["name"] == "reconcile")
    assert step["outcome"] == "unknown"
    assert told in step["detail"] and "`openbell up --safe-mode`" in step["detail"]


async def test_what_only_an_engine_can_do_is_told_where_none_runs(
    fake_desk: Any, journal: Any
) -> None:
    """It said to close again, which changes nothing as long as nobody can send an order."""
    fake_desk.services.states["engine"] = ServiceState.STOPPED
    statement = await close(fake_desk, journal)
    assert outcomes(statement)["flatten"] == "failed"
    assert "no engine runs" in statement.hint and "`openbell up --safe-mode`" in statement.hint
    assert "kill-switch" not in statement.hint
    latches = Latches(fake_desk.layout)
    latches.set([WHOLE_DESK], Halt("odd fills", "eve", datetime.now(UTC)))
    again = await close(fake_desk, journal)
    assert "eve" in again.hint and "`openbell kill-switch deactivate`" in again.hint
    fake_desk.services.states["engine"] = ServiceState.READY
    latches.release(latches.read())
    assert (await close(fake_desk, journal)).hint == "", "proven: nothing is to be done"


async def test_orders_of_an_engine_that_hangs_are_cancelled_past_it(
    fake_desk: Any, journal: Any
) -> None:
    """A stopped engine runs and does not answer. Its orders rested, and nobody withdrew them."""
    fake_desk.asks.deaf = frozenset({"engine"})
    statement = await close(fake_desk, journal)
    assert not statement.verified
    found = outcomes(statement)
    assert (found["cancel_orders"], found["flatten"]) == ("done", "failed")
    assert set(fake_desk.venue.orders) == {"someone-else"}
    assert fake_desk.venue.sent == [], "only the engine may send an order"
    assert fake_desk.services.states["engine"] is ServiceState.READY, "positions keep it up"


async def test_a_full_disk_keeps_no_desk_open(fake_desk: Any, journal: Any) -> None:
    """The checkpoint could not be written, and the closing ended there with everything running."""

    async def refuse(_: Path | None) -> Any:
        raise StorageError("no space left on device")

    closing = fake_desk.closing()
    closing.save_checkpoint = refuse
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
    statement = await closing_statement(closing, await runner.run(closing_steps(closing)))
    assert not statement.verified
    found = outcomes(statement)
    assert found["checkpoint"] == "failed"
    assert "no checkpoint was written" in statement.summary
    evidence = journal.ended["checkpoint"].evidence
    taken = json.loads(Path(evidence["extraction"]).read_text())
    assert taken["trading"] is None and "journal" in taken["trading_missing"]
    assert set(taken["logs"]) == {*fake_desk.desk.file.services, "controller"}
    assert (found["flatten"], found["stop_services"], found["verify"]) == ("done", "done", "done")
    assert set(fake_desk.services.states.values()) == {ServiceState.STOPPED}
    assert fake_desk.venue.position == 0


async def test_a_checkpoint_goes_elsewhere_where_its_own_folder_does_not_take_it(
    fake_desk: Any, journal: Any, tmp_path: Path
) -> None:
    """The state folder's disk is full, and so is the first of the others."""
    closing = fake_desk.closing()
    full, free = tmp_path / "full", tmp_path / "free"
    free.mkdir(mode=0o700)
    closing.elsewhere = (full, free)
    save = closing.save_checkpoint

    async def refuse(folder: Path | None) -> Any:
        if folder != free:
            raise StorageError(f"no space left on the disk of {folder or 'the state folder'}")
        return await save(folder)

    closing.save_checkpoint = refuse
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
    statement = await closing_statement(closing, await runner.run(closing_steps(closing)))
    assert statement.verified, statement.summary
    assert Path(statement.document["checkpoint"]).parent == free
    assert journal.ended["checkpoint"].evidence["not_taken"] == [
        "no space left on the disk of the state folder",
        f"no space left on the disk of {full}",
    ]


async def test_a_folder_that_is_slow_uses_up_neither_the_next_ones_time_nor_the_last_resorts(
    fake_desk: Any, journal: Any, tmp_path: Path
) -> None:
    """Before, the step's time ran out in the first folder, and nobody tried another."""
    free = tmp_path / "free"
    free.mkdir(mode=0o700)
    closing = fake_desk.closing()
    closing.elsewhere = (free,)
    save = closing.save_checkpoint
    gathered = 0

    async def gather() -> None:
        nonlocal gathered
        gathered += 1

    async def hang(folder: Path | None) -> Any:
        if folder != free:
            await asyncio.Event().wait()
        return await save(folder)

    async def hang_everywhere(_: Path | None) -> Any:
        await asyncio.Event().wait()

    closing.gather = gather
    for saves, outcome in ((hang, Outcome.DONE), (hang_everywhere, Outcome.FAILED)):
        closing.save_checkpoint, closing.checkpoint = saves, None
        step = SaveCheckpoint(closing, timeout_s=6.0)
        (report,) = await Runner(journal, lambda _: None).run([step])
        assert report.outcome is outcome, report.detail
        assert "the state folder: not written within " in report.detail
        assert "ran out of time" not in report.detail
    assert gathered == 2, "once in each attempt of the step"
    assert f"{free}: not written within" in report.detail
    assert Path(str(report.evidence["extraction"])).exists(), "the last resort was reached"


async def test_a_checkpoint_that_lacks_something_is_evidence_all_the_same(
    fake_desk: Any, journal: Any
) -> None:
    closing = fake_desk.closing()
    save = closing.save_checkpoint

    async def without_books(folder: Path | None) -> SavedCheckpoint:
        return replace(await save(folder), missing={"trading": "no answer; the journal: gone"})

    closing.save_checkpoint = without_books
    (report,) = await Runner(journal, lambda _: None).run([SaveCheckpoint(closing)])
    assert (
        report.outcome is Outcome.FAILED and "is not complete: trading: no answer" in report.detail
    )
    kept = journal.ended["checkpoint"].evidence
    paths = [each["path"] for each in kept["files"]]
    assert kept["path"] in paths and kept["extraction"] in paths, "and the last resort was taken"
    assert all(each["sha256"] for each in kept["files"])


async def test_a_venue_that_falls_silent_at_the_end_keeps_its_simulation_up(
    fake_desk: Any, journal: Any
) -> None:
    look = fake_desk.venue.look

    async def silent_then(*, timeout_s: float) -> Any:
        fake_desk.venue.reachable = False
        return await look(timeout_s=timeout_s)

    fake_desk.venue.look = silent_then
    statement = await close(fake_desk, journal)
    assert not statement.verified
    assert fake_desk.services.states["engine"] is ServiceState.STOPPED
    assert fake_desk.services.states["venue"] is ServiceState.READY
    found = outcomes(statement)
    assert (found["stop_services"], found["stop_venues"]) == ("unknown", "skipped")


async def test_an_order_that_was_on_its_way_is_withdrawn_past_the_engine(
    fake_desk: Any, journal: Any
) -> None:
    stop = fake_desk.services.stop

    async def stop_and_leak(name: str, *, reason: str) -> Any:
        if name == "engine":
            fake_desk.venue.orders[fake_desk.own_order(9)] = True
        return await stop(name, reason=reason)

    fake_desk.services.stop = stop_and_leak
    statement = await close(fake_desk, journal)
    assert statement.verified, statement.summary
    assert set(fake_desk.venue.orders) == {"someone-else"}


async def test_books_that_differ_are_not_verified(fake_desk: Any, journal: Any) -> None:
    fake_desk.asks.mismatches = [{"symbol": "BTC/USDT"}]
    statement = await close(fake_desk, journal)
    assert not statement.verified and outcomes(statement)["reconcile"] == "failed"


async def test_a_checkpoint_that_breaks_after_it_was_saved_is_not_proven(
    fake_desk: Any, journal: Any
) -> None:
    """The file is cut when the services are stopped, after it was read back."""
    closing = fake_desk.closing()
    stop = fake_desk.services.stop

    async def stop_and_cut(name: str, *, reason: str) -> Any:
        if closing.checkpoint is not None:
            Path(closing.checkpoint).write_bytes(b"cut")
        return await stop(name, reason=reason)

    fake_desk.services.stop = stop_and_cut
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
    statement = await closing_statement(closing, await runner.run(closing_steps(closing)))
    assert not statement.verified and statement.services_stopped
    assert "the checkpoint cannot be read any more" in statement.summary
    assert outcomes(statement)["verify"] == "failed"


async def test_logs_that_are_not_on_the_disk_are_not_proven(
    fake_desk: Any, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_desk.layout.service_log("engine").write_text("one\n")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    # Of the logs alone: the checkpoint's own way to the disk is another module's.
    monkeypatch.setattr(verify, "os", SimpleNamespace(**{**vars(os), "fsync": broken}))
    statement = await close(fake_desk, journal)
    assert not statement.verified
    assert "logs are not known to be on the disk: engine.log" in statement.summary


def test_errors_of_the_last_minutes_are_counted_and_named() -> None:
    lines = [
        LogLine(service, at, "error", text)
        for at, (service, text) in enumerate(
            [("risk", "no price"), ("engine", "venue timed out"), ("engine", "x" * 500)]
        )
    ]
    assert verify.errors_told([]) == ""
    told = verify.errors_told(lines)
    assert told.startswith("; 3 errors in the last five minutes (engine 2, the last: xxx")
    assert told.endswith("; risk 1, the last: no price)") and len(told) < 250
    assert verify.errors_told(lines * 50).startswith("; at least 150 errors"), "no more are read"


async def test_a_process_that_stays_is_named(fake_desk: Any, journal: Any) -> None:
    fake_desk.services.stubborn = frozenset({"strategies"})
    statement = await close(fake_desk, journal)
    assert not statement.verified
    assert [row["service"] for row in statement.document["processes_left"]] == ["strategies"]


async def test_a_plan_changes_nothing(fake_desk: Any) -> None:
    plan = await plan_document("close", closing_steps(fake_desk.closing()))
    assert fake_desk.asks.asked == [] and fake_desk.services.calls == []
    steps = {step["name"]: step["actions"] for step in plan["steps"]}  # type: ignore[attr-defined]
    assert steps["cancel_orders"] == ["cancel 2 open orders"]
    (flatten,) = steps["flatten"]
    assert flatten.startswith("flatten sim BTC/USDT (0.5) with market orders: ")
    assert "not known: slippage: there is no quote" in flatten, "unknown is told as unknown"
    details = {step["name"]: step["details"] for step in plan["steps"]}  # type: ignore[attr-defined]
    assert len(details["cancel_orders"]) == 2, "which orders, one by one"
    waiting = next(step for step in plan["steps"] if step["name"] == "wait_for_orders")  # type: ignore[attr-defined]
    assert (waiting["actions"], waiting["reason"]) == ([], "no order is pending"), (
        "the steps before it will have withdrawn them"
    )
    (cost,) = details["flatten"]
    assert [each["order_qty"] for each in cost["orders"]] == ["0.5"]
    assert (cost["estimated_slippage"], cost["estimated_fee"]) == (None, None)
    assert steps["stop_market_data"] == ["stop strategies", "stop feed"]
    assert steps["disconnect"] == ["stop engine: no order of ours is to rest"]
    assert steps["stop_services"] == [
        "stop risk", "stop board", "stop bus", "ask the venues, past everything of ours, what remains",
    ]  # fmt: skip


async def test_a_desk_stops_as_planned(fake_desk: Any, journal: Any) -> None:
    """By what the services are to trading; a store outlives whatever depends on it."""
    plan = await plan_document("close", closing_steps(fake_desk.closing()))
    foreseen = [
        action.removeprefix("stop ").partition(":")[0]
        for step in plan["steps"]  # type: ignore[attr-defined]
        for action in step["actions"]
        if action.startswith("stop ")
    ]
    await close(fake_desk, journal)
    stopped = [name for verb, name in fake_desk.services.calls if verb == "stop"]
    assert stopped == foreseen
    assert stopped == ["strategies", "feed", "engine", "risk", "board", "bus", "venue"]


async def test_what_is_done_is_what_was_planned_with_orders_and_a_position(
    fake_desk: Any, journal: Any
) -> None:
    """On a desk that nobody changed meanwhile; with a real engine and its venue's own order log:
    tests/trading/engine/test_against_the_simulated_venue.py."""
    plan = await plan_document("close", closing_steps(fake_desk.closing()))
    foreseen = {step["name"]: step["actions"] for step in plan["steps"]}  # type: ignore[attr-defined]
    closing = fake_desk.closing()
    events: list[dict[str, Any]] = []
    runner = Runner(journal, events.append, on_report=closing.note)
    await runner.run(closing_steps(closing))
    done = {each["step"]: each["plan"] for each in events if each["event"] == "step_planned"}
    assert done == foreseen


def with_policy(closing: Any, **policies: OnFailure) -> list[Any]:
    steps = list(closing_steps(closing))
    for step in steps:
        step.on_failure = policies.get(step.name, step.on_failure)
        if step.name in ("cancel_orders", "flatten"):
            step.timeout_s = 0.3
    return steps


@pytest.mark.parametrize(
    ("policies", "word", "stopped"),
    [
        ({"wait_for_orders": OnFailure.FORCE}, False, True),
        ({"wait_for_orders": OnFailure.ASK}, True, True),
        # What failed is cancelling, and to wait for it has failed too: nobody insisted there.
        ({"cancel_orders": OnFailure.FORCE}, False, False),
        ({"cancel_orders": OnFailure.ASK}, True, False),
        ({"cancel_orders": OnFailure.FORCE, "wait_for_orders": OnFailure.FORCE}, False, True),
        ({"flatten": OnFailure.FORCE}, False, False),
        ({}, True, False),
    ],
)
async def test_who_insists_stops_the_services_over_an_order_and_it_is_told_all_the_same(
    fake_desk: Any, journal: Any, policies: dict[str, OnFailure], word: bool, stopped: bool
) -> None:
    """The desk file's `force`, or a person asked by `ask`: a shutdown script's "60 seconds, then
    proceed". Before, both went on to steps that stopped nothing."""
    stuck = fake_desk.own_order(1)
    fake_desk.venue.stuck = frozenset({stuck})
    closing = fake_desk.closing()

    async def decide(_step: str, _found: Any) -> bool:
        return word

    runner = Runner(journal, lambda _: None, on_report=closing.note, decide=decide, timeout_s=10)
    reports = await runner.run(with_policy(closing, **policies))
    statement = await closing_statement(closing, reports)
    assert statement.services_stopped is stopped
    assert not statement.verified, "an order remains, whoever insisted"
    assert stuck in {row["cl_ord_id"] for row in statement.document["remaining_orders"]}
    assert "failed: cancel_orders, wait_for_orders" in statement.summary


async def test_a_position_needs_a_word_of_its_own(fake_desk: Any, journal: Any) -> None:
    fake_desk.asks.no_rules = "the venue's rules are not known"
    for policies, stopped in (
        ({"wait_for_orders": OnFailure.FORCE}, False),
        ({"flatten": OnFailure.FORCE}, True),
    ):
        closing = fake_desk.closing()
        runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
        statement = await closing_statement(
            closing, await runner.run(with_policy(closing, **policies))
        )
        assert (statement.services_stopped, statement.verified) == (stopped, False)
        assert "1 position remains" in statement.summary


@pytest.mark.parametrize("left_out", [spec.name for spec in PROCEDURE.steps if spec.optional])
async def test_a_closing_is_proven_without_any_step_that_may_be_left_out(
    fake_desk: Any, journal: Any, left_out: str
) -> None:
    """Else `check` would take a desk file with which every closing ends with 7, and no restart ever
    opens the desk again."""
    closing = fake_desk.closing()
    steps = [step for step in closing_steps(closing) if step.name != left_out]
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=20)
    statement = await closing_statement(closing, await runner.run(steps))
    assert statement.verified, statement.summary


async def test_market_data_outlives_risk_where_its_silence_would_set_the_kill_switch(
    fake_desk: Any, journal: Any
) -> None:
    text = fake_desk.desk.path.read_text().replace(
        "[closing]", '[kill_switch.rules.stale_market_data]\nafter = "5s"\n[closing]'
    )
    file = parse_desk(text.encode(), fake_desk.desk.path)
    fake_desk.desk = replace(fake_desk.desk, file=file)
    statement = await close(fake_desk, journal, flatten="keep", orders="keep")
    assert statement.verified, statement.summary
    assert outcomes(statement)["stop_market_data"] == "skipped"
    stopped = [name for verb, name in fake_desk.services.calls if verb == "stop"]
    assert stopped == ["strategies", "engine", "risk", "feed", "board", "bus", "venue"]


async def test_an_order_that_turns_up_is_withdrawn_before_the_engine_logs_out(
    fake_desk: Any,
) -> None:
    closing = fake_desk.closing()
    late = fake_desk.own_order(7)
    step = Disconnect(closing)
    closing.note(StepReport("lock", Outcome.DONE, 0.0, ""))
    fake_desk.venue.orders[late] = True
    plan = step.plan(await step.observe())
    assert plan.lines()[0].startswith("withdraw "), plan.lines()
    await step.act(plan, lambda *_: None)
    found = await step.verify(lambda *_: None)
    assert found.outcome is Outcome.DONE
    assert late not in fake_desk.venue.orders and "someone-else" in fake_desk.venue.orders
    assert {row["left"] for row in found.evidence["connections"]} == {"no order of ours"}
    assert fake_desk.services.calls[-1] == ("stop", "engine")


# --- planners alone -------------------------------------------------------------------------------


def test_nothing_is_cancelled_or_flattened_where_nothing_is() -> None:
    nothing = Picture(source="engine")
    assert plan_cancel(nothing, "cancel").actions == ()
    assert plan_flatten(FlattenFacts(nothing), "aggressive", DESK).actions == ()


def test_a_flatten_is_planned_with_what_it_would_cost() -> None:
    quote = {"bid_px": "99", "bid_qty": "1", "ask_px": "101", "ask_qty": "5", "age_s": 0.2}
    row = {
        "venue": "sim",
        "symbol": "BTC/USDT",
        "quantity": "2",
        "venue_quantity": "2",
        "quote": quote,
    }
    picture = Picture(source="engine", positions=(row,))
    (action,) = plan_flatten(FlattenFacts(picture), "aggressive", DESK).actions
    assert "estimated slippage at least 2.00 USDT, fee 0.1980 USDT" in str(action), (
        "1 of 2 at the touch"
    )
    (limits,) = plan_flatten(FlattenFacts(picture), "conservative", DESK).actions
    assert "estimated slippage at least 2.00 USDT" in str(limits)
    bought = {**row, "venue_quantity": "-2"}
    (detail,) = plan_flatten(
        FlattenFacts(Picture(source="engine", positions=(bought,))), "conservative", DESK
    ).details
    assert (detail["estimated_slippage"], detail["slippage_is_least"]) == ("2", False)
    old = {**row, "quote": {**quote, "age_s": 60.0}}
    (stale,) = plan_flatten(
        FlattenFacts(Picture(source="engine", positions=(old,))), "aggressive", DESK
    ).details
    assert stale["estimated_slippage"] is stale["estimated_fee"] is None
    assert "the quote is 60s old" in str(stale["unknown"])


def test_a_flatten_is_planned_as_the_engine_plans_it() -> None:
    """Which orders is what the engine would send: split, and none where it knows no rules."""
    row = {"venue": "sim", "symbol": "BTC/USDT", "quantity": "5", "venue_quantity": "5"}
    other = {**row, "symbol": "ETH/USDT"}
    dust = {**row, "symbol": "XRP/USDT"}
    latched = {**row, "symbol": "SOL/USDT"}
    legs = [
        {"venue": "sim", "symbol": "BTC/USDT", "side": "SELL", "order_qty": size, "price": None,
         "ord_type": "MARKET"}
        for size in ("3", "2")
    ]  # fmt: skip
    planned = Answer(
        {
            "legs": legs,
            "dust": [{"venue": "sim", "symbol": "XRP/USDT", "quantity": "5"}],
            "blocked": ["sim ETH/USDT: the venue's rules are not known"],
        },
        200,
    )
    facts = FlattenFacts(
        Picture(source="engine", positions=(row, other, dust, latched)),
        planned, "kill switch", frozenset({("sim", "SOL/USDT")}),
    )  # fmt: skip
    plan = plan_flatten(facts, "aggressive", DESK)
    split, blocked, small, stopped = plan.lines()
    assert split.startswith("flatten sim BTC/USDT (5) with market orders of 3, 2: ")
    assert blocked == "NO ORDER can be sent for sim ETH/USDT (5): the venue's rules are not known"
    assert small == "NO ORDER can be sent for sim XRP/USDT (5): it is too small for any order"
    assert stopped == "NO ORDER can be sent for sim SOL/USDT (5): kill switch"
    assert [len(each["orders"]) for each in plan.details] == [2, 0, 0, 0]  # type: ignore[arg-type]
    assert plan.details[0]["orders"][0] == {  # type: ignore[index]
        "side": "SELL", "order_qty": "3", "ord_type": "MARKET", "price": None,
    }  # fmt: skip
    silent = FlattenFacts(Picture(source="engine", positions=(row,)), Answer(None, why="hangs"))
    (unknown,) = plan_flatten(silent, "aggressive", DESK).details
    assert unknown["orders"] is None, "unknown is not none"
    limits = Answer({"legs": [{**legs[0], "ord_type": "LIMIT", "price": "100"}]}, 200)
    facts = FlattenFacts(Picture(source="engine", positions=(row,)), limits)
    assert "limit orders at mid" in plan_flatten(facts, "conservative", DESK).lines()[0]
    facts = FlattenFacts(Picture(source="engine", positions=(row,)), planned)
    assert "limit" not in plan_flatten(facts, "conservative", DESK).lines()[0], "it takes none"


def test_what_is_not_known_is_cancelled_all_the_same() -> None:
    unknown = Picture(source="engine", unknown=("venue x: no route",))
    assert plan_cancel(unknown, "cancel").actions
    assert judge_cancel(unknown).outcome is Outcome.UNKNOWN


def test_an_incomplete_answer_is_not_an_empty_one() -> None:
    orders = Answer({"venues": {"x": {"ok": True, "complete": False}}, "orders": []}, 200)
    positions = Answer({"positions": []}, 200)
    assert not from_engine(orders, positions, in_doubt=0).known


def test_an_order_in_doubt_is_unknown() -> None:
    orders = Answer({"venues": {}, "orders": []}, 200)
    assert not from_engine(orders, Answer({"positions": []}, 200), in_doubt=1).known


def test_counts_read_well() -> None:
    assert plan_cancel(Picture(source="engine", orders=({},)), "cancel").lines() == (
        "cancel 1 open order",
    )
    unknown = Picture(source="none", unknown=("venue x: no route",))
    assert plan_cancel(unknown, "cancel").lines() == ("cancel whatever own order is open",)
    assert unknown.describe() == "not known: venue x: no route"


def test_a_comparison_that_says_neither_is_unknown() -> None:
    assert judge_reconciliation(Answer({"mismatches": []}, 200)).outcome is Outcome.UNKNOWN
    silent = {"ok": False, "unknown": True, "unknown_venues": ["x: no route"]}
    found = judge_reconciliation(Answer(silent, 200))
    assert (found.outcome, found.detail) == (
        Outcome.UNKNOWN,
        "not all could be compared: x: no route",
    )


def halt_facts(**given: Any) -> HaltFacts:
    known: dict[str, Any] = {
        "engine_up": True,
        "engine": EngineSays("ready", True, "", "trade", 0, (), 1),
        "engine_why": "",
        "host_up": True,
        "strategies": (StrategySays("mm", "RUNNING", ""),),
        "strategies_why": "",
    }
    return HaltFacts(**(known | given))


async def test_the_lock_comes_first_and_tells_what_the_desk_consists_of(
    fake_desk: Any, journal: Any
) -> None:
    statement = await close(fake_desk, journal)
    assert journal.lines[:3] == ["started lock", "done lock", "started halt_strategies"]
    evidence = journal.ended["lock"].evidence
    assert evidence["desk_digest"] == fake_desk.desk.digest
    assert set(evidence["services"]) == set(fake_desk.desk.file.services)
    assert "close-1 of ann" in evidence["lock"]
    assert statement.verified


def _speaks(fake_desk: Any, **commands: str) -> None:
    """Channels of commands that write what they are told into a file."""
    fake_desk.channels = replace(
        fake_desk.channels,
        channels={
            name: Channel(command=("sh", "-c", command), timeout="60s")  # type: ignore[arg-type]
            for name, command in commands.items()
        },
    )


async def test_people_are_told_first_and_once(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """Also by a closing that is cut off after it has told them."""
    _speaks(fake_desk, ops='cat >> told; echo "$OPENBELL_EVENT" >> told')
    first = make_journal(dies_after="done announce")
    with pytest.raises(killed):
        await close(fake_desk, first)
    assert first.lines == ["started announce", "done announce"]
    fake_desk.earlier = first.ended
    statement = await close(fake_desk, make_journal())
    assert statement.verified, statement.summary
    told = (fake_desk.layout.desk / "told").read_text().splitlines()
    assert told[:2] == ["faked: SHUTTING DOWN, close-1 by ann: test", "closing"]
    assert told[2] == "faked: OFFLINE; close-1: closed and verified", "not told twice"


async def test_who_was_told_is_not_told_again_where_another_was_still_being_told(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """Before, a controller that was killed within the step left nothing of whom it had told."""
    _speaks(fake_desk, ops="cat >> ops", pager="test -e go || sleep 60; cat >> pager")
    seen = asyncio.Event()
    settle = fake_desk.effects.settle

    async def told(effect: str, outcome: Any) -> None:
        await settle(effect, outcome)
        seen.set()

    fake_desk.effects.settle = told
    first = asyncio.create_task(close(fake_desk, make_journal()))
    async with asyncio.timeout(60):
        await seen.wait()
    first.cancel()  # as its controller is gone
    with pytest.raises(asyncio.CancelledError):
        await first
    (fake_desk.layout.desk / "go").touch()
    statement = await close(fake_desk, make_journal())
    assert statement.verified, statement.summary
    for name in ("ops", "pager"):
        lines = (fake_desk.layout.desk / name).read_text().splitlines()
        assert [line for line in lines if "SHUTTING DOWN" in line] == [
            "faked: SHUTTING DOWN, close-1 by ann: test"
        ], name


async def test_people_who_were_told_of_another_end_are_told_of_this_one(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """Before, a channel that had been told that the desk is not closed, by an attempt that was cut off
    at its very end, never heard that it was."""
    _speaks(fake_desk, ops='echo "$OPENBELL_EVENT" >> told')
    order = fake_desk.own_order(1)
    fake_desk.venue.stuck = frozenset({order})
    first = make_journal(dies_after="done afterwards")
    with pytest.raises(killed):
        await close(fake_desk, first)
    fake_desk.venue.stuck = frozenset()
    fake_desk.earlier = first.ended
    statement = await close(fake_desk, make_journal())
    assert statement.verified, statement.summary
    told = (fake_desk.layout.desk / "told").read_text().split()
    assert told == ["closing", "not_closed", "closed"]


async def test_who_could_not_be_told_is_named_and_the_desk_is_closed_all_the_same(
    fake_desk: Any, journal: Any
) -> None:
    _speaks(fake_desk, ops="cat > told", deaf="exit 3", slow="sleep 60")
    fake_desk.channels = replace(
        fake_desk.channels,
        channels={
            name: each.model_copy(update={"timeout": 0.3 if name == "slow" else 60.0})
            for name, each in fake_desk.channels.channels.items()
        },
    )
    statement = await close(fake_desk, journal)
    assert statement.verified, "that the desk is closed was seen all the same"
    assert outcomes(statement)["announce"] == "failed"
    assert "deaf: exit status 3" in statement.summary
    assert "slow: no answer within 0.3s" in statement.summary
    assert journal.ended["announce"].evidence["told"] == {
        "ops": "told", "deaf": "failed", "slow": "unknown",
    }  # fmt: skip


async def test_afterwards_the_logs_are_archived_and_people_told_what_remains(
    fake_desk: Any, journal: Any
) -> None:
    _speaks(fake_desk, ops='if [ "$OPENBELL_EVENT" = closed ]; then cat > told; fi')
    fake_desk.layout.service_log("engine").write_text("one\n")
    statement = await close(fake_desk, journal)
    assert statement.verified, statement.summary
    assert (fake_desk.layout.desk / "told").read_text().splitlines() == [
        "faked: OFFLINE; close-1: closed and verified",
        "orders remaining at the venues: 1",
        "positions remaining at the venues: none",
        "P&L net: 1.5 USDT",
    ]
    evidence = journal.ended["afterwards"].evidence
    assert evidence["status"] == "offline" and evidence["went_wrong"] == []
    with tarfile.open(fake_desk.layout.archive / "close-1-logs.tar.gz") as archive:
        content = archive.extractfile("engine.log")
        assert content is not None and content.read() == b"one\n"


async def test_an_approval_that_nobody_was_asked_for_is_not_told_as_obtained(
    fake_desk: Any, journal: Any
) -> None:
    """Before, one that was wanted for a step which this closing has not counted as obtained."""
    wanted = b'[procedures.close.steps.announce]\napprovals = ["risk"]\n'
    text = fake_desk.desk.path.read_bytes() + wanted
    file = parse_desk(text, fake_desk.desk.path)
    fake_desk.desk = replace(fake_desk.desk, file=file)
    statement = await close(fake_desk, journal)
    (before, *_) = statement.document["checklists"]
    (approved,) = [each for each in before["checks"] if each["name"] == "approved"]
    assert approved["found"] == "not_configured", approved


async def test_a_desk_that_is_not_proven_closed_is_told_as_such(
    fake_desk: Any, journal: Any
) -> None:
    """Its services are up and write their logs: those stay where they are."""
    _speaks(fake_desk, ops='if [ "$OPENBELL_EVENT" = not_closed ]; then cat > told; fi')
    fake_desk.venue.stuck = frozenset({fake_desk.own_order(1)})
    statement = await close(fake_desk, journal)
    assert not statement.verified
    told = (fake_desk.layout.desk / "told").read_text()
    assert "NOT CLOSED, services are up" in told and "cancel_orders" in told
    assert not fake_desk.layout.archive.exists()
    wrong = journal.ended["afterwards"].evidence["went_wrong"]
    assert any(note.startswith("cancel_orders failed") for note in wrong)


async def test_logs_that_cannot_be_archived_are_told_of_and_keep_no_desk_open(
    fake_desk: Any, journal: Any
) -> None:
    fake_desk.layout.archive.write_text("in the way of the folder")
    statement = await close(fake_desk, journal)
    assert statement.verified and outcomes(statement)["afterwards"] == "failed"
    assert "afterwards: the logs are not archived" in statement.summary


async def test_a_lock_that_cannot_be_set_keeps_no_desk_open(
    fake_desk: Any, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(lock, "set_lock", full)
    statement = await close(fake_desk, journal)
    assert outcomes(statement)["lock"] == "failed"
    assert statement.services_stopped and not statement.verified
    assert fake_desk.venue.sent == ["market 0.5"]


@pytest.mark.parametrize(
    ("run", "planned"),
    [
        ("", []),
        ("close-2", []),
        ("close-1", ["lock deployments and configuration, so far by close-1"]),
    ],
)
def test_a_persons_lock_is_left_and_an_earlier_closings_taken_over(
    run: str, planned: list[str]
) -> None:
    held = DeskLock("audit", "ann", datetime(2026, 1, 31, tzinfo=UTC), run)
    assert list(lock.plan_lock(lock.LockFacts(held, "close-2")).lines()) == planned


def test_a_halted_desk_needs_no_halting() -> None:
    reduce = EngineSays("ready", False, "", "reduce", 0, (), 1)
    facts = halt_facts(engine=reduce, strategies=(StrategySays("mm", "HALTED", ""),))
    assert plan_halt(facts).actions == ()
    assert judge_halt(facts).outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("in_flight", "outcome"), [([0], "verified"), ([5, 3, 0], "verified"), ([2], "unknown")]
)
async def test_orders_on_their_way_are_awaited_before_it_is_called_halted(
    fake_desk: Any,
    journal: Any,
    monkeypatch: pytest.MonkeyPatch,
    in_flight: list[int],
    outcome: str,
) -> None:
    """The engine tells how many had no answer when it halted, and nobody looked at it."""
    monkeypatch.setattr(halt_strategies, "IN_FLIGHT_S", 0.5)
    monkeypatch.setattr(halt_strategies, "LOOK_EVERY_S", 0.01)
    fake_desk.asks.in_flight = in_flight
    await close(fake_desk, journal)
    ended = journal.ended["halt_strategies"]
    assert ended.outcome is (Outcome.DONE if outcome == "verified" else Outcome.UNKNOWN)
    assert ended.evidence["in_flight"] == in_flight[-1]
    facts = halt_facts(engine=EngineSays("ready", False, "", "reduce", 0, (), 1, in_flight=2))
    assert "2 orders sent before the halt" in judge_halt(replace(facts, strategies=())).detail


def test_a_disabled_strategy_is_halted_too_for_it_could_cancel_what_is_to_be_kept() -> None:
    reduce = EngineSays("ready", False, "", "reduce", 0, (), 1)
    facts = halt_facts(engine=reduce, strategies=(StrategySays("mm", "DISABLED", "by ann"),))
    assert list(plan_halt(facts).lines()) == ["halt strategies mm"]
    assert judge_halt(facts).outcome is Outcome.DONE, "it orders nothing"


def test_the_age_of_each_strategy_s_last_signal_is_in_the_record() -> None:
    now_ns = 1_000_000_000_000
    rows = [
        {"name": "mm", "state": "HALTED", "last_signal_ns": now_ns - 10_000_000_000},
        {"name": "arb", "state": "HALTED", "last_signal_ns": None},
        {"name": "old_host", "state": "HALTED"},
        {"name": "clock_set_back", "state": "HALTED", "last_signal_ns": now_ns + 60_000_000_000},
    ]
    found = judge_halt(
        halt_facts(
            engine=EngineSays("ready", False, "", "reduce", 0, (), 1),
            strategies=tuple(map(StrategySays.of, rows)),
            now_ns=now_ns,
        )
    )
    assert found.outcome is Outcome.DONE
    assert found.evidence["last_signals"] == [
        {"strategy": "mm", "state": "HALTED", "last_signal": "10.0s ago", "age_s": 10.0},
        {"strategy": "arb", "state": "HALTED", "last_signal": "never", "age_s": None},
        {"strategy": "old_host", "state": "HALTED", "last_signal": "unknown", "age_s": None},
        {"strategy": "clock_set_back", "state": "HALTED", "last_signal": "unknown", "age_s": None},
    ]
    assert "last signals: mm 10.0s ago, arb never" in found.detail


def test_a_plan_for_a_halted_desk_says_that_there_is_no_permit() -> None:
    halted = EngineSays("ready", False, "halted", "none", 0, (), 1)
    facts = halt_facts(engine=halted, strategies=(StrategySays("mm", "HALTED", ""),))
    assert plan_halt(facts).reason == (
        "no strategy runs, and the engine holds no permit to trade; "
        "it is given one to reduce positions and no other"
    )


def test_a_silent_engine_is_told_to_halt_and_is_unknown() -> None:
    facts = halt_facts(engine=None, strategies=())
    assert plan_halt(facts).actions
    assert judge_halt(facts).outcome is Outcome.UNKNOWN


def test_a_desk_whose_engine_and_host_are_down_is_quiet() -> None:
    facts = halt_facts(engine_up=False, engine=None, host_up=False, strategies=())
    assert plan_halt(facts).actions == ()
    assert judge_halt(facts).outcome is Outcome.DONE


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
def test_the_services_are_not_stopped_over_open_points(make_view: Any, outcome: Outcome) -> None:
    def facts(force: bool) -> StopFacts:
        return StopFacts(
            Facts({"a": make_view("a"), "feed": make_view("feed")}),
            {"a": (), "feed": ()},
            {"a": "engine", "feed": "market-data"},
            {"flatten": outcome},
            force,
        )

    def connected(force: bool) -> DisconnectFacts:
        return DisconnectFacts(facts(force), frozenset({"a"}), None, 0, "cancel")

    assert plan_stop(facts(False)).skipped
    assert plan_stop_market_data(facts(False)).skipped
    assert plan_disconnect(connected(False)).skipped
    assert plan_stop(facts(True)).lines()[:2] == ("stop a", "stop feed")
    assert plan_stop_market_data(facts(True)).lines() == ("stop feed",)
    assert plan_disconnect(connected(True)).lines() == ("stop a: the desk has no venue",)
