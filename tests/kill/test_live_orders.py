"""What a stop makes of the engine's register of live orders: lists that leave orders out, orders that
are still on their way, entries that are stale, registers that cannot be read. Judged by the venue's own
orders, or, where the rule alone is meant, by a venue of this module."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from tests.kill.house import ENGINE_KEY, ENGINE_SECRET, KINDS, OTHER_DESK, House, house
from tests.kill.test_faults import verified

from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    Order,
    OrdStatus,
    OrdType,
    Purpose,
    Side,
    TimeInForce,
)
from openbell.kill import live_orders
from openbell.kill.live_orders import Accounting, RegisterOnDisk
from openbell.kill.stop_venues import not_named
from openbell.runtime.processes import system_processes
from openbell.state import order_latency
from openbell.state.live_orders import LiveOrder, Sent
from openbell.state.order_register import OrderRegister
from openbell.venues.credentials import Credentials
from openbell.venues.port import Accepted, VenueOrder
from openbell.venues.registry import open_venue

ALL = tuple(KINDS)
LONG_AGO_S = 60.0
LOOKS_INTO_LISTS = ("kraken", "coinbase", "tradelocker")
"""Asked for one order, their adapters look into the lists that lie here: nothing is proven then."""


class Engine:
    """The register of one, and what it would send."""

    def __init__(self, here: House, folder: Path) -> None:
        self.here = here
        self.folder = folder
        self.register = OrderRegister(folder, system_processes().boot_id(), slots=8)
        self.register.open()

    def order(self, cl_ord_id: str = "", *, market: int = 0) -> NewOrder:
        kind = self.here.kind
        return NewOrder(
            cl_ord_id=ClOrdID(cl_ord_id or self.here.id()),
            venue=self.here.venue.name,
            symbol=kind.symbols[market],
            side=Side.BUY,
            ord_type=OrdType.LIMIT,
            order_qty=kind.quantity,
            price=Decimal(kind.prices[market]),
            time_in_force=TimeInForce.GTC,
            purpose=Purpose.TRADE,
        )

    def holds(self, cl_ord_ids: Iterable[str], *, market: int = 0) -> None:
        """They were sent long ago, answered, and rest."""
        long_ago_ns = max(1, time.monotonic_ns() - int(LONG_AGO_S * 1e9))
        news = [self.order(cl_ord_id, market=market) for cl_ord_id in cl_ord_ids]
        self.register.adopt(
            (
                Order(new=new, status=OrdStatus.NEW, created_ns=0, updated_ns=0, venue_order_id="v")
                for new in news
            ),
            long_ago_ns,
        )

    def sends(self, *, tells: bool = False) -> NewOrder:
        """One that has no answer. `tells`: the adapter is known to ask for leave, and this one has not
        got it."""
        if tells:
            first = self.order()
            self.register.intended(first)
            self.register.leaving(first)
            self.register.heard(
                Order(new=first, status=OrdStatus.REJECTED, created_ns=0, updated_ns=0)
            )
        new = self.order()
        self.register.intended(new)
        return new

    def read(self) -> RegisterOnDisk:
        """As one stop does."""
        return RegisterOnDisk(self.folder)


@contextlib.contextmanager
def counting(here: House) -> Iterator[list[str]]:
    """The orders that are asked for by their ClOrdIDs."""
    asked: list[str] = []
    question = here.venue.order

    async def order(symbol: str, cl_ord_id: ClOrdID) -> VenueOrder | None:
        asked.append(cl_ord_id)
        return await question(symbol, cl_ord_id)

    here.venue.order = order  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        here.venue.order = question  # type: ignore[method-assign]


def own_ids(here: House) -> list[str]:
    return [here.kind.from_the_wire(order.cl_ord_id) for order in here.own_open()]


# Lists that lie.


@pytest.mark.parametrize("face", ALL)
async def test_orders_that_an_empty_list_leaves_out_are_found_and_cancelled(
    face: str, tmp_path: Path
) -> None:
    """Every list is empty and says 200, from the first to the last."""
    async with house(face) as here:
        here.rest(5)
        engine = Engine(here, tmp_path)
        names = own_ids(here)
        engine.holds(names)
        await here.suffer({"kind": "empty_list"})
        if face in LOOKS_INTO_LISTS:
            stated = await here.stop(register=engine.read(), timeout_s=5)
            assert (stated.result, sorted(stated.in_doubt)) == ("unknown", sorted(names))
            here.sim.faults.clear()
        stated = await here.stop(register=engine.read(), timeout_s=30)
        assert verified(stated, here)
        assert stated.acknowledged == 5
        assert stated.in_doubt == ()


async def test_orders_that_the_first_list_leaves_out_are_not_forgotten_for_those_it_shows(
    tmp_path: Path,
) -> None:
    async with house("binance-usdm") as here:
        here.rest(4)
        engine = Engine(here, tmp_path)
        engine.holds(own_ids(here))
        hidden = own_ids(here)[2:]
        asked = here.venue.open_orders

        async def open_orders(symbols: Sequence[str] = ()) -> Any:
            listing = await asked(symbols)
            orders = tuple(order for order in listing.orders if order.cl_ord_id not in hidden)
            return msgspec.structs.replace(listing, orders=orders)

        here.venue.open_orders = open_orders  # type: ignore[method-assign]
        # The mass cancel of its symbol would take the hidden ones with it.
        here.rest(1, desk=None)
        assert verified(await here.stop(register=engine.read(), timeout_s=30), here)


async def test_orders_whose_cancel_was_lost_and_that_the_next_lists_leave_out_are_found_and_cancelled(
    tmp_path: Path,
) -> None:
    """A list showed them once, so their end was left to the lists: of those that the venue took no cancel
    of three were asked for, and none was cancelled again."""
    async with house("binance-usdm") as here:
        here.rest(6)
        engine = Engine(here, tmp_path)
        engine.holds(own_ids(here))
        asked, lists = here.venue.open_orders, itertools.count()

        async def open_orders(symbols: Sequence[str] = ()) -> Any:
            listing = await asked(symbols)
            return msgspec.structs.replace(listing, orders=()) if next(lists) else listing

        here.venue.open_orders = open_orders  # type: ignore[method-assign]
        lost = {"kind": "status_503_unknown", "accepted": False, "kinds": ["cancel", "mass_cancel"]}
        await here.suffer({**lost, "count": 1})
        stated = await here.stop(register=engine.read(), timeout_s=30)
        assert here.hits() == [1]
        assert verified(stated, here)
        assert stated.acknowledged == 6


async def test_what_an_empty_list_hides_and_no_cancel_ends_is_residual(tmp_path: Path) -> None:
    async with house("binance-usdm") as here:
        here.rest(2)
        engine = Engine(here, tmp_path)
        engine.holds(own_ids(here))
        await here.suffer({"kind": "empty_list"}, {"kind": "reject_cancels"})
        stated = await here.stop(register=engine.read(), timeout_s=5)
        assert stated.result == "residual"
        assert {each.cl_ord_id for each in stated.orders} == set(own_ids(here))
        assert len(here.own_open()) == 2


@pytest.mark.parametrize("face", ["binance", "oanda"])
async def test_while_no_list_is_to_be_had_what_the_register_names_is_cancelled_and_nothing_proven(
    face: str, tmp_path: Path
) -> None:
    """A venue whose lists failed, or hung, kept every order that it would have cancelled."""
    async with house(face) as here:
        here.rest(5)
        here.rest(1, desk=OTHER_DESK)
        engine = Engine(here, tmp_path)
        engine.holds(own_ids(here))
        await here.suffer({"kind": "status_503_unknown", "kinds": ["open_orders"]})
        stated = await here.stop(register=engine.read(), timeout_s=8)
        assert (stated.result, stated.acknowledged) == ("unknown", 5)
        assert here.own_open() == []
        assert len(here.open()) == 1
        here.sim.faults.clear()
        assert verified(await here.stop(register=engine.read(), timeout_s=30), here)


# Orders on their way.


@pytest.mark.parametrize("face", ALL)
async def test_an_order_that_hangs_on_its_way_is_awaited(face: str, tmp_path: Path) -> None:
    """It lands long after two empty lists would have been believed."""
    async with house(face, timeout=10.0) as here:
        engine = Engine(here, tmp_path)
        new = engine.sends()
        # With a key of its own: Kraken takes no request after a later one of the same key.
        own = open_venue(face, here.config, Credentials(ENGINE_KEY, ENGINE_SECRET))
        try:
            await own.connect()
            await here.suffer({"kind": "hang", "hold_s": 1.5, "kinds": ["submit"]})
            sending = asyncio.create_task(own.submit(new))
            async with asyncio.timeout(20):
                while here.hits() != [1]:
                    await asyncio.sleep(0.01)
            assert verified(await here.stop(register=engine.read(), timeout_s=50), here)
            assert isinstance(await sending, Accepted)
        finally:
            await own.close()
        (landed,) = here.sim.exchange.ledger.orders.values()
        assert here.kind.from_the_wire(landed.cl_ord_id) == new.cl_ord_id


async def test_one_that_never_lands_is_given_up_for_its_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_latency, "LANDS_WITHIN_S", 1.0)
    async with house("kraken") as here:
        engine = Engine(here, tmp_path)
        new = engine.sends()
        with counting(here) as asked:
            stated = await here.stop(register=engine.read(), timeout_s=30)
        assert verified(stated, here)
        assert stated.took_s > 1.0
        assert set(asked) == {new.cl_ord_id}


async def test_time_that_is_up_before_leaves_it_unknown_by_name(tmp_path: Path) -> None:
    async with house("kraken", web="https://venue.example/orders") as here:
        engine = Engine(here, tmp_path)
        here.rest(2)
        new = engine.sends()
        stated = await here.stop(register=engine.read(), timeout_s=5)
        assert (stated.result, stated.in_doubt) == ("unknown", (new.cl_ord_id,))
        assert here.own_open() == []
        assert "may still land" in stated.why
        assert new.cl_ord_id in stated.by_hand
        assert "https://venue.example/orders" in stated.by_hand


async def test_one_whose_first_byte_had_no_leave_is_not_waited_for(tmp_path: Path) -> None:
    async with house("kraken") as here:
        engine = Engine(here, tmp_path)
        new = engine.sends(tells=True)
        with counting(here) as asked:
            assert verified(await here.stop(register=engine.read(), timeout_s=20), here)
            assert asked == [new.cl_ord_id]
            # An engine that was only silent gets its leave later: nothing may be noted of it.
            assert verified(await here.stop(register=engine.read(), timeout_s=20), here)
        assert asked == [new.cl_ord_id] * 2


async def test_one_that_a_venue_knew_and_has_lost_is_never_given_up(tmp_path: Path) -> None:
    async with house("kraken") as here:
        engine = Engine(here, tmp_path)
        engine.holds(["ob0badcafe-7-zz"])
        stated = await here.stop(register=engine.read(), timeout_s=5)
        assert (stated.result, stated.in_doubt) == ("unknown", ("ob0badcafe-7-zz",))
        assert "their end is not proven" in stated.why


async def test_a_venue_that_cannot_be_asked_by_cl_ord_id_proves_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_latency, "LANDS_WITHIN_S", 1.0)
    async with house("kraken") as here:
        here.venue.capabilities = msgspec.structs.replace(
            here.venue.capabilities, lookup_by_cl_ord_id=False
        )
        engine = Engine(here, tmp_path)
        engine.sends()
        assert verified(await here.stop(register=engine.read(), timeout_s=30), here)
        engine.holds(["ob0badcafe-7-zz"])
        stated = await here.stop(register=engine.read(), timeout_s=5)
        assert (stated.result, stated.in_doubt) == ("unknown", ("ob0badcafe-7-zz",))
        assert "cannot be asked" in stated.why


async def test_a_mass_cancel_where_nothing_can_be_asked_by_cl_ord_id_comes_after_a_list(
    tmp_path: Path,
) -> None:
    """What it took unseen stayed in doubt for ever: an ordinary stop of such a venue was never verified."""
    async with house("binance-usdm", exclusive=True) as here:
        here.venue.capabilities = msgspec.structs.replace(
            here.venue.capabilities, lookup_by_cl_ord_id=False
        )
        here.rest(10)
        engine = Engine(here, tmp_path)
        engine.holds(own_ids(here))
        stated = await here.stop(register=engine.read(), timeout_s=30)
        assert verified(stated, here)
        assert (stated.in_doubt, stated.acknowledged) == ((), 10)


async def test_questions_that_fail_are_asked_again_and_hold_up_no_cancel(tmp_path: Path) -> None:
    async with house("kraken") as here:
        here.rest(3)
        engine = Engine(here, tmp_path)
        engine.sends(tells=True)
        await here.suffer({"kind": "drop_reply", "kinds": ["order"], "count": 2})
        assert verified(await here.stop(register=engine.read(), timeout_s=30), here)


# What costs nothing.


@pytest.mark.parametrize("face", ["kraken", "binance", "mt5"])
async def test_orders_that_the_venue_lists_are_not_asked_for(face: str, tmp_path: Path) -> None:
    async with house(face) as here:
        here.rest(30)
        engine = Engine(here, tmp_path)
        engine.holds(own_ids(here))
        with counting(here) as asked:
            assert verified(await here.stop(register=engine.read(), timeout_s=30), here)
        assert asked == []


async def test_of_those_that_a_mass_cancel_took_unseen_a_few_are_asked_for(tmp_path: Path) -> None:
    async with house("kraken", exclusive=True) as here:
        here.rest(30)
        engine = Engine(here, tmp_path)
        engine.holds(own_ids(here))
        with counting(here) as asked:
            assert verified(await here.stop(register=engine.read(), timeout_s=30), here)
        assert len(set(asked)) <= live_orders.SAMPLE


def test_what_a_mass_cancel_may_have_overtaken_is_not_taken_for_withdrawn() -> None:
    """Sent on another connection a moment before it, landed after it, and answered before the engine was
    frozen: it rests, and was struck off unasked for three others that were gone."""
    account = Accounting(cast(Any, None), None, None, window_s=1.0, latency_s=0.5)
    for name, symbol, sent, sent_s in (
        ("long before", "BTC/USDT", Sent.OPEN, 9.4),
        ("just before", "BTC/USDT", Sent.OPEN, 9.6),
        ("unanswered", "BTC/USDT", Sent.UNANSWERED, 9.0),
        ("elsewhere", "ETH/USDT", Sent.OPEN, 9.0),
    ):
        key = ClOrdID(name)
        account.left[key] = LiveOrder(key, "kraken", symbol, sent, int(sent_s * 1e9))
    ten_ns = 10 * 10**9
    assert [each.cl_ord_id for each in account._taken({"BTC/USDT": ten_ns})] == ["long before"]
    assert {each.cl_ord_id for each in account._taken({"": ten_ns})} == {"long before", "elsewhere"}
    assert account._taken({}) == []


async def test_what_had_filled_before_a_mass_cancel_does_not_prove_that_it_did_anything(
    tmp_path: Path,
) -> None:
    """Three that had ended by themselves were taken for the mass cancel's doing, and it did nothing."""
    async with house("binance-usdm", exclusive=True) as here:
        engine = Engine(here, tmp_path)
        placed = here.rest(8)
        engine.holds(here.kind.from_the_wire(order.cl_ord_id) for order in placed)
        for order in placed[: live_orders.SAMPLE]:
            here.sim.exchange.fill(order)
        asked, idle = here.venue.cancel_all, [True]

        async def cancel_all(symbol: str) -> Any:
            if idle and idle.pop():
                return Accepted(venue_order_id="")
            return await asked(symbol)

        here.venue.cancel_all = cancel_all  # type: ignore[method-assign]
        await here.suffer({"kind": "empty_list"})
        assert verified(await here.stop(register=engine.read(), timeout_s=30), here)
        assert not idle


