"""Positions are closed after the orders are gone: never flipped, never twice, never from holdings."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.kill.house import DESK_ID, HOLDINGS, House, house

from openbell.domain.ids import parse
from openbell.domain.orders import OrdType, Side
from openbell.kill.plan import Scope
from openbell.venues.port import Unknown, VenuePosition
from openbell_sim.ledger import Order

EPOCH = 1_700_000_000
SPOT, MARGIN = tuple(HOLDINGS), ("binance-usdm", "mt5", "oanda")


def trade(here: House, side: Side, times: int = 1, market: int = 0) -> None:
    """The desk's account trades at the market."""
    quantity = here.kind.quantity * times
    here.rest(1, market=market, side=side, type=OrdType.MARKET, quantity=quantity)


def flattening(here: House) -> list[Order]:
    """Orders of the stop itself, as the venue has them."""
    return [
        order
        for order in here.sim.exchange.ledger.orders.values()
        if (own := parse(here.kind.from_the_wire(order.cl_ord_id)))
        and (own.desk_id, own.epoch) == (DESK_ID, EPOCH)
    ]


async def positions(here: House) -> dict[str, Decimal]:
    held = await here.venue.positions()
    return {position.symbol: position.quantity for position in held if position.quantity}


@pytest.mark.parametrize("face", [*SPOT, *MARGIN])
async def test_what_was_bought_is_sold_and_no_more(face: str) -> None:
    async with house(face, holdings=HOLDINGS.get(face, {})) as here:
        here.rest(3)
        trade(here, Side.BUY, 3)
        trade(here, Side.BUY, 2, market=1)
        stated = await here.stop(flatten_epoch=EPOCH)
        assert stated.is_settled, stated
        assert stated.flat is not None
        assert stated.flat.positions == ()
        assert here.open() == []
        assert [order.side for order in flattening(here)] == [Side.SELL, Side.SELL]
        left = await positions(here)
        assert left.keys() <= {dust.symbol for dust in stated.flat.dust}


@pytest.mark.parametrize("face", MARGIN)
async def test_a_short_position_is_bought_back_reduce_only(face: str) -> None:
    async with house(face) as here:
        trade(here, Side.SELL, 3)
        stated = await here.stop(flatten_epoch=EPOCH)
        assert stated.is_settled, stated
        (order,) = flattening(here)
        assert order.side is Side.BUY
        assert order.reduce_only
        assert await positions(here) == {}


@pytest.mark.parametrize("face", [*SPOT, *MARGIN])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_reply", "kinds": ["submit"], "count": 1},
        {"kind": "status_503_unknown", "accepted": True, "kinds": ["submit"], "count": 1},
        {"kind": "partial_fill", "kinds": ["submit"], "count": 1},
    ],
    ids=lambda fault: fault["kind"],
)
async def test_an_order_whose_answer_is_lost_is_looked_for_and_not_doubled(
    face: str, fault: dict[str, Any]
) -> None:
    async with house(face, holdings=HOLDINGS.get(face, {})) as here:
        trade(here, Side.BUY, 4)
        await here.venue.connect()
        before = (await positions(here))[here.kind.symbols[0]]
        await here.suffer(fault)
        stated = await here.stop(flatten_epoch=EPOCH)
        assert stated.is_settled, stated
        sold = sum((order.cum_qty for order in flattening(here)), Decimal(0))
        assert sold <= before
        assert (await positions(here)).get(here.kind.symbols[0], Decimal(0)) >= 0


async def test_on_the_spot_an_order_that_is_not_found_is_not_sent_again() -> None:
    async with house("binance", holdings=HOLDINGS["binance"]) as here:
        trade(here, Side.BUY, 4)
        await here.suffer({"kind": "status_503_unknown", "accepted": False, "kinds": ["submit"]})
        stated = await here.stop(flatten_epoch=EPOCH)
        assert stated.result == "verified"
        assert stated.flat is not None
        assert stated.flat.result == "unknown"
        assert "not found" in stated.flat.why
        assert stated.by_hand
        assert here.hits() == [1]
        assert flattening(here) == []


async def test_where_orders_only_reduce_one_that_is_not_found_is_sent_again() -> None:
    async with house("binance-usdm") as here:
        trade(here, Side.BUY, 4)
        await here.suffer(
            {"kind": "status_503_unknown", "accepted": False, "kinds": ["submit"], "count": 1}
        )
        stated = await here.stop(flatten_epoch=EPOCH)
        assert stated.is_settled, stated
        assert await positions(here) == {}


async def test_a_closed_market_leaves_positions_that_are_listed() -> None:
    async with house("oanda") as here:
        here.rest(2)
        trade(here, Side.BUY, 4)
        await here.suffer({"kind": "market_state", "state": "closed"})
        stated = await here.stop(flatten_epoch=EPOCH)
        assert stated.result == "verified"
        assert not stated.is_settled
        assert stated.flat is not None
        assert stated.flat.result == "residual"
        assert [(p.symbol, p.quantity) for p in stated.flat.positions] == [("EUR/USD", 4000)]
        assert "close its positions" in stated.by_hand
        assert 1 <= len(list(here.sim.exchange.ledger.refused)) + len(flattening(here)) <= 5


