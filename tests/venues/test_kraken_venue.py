"""The Kraken adapter against a scripted venue: requests are counted where they arrive."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest

from openbell.config.models import Venue as VenueConfig
from openbell.domain.ids import mint
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, OrdType, Side
from openbell.errors import ConfigError
from openbell.venues.credentials import Credentials
from openbell.venues.kraken.ids import to_kraken
from openbell.venues.kraken.venue import KrakenVenue
from openbell.venues.port import (
    Accepted,
    Rejected,
    Unknown,
    VenueAuthError,
    VenueRefusedError,
    VenueThrottledError,
    VenueUnavailableError,
)

KEY, SECRET = "canary-key-5f2d9e", "ca" * 32
CL_ORD_ID = mint("3f9a01c4", 71, 9)
UUID = to_kraken(CL_ORD_ID)
TXID = "OUF4EM-FRGI2-MQMWZD"
PAIRS = {
    "XXBTZUSD": {
        "altname": "XBTUSD",
        "wsname": "XBT/USD",
        "base": "XXBT",
        "quote": "ZUSD",
        "pair_decimals": 1,
        "lot_decimals": 8,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": "0.1",
    }
}


def private(call: str) -> tuple[str, str]:
    return "POST", f"/0/private/{call}"


@pytest.fixture
async def make(scripted: Any) -> AsyncIterator[Callable[..., KrakenVenue]]:
    opened: list[KrakenVenue] = []

    def build(**changes: Any) -> KrakenVenue:
        fields = {"url": scripted.url, "symbols": ("BTC/USD",), "timeout": 10.0, **changes}
        venue = KrakenVenue(
            "krk", VenueConfig(adapter="kraken", **fields), Credentials(KEY, SECRET)
        )
        opened.append(venue)
        return venue

    yield build
    for venue in opened:
        await venue.close()


@pytest.fixture
async def venue(scripted: Any, answers: Any, make: Callable[..., KrakenVenue]) -> KrakenVenue:
    """Connected; the script may be changed afterwards."""

    def ok(result: Any) -> Any:
        return answers.reply({"error": [], "result": result})

    scripted.on("GET", "/0/public/Time", ok({"unixtime": int(time.time())}))
    scripted.on("GET", "/0/public/AssetPairs", ok(PAIRS))
    scripted.on("GET", "/0/public/Assets", ok({"XXBT": {"altname": "XBT"}}))
    scripted.on(*private("BalanceEx"), ok({"XXBT": {"balance": "1", "hold_trade": "0"}}))
    made = make()
    await made.connect()
    return made


@pytest.fixture
def says(scripted: Any, answers: Any) -> Callable[..., None]:
    """`says("AddOrder", error)` or `says("AddOrder", result={...})`, one after the other."""

    def script(call: str, *messages: str, result: Any = None) -> None:
        bodies = [{"error": [message]} for message in messages]
        if result is not None:
            bodies.append({"error": [], "result": result})
        scripted.on(*private(call), *map(answers.reply, bodies))

    return script


def order(**changes: Any) -> NewOrder:
    fields: dict[str, Any] = {
        "cl_ord_id": CL_ORD_ID,
        "venue": "krk",
        "symbol": "BTC/USD",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "order_qty": Decimal("0.01"),
        "price": Decimal(50000),
    }
    return NewOrder(**{**fields, **changes})


def open_order(**changes: Any) -> dict[str, Any]:
    return {
        "status": "open",
        "cl_ord_id": UUID,
        "vol": "0.01000000",
        "vol_exec": "0.00000000",
        "opentm": 1688665496.7808,
        "descr": {
            "pair": "XBTUSD",
            "type": "buy",
            "ordertype": "limit",
            "price": "50000.0",
            "price2": "0",
        },
        **changes,
    }


def trade(number: int, at: float = 1688665496.5) -> dict[str, Any]:
    return {
        "ordertxid": TXID,
        "pair": "XXBTZUSD",
        "time": at + number,
        "type": "buy",
        "price": "50000.0",
        "vol": "0.001",
        "fee": "0.2",
        "maker": number % 2 == 0,
    }


# Outcomes.


async def test_an_accepted_order_names_krakens_id(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None]
) -> None:
    says("AddOrder", result={"txid": [TXID], "descr": {"order": "..."}})
    assert await venue.submit(order()) == Accepted(venue_order_id=TXID)
    sent = scripted.seen[-1]
    assert sent.params["cl_ord_id"] == UUID
    assert (sent.params["pair"], sent.params["oflags"]) == ("XBTUSD", "fciq")
    assert sent.headers["api-key"] == KEY
    assert abs(int(sent.params["nonce"]) - time.time_ns()) < 60 * 10**9


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("EOrder:Insufficient funds", Rejected),
        ("EOrder:Post only order", Rejected),
        ("EAPI:Invalid key", Rejected),
        ("EService:Market in cancel_only mode", Rejected),
        ("EGeneral:Invalid arguments:cl_ord_id not unique", Unknown),
        ("EService:Unavailable", Unknown),
        ("EService:Deadline elapsed", Unknown),
        ("EGeneral:Internal error", Unknown),
    ],
)
async def test_a_submit_ends_as_the_error_says_and_is_sent_once(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None], message: str, outcome: type
) -> None:
    says("AddOrder", message)
    got = await venue.submit(order())
    assert isinstance(got, outcome)
    if isinstance(got, Rejected):
        assert got.code == message
    assert scripted.count(*private("AddOrder")) == 1


async def test_lost_answers_are_unknown_and_not_asked_for_again(
    venue: KrakenVenue, scripted: Any, answers: Any, make: Callable[..., KrakenVenue]
) -> None:
    impatient = make(timeout=1.5)
    for answer in (answers.cut, answers.half, answers.hang, answers.reply({}, 502)):
        scripted.seen.clear()
        scripted.on(*private("AddOrder"), answer)
        scripted.on(*private("CancelOrder"), answer)
        assert isinstance(await impatient.submit(order()), Unknown)
        assert isinstance(await impatient.cancel("BTC/USD", CL_ORD_ID), Unknown)
        assert len(scripted.seen) == 2


async def test_an_answer_of_another_shape_is_unknown(
    venue: KrakenVenue, says: Callable[..., None]
) -> None:
    for result in ({}, {"txid": []}, {"txid": [1]}, []):
        says("AddOrder", result=result)
        assert isinstance(await venue.submit(order()), Unknown)
    says("CancelOrder", result={"count": 0})
    assert isinstance(await venue.cancel("BTC/USD", CL_ORD_ID), Unknown)
    says("CancelOrder", result={"count": 0, "pending": True})
    assert isinstance(await venue.cancel("BTC/USD", CL_ORD_ID), Accepted)


async def test_a_cancel_of_what_is_gone_is_rejected_with_krakens_word(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None]
) -> None:
    says("CancelOrder", "EOrder:Unknown order")
    outcome = await venue.cancel("BTC/USD", CL_ORD_ID)
    assert outcome == Rejected(code="EOrder:Unknown order", text="EOrder:Unknown order")
    assert scripted.seen[-1].params["cl_ord_id"] == UUID
    await venue.cancel("BTC/USD", ClOrdID(""), venue_order_id=TXID)
    assert scripted.seen[-1].params["txid"] == TXID
    assert isinstance(await venue.cancel("BTC/USD", ClOrdID("no id of Kraken's")), Rejected)
    assert scripted.count(*private("CancelOrder")) == 2


async def test_a_batch_that_cancelled_fewer_leaves_open_which(
    venue: KrakenVenue, says: Callable[..., None]
) -> None:
    names = [mint("3f9a01c4", 71, number) for number in range(3)]
    says("CancelOrderBatch", result={"count": 3})
    assert await venue.cancel_many("BTC/USD", names) == [Accepted(venue_order_id="")] * 3
    says("CancelOrderBatch", result={"count": 2})
    outcomes = await venue.cancel_many("BTC/USD", [*names, ClOrdID("no id of Kraken's")])
    assert [type(outcome) for outcome in outcomes] == [Unknown, Unknown, Unknown, Rejected]


async def test_before_it_knows_the_names_of_pairs_it_tells_nothing_of_the_account(
    venue: KrakenVenue, scripted: Any, make: Callable[..., KrakenVenue]
) -> None:
    """Under Kraken's names our orders, fills and balances would look like none."""
    unconnected, before = make(), len(scripted.seen)
    for question in (
        unconnected.open_orders(),
        unconnected.order("BTC/USD", mint("0badcafe", 1, 1)),
        unconnected.fills("BTC/USD"),
        unconnected.balances(),
        unconnected.positions(),
    ):
        with pytest.raises(VenueUnavailableError, match="not connected yet"):
            await question
    assert len(scripted.seen) == before


