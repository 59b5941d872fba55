"""Closing where the engine or a venue does not answer: what nobody said is not taken for nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.harness.closing_run import close, outcomes

from openbell.cli.commands.down import closing_statement_text
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
from openbell.procedures.closing.picture import from_engine
from openbell.procedures.closing.reconcile import judge_reconciliation
from openbell.procedures.closing.statement import closing_statement
from openbell.procedures.step import Outcome
from openbell.service_client import Answer
from openbell.state.database import open_database
from openbell.state.halts import Halt
from openbell.state.journal import Journal
from openbell.state.latch import Latches
from openbell.state.nothing_sent import NothingSent

pytestmark = pytest.mark.usefixtures("impatient")


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
        ("0.5", True, "not in the venue's list, which proves nothing"),
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


async def reconciled(desk: Any, journal: Any) -> tuple[dict[str, Any], list[Any] | None]:
    """The step as it ended, and the table of the statement."""
    statement = await close(desk, journal, flatten="keep")
    (step,) = [each for each in statement.document["steps"] if each["name"] == "reconcile"]
    return step, statement.document["reconciliation"]


@pytest.mark.parametrize(
    ("engine", "outcome", "told"),
    [
        (ServiceState.STOPPED, "done", "the books were read from the journal"),
        (ServiceState.FAILED, "unknown", "the engine is not known to be stopped"),
        (ServiceState.READY, "unknown", "the engine is not known to be stopped"),
    ],
)
async def test_without_an_engine_that_answers_the_table_is_made_from_the_journal(
    partly_open: Any, journal: Any, engine: ServiceState, outcome: str, told: str
) -> None:
    """Of a dead engine, and of one that runs and does not answer, there was no table at all."""
    partly_open.services.states["engine"] = engine
    partly_open.asks.deaf = frozenset({"engine"})
    await booked(partly_open, 1, "0.5")
    partly_open.venue.position = Decimal("0.5")
    step, table = await reconciled(partly_open, journal)
    assert step["outcome"] == outcome and told in step["detail"]
    assert table is not None
    (row,) = table
    assert (row["venue"], row["symbol"], row["status"]) == ("sim", "BTC/USDT", "ok")
    assert row["books"] == row["venue_says"] == Decimal("0.5")
    kept = partly_open.layout.statements / "close-1-reconciliation.json"
    assert json.loads(kept.read_text())["positions"][0]["books"] == "0.5"


async def test_a_journal_that_cannot_be_read_is_no_table_and_nothing_known(
    partly_open: Any, journal: Any
) -> None:
    partly_open.layout.database.write_bytes(b"no database")
    step, table = await reconciled(partly_open, journal)
    assert step["outcome"] == "unknown" and "books not compared" in step["detail"]
    assert table is None


async def test_a_venue_that_does_not_answer_is_unknown_in_the_table_of_the_journal(
    partly_open: Any, journal: Any
) -> None:
    await booked(partly_open, 1, "0.5")
    partly_open.venue.reachable = False
    step, table = await reconciled(partly_open, journal)
    assert step["outcome"] == "unknown" and "no route" in step["detail"]
    assert table is not None
    assert [(row["status"], row["venue_says"]) for row in table] == [("unknown", None)]


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


def test_an_incomplete_answer_is_not_an_empty_one() -> None:
    orders = Answer({"venues": {"x": {"ok": True, "complete": False}}, "orders": []}, 200)
    positions = Answer({"positions": []}, 200)
    assert not from_engine(orders, positions, in_doubt=0).known


def test_an_order_in_doubt_is_unknown() -> None:
    orders = Answer({"venues": {}, "orders": []}, 200)
    assert not from_engine(orders, Answer({"positions": []}, 200), in_doubt=1).known


def test_a_comparison_that_says_neither_is_unknown() -> None:
    assert judge_reconciliation(Answer({"mismatches": []}, 200)).outcome is Outcome.UNKNOWN
    silent = {"ok": False, "unknown": True, "unknown_venues": ["x: no route"]}
    found = judge_reconciliation(Answer(silent, 200))
    assert (found.outcome, found.detail) == (
        Outcome.UNKNOWN,
        "not all could be compared: x: no route",
    )
