"""The planner, over any orders and any venue: nothing missed, nothing twice, no other's touched."""

from __future__ import annotations

import itertools
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openbell.domain.ids import is_own, mint
from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Side
from openbell.kill.plan import (
    Means,
    Target,
    floor_s,
    open_notional,
    opening_calls,
    plan_cancels,
    riskiest_first,
)
from openbell.venues.port import Capabilities, Listing, VenueOrder

DESK, OTHER = "0badcafe", "feedf00d"
SYMBOLS = ("BTC/USD", "ETH/USD", "USD/JPY")
_numbers = itertools.count(1)


def order(
    symbol: str = "BTC/USD",
    *,
    desk: str | None = DESK,
    cl_ord_id: str | None = None,
    price: str | None = "100",
    qty: str = "1",
    cum: str = "0",
    ord_type: OrdType = OrdType.LIMIT,
    reduce_only: bool = False,
) -> VenueOrder:
    number = next(_numbers)
    made = mint(desk, 1, number) if desk is not None else ClOrdID("")
    return VenueOrder(
        venue_order_id=str(number),
        cl_ord_id=made if cl_ord_id is None else ClOrdID(cl_ord_id),
        symbol=symbol,
        side=Side.BUY,
        ord_type=ord_type,
        status=OrdStatus.NEW,
        order_qty=Decimal(qty),
        cum_qty=Decimal(cum),
        price=None if price is None else Decimal(price),
        created_ns=0,
        updated_ns=0,
        reduce_only=reduce_only,
    )


def able(*, mass: bool = False, per_symbol: bool = False, batch: int = 0) -> Capabilities:
    return Capabilities(
        mass_cancel=mass,
        mass_cancel_per_symbol=per_symbol,
        batch_cancel=batch,
        dead_mans_switch=None,
        lookup_by_cl_ord_id=True,
        positions=False,
        reduce_only=False,
        server_time=False,
        order_stream=False,
    )


