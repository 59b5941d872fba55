"""How often the engine looks at a venue: soon where something is new, rarely where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.trading.engine.look_pace import LOOKS_SHARE, URGENT_SHARE, LookPace
from openbell.venues.binance.wire import QUERY_COSTS
from openbell.venues.port import QueryCosts

MINUTE_S = 60.0


def looks(
    pace: LookPace,
    *,
    for_s: float,
    settled: bool = False,
    differs: bool = True,
    news_s: Iterable[float] = (),
    deep_news: bool = True,
) -> list[tuple[float, bool]]:
    """When looks begin, and whether they are deep, as the venue's link takes them."""
    news = sorted(news_s)
    taken = []
    now_s = 0.0
    while now_s < for_s:
        deep = pace.is_deep(now_s)
        wait_s = pace.wait_s(deep=deep, now_s=now_s)
        if wait_s > 0:
            now_s += wait_s
            continue
        pace.began(deep=deep, now_s=now_s)
        taken.append((now_s, deep))
        pause_s = pace.pause_s(deep=deep, settled=settled, differs=differs, now_s=now_s)
        until_s = now_s + pause_s
        while news and news[0] <= until_s:
            until_s = max(now_s, news.pop(0))
            pace.news(deep=deep_news)
        now_s = until_s
    return taken


def weight(taken: list[tuple[float, bool]], symbols: int, costs: QueryCosts) -> float:
    shallow = symbols * costs.open_orders + costs.positions
    return sum(shallow + symbols * costs.fills * deep for _, deep in taken)


@pytest.mark.parametrize("symbols", [1, 3, 10])
def test_what_stands_is_looked_at_less_and_less_often(symbols: int) -> None:
    taken = looks(LookPace(2.0, symbols, QUERY_COSTS), for_s=600)
    pauses = [b - a for (a, _), (b, _) in pairwise(taken)]
    assert pauses[0] < 1, "at once again"
    assert len(taken) <= 130 + 10, "then every five seconds"
    deep = sum(deep for _, deep in taken)
    assert deep <= len(taken) / 2, "executions more rarely"
    assert taken[0][1], "but at first"


def test_news_is_looked_at_soon_and_deeply() -> None:
    taken = looks(LookPace(2.0, 1, QUERY_COSTS), for_s=120, news_s=[100.0])
    (after,) = [(at, deep) for at, deep in taken if 100 <= at < 100.15]
    assert after[1]
    assert sum(100 <= at < 101 for at, _ in taken) >= 3


@given(
    symbols=st.integers(1, 20),
    settled=st.booleans(),
    differs=st.booleans(),
    deep_news=st.booleans(),
    news=st.lists(st.floats(0, 300), max_size=300),
)
def test_no_minute_of_looks_uses_more_than_their_share(
    symbols: int, settled: bool, differs: bool, deep_news: bool, news: list[float]
) -> None:
    taken = looks(
        LookPace(0.1, symbols, QUERY_COSTS),
        for_s=300,
        settled=settled,
        differs=differs,
        news_s=news,
        deep_news=deep_news,
    )
    for begun_s, _ in taken:
        minute = [look for look in taken if begun_s <= look[0] < begun_s + MINUTE_S - 1e-6]
        assert weight(minute, symbols, QUERY_COSTS) <= LOOKS_SHARE + 1e-9
    gaps = [b - a for (a, _), (b, _) in pairwise(taken)]
    assert max(gaps, default=0) <= MINUTE_S + 1e-6, "and none goes by without one"


def test_what_is_only_not_clear_yet_is_looked_at_soon_and_costs_no_executions() -> None:
    """After a take-over orders are resolved one after the other. A look at executions besides each
    of them used up what a minute has at once, and the one that found agreement came 16 s later."""
    news = [0.4 * turn for turn in range(1, 10)]
    pace = LookPace(2.0, 3, QUERY_COSTS)
    taken = looks(pace, for_s=4.0, differs=False, news_s=news, deep_news=False)
    assert [deep for _, deep in taken] == [True] + [False] * (len(taken) - 1)
    assert max(b - a for (a, _), (b, _) in pairwise(taken)) < 0.5
    later = looks(LookPace(2.0, 3, QUERY_COSTS), for_s=60.0, differs=False)
    assert [at >= 25 for at, deep in later if deep] == [False, True]