@pytest.mark.parametrize("markets", [(0, 1), (1,)])
async def test_a_mass_cancel_that_was_acknowledged_and_did_nothing_is_found_out(
    tmp_path: Path, markets: tuple[int, ...]
) -> None:
    """And the list is empty, and says 200. In one symbol of two: three of the other one's had ended, and
    that was taken for all."""
    async with house("binance-usdm", exclusive=True) as here:
        engine = Engine(here, tmp_path)
        for market in (0, 1):
            placed = here.rest(5, market=market)
            names = [here.kind.from_the_wire(order.cl_ord_id) for order in placed]
            engine.holds(names, market=market)
        asked, idle = here.venue.cancel_all, {here.kind.symbols[market] for market in markets}

        async def cancel_all(symbol: str) -> Any:
            if symbol in idle:
                idle.discard(symbol)
                return Accepted(venue_order_id="")
            return await asked(symbol)

        here.venue.cancel_all = cancel_all  # type: ignore[method-assign]
        await here.suffer({"kind": "empty_list"})
        assert verified(await here.stop(register=engine.read(), timeout_s=30), here)
        assert not idle


async def test_what_ended_unheard_is_resolved_and_a_second_stop_asks_for_none(
    tmp_path: Path,
) -> None:
    async with house("kraken") as here:
        placed = here.rest(4)
        engine = Engine(here, tmp_path)
        engine.holds(own_ids(here))
        ended = [here.kind.from_the_wire(order.cl_ord_id) for order in placed[:2]]
        for order in placed[:2]:
            here.sim.exchange.fill(order)
        with counting(here) as asked:
            assert verified(await here.stop(register=engine.read(), timeout_s=30), here)
            assert sorted(asked) == sorted(ended)
            asked.clear()
            assert verified(await here.stop(register=engine.read(), timeout_s=30), here)
            assert asked == []