# Nonces.


async def test_a_query_whose_nonce_was_refused_is_asked_again_and_an_order_is_not(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None]
) -> None:
    says("OpenOrders", "EAPI:Invalid nonce", "EAPI:Invalid nonce", result={"open": {}})
    assert (await venue.open_orders()).orders == ()
    nonces = [int(s.params["nonce"]) for s in scripted.seen if s.path.endswith("OpenOrders")]
    assert len(nonces) == 3
    assert nonces[1] - nonces[0] < 10**9 <= nonces[2] - nonces[1]
    says("AddOrder", "EAPI:Invalid nonce", result={"txid": [TXID]})
    assert (await venue.submit(order())) == Rejected(
        code="EAPI:Invalid nonce", text="EAPI:Invalid nonce"
    )
    assert scripted.count(*private("AddOrder")) == 1


async def test_a_nonce_that_is_never_good_is_told(
    venue: KrakenVenue, make: Callable[..., KrakenVenue], says: Callable[..., None]
) -> None:
    says("OpenOrders", "EAPI:Invalid nonce")
    patient = make(options={"tier": "pro", "call_limit": "1000"})
    await patient.connect()
    with pytest.raises(VenueAuthError):
        await patient.open_orders()


async def test_a_code_that_is_the_whole_text_is_said_once(
    venue: KrakenVenue, says: Callable[..., None]
) -> None:
    says("OpenOrders", "EAPI:Invalid signature")
    with pytest.raises(VenueAuthError) as caught:
        await venue.open_orders()
    assert caught.value.message.count("EAPI:Invalid signature") == 1