@pytest.mark.parametrize("symbols", [1, 3, 10])
def test_a_difference_that_stands_is_settled_soon_on_a_venue_that_is_looked_at_all_the_time(
    symbols: int,
) -> None:
    """Routine looks of three symbols every two seconds had used what a minute has at once, and the two
    that decide, both at executions too, came sixteen seconds apart: trading went on for up to 47 s."""
    pace = LookPace(2.0, symbols, QUERY_COSTS)
    taken: list[tuple[float, bool]] = []
    now_s, found_s = 0.0, 0.0
    while now_s < 400.0 and len(taken) < 3:
        deep = pace.is_deep(now_s)
        if (wait_s := pace.wait_s(deep=deep, now_s=now_s)) > 0:
            now_s += wait_s
            continue
        pace.began(deep=deep, now_s=now_s)
        differs = now_s >= 300.0
        if differs:
            taken.append((now_s, deep))
            found_s = found_s or now_s
        now_s += pace.pause_s(
            deep=deep, settled=not differs, differs=differs, urgent=differs, now_s=now_s
        )
    assert taken[-1][0] - found_s < 2.0
    assert symbols == 10 or any(deep for _, deep in taken), "it may be an execution not heard of"


@given(turns=st.lists(st.tuples(st.booleans(), st.floats(0.01, 5)), max_size=300))
def test_differences_that_come_and_go_use_no_more_than_the_looks_share(
    turns: list[tuple[bool, float]],
) -> None:
    pace = LookPace(2.0, 3, QUERY_COSTS)
    taken: list[tuple[float, bool]] = []
    now_s = 0.0
    for differs, _ in turns:
        while (wait_s := pace.wait_s(deep=(deep := pace.is_deep(now_s)), now_s=now_s)) > 0:
            now_s += wait_s
        pace.began(deep=deep, now_s=now_s)
        taken.append((now_s, deep))
        now_s += pace.pause_s(
            deep=deep, settled=not differs, differs=differs, urgent=differs, now_s=now_s
        )
    for begun_s, _ in taken:
        minute = [look for look in taken if begun_s <= look[0] < begun_s + MINUTE_S - 1e-6]
        assert weight(minute, 3, QUERY_COSTS) <= LOOKS_SHARE + URGENT_SHARE + 1e-9
    assert max((b - a for (a, _), (b, _) in pairwise(taken)), default=0) < MINUTE_S / 2, "not blind"


@pytest.mark.parametrize(("symbols", "within_s"), [(1, 4.0), (3, 8.0), (10, 17.0)])
def test_routine_looks_come_evenly_also_before_one_at_executions(
    symbols: int, within_s: float
) -> None:
    """One at executions had waited for the room of a whole one, and nothing was seen meanwhile: sixteen
    seconds of three symbols, every half minute."""
    taken = looks(LookPace(2.0, symbols, QUERY_COSTS), for_s=900, settled=True, differs=False)
    assert max(b - a for (a, _), (b, _) in pairwise(taken)) < within_s
    deep = [at for at, deep in taken if deep]
    assert max(b - a for a, b in pairwise(deep)) < 100


def test_questions_that_a_look_calls_for_count_as_well() -> None:
    pace = LookPace(0.1, 1, QUERY_COSTS)
    pace.began(deep=True, now_s=0.0)
    pace.asked(1000, 0.0)
    assert pace.wait_s(deep=False, now_s=1.0) == pytest.approx(59.0)


async def test_a_position_bought_by_hand_leaves_the_venue_its_budget(desk: Any, fake: Any) -> None:
    await desk.start()
    link = desk.engine.links["fake"]
    desk.venue.held += Decimal(2)
    await desk.until(lambda: not link.reconciled)
    calls = desk.venue.looks
    begun_s = desk.clock()
    await desk.until(lambda: desk.clock() - begun_s >= 4.0)
    assert desk.venue.looks - calls <= 8, "twenty when it looked five times a second"
    desk.venue.held -= Decimal(2)
    await desk.until(lambda: not desk.engine.why_not_trading())


async def test_a_stream_that_comes_back_is_looked_at_once(desk: Any) -> None:
    await desk.start()
    link = desk.engine.links["fake"]
    desk.venue.held += Decimal(2)
    await desk.until(lambda: link._pace._pauses >= 5)
    desk.venue.held -= Decimal(2)
    begun_s = desk.clock()
    desk.venue.restore_stream()
    await desk.until(lambda: link.reconciled)
    assert desk.clock() - begun_s < 2.0, "not after the pause that had grown"