orders = st.builds(
    order,
    st.sampled_from(SYMBOLS),
    desk=st.sampled_from([DESK, DESK, DESK, OTHER, None]),
    price=st.one_of(st.none(), st.integers(1, 50).map(str)),
    qty=st.integers(1, 9).map(str),
    ord_type=st.sampled_from([OrdType.LIMIT, OrdType.LIMIT, OrdType.STOP]),
    reduce_only=st.booleans(),
)
capabilities = st.builds(
    able,
    mass=st.booleans(),
    per_symbol=st.booleans(),
    batch=st.sampled_from([0, 1, 2, 3, 10]),
)
targets = st.builds(
    Target,
    desk_id=st.just(DESK),
    symbol=st.sampled_from([None, *SYMBOLS]),
    everyone=st.booleans(),
)
listings = st.builds(
    Listing,
    orders=st.lists(orders, max_size=25).map(tuple),
    complete=st.booleans(),
    elsewhere=st.sampled_from([None, 0, 2]),
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
@given(listings, capabilities, targets, st.data())
def test_each_order_of_the_target_is_covered_exactly_once_and_no_other_is_reached(
    listing: Listing, can: Capabilities, target: Target, data: st.DataObject
) -> None:
    ids = [order.venue_order_id for order in listing.orders]
    some = st.sets(st.sampled_from(ids)) if ids else st.just(set[str]())
    stubborn, skip = data.draw(some), data.draw(some)
    refusals = [(Means.ACCOUNT, ""), *((Means.SYMBOL, symbol) for symbol in SYMBOLS)]
    avoid = data.draw(st.sets(st.sampled_from(refusals)))

    calls = plan_cancels(listing, can, target, avoid=avoid, stubborn=stubborn, skip=skip)

    covered = Counter(order.venue_order_id for call in calls for order in call.orders)
    wanted = {o.venue_order_id for o in listing.orders if target.holds(o)} - skip
    assert covered == Counter(wanted)
    for call in calls:
        named = {order.symbol for order in call.orders}
        if call.means is Means.ACCOUNT:
            assert can.mass_cancel
            assert (Means.ACCOUNT, "") not in avoid
            reached = list(listing.orders)
            hidden = not listing.complete or listing.elsewhere != 0
        elif call.means is Means.SYMBOL:
            assert can.mass_cancel_per_symbol
            assert (Means.SYMBOL, call.symbol) not in avoid
            assert named == {call.symbol}
            reached = [order for order in listing.orders if order.symbol == call.symbol]
            hidden = not listing.complete
        else:
            assert named == {call.symbol}
            assert len(call.orders) <= (can.batch_cancel if call.means is Means.BATCH else 1)
            reached, hidden = list(call.orders), False
        assert all(map(target.holds, reached))
        assert target.everyone or not hidden
        if not target.everyone:
            assert all(is_own(order.cl_ord_id, DESK) for order in reached)


@given(listings, capabilities, targets)
def test_calls_go_by_their_riskiest_order(
    listing: Listing, can: Capabilities, target: Target
) -> None:
    calls = plan_cancels(listing, can, target)

    wanted = riskiest_first(order for order in listing.orders if target.holds(order))
    ranks = [[wanted.index(order) for order in call.orders] for call in calls]
    assert all(rank == sorted(rank) for rank in ranks)
    assert ranks == sorted(ranks, key=lambda rank: rank[0])


@given(st.lists(orders, max_size=25))
def test_the_largest_open_notional_of_a_currency_comes_first(found: list[VenueOrder]) -> None:
    in_usd = [o for o in found if o.symbol.endswith("/USD") and not o.reduce_only]
    sizes = [open_notional(o) for o in riskiest_first(found) if o in in_usd]
    assert sizes == sorted(sizes, reverse=True)


@given(listings, capabilities, targets)
def test_a_venue_that_can_do_more_is_never_asked_more_often(
    listing: Listing, can: Capabilities, target: Target
) -> None:
    plain = able()
    assert len(plan_cancels(listing, can, target)) <= len(plan_cancels(listing, plain, target))


def test_what_is_partly_filled_counts_for_what_is_left() -> None:
    large = order(qty="10", cum="9.5")
    small = order(qty="1")
    assert riskiest_first([large, small]) == [small, large]


def test_amounts_of_two_currencies_are_not_compared() -> None:
    yen = [order("USD/JPY", price="150", qty=str(n)) for n in (1000, 900)]
    dollars = [order("EUR/USD", price="1.1", qty=str(n)) for n in (90_000, 1)]
    assert riskiest_first([*yen, *dollars]) in (
        [dollars[0], yen[0], dollars[1], yen[1]],
        [yen[0], dollars[0], yen[1], dollars[1]],
    )


def test_what_can_only_close_goes_last_and_what_has_no_price_first() -> None:
    closing = order(price="1000", reduce_only=True)
    plain, market = order(), order(price=None, ord_type=OrdType.MARKET)
    assert riskiest_first([closing, plain, market]) == [market, plain, closing]


@pytest.mark.parametrize("elsewhere", [None, 1])
def test_orders_that_the_list_may_not_show_keep_the_account_from_a_mass_cancel(
    elsewhere: int | None,
) -> None:
    listing = Listing(orders=(order(), order()), complete=True, elsewhere=elsewhere)
    calls = plan_cancels(listing, able(mass=True, batch=10), Target(desk_id=DESK))
    assert [call.means for call in calls] == [Means.BATCH]


def test_an_order_that_survived_is_asked_for_by_itself_and_last() -> None:
    survivor, others = order(price="999"), [order(), order()]
    calls = plan_cancels(
        Listing(orders=(survivor, *others), complete=True, elsewhere=0),
        able(mass=True),
        Target(desk_id=DESK),
        stubborn={survivor.venue_order_id},
    )
    assert [call.means for call in calls] == [Means.ACCOUNT, Means.SINGLE]
    assert calls[-1].orders == (survivor,)


def test_an_id_that_two_orders_share_is_not_put_into_a_batch() -> None:
    twins = [order(cl_ord_id="same"), order(cl_ord_id="same")]
    listing = Listing(orders=(*twins, order(), order()), complete=True)
    calls = plan_cancels(listing, able(batch=10), Target(desk_id=DESK, everyone=True))
    assert Counter(call.means for call in calls) == {Means.SINGLE: 2, Means.BATCH: 1}


@pytest.mark.parametrize(
    ("can", "target", "expected"),
    [
        (able(mass=True), Target(desk_id=DESK, everyone=True), [""]),
        (able(mass=True), Target(desk_id=DESK), []),
        (able(mass=True), Target(desk_id=DESK, everyone=True, symbol="BTC/USD"), []),
        (able(per_symbol=True), Target(desk_id=DESK, everyone=True), ["BTC/USD", "ETH/USD"]),
        (
            able(per_symbol=True),
            Target(desk_id=DESK, everyone=True, symbol="ETH/USD"),
            ["ETH/USD"],
        ),
    ],
)
def test_only_an_account_of_ones_own_is_cancelled_before_it_is_listed(
    can: Capabilities, target: Target, expected: list[str]
) -> None:
    assert [call.symbol for call in opening_calls(can, target, SYMBOLS[:2])] == expected


@pytest.mark.parametrize(
    ("calls", "keys", "seconds"),
    [
        (1, {}, 0.18),
        (1, {"first_list_trips": 0}, 0.16),
        (0, {}, 0.16),
        (100, {"cancels_per_s": 50.0}, 2.16),  # the last cancel is the 101st request
        (99, {"cancels_per_s": 50.0}, 2.02),  # the last list is the 102nd
        (10, {"cancels_per_s": 50.0}, 0.18),
    ],
)
def test_the_floor_is_what_round_trips_and_budget_leave(
    calls: int, keys: dict[str, float], seconds: float
) -> None:
    assert floor_s(calls, rtt_s=0.02, settle_s=0.1, **keys) == pytest.approx(seconds)  # type: ignore[arg-type]
