"""What venues do when it matters, and what a stop makes of it: judged by the venue's own orders."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from tests.kill.house import DESK_ID, KEY, OTHER_DESK, SECRET, House, house

from openbell.kill.events import NotKnown
from openbell.kill.statement import VenueStatement, all_settled
from openbell.kill.stop_venues import stop_venues
from openbell.venues.credentials import Credentials
from openbell.venues.kraken import calls
from openbell.venues.kraken.nonces import Nonces
from openbell.venues.port import Balance, Listing
from openbell.venues.registry import open_venue

CANCELS = ["cancel", "mass_cancel"]
EVERY_MEANS = ("kraken", "binance", "coinbase", "mt5", "oanda")
"""Mass cancel, per symbol, batch, and singles twice."""


def verified(stated: VenueStatement, here: House) -> bool:
    assert stated.result == "verified", stated
    assert here.own_open() == []
    return True


# An answer that does not come, or says nothing.


@pytest.mark.parametrize("face", ["kraken", "coinbase", "mt5"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_reply", "kinds": CANCELS, "count": 3},
        {"kind": "timeout_before_accept", "hold_s": 0.2, "kinds": CANCELS, "count": 3},
        {"kind": "status_503_unknown", "accepted": True, "kinds": CANCELS, "count": 3},
        {"kind": "status_503_unknown", "accepted": False, "kinds": CANCELS, "count": 3},
        {"kind": "status_503_unknown", "kinds": ["open_orders"], "count": 2},
        {"kind": "drop_reply", "kinds": ["open_orders"], "count": 2},
        {"kind": "bad_nonce", "kinds": CANCELS, "count": 2},
        {"kind": "key_refused", "kinds": ["open_orders"], "count": 1},
        {"kind": "fill_during_cancel", "part": 0.5, "count": 2},
        {"kind": "fill_during_cancel", "part": 1, "count": 2},
    ],
    ids=lambda fault: "-".join(map(str, list(fault.values())[:2])),
)
async def test_what_is_lost_or_refused_for_a_moment_is_asked_for_again(
    face: str, fault: dict[str, Any]
) -> None:
    async with house(face) as here:
        here.rest(6)
        here.rest(4, market=1)
        await here.suffer(fault)
        assert verified(await here.stop(), here)


async def test_a_clock_that_was_set_back_over_a_restore_keeps_no_order_from_its_cancel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The desk's last nonces were an hour ahead, and its machine is restored with a clock that is
    right: whatever it asks now is refused as too old, until its nonces have caught up."""
    async with house("kraken") as here:
        here.rest(6)
        hour_ns = 3600 * 10**9
        with monkeypatch.context() as clock:
            clock.setattr(calls, "Nonces", lambda: Nonces(lambda: time.time_ns() + hour_ns))
            ahead = open_venue("kraken", here.config, Credentials(KEY, SECRET))
        try:
            await ahead.connect()
            assert len((await ahead.open_orders()).orders) == 6
        finally:
            await ahead.close()
        assert verified(await here.stop(timeout_s=30), here)


async def test_a_request_that_hangs_does_not_hold_up_the_others() -> None:
    async with house("mt5") as here:
        here.rest(10)
        await here.suffer({"kind": "hang", "hold_s": 60, "kinds": ["cancel"], "count": 1})
        stated = await here.stop()
        assert verified(stated, here)
        assert stated.took_s < here.config.timeout


# Too many requests.


