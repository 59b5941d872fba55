"""Each venue is stopped by the fastest means it has, and nobody else's order is touched."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any, cast

import pytest
from tests.kill.house import DESK_ID, OTHER_DESK, house

from openbell.domain.orders import OrdType, Side
from openbell.kill.asking import CONNECT_REQUESTS
from openbell.kill.pace import MARGIN, Pace
from openbell.kill.plan import Scope
from openbell_sim.hands import ManualOrder, place

CLOCKS_DIFFER_S = 0.005
"""The wall clock and the monotonic one, over some seconds."""
ALL = ("kraken", "binance", "binance-usdm", "coinbase", "mt5", "oanda")


@pytest.mark.parametrize(
    ("face", "means"),
    [
        ("kraken", {"account": 1}),
        ("binance", {"symbol": 2}),
        ("binance-usdm", {"symbol": 2}),
        ("coinbase", {"batch": 2}),
        ("mt5", {"single": 30}),
        ("oanda", {"single": 30}),
    ],
)
async def test_everything_goes_by_the_venues_fastest_means(
    face: str, means: dict[str, int]
) -> None:
    async with house(face) as here:
        here.rest(17)
        here.rest(13, market=1)
        stated = await here.stop()
        assert stated.result == "verified"
        assert stated.is_settled
        assert stated.acknowledged == 30
        assert here.open() == []
        assert here.means() == [means]


@pytest.mark.parametrize("face", ALL)
async def test_others_orders_stay(face: str) -> None:
    async with house(face) as here:
        here.rest(5)
        here.rest(4, market=1)
        others = [*here.rest(2, desk=OTHER_DESK), *here.rest(1, desk=None, market=1)]
        stated = await here.stop()
        assert stated.result == "verified"
        assert here.open() == others
        assert len(stated.spared) == 3
        assert not any(order.own for order in stated.spared)
        assert all(set(means) <= {"batch", "single"} for means in here.means())


async def test_the_symbol_without_others_orders_goes_at_once() -> None:
    async with house("binance") as here:
        here.rest(3)
        here.rest(3, market=1)
        others = here.rest(1, desk=OTHER_DESK)
        assert (await here.stop()).result == "verified"
        assert here.open() == others
        assert here.means() == [{"single": 3, "symbol": 1}]


async def test_an_order_in_a_symbol_the_desk_does_not_trade_keeps_the_account_from_a_mass_cancel() -> (
    None
):
    async with house("kraken", symbols=["BTC/USD"]) as here:
        here.rest(3)
        others = here.rest(1, desk=None, market=1)
        assert (await here.stop()).result == "verified"
        assert here.open() == others
        assert here.means() == [{"batch": 1}]


@pytest.mark.parametrize("face", ["kraken", "binance"])
async def test_an_account_of_ones_own_is_cancelled_before_it_is_listed(face: str) -> None:
    async with house(face, exclusive=True) as here:
        here.rest(3)
        here.rest(2, desk=OTHER_DESK, market=1)
        await here.venue.connect()
        stated = await here.stop(visit={"warm": True})
        assert stated.result == "verified"
        assert here.open() == []
        kinds = [type(event).__name__ for event in here.events]
        assert kinds[:3] == ["Cancelling", "Acknowledged", "Listed"]


async def test_account_wide_takes_others_orders_too() -> None:
    async with house("mt5") as here:
        here.rest(2)
        here.rest(2, desk=None)
        stated = await here.stop(scope=Scope(account_wide=True))
        assert stated.result == "verified"
        assert here.open() == []


@pytest.mark.parametrize("face", ["kraken", "binance", "coinbase"])
@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_symbol_alone_is_stopped(face: str, exclusive: bool) -> None:
    async with house(face, exclusive=exclusive) as here:
        here.rest(3)
        kept = here.rest(3, market=1)
        stated = await here.stop(scope=Scope(symbol=here.kind.symbols[0]))
        assert stated.result == "verified"
        assert here.open() == kept
        assert len(stated.spared) == 3


async def test_a_venue_out_of_scope_is_not_visited() -> None:
    async with house("binance") as here:
        here.rest(1)
        with pytest.raises(ValueError, match="not enough values"):
            await here.stop(scope=Scope(venue="another"))
        assert len(here.open()) == 1


@pytest.mark.parametrize("face", ["kraken", "binance", "binance-usdm", "mt5", "oanda"])
async def test_orders_that_wait_for_a_price_go_too(face: str) -> None:
    async with house(face) as here:
        here.rest(2)
        above = Decimal("1.15" if face in ("mt5", "oanda") else "65000")
        waiting = ManualOrder(
            symbol=next(iter(here.kind.markets)),
            side=Side.BUY,
            type=OrdType.STOP,
            quantity=here.kind.quantity,
            stop_price=above,
            client_order_id=here.name(DESK_ID),
        )
        place(here.sim.exchange, "main", waiting)
        assert len(here.own_open()) == 3
        assert (await here.stop()).result == "verified"
        assert here.open() == []


@pytest.mark.parametrize("face", ALL)
async def test_a_stop_keeps_inside_the_venues_own_limits(face: str) -> None:
    async with house(face, limits=1.0, options={}) as here:
        here.rest(20)
        here.rest(20, market=1)
        others = here.rest(1, desk=None)
        stated = await here.stop()
        assert stated.result == "verified"
        assert here.open() == others
        assert here.waits() == []


async def test_singles_go_riskiest_first_and_inside_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Never more than 50 take their turn in any second, and nothing arrives before its turn: so much
    is ours, and holds on a machine that has no time for us. By the venue's clock it can only hold
    where requests were not held up on their way by more than the margin."""
    turns_s: list[float] = []
    take = Pace.turn

    async def turn(pace: Pace) -> None:
        await take(pace)
        turns_s.append(cast(Any, pace)._sent_s[-1])

    monkeypatch.setattr(Pace, "turn", turn)
    async with house("mt5", limits=1.0) as here:
        here.rest(70)
        big = here.rest(1, quantity=here.kind.quantity * 50)[0]
        wall_s = time.time() - time.monotonic()
        began_s = time.monotonic()
        stated = await here.stop()
        assert stated.result == "verified"
        assert here.open() == []
        assert time.monotonic() - began_s > 1
        ends = {o.order_id: o.updated_ns for o in here.sim.exchange.ledger.orders.values()}
        assert min(ends.values()) == ends[big.order_id]
        assert all(b - a > 1 for a, b in zip(turns_s, turns_s[50:], strict=False))
        arrived_s = [ns / 1e9 - wall_s for ns in sorted(ends.values())]
        first, cancels = len(turns_s[:CONNECT_REQUESTS]) + 1, len(arrived_s)
        late_s = [b - a for a, b in zip(turns_s[first:], arrived_s, strict=False)]
        assert len(late_s) == cancels
        assert min(late_s) > -CLOCKS_DIFFER_S
        if max(late_s) < (MARGIN - 1) / 2:
            assert here.waits() == []  # never told to wait
            assert all(b - a > 1 for a, b in zip(arrived_s, arrived_s[50:], strict=False))


async def test_an_order_of_the_desk_that_was_there_before_the_latch_is_told_in_events() -> None:
    async with house("binance") as here:
        here.rest(4)
        await here.stop()
        kinds = [type(event).__name__ for event in here.events]
        assert kinds == ["Listed", "Cancelling", "Acknowledged", "Remaining", "Verified", "Ended"]