async def test_of_another_symbol_or_venue_nothing_is_asked(tmp_path: Path) -> None:
    from openbell.kill.plan import Scope

    async with house("kraken") as here:
        engine = Engine(here, tmp_path)
        engine.holds(["ob0badcafe-7-zz"], market=1)
        other = msgspec.structs.replace(engine.order("ob0badcafe-7-zy"), venue="elsewhere")
        engine.register.intended(other)
        with counting(here) as asked:
            symbol = here.kind.symbols[0]
            stated = await here.stop(register=engine.read(), scope=Scope(symbol=symbol))
            assert verified(stated, here)
            assert asked == []
            stated = await here.stop(register=engine.read(), timeout_s=5)
            assert stated.in_doubt == ("ob0badcafe-7-zz",)


async def test_of_a_venue_that_desk_toml_no_longer_names_nothing_is_known(tmp_path: Path) -> None:
    async with house("kraken") as here:
        engine = Engine(here, tmp_path)
        engine.holds(["ob0badcafe-7-zz"])
        assert await not_named(engine.read(), [here.venue.name], flatten=False) == ()
        (stated,) = await not_named(engine.read(), ["another"], flatten=True)
    assert (stated.venue, stated.result) == (here.venue.name, "unknown")
    assert stated.in_doubt == ("ob0badcafe-7-zz",)
    assert "ob0badcafe-7-zz" in stated.by_hand
    assert stated.flat is not None
    assert stated.flat.result == "unknown"


# A register that cannot be read.


async def test_a_damaged_register_keeps_nothing_from_its_cancel_and_is_never_verified(
    tmp_path: Path,
) -> None:
    async with house("kraken") as here:
        here.rest(5)
        engine = Engine(here, tmp_path)
        (path,) = tmp_path.glob("*.orders")
        path.write_bytes(path.read_bytes()[:100])
        stated = await here.stop(register=engine.read(), timeout_s=20)
        assert stated.result == "unknown"
        assert "register of live orders is damaged" in stated.why
        assert stated.by_hand
        assert stated.took_s < 15, "it is known at once that it will not be proven"
        assert here.own_open() == []


async def test_without_a_register_the_statement_says_what_it_cannot_know(tmp_path: Path) -> None:
    async with house("kraken") as here:
        here.rest(1)
        stated = await here.stop(register=RegisterOnDisk(tmp_path / "none"))
        assert verified(stated, here)
        assert "register" in stated.not_seen