@pytest.mark.parametrize("face", ["binance", "binance-usdm", "coinbase"])
async def test_nothing_is_sent_before_the_time_that_a_429_named(face: str) -> None:
    """Whatever is sent earlier meets a 418, a ban of two minutes, and the stop would fail."""
    async with house(face) as here:
        here.rest(6)
        await here.venue.connect()
        early = {"kind": "http_status", "status": 418, "retry_after_s": 120, "until_s": 0.95}
        asked = here.venue.open_orders

        async def open_orders(symbols: Any = ()) -> Listing:
            listing = await asked(symbols)
            if not here.hits():
                throttled = {
                    "kind": "http_status", "status": 429, "retry_after_s": 1,
                    "kinds": CANCELS, "count": 1,
                }  # fmt: skip
                await here.suffer(throttled, early)
            return listing

        here.venue.open_orders = open_orders  # type: ignore[method-assign]
        began_s = time.monotonic()
        stated = await here.stop(visit={"warm": True})
        assert verified(stated, here)
        assert time.monotonic() - began_s > 1
        assert here.hits() == [1, 0]
        assert max(here.waits()) == pytest.approx(1, abs=0.1)


async def test_a_ban_longer_than_the_time_given_ends_the_stop_at_once() -> None:
    async with house("binance", web="https://venue.example/orders", phone="+44 20 0000") as here:
        here.rest(3)
        await here.suffer(
            {"kind": "http_status", "status": 418, "retry_after_s": 120, "kinds": CANCELS}
        )
        began_s = time.monotonic()
        stated = await here.stop(timeout_s=90)
        assert time.monotonic() - began_s < 60
        assert stated.result == "residual"
        assert len(stated.orders) == len(here.own_open()) == 3
        assert here.hits() == [1]
        assert "https://venue.example/orders" in stated.by_hand
        assert "+44 20 0000" in stated.by_hand


async def test_a_burst_of_cancels_ends_where_the_venues_budget_does() -> None:
    """Whoever goes on after a 429 is banned: of fifty requests under way none may be the first of
    many that are refused."""
    async with house("binance", limits=1.0, weight=150) as here:
        here.rest(200)
        here.rest(1, desk=OTHER_DESK)
        while not 2 < time.time() % 60 < 50:
            await asyncio.sleep(0.1)
        stated = await here.stop(timeout_s=4)
        assert not [key for key in here.sim.face.replies if key[2] in (418, 429)]
        assert stated.result == "unknown"  # not even a list may be asked for any more
        assert 50 < len(here.own_open()) < 120
        assert max(here.waits()) > 1


# Cancels that do not work.


@pytest.mark.parametrize("face", EVERY_MEANS)
async def test_cancels_that_are_refused_leave_a_residual_that_is_listed(face: str) -> None:
    async with house(face) as here:
        placed = here.rest(4)
        await here.suffer({"kind": "reject_cancels"})
        stated = await here.stop(timeout_s=2)
        assert stated.result == "residual"
        assert not all_settled([stated])
        assert len(here.own_open()) == 4
        told = {here.kind.from_the_wire(order.cl_ord_id) for order in placed}
        assert {order.cl_ord_id for order in stated.orders} == told
        assert stated.why
        assert stated.by_hand


@pytest.mark.parametrize("face", EVERY_MEANS)
async def test_a_session_without_cancels_is_asked_until_it_takes_them(face: str) -> None:
    async with house(face) as here:
        here.rest(4)
        await here.suffer({"kind": "market_state", "state": "halted"})
        asked = asyncio.create_task(here.stop(timeout_s=20))
        async with asyncio.timeout(10):
            while len(here.means()) < 3:
                await asyncio.sleep(0.01)
        assert len(here.own_open()) == 4
        here.sim.faults.clear()
        assert verified(await asked, here)


async def test_a_symbol_that_refuses_its_cancels_holds_up_no_other() -> None:
    async with house("mt5") as here:
        here.rest(30, market=1)
        stuck = here.rest(30, quantity=here.kind.quantity * 9)
        await here.suffer({"kind": "market_state", "state": "halted", "symbol": "EURUSD"})
        stated = await here.stop(timeout_s=8)
        assert stated.result == "residual"
        assert here.own_open() == stuck
        assert len(stated.orders) == 30


