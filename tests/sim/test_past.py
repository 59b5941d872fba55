"""The past of a generated market."""

from __future__ import annotations

import itertools
from decimal import Decimal

from openbell_sim.instruments import KNOWN
from openbell_sim.market.character import character_of
from openbell_sim.market.past import past
from openbell_sim.tape import DAY_NS, MINUTE_NS, PublicTrade, Tape

BTC = KNOWN["BTCUSDT"]
NOW_NS = 1_795_000_000_000_000_000
NEXT = 10_000_000


def made(seed: int = 1):
    character = character_of(BTC)
    return past(BTC, character, seed=seed, until_ns=NOW_NS, next_trade_id=NEXT)


def test_bars_follow_each_other_and_lead_to_the_first_price() -> None:
    bars = made()
    assert len(bars) == 1440
    assert bars[-1].close == character_of(BTC).price
    assert bars[-1].open_ns == NOW_NS - NOW_NS % MINUTE_NS - MINUTE_NS
    for before, after in itertools.pairwise(bars):
        assert after.open_ns - before.open_ns == MINUTE_NS
        assert after.open == before.close
        assert after.first_trade_id == before.last_trade_id + 1
    assert bars[-1].last_trade_id == NEXT - 1


def test_every_bar_is_sound_and_on_the_grid() -> None:
    for bar in made():
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert 0 < bar.taker_buy_volume < bar.volume
        for price in (bar.open, bar.high, bar.low, bar.close):
            assert price % BTC.tick == 0
        assert bar.volume % BTC.lot == 0


def test_the_same_seed_gives_the_same_past() -> None:
    assert made(1) == made(1)
    assert made(1) != made(2)


def trade(at_ns: int) -> PublicTrade:
    return PublicTrade(
        symbol="BTCUSDT", trade_id=NEXT, price=Decimal(62_000), qty=Decimal(1),
        aggressor_is_buyer=True, at_ns=at_ns,
    )  # fmt: skip


def test_a_tape_asks_for_the_past_once_and_only_when_it_is_looked_at() -> None:
    asked: list[int] = []
    tape = Tape()

    def before():
        asked.append(1)
        return made()

    tape.remember(before)
    tape.add(trade(NOW_NS))
    assert asked == []
    bars = list(tape.bars(MINUTE_NS))
    assert len(bars) == 1441
    assert bars[-1].first_trade_id == bars[-2].last_trade_id + 1
    day = tape.day(NOW_NS)
    assert day is not None
    assert day.volume > bars[-1].volume
    assert day.open_ns > NOW_NS - DAY_NS
    assert asked == [1]


def test_what_was_really_traded_is_never_pushed_out_by_the_past() -> None:
    tape = Tape()
    tape.remember(made)
    minutes = 2 * 1440
    for number in range(minutes):
        tape.add(trade(NOW_NS + number * MINUTE_NS))
    bars = list(tape.bars(MINUTE_NS))
    assert len(bars) == minutes
    assert bars[0].open_ns == NOW_NS - NOW_NS % MINUTE_NS
