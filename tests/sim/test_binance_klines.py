"""When a stream of bars tells which bar."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from openbell_sim.faces.binance.common.klines import KlineStream
from openbell_sim.tape import MINUTE_NS, PublicTrade, Tape

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_040 * SECOND_NS
"""The start of a minute."""


@pytest.fixture
def market() -> Any:
    return SimpleNamespace(tape=Tape())


def trade(market: Any, at_ns: int) -> None:
    market.tape.add(
        PublicTrade(
            symbol="BTCUSDT",
            trade_id=at_ns // SECOND_NS,
            price=Decimal(60000),
            qty=Decimal(1),
            aggressor_is_buyer=True,
            at_ns=at_ns,
        )
    )


def told(stream: KlineStream, now_ns: int) -> list[tuple[int, int, bool]]:
    """Minute, trades and whether it has ended, of each bar that is due."""
    return [
        ((bar.open_ns - START_NS) // MINUTE_NS, bar.trades, ended)
        for bar, ended in stream.due(now_ns)
    ]


def test_the_running_bar_is_told_when_it_changed_and_once_more_at_its_end(market: Any) -> None:
    trade(market, START_NS - 5 * SECOND_NS)
    stream = KlineStream(market, "1m", START_NS + SECOND_NS)
    assert told(stream, START_NS + SECOND_NS) == []
    trade(market, START_NS + 2 * SECOND_NS)
    assert told(stream, START_NS + 3 * SECOND_NS) == [(0, 1, False)]
    assert told(stream, START_NS + 4 * SECOND_NS) == []
    trade(market, START_NS + 5 * SECOND_NS)
    assert told(stream, START_NS + 6 * SECOND_NS) == [(0, 2, False)]
    assert told(stream, START_NS + 60 * SECOND_NS) == [(0, 2, True)]
    assert told(stream, START_NS + 61 * SECOND_NS) == []


def test_a_bar_that_began_and_ended_between_two_looks_is_told_at_its_end(market: Any) -> None:
    stream = KlineStream(market, "1m", START_NS + 59 * SECOND_NS)
    trade(market, START_NS + 59 * SECOND_NS)
    trade(market, START_NS + 60 * SECOND_NS)
    assert told(stream, START_NS + 60 * SECOND_NS) == [(0, 1, True), (1, 1, False)]