@pytest.mark.parametrize("face", EVERY_MEANS)
async def test_a_cancel_that_is_acknowledged_and_done_late_is_waited_for(face: str) -> None:
    async with house(face) as here:
        here.rest(5)
        await here.suffer({"kind": "lazy_cancels", "delay_s": 1.2})
        stated = await here.stop()
        assert verified(stated, here)
        assert stated.took_s > 1.2


async def test_a_cancel_that_is_acknowledged_and_never_done_is_no_success() -> None:
    async with house("kraken") as here:
        here.rest(5)
        await here.suffer({"kind": "lazy_cancels", "delay_s": 60})
        stated = await here.stop(timeout_s=3)
        assert stated.result == "residual"
        assert stated.acknowledged == 5
        assert len(stated.orders) == len(here.own_open()) == 5


# Lists that lie.


@pytest.mark.parametrize("face", ["kraken", "binance", "coinbase", "mt5", "oanda"])
async def test_an_empty_list_with_http_200_is_not_believed(face: str) -> None:
    """On the spot locked funds contradict it, elsewhere the venue's own count."""
    async with house(face) as here:
        here.rest(5)
        await here.suffer({"kind": "empty_list"})
        stated = await here.stop(timeout_s=2)
        assert stated.result == "unknown"
        assert len(here.own_open()) == 5
        assert stated.why
        here.sim.faults.clear()
        assert verified(await here.stop(), here)


async def test_an_order_that_nobody_cancelled_and_that_vanished_is_looked_up() -> None:
    async with house("binance-usdm") as here:
        here.rest(5)
        await here.suffer(
            {"kind": "status_503_unknown", "accepted": False, "kinds": CANCELS},
            {"kind": "empty_list", "after": 4},
        )

        async def balances() -> dict[str, Balance]:
            return {}  # what is locked is not told either

        here.venue.balances = balances  # type: ignore[method-assign]
        stated = await here.stop(timeout_s=3)
        assert stated.result == "unknown"
        assert "no list shows it" in stated.why
        assert len(here.own_open()) == 5


async def test_a_truncated_page_never_counts() -> None:
    async with house("mt5") as here:
        here.rest(5)
        await here.suffer({"kind": "truncated_page", "keep": 0, "kinds": ["open_orders"]})
        stated = await here.stop(timeout_s=2)
        assert stated.result == "unknown"
        assert "incomplete" in stated.why


@pytest.mark.parametrize("face", EVERY_MEANS)
async def test_orders_behind_a_truncated_page_are_found_later(face: str) -> None:
    async with house(face) as here:
        here.rest(5)
        await here.suffer({"kind": "truncated_page", "keep": 2, "count": 2})
        assert verified(await here.stop(), here)


async def test_an_order_that_lands_after_the_first_empty_list_begins_it_anew() -> None:
    async with house("kraken") as here:
        here.rest(5)
        lists: list[Listing] = []
        asked = here.venue.open_orders

        async def open_orders(symbols: Any = ()) -> Listing:
            listing = await asked(symbols)
            lists.append(listing)
            if len(lists) == 2:
                assert listing.orders == ()
                here.rest(1)  # on its way when the engine froze
            return listing

        here.venue.open_orders = open_orders  # type: ignore[method-assign]
        stated = await here.stop()
        assert verified(stated, here)
        assert [len(listing.orders) for listing in lists] == [5, 0, 1, 0, 0]


async def test_two_empty_lists_are_as_far_apart_as_the_longest_latency() -> None:
    async with house("kraken") as here:
        asked, times = here.venue.open_orders, list[float]()

        async def open_orders(symbols: Any = ()) -> Listing:
            times.append(time.monotonic())
            listing = await asked(symbols)
            times.append(time.monotonic())
            return listing

        here.venue.open_orders = open_orders  # type: ignore[method-assign]
        assert verified(await here.stop(visit={"settle_s": 0.6}), here)
        assert times[2] - times[1] >= 0.6