async def test_many_requests_at_once_arrive_with_growing_nonces(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None]
) -> None:
    says("AddOrder", result={"txid": [TXID]})
    says("OpenOrders", result={"open": {}})
    scripted.seen.clear()
    counter = itertools.count()
    await asyncio.gather(
        *(venue.submit(order(cl_ord_id=mint("3f9a01c4", 72, next(counter)))) for _ in range(20)),
        *(venue.open_orders() for _ in range(5)),
    )
    nonces = [int(seen.params["nonce"]) for seen in scripted.seen]
    assert len(nonces) == 25
    assert nonces == sorted(nonces)


async def test_a_cancel_waits_for_no_query(
    venue: KrakenVenue,
    scripted: Any,
    answers: Any,
    says: Callable[..., None],
    make: Callable[..., KrakenVenue],
) -> None:
    venue = make(timeout=60.0)
    await venue.connect()
    scripted.on(*private("OpenOrders"), answers.hang)
    says("CancelOrder", result={"count": 1})
    queries = [asyncio.create_task(venue.open_orders()) for _ in range(5)]
    async with asyncio.timeout(30):
        while not scripted.count(*private("OpenOrders")):
            await asyncio.sleep(0.01)
        assert isinstance(await venue.cancel("BTC/USD", CL_ORD_ID), Accepted)
    assert not any(query.done() for query in queries)
    for query in queries:
        query.cancel()
    await asyncio.gather(*queries, return_exceptions=True)


# Rate counters.


async def test_queries_are_held_back_and_cancels_are_not(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None]
) -> None:
    says("OpenOrders", result={"open": {}})
    says("CancelOrder", result={"count": 1})
    says("CancelAll", result={"count": 1})
    scripted.seen.clear()
    with pytest.raises(VenueThrottledError) as held:
        for _ in range(30):
            await venue.open_orders()
    assert 0 < held.value.retry_after_s <= 2.0
    assert len(scripted.seen) < 20
    assert isinstance(await venue.cancel("BTC/USD", CL_ORD_ID), Accepted)
    assert isinstance(await venue.cancel_account(), Accepted)


async def test_where_kraken_counts_more_than_we_do_its_word_counts(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None]
) -> None:
    says("OpenOrders", "EAPI:Rate limit exceeded")
    says("CancelOrder", result={"count": 1})
    for _ in range(2):
        with pytest.raises(VenueThrottledError) as held:
            await venue.open_orders()
        assert held.value.retry_after_s > 5
    assert scripted.count(*private("OpenOrders")) == 1
    assert isinstance(await venue.cancel("BTC/USD", CL_ORD_ID), Accepted)


