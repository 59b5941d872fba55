"""What a venue's link says to differ for certain, and since when, by scripted looks."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.domain.reconcile import Agreement, OrderFinding, PositionFinding, Reconciliation
from openbell.trading.engine import difference_keeper
from openbell.trading.engine.difference_keeper import (
    LOOKS_BEFORE_MISMATCH,
    UNCLEAR_AT_MOST_S,
    DifferenceKeeper,
)
from openbell.trading.engine.venue_link import VenueLink

BY_HAND = PositionFinding(
    symbol="ETH/USDT", books=Decimal(0), venue_says=Decimal(7), status=Agreement.UNKNOWN,
    why="differs, and an order of it is not clear", beyond=(Decimal(6), Decimal(8)),
)  # fmt: skip
DOUBTED = OrderFinding(
    cl_ord_id="x", venue_order_id="", symbol="BTC/USDT", status=Agreement.MISMATCH,  # type: ignore[arg-type]
    why="open at the venue, rejected in the books",
)  # fmt: skip
AGREED = PositionFinding(
    symbol="BTC/USDT", books=Decimal(1), venue_says=Decimal(1), status=Agreement.OK
)


def look(*findings: OrderFinding | PositionFinding, complete: bool = True) -> Reconciliation:
    return Reconciliation(
        orders=tuple(each for each in findings if isinstance(each, OrderFinding)),
        positions=tuple(each for each in findings if isinstance(each, PositionFinding)),
        foreign=(),
        actions=(),
        complete=complete,
    )


async def test_what_is_told_as_certain_is_what_stood_and_not_what_was_found_last(desk: Any) -> None:
    """A trade by hand had stood for three looks; beside it came up what passes with the next one, and was
    told as what nothing clears up any more."""
    engine = await desk.start(until_trading=False)
    link = VenueLink(
        desk.venue,
        engine.links["fake"].config,
        engine.ledger,
        desk_id=desk.layout.desk_id,
        permit_ttl_s=1,
        mark=lambda _: None,
        is_busy=lambda _: False,
        on_change=lambda: None,
    )
    link.connected = True
    for number in range(LOOKS_BEFORE_MISMATCH):
        assert link.differs_why == "", number
        link._judge(look(BY_HAND), deep=True)
    assert link.differs_why == link.why_not and "ETH/USDT: the venue holds more" in link.why_not
    link._judge(look(BY_HAND, DOUBTED), deep=True)
    assert "BTC/USDT" in link.why_not
    assert "ETH/USDT: the venue holds more" in link.differs_why
    for _ in range(LOOKS_BEFORE_MISMATCH - 1):
        link._judge(look(BY_HAND, DOUBTED), deep=True)
    assert link.differs_why == f"BTC/USDT: {DOUBTED.why}"
    assert set(link.stands()) == {"ETH/USDT"}


def test_what_differs_is_counted_in_looks_in_a_row_and_told_since_when(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(difference_keeper, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    keeper = DifferenceKeeper()
    keeper.saw(look(DOUBTED))
    clock.now_s += 5
    keeper.saw(look(DOUBTED))
    assert (keeper.looks, keeper.lasting_s, keeper.certain) == (2, 5.0, "")
    keeper.saw(look(AGREED))
    assert (keeper.looks, keeper.lasting_s, keeper.first) == (0, 0.0, "")
    clock.now_s += UNCLEAR_AT_MOST_S
    keeper.saw(look(AGREED, complete=False))
    assert keeper.unclear() == []
    clock.now_s += 1
    assert keeper.unclear() == ["BTC/USDT"], (
        "by a look that was not complete nothing is seen to agree"
    )
    keeper.begin_anew()
    assert keeper.unclear() == [] and not keeper.stands