async def test_where_there_is_no_time_for_two_lists_so_far_apart_nothing_is_verified() -> None:
    """It was shortened to a third of the time, and called verified."""
    async with house("kraken") as here:
        here.rest(1)
        stated = await here.stop(visit={"settle_s": 20.0}, timeout_s=4.0)
        assert stated.result == "unknown", stated
        assert here.own_open() == [], "the orders are cancelled all the same"
        assert "the wait for orders on their way was cut" in stated.why
        assert "20 s apart" in stated.why
        assert "--timeout 24" in stated.by_hand


async def test_no_list_counts_before_the_engines_are_quiet() -> None:
    async with house("kraken") as here:
        quiet = asyncio.Event()
        asked = asyncio.create_task(here.stop(quiet=quiet))
        await asyncio.sleep(0.5)
        assert not asked.done()
        here.rest(2)  # by an engine that is not frozen yet
        quiet.set()
        assert verified(await asked, here)
        stated = await here.stop(quiet=asyncio.Event(), timeout_s=0.5)
        assert stated.result == "unknown"
        assert "an engine may still send" in stated.why


# A venue that is gone.


@pytest.mark.parametrize("face", EVERY_MEANS)
async def test_a_key_that_is_revoked_in_the_middle_leaves_it_unknown(face: str) -> None:
    async with house(face) as here:
        here.rest(40)
        here.rest(40, market=1)
        await here.suffer({"kind": "key_revoked", "kinds": CANCELS})
        began_s = time.monotonic()
        stated = await here.stop(timeout_s=90)
        assert stated.result == "unknown"
        assert time.monotonic() - began_s < 60  # a key that is refused is not asked with for ever
        assert len(here.own_open()) == 80
        assert len(stated.orders) == 80  # as last seen


async def test_one_venue_that_hangs_delays_no_other() -> None:
    async with house("kraken") as one, house("binance") as other, house("mt5") as hanging:
        for here in (one, other, hanging):
            here.rest(10)
        await hanging.suffer({"kind": "hang", "hold_s": 60})
        ended: dict[str, float] = {}
        began_s = time.monotonic()

        def tell(event: Any) -> None:
            if type(event).__name__ == "Ended":
                ended[event.venue] = time.monotonic() - began_s

        stated = await stop_venues(
            [here.visit() for here in (one, hanging, other)],
            desk_id=DESK_ID,
            timeout_s=6,
            tell=tell,
        )
        assert [each.result for each in stated] == ["verified", "unknown", "verified"]
        assert not all_settled(stated)
        assert stated[1].by_hand
        assert max(ended["kraken"], ended["binance"]) < ended["mt5"]


async def test_a_listener_that_fails_and_an_adapter_that_raises_end_no_stop() -> None:
    async with house("binance") as here:
        here.rest(3)
        asked, times = here.venue.cancel_all, 0

        async def cancel_all(symbol: str) -> Any:
            nonlocal times
            times += 1
            if times == 1:
                raise RuntimeError("a defect")
            return await asked(symbol)

        def tell(event: Any) -> None:
            raise ValueError("a broken terminal")

        here.venue.cancel_all = cancel_all  # type: ignore[method-assign]
        (stated,) = await stop_venues([here.visit()], desk_id=DESK_ID, timeout_s=10, tell=tell)
        assert verified(stated, here)
        assert times == 2


async def test_a_venue_that_is_not_there_is_unknown_until_it_is() -> None:
    async with house("binance") as here:
        here.rest(3)
        await here.suffer({"kind": "http_status", "status": 502})
        stated = await here.stop(timeout_s=1)
        assert stated.result == "unknown"
        assert stated.why
        assert any(isinstance(event, NotKnown) for event in here.events)
        here.sim.faults.clear()
        assert verified(await here.stop(), here)


async def test_statements_travel_as_json() -> None:
    async with house("binance") as here:
        here.rest(1)
        await here.suffer({"kind": "reject_cancels"})
        stated = await here.stop(timeout_s=1)
        assert msgspec.json.decode(msgspec.json.encode(stated), type=VenueStatement) == stated