async def test_orders_of_a_pair_that_is_over_its_limit_are_held_back_until_it_falls(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None]
) -> None:
    says("AddOrder", "EOrder:Rate limit exceeded", result={"txid": [TXID]})
    says("CancelOrder", "EOrder:Rate limit exceeded", result={"count": 1})
    for _ in range(2):
        outcome = await venue.submit(order())
        assert isinstance(outcome, Rejected)
        assert outcome.code == "throttled"
    assert scripted.count(*private("AddOrder")) == 1
    refused = await venue.cancel("BTC/USD", CL_ORD_ID)
    assert isinstance(refused, Rejected)
    assert refused.code == "throttled"
    held_back = await venue.cancel("BTC/USD", CL_ORD_ID)
    assert isinstance(held_back, Rejected)
    assert held_back.retry_after_s is not None
    assert scripted.count(*private("CancelOrder")) == 1, "Kraken would refuse it as well"


async def test_a_lockout_is_not_prolonged(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None]
) -> None:
    says("OpenOrders", "EGeneral:Temporary lockout")
    with pytest.raises(VenueThrottledError):
        await venue.open_orders()
    scripted.seen.clear()
    for outcome in (
        await venue.submit(order()),
        await venue.cancel("BTC/USD", CL_ORD_ID),
        await venue.cancel_account(),
    ):
        assert isinstance(outcome, Rejected)
        assert outcome.code == "throttled"
    assert not scripted.seen


# Queries.


async def test_an_order_is_looked_for_among_the_open_and_then_the_ended(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None]
) -> None:
    says("OpenOrders", result={"open": {TXID: open_order()}})
    found = await venue.order("BTC/USD", CL_ORD_ID)
    assert found is not None
    assert (found.venue_order_id, found.cl_ord_id, found.status) == (TXID, CL_ORD_ID, OrdStatus.NEW)
    assert scripted.seen[-1].params["cl_ord_id"] == UUID
    says("OpenOrders", result={"open": {}})
    closed = open_order(status="canceled", closetm=1688665500.5)
    says("ClosedOrders", result={"closed": {TXID: closed}})
    found = await venue.order("BTC/USD", CL_ORD_ID)
    assert found is not None
    assert (found.status, found.updated_ns) == (OrdStatus.CANCELED, 1_688_665_500_500_000_000)
    says("ClosedOrders", result={"closed": {}})
    assert await venue.order("BTC/USD", CL_ORD_ID) is None


async def test_a_filter_that_is_not_heeded_finds_nothing_wrong(
    venue: KrakenVenue, says: Callable[..., None]
) -> None:
    stranger = open_order(cl_ord_id="6d1b345e-2821-40e2-ad83-4ecb18a06876")
    says("OpenOrders", result={"open": {TXID: stranger}})
    says("ClosedOrders", result={"closed": {}})
    assert await venue.order("BTC/USD", CL_ORD_ID) is None


async def test_others_symbols_are_not_listed(venue: KrakenVenue, says: Callable[..., None]) -> None:
    elsewhere = open_order(descr={**open_order()["descr"], "pair": "ETHUSD"})
    says("OpenOrders", result={"open": {TXID: elsewhere, "OTHER": open_order()}})
    listing = await venue.open_orders()
    assert listing.complete
    assert [each.venue_order_id for each in listing.orders] == ["OTHER"]


async def test_fills_are_paged_until_all_are_there(
    venue: KrakenVenue, scripted: Any, answers: Any
) -> None:
    rows = {f"T{number:05}": trade(number) for number in range(120)}

    def page(seen: Any) -> Any:
        if seen.path != "/0/private/TradesHistory":
            return None
        assert seen.params["consolidate_taker"] == "false"
        newest = sorted(rows, reverse=True)
        # The first page is cut, as one might be on its way.
        start = int(seen.params["ofs"])
        names = newest[start : start + (30 if start == 0 else 50)]
        result = {"trades": {name: rows[name] for name in names}, "count": len(rows)}
        return answers.reply({"error": [], "result": result})

    scripted.answered_by = page
    fills = await venue.fills("BTC/USD")
    assert [fill.exec_id for fill in fills] == sorted(rows)
    assert (fills[0].fee, fills[0].fee_currency, fills[0].is_maker) == (Decimal("0.2"), "USD", True)
    late = await venue.fills("BTC/USD", since_ns=fills[100].venue_time_ns)
    assert [fill.exec_id for fill in late] == sorted(rows)[100:]
    assert int(scripted.seen[-1].params["start"]) < fills[100].venue_time_ns / 1e9


