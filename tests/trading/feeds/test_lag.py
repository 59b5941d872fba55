"""A feed that comes later than the venue's own time is told, though it is connected and never still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.market import Quote
from openbell.trading.feeds import make_feed
from openbell.trading.feeds.lag import FORGET_S, LAG_S_MAX, MESSAGES_MIN, WINDOW_S, Lag
from openbell.trading.feeds.runner import FeedRunner

S = 1_000_000_000
BEGUN_NS = 1_700_000_000 * S


def hear(lag: Lag, *lags_s: float, every_s: float = 0.5, from_s: float = 0.0) -> float:
    """Messages so late, one after the other; the clock after them."""
    for number, late_s in enumerate(lags_s):
        at_s = from_s + number * every_s
        venue_ns = BEGUN_NS + int(at_s * S)
        lag.hear(venue_ns, venue_ns + int(late_s * S), at_s)
    return from_s + (len(lags_s) - 1) * every_s


def test_the_least_within_a_second_counts_so_one_that_was_late_is_no_lag() -> None:
    lag = Lag()
    assert lag.seconds(0.0) is None
    now_s = hear(lag, 9.0, 0.1, 9.0)
    assert lag.seconds(now_s) == 0.1
    now_s = hear(lag, 1.5, 1.2, 1.4, from_s=now_s + 0.5)
    assert lag.seconds(now_s) == 1.2
    assert lag.seconds(now_s + FORGET_S + 1) is None


def test_what_has_no_time_or_repeats_an_old_one_says_nothing() -> None:
    lag = Lag()
    for at_s in range(10):
        assert not lag.hear(0, BEGUN_NS, float(at_s))
    lag.hear(BEGUN_NS, BEGUN_NS, 10.0)
    for at_s in range(11, 30):
        assert not lag.hear(BEGUN_NS, BEGUN_NS + at_s * S, float(at_s))
    assert lag.seconds(30.0) is None


def test_a_venue_whose_clock_is_ahead_is_not_early() -> None:
    lag = Lag()
    assert lag.seconds(hear(lag, -0.4, -0.2, -0.3)) == 0.0


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60), st.floats(0.01, 2))
def test_no_more_is_ever_told_than_the_least_that_some_second_had(
    lags_s: list[float], every_s: float
) -> None:
    lag = Lag()
    now_s = hear(lag, *lags_s, every_s=every_s)
    told = lag.seconds(now_s)
    if told is not None:
        assert len(lags_s) >= MESSAGES_MIN and (len(lags_s) - 1) * every_s >= WINDOW_S * 0.999
        assert min(lags_s) - 1e-6 <= told <= max(lags_s) + 1e-6


async def test_a_feed_that_lags_a_second_is_an_alert_and_a_number_and_its_end_is_told(
    venue: Any, capsys: Any
) -> None:
    """Over a real connection. How late a busy machine hears them comes on top of what the venue says. Its
    quotes, which have no time of their own here, say it too."""
    declared = venue.declared()
    quotes: list[Quote] = []
    runner = FeedRunner(
        "sim",
        declared.symbols,
        lambda: make_feed("sim", declared),
        lambda _topic, body: quotes.append(body) if isinstance(body, Quote) else None,
    )
    running = asyncio.create_task(runner.run())
    await venue.connected.wait()
    behind_s = 5.0

    async def trade_on() -> None:
        while True:
            at_ms = int((time.time() - behind_s) * 1000)
            data = {"s": "BTCUSDT", "p": "100", "q": "1", "T": at_ms, "m": False, "t": at_ms}
            await venue.say("btcusdt@trade", data)
            for symbol in ("btcusdt", "ethusdt"):
                await venue.quote(symbol, "99", "101")
            await asyncio.sleep(0.05)

    trading = asyncio.create_task(trade_on())
    try:
        await until(lambda: "BTC/USDT" in runner.lagging())
        status = next(each for each in runner.status() if each.symbol == "BTC/USDT")
        assert status.connected and status.lag_s is not None and status.lag_s > LAG_S_MAX
        assert "ETH/USDT" not in runner.lagging(), "nothing is known of it"
        await until(lambda: "BTC/USDT" in late_ones(quotes))
        behind_s = 0.0
        await until(lambda: runner.lagging() == "")
        quotes.clear()
        await until(lambda: len(quotes) > 1)
        assert late_ones(quotes) == set()
    finally:
        for task in (trading, running):
            task.cancel()
        await asyncio.gather(trading, running, return_exceptions=True)
    told = capsys.readouterr().out
    assert told.count("market data lags") == 1 and "market data is up to date" in told


def late_ones(quotes: list[Quote]) -> set[str]:
    now_ns = time.time_ns()
    assert all(q.late_ns == 0 for q in quotes if q.symbol == "ETH/USDT")
    return {q.symbol for q in quotes if q.late_ns > LAG_S_MAX * S and q.age_ns(now_ns) >= q.late_ns}


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