async def test_a_position_that_shows_a_fill_late_is_not_sold_twice() -> None:
    async with house("binance", holdings=HOLDINGS["binance"]) as here:
        trade(here, Side.BUY, 4)
        asked, answers = here.venue.positions, list[list[VenuePosition]]()

        async def stale() -> list[VenuePosition]:
            answers.append(await asked())
            return answers[0] if len(answers) < 5 else answers[-1]

        here.venue.positions = stale  # type: ignore[method-assign]
        stated = await here.stop(flatten_epoch=EPOCH)
        assert stated.is_settled, stated
        assert len(flattening(here)) == 1


@pytest.mark.parametrize("face", ["binance-usdm", "mt5"])
async def test_a_fill_that_is_told_after_the_orders_are_gone_is_closed_and_not_called_zero(
    face: str,
) -> None:
    """It beat the cancel, and the venue's positions lag: the one answer that was asked for said that
    nothing is held, and that was VERIFIED ZERO."""
    async with house(face) as here:
        trade(here, Side.BUY, 4)
        asked, times = here.venue.positions, 0

        async def late() -> list[VenuePosition]:
            nonlocal times
            times += 1
            return [] if times == 1 else await asked()

        here.venue.positions = late  # type: ignore[method-assign]
        stated = await here.stop(flatten_epoch=EPOCH)
        assert stated.is_settled, stated
        assert len(flattening(here)) == 1
        here.venue.positions = asked  # type: ignore[method-assign]
        assert await positions(here) == {}


async def test_zero_is_not_proven_by_answers_that_are_less_than_the_longest_latency_apart() -> None:
    async with house("mt5") as here:
        stated = await here.stop(flatten_epoch=EPOCH)
        assert stated.flat is not None
        assert stated.flat.result == "verified"

        times: list[float] = []
        asked = here.venue.positions

        async def noted() -> list[VenuePosition]:
            times.append(asyncio.get_running_loop().time())
            return await asked()

        here.venue.positions = noted  # type: ignore[method-assign]
        stated = await here.stop(visit={"settle_s": 1.0}, flatten_epoch=EPOCH + 1, timeout_s=60)
        assert stated.flat is not None
        assert stated.flat.result == "verified"
        assert times[-1] - times[0] >= 1.0

        stated = await here.stop(visit={"settle_s": 30.0}, flatten_epoch=EPOCH + 2, timeout_s=3)
        assert stated.flat is not None
        assert stated.flat.result == "unknown"
        assert not stated.is_settled


async def test_nothing_is_bought_to_fill_up_holdings() -> None:
    holdings = {"BTC": Decimal(6), "ETH": Decimal(100)}
    async with house("binance", holdings=holdings) as here:
        stated = await here.stop(flatten_epoch=EPOCH)
        assert stated.flat is not None
        assert stated.flat.result == "residual"
        assert "holdings" in stated.flat.why
        assert flattening(here) == []


async def test_a_symbol_alone_is_flattened() -> None:
    async with house("binance-usdm") as here:
        trade(here, Side.BUY, 4)
        trade(here, Side.BUY, 4, market=1)
        stated = await here.stop(flatten_epoch=EPOCH, scope=Scope(symbol=here.kind.symbols[1]))
        assert stated.is_settled, stated
        assert list(await positions(here)) == [here.kind.symbols[0]]


async def test_a_symbol_is_proven_flat_while_another_of_the_account_trades() -> None:
    """Each fill of the other one began its proof anew: it was unknown, and took all of its time."""
    async with house("binance-usdm") as here:
        moving, still = here.kind.symbols
        trade(here, Side.BUY, 4)
        trade(here, Side.BUY, 4, market=1)
        asked, moved = here.venue.positions, Decimal(0)

        async def moves() -> list[VenuePosition]:
            nonlocal moved
            moved += 1
            return [
                msgspec.structs.replace(each, quantity=each.quantity + moved)
                if each.symbol == moving
                else each
                for each in await asked()
            ]

        here.venue.positions = moves  # type: ignore[method-assign]
        stated = await here.stop(flatten_epoch=EPOCH, scope=Scope(symbol=still))
        assert stated.is_settled, stated
        assert moved > 1, "there is no proof without a second answer"


async def test_without_flatten_positions_stay() -> None:
    async with house("binance-usdm") as here:
        trade(here, Side.BUY, 4)
        stated = await here.stop()
        assert stated.is_settled
        assert stated.flat is None
        assert len(await positions(here)) == 1


async def test_an_adapter_that_never_finds_its_order_ends_as_unknown() -> None:
    async with house("binance-usdm") as here:
        trade(here, Side.BUY, 4)
        send = here.venue.submit

        async def submit(order: Any) -> Any:
            await send(order)
            return Unknown(why="lost")

        await here.suffer({"kind": "status_503_unknown", "kinds": ["order"]})
        here.venue.submit = submit  # type: ignore[method-assign]
        stated = await here.stop(flatten_epoch=EPOCH, timeout_s=3)
        assert stated.flat is not None
        assert stated.flat.result == "unknown"
        assert len(flattening(here)) == 1