async def test_fills_that_are_counted_and_not_told_are_no_answer(
    venue: KrakenVenue, says: Callable[..., None]
) -> None:
    says("TradesHistory", result={"trades": {"T1": trade(1)}, "count": 3})
    with pytest.raises(VenueUnavailableError, match="2 executions"):
        await venue.fills("BTC/USD")
    says("QueryOrders", result={TXID: open_order(trades=["T1", "T2"])})
    says("QueryTrades", result={"T1": trade(1)})
    with pytest.raises(VenueUnavailableError, match="1 executions"):
        await venue.fills("BTC/USD", venue_order_id=TXID)


async def test_an_account_without_any_currency_is_no_answer(
    venue: KrakenVenue, says: Callable[..., None], make: Callable[..., KrakenVenue]
) -> None:
    says("BalanceEx", result={})
    with pytest.raises(VenueUnavailableError):
        await venue.positions()


async def test_the_keys_facts_are_told_where_kraken_tells_them(
    venue: KrakenVenue, says: Callable[..., None]
) -> None:
    info = {
        "permissions": ["query-funds", "modify-trades", "withdraw-funds"],
        "iban": "AA88 N84G",
        "validUntil": "1700000000",
        "ipAllowlist": ["10.0.0.1"],
    }
    says("GetApiKeyInfo", result=info)
    told = await venue.key_permissions()
    assert (told.trade, told.withdraw) == (True, True)
    assert told.note == "expires 2023-11-14 22:13 UTC; from 10.0.0.1 only"
    assert [account.account_id for account in await venue.accounts()] == ["AA88 N84G"]
    says("GetApiKeyInfo", "EGeneral:Unknown method")
    assert (await venue.key_permissions()).trade is None
    assert [account.account_id for account in await venue.accounts()] == ["main"]


async def test_the_dead_mans_switch_is_armed_in_whole_seconds(
    venue: KrakenVenue, scripted: Any, says: Callable[..., None]
) -> None:
    says("CancelAllOrdersAfter", result={"currentTime": "a", "triggerTime": "b"})
    await venue.arm_dead_mans_switch(59.2)
    assert scripted.seen[-1].params["timeout"] == "60"
    with pytest.raises(VenueUnavailableError):
        await venue.arm_dead_mans_switch(0)
    says("CancelAllOrdersAfter", result={"currentTime": "a", "triggerTime": "0"})
    await venue.arm_dead_mans_switch(0)


# Connecting.


async def test_a_symbol_that_kraken_does_not_trade_is_named(
    venue: KrakenVenue, scripted: Any, answers: Any, make: Callable[..., KrakenVenue]
) -> None:
    known = answers.reply({"error": [], "result": PAIRS})
    unknown = answers.reply({"error": ["EQuery:Unknown asset pair"]})

    def listed(seen: Any) -> Any:
        return known if seen.params["pair"] == "XBTUSD" else unknown

    del scripted.script["GET", "/0/public/AssetPairs"]
    scripted.answered_by = listed
    two = make(symbols=("BTC/USD", "NOSUCH/USD"))
    with pytest.raises(VenueRefusedError, match="does not trade NOSUCH/USD"):
        await two.connect()


async def test_a_secret_that_cannot_sign_is_told_as_such(venue: KrakenVenue, scripted: Any) -> None:
    config = VenueConfig(adapter="kraken", url=scripted.url, symbols=("BTC/USD",))
    wrong = KrakenVenue("krk", config, Credentials(KEY, "not base64"))
    with pytest.raises(VenueAuthError, match="cannot be used to sign"):
        await wrong.connect()
    await wrong.close()


def test_kraken_has_no_practice_environment() -> None:
    config = VenueConfig(
        adapter="kraken", environment="practice", secret_env="S", symbols=("BTC/USD",)
    )
    with pytest.raises(ConfigError, match="no test system"):
        KrakenVenue("krk", config, Credentials(KEY, SECRET))


async def test_texts_hold_no_secret(venue: KrakenVenue, says: Callable[..., None]) -> None:
    says("AddOrder", f"EGeneral:Invalid arguments:{KEY} {SECRET}")
    outcome = await venue.submit(order())
    assert isinstance(outcome, Rejected)
    assert outcome.text
    assert KEY not in outcome.text + outcome.code
    assert SECRET not in outcome.text + outcome.code
