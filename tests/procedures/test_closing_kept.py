"""Orders and positions that a closing keeps: they rest by its own word, wherever it is killed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.harness.closing_run import STEPS, close, outcomes

pytestmark = pytest.mark.usefixtures("impatient")


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
