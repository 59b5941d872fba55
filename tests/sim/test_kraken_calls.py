"""The Kraken face, call by call: signatures, nonces, errors, shapes, rate counters."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from tests.sim.kraken_client import KEY, OTHER_KEY, OTHER_SECRET, Quotes, Raw, settings

from openbell_sim import testing
from openbell_sim.faces.kraken.security import sign
from openbell_sim.keys import Credentials
from openbell_sim.server import Venue
from openbell_sim.sessions import MarketState


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    async with testing.running_venue(settings([Quotes()])) as running:
        yield running


class Hand:
    """A venue's clock that stands until it is moved: counters fall by nothing else."""

    def __init__(self) -> None:
        self.true_ns = time.time_ns()

    def forward(self, seconds: float) -> None:
        self.true_ns += int(seconds * 1e9)


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
async def limited(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Venue]:
    """With Kraken's own rate limits, by a clock of ours."""
    async with testing.running_venue(settings([Quotes()], limit_scale=1.0)) as running:
        monkeypatch.setattr(running.clock, "true_ns", lambda: hand.true_ns)
        yield running


@pytest.fixture
def raw(venue: Venue, http: aiohttp.ClientSession) -> Raw:
    return Raw(http, venue.url)


# Who calls.


def test_signatures_are_krakens() -> None:
    """Its documentation's own example ("Spot REST Authentication")."""
    secret = (
        "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    )
    nonce = "1616492376594"
    body = f"nonce={nonce}&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
    assert sign(secret, "/0/private/AddOrder", nonce, body.encode()) == (
        "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
    )
    assert sign("no base64!", "/0/private/AddOrder", nonce, body.encode()) is None


async def test_a_call_must_be_signed_with_the_keys_secret(raw: Raw) -> None:
    path, body = "/0/private/Balance", "nonce=1"
    sign = raw.signature(path, "1", body)
    errors, balances = await raw.send(path, body, {"API-Key": KEY, "API-Sign": sign})
    assert errors == []
    assert (balances["XXBT"], balances["ZUSD"]) == ("5.0000000000", "1000000.0000")
    for key, signature, error in (
        ("", sign, "EAPI:Invalid key"),
        ("nobody", sign, "EAPI:Invalid key"),
        (KEY, "", "EAPI:Invalid signature"),
        (OTHER_KEY, sign, "EAPI:Invalid signature"),
    ):
        headers = {"API-Key": key, "API-Sign": signature}
        assert await raw.send(path, body, headers) == ([error], None)


async def test_a_nonce_must_grow_for_each_key(raw: Raw, http: aiohttp.ClientSession) -> None:
    assert (await raw("Balance", nonce=1000))[0] == []
    for nonce in (1000, 999, 0):
        assert (await raw("Balance", nonce=nonce))[0] == ["EAPI:Invalid nonce"]
    other = Raw(http, raw.url, OTHER_KEY, OTHER_SECRET)
    assert (await other("Balance", nonce=5))[0] == []
    assert (await raw("Balance", nonce=1001))[0] == []


async def test_a_refused_signature_uses_no_nonce_up(raw: Raw) -> None:
    body = "nonce=5000"
    refused = await raw.send("/0/private/Balance", body, {"API-Key": KEY, "API-Sign": "x"})
    assert refused == (["EAPI:Invalid signature"], None)
    assert (await raw("Balance", nonce=4000))[0] == []


async def test_a_key_without_the_permission_to_modify_orders_cancels_and_enters_nothing(
    venue: Venue, raw: Raw, http: aiohttp.ClientSession
) -> None:
    """Kraken's "Cancel & close orders" without "Create & modify orders"."""
    venue.keys.add(Credentials("main", "stopper", "eHl6", may_trade=False))
    stopper = Raw(http, raw.url, "stopper", "eHl6")
    _, added = await raw.limit("50000", cl_ord_id="mine")
    (txid,) = added["txid"]
    denied = (["EGeneral:Permission denied"], None)
    assert await stopper.limit("50000", cl_ord_id="theirs") == denied
    (row,) = venue.exchange.ledger.refused
    assert (row.cl_ord_id, row.reason, row.text) == ("theirs", "may_not_trade", denied[0][0])
    assert await stopper.limit("50000", validate="true") == denied
    assert await stopper("AmendOrder", txid=txid, order_qty="0.02") == denied
    assert await stopper("EditOrder", txid=txid, pair="XBTUSD", price="51000") == denied
    _, listed = await stopper("OpenOrders")
    assert list(listed["open"]) == [txid]
    _, info = await stopper("GetApiKeyInfo")
    assert "close-trades" in info["permissions"]
    assert "modify-trades" not in info["permissions"]
    assert await stopper("CancelOrder", txid=txid) == ([], {"count": 1})


async def test_what_does_not_exist_is_told(raw: Raw) -> None:
    assert await raw("Withdraw") == (["EGeneral:Unknown method"], None)
    assert await raw.public("Spreadsheet") == (["EGeneral:Unknown method"], None)
    assert await raw.public("Ticker", pair="XBTXXX") == (["EQuery:Unknown asset pair"], None)


# Names.


async def test_a_pair_goes_by_each_of_its_names(raw: Raw) -> None:
    for name in ("XXBTZUSD", "XBTUSD", "XBT/USD"):
        errors, pairs = await raw.public("AssetPairs", pair=name)
        assert errors == []
        (key,) = pairs
        assert key == "XXBTZUSD"
        pair = pairs[key]
        assert (pair["altname"], pair["wsname"]) == ("XBTUSD", "XBT/USD")
        assert (pair["base"], pair["quote"]) == ("XXBT", "ZUSD")
        assert (pair["pair_decimals"], pair["lot_decimals"], pair["tick_size"]) == (1, 8, "0.1")
    _, assets = await raw.public("Assets")
    assert assets["XXBT"]["altname"] == "XBT"
    assert await raw.public("AssetPairs", pair="XBTUSD,NOSUCH") == (
        ["EQuery:Unknown asset pair"],
        None,
    )


# Orders.


async def test_an_order_lives_and_is_cancelled(raw: Raw) -> None:
    errors, added = await raw.limit("50000", cl_ord_id="desk-1")
    assert errors == []
    assert added["descr"] == {"order": "buy 0.01000000 XBTUSD @ limit 50000.0"}
    (txid,) = added["txid"]
    _, listed = await raw("OpenOrders", cl_ord_id="desk-1")
    order = listed["open"][txid]
    assert (order["status"], order["vol"], order["vol_exec"]) == (
        "open",
        "0.01000000",
        "0.00000000",
    )
    assert (order["cl_ord_id"], order["userref"], order["oflags"]) == ("desk-1", 0, "fciq")
    assert order["descr"]["price"] == "50000.0"
    _, balances = await raw("BalanceEx")
    assert balances["ZUSD"] == {"balance": "1000000.0000", "hold_trade": "500.0000"}
    assert await raw("OpenOrders", cl_ord_id="desk-2") == ([], {"open": {}})
    assert await raw("CancelOrder", cl_ord_id="desk-1") == ([], {"count": 1})
    assert await raw("CancelOrder", cl_ord_id="desk-1") == (["EOrder:Unknown order"], None)
    assert await raw("CancelOrder", txid=txid) == (["EOrder:Unknown order"], None)
    _, closed = await raw("ClosedOrders", cl_ord_id="desk-1")
    assert closed["count"] == 1
    assert closed["closed"][txid]["status"] == "canceled"
    assert closed["closed"][txid]["reason"] == "User requested"
    _, queried = await raw("QueryOrders", txid=txid)
    assert queried[txid] == closed["closed"][txid]


async def test_an_identifier_that_never_was_is_told_from_one_that_is_gone(raw: Raw) -> None:
    for txid in ("OZZZZZ-ZZZZZ-ZZZZZZ", "nonsense"):
        assert await raw("CancelOrder", txid=txid) == (["EOrder:Invalid order"], None)
    assert await raw("QueryOrders", txid="OZZZZZ-ZZZZZ-ZZZZZZ") == ([], {})


async def test_executions_are_told_with_fees_in_the_quote_currency(raw: Raw) -> None:
    _, added = await raw("AddOrder", pair="XBTUSD", type="buy", ordertype="market", volume="0.5")
    (txid,) = added["txid"]
    assert added["descr"]["order"] == "buy 0.50000000 XBTUSD @ market"
    _, orders = await raw("QueryOrders", txid=txid, trades="true")
    order = orders[txid]
    assert (order["status"], order["cost"], order["fee"]) == ("closed", "30000.00000", "120.00000")
    assert order["price"] == "60000.00000"
    (trade_id,) = order["trades"]
    _, trades = await raw("QueryTrades", txid=trade_id)
    _, history = await raw("TradesHistory")
    assert history == {"trades": trades, "count": 1}
    trade = trades[trade_id]
    assert (trade["ordertxid"], trade["pair"], trade["type"]) == (txid, "XXBTZUSD", "buy")
    assert (trade["vol"], trade["price"], trade["maker"]) == ("0.50000000", "60000.00000", False)
    _, balances = await raw("Balance")
    assert (balances["XXBT"], balances["ZUSD"]) == ("5.5000000000", "969880.0000")


async def test_history_is_paged_from_the_newest(raw: Raw) -> None:
    for _ in range(55):
        await raw("AddOrder", pair="XBTUSD", type="buy", ordertype="market", volume="0.001")
    _, first = await raw("TradesHistory")
    _, second = await raw("TradesHistory", ofs=50)
    assert (first["count"], len(first["trades"]), len(second["trades"])) == (55, 50, 5)
    assert not first["trades"].keys() & second["trades"].keys()
    newest = min(trade["time"] for trade in first["trades"].values())
    assert max(trade["time"] for trade in second["trades"].values()) <= newest
    _, late = await raw("TradesHistory", start=newest)
    assert all(trade["time"] > newest for trade in late["trades"].values())
    _, closed = await raw("ClosedOrders", without_count="true")
    assert len(closed["closed"]) == 50
    assert "count" not in closed


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"pair": "XBTXXX"}, "EQuery:Unknown asset pair"),
        ({"type": "hold"}, "EGeneral:Invalid arguments:type"),
        ({"ordertype": "take-profit"}, "EGeneral:Invalid arguments:ordertype"),
        ({"volume": "none"}, "EGeneral:Invalid arguments:volume"),
        ({"volume": "0.00001"}, "EOrder:Order minimum not met"),
        ({"volume": "100"}, "EOrder:Insufficient funds"),
        ({"price": "50000.05"}, "EOrder:Tick size check failed"),
        ({"price": "61000", "oflags": "post"}, "EOrder:Post only order"),
        ({"oflags": "fast"}, "EGeneral:Invalid arguments:oflags"),
        ({"timeinforce": "FOK"}, "EGeneral:Invalid arguments:timeinforce"),
        ({"cl_ord_id": "much-too-long-for-kraken"}, "EGeneral:Invalid arguments:cl_ord_id"),
        ({"cl_ord_id": "a", "userref": "7"}, "EGeneral:Invalid arguments:cl_ord_id"),
        ({"leverage": "2"}, "EOrder:Cannot open position"),
        ({"reduce_only": "true"}, "EOrder:Reduce only:No position exists"),
        ({"deadline": "2021-04-01T00:18:45Z"}, "EService:Deadline elapsed"),
        ({"deadline": "2999-04-01T00:18:45Z"}, "EGeneral:Invalid arguments:deadline"),
    ],
)
async def test_an_order_is_refused_in_krakens_words_and_recorded(
    raw: Raw, venue: Venue, params: dict[str, str], error: str
) -> None:
    assert await raw.limit(**{"price": "50000", **params}) == ([error], None)
    assert len(venue.exchange.ledger.refused) == 1
    assert not venue.exchange.ledger.orders


async def test_a_deadline_that_lies_ahead_is_kept(raw: Raw) -> None:
    ahead = datetime.now(UTC) + timedelta(seconds=20)
    errors, _ = await raw.limit("50000", deadline=f"{ahead:%Y-%m-%dT%H:%M:%S.123Z}")
    assert errors == []


async def test_a_validated_order_is_not_placed(raw: Raw, venue: Venue) -> None:
    errors, result = await raw.limit("50000", validate="true")
    assert errors == []
    assert result == {"descr": {"order": "buy 0.01000000 XBTUSD @ limit 50000.0"}}
    assert (await raw.limit("50000.05", validate="true"))[0] == ["EOrder:Tick size check failed"]
    assert not venue.exchange.ledger.orders
    assert not venue.exchange.ledger.refused


async def test_a_client_order_id_names_one_open_order_of_the_account(raw: Raw) -> None:
    uuid = "6d1b345e-2821-40e2-ad83-4ecb18a06876"
    assert (await raw.limit("50000", cl_ord_id=uuid))[0] == []
    refused = ["EGeneral:Invalid arguments:cl_ord_id not unique"]
    assert (await raw.limit("50001", cl_ord_id=uuid))[0] == refused
    other_pair = {"pair": "ETHUSD", "volume": "1"}
    assert (await raw.limit("2000", cl_ord_id=uuid, **other_pair))[0] == refused
    await raw("CancelOrder", cl_ord_id=uuid)
    assert (await raw.limit("2000", cl_ord_id=uuid, **other_pair))[0] == []


async def test_a_user_reference_names_a_group(raw: Raw) -> None:
    for price in ("50000", "50001"):
        await raw.limit(price, userref="42")
    await raw.limit("50002", userref="43")
    _, group = await raw("OpenOrders", userref="42")
    assert len(group["open"]) == 2
    assert await raw("CancelOrder", txid="42") == ([], {"count": 2})
    assert await raw("CancelOrder", txid="42") == (["EOrder:Unknown order"], None)


async def test_immediate_or_cancel_never_rests(raw: Raw) -> None:
    _, added = await raw.limit("59000", timeinforce="IOC")
    _, orders = await raw("QueryOrders", txid=added["txid"][0])
    (order,) = orders.values()
    assert (order["status"], order["vol_exec"]) == ("canceled", "0.00000000")


async def test_a_market_order_may_name_what_to_spend(raw: Raw) -> None:
    given = {"pair": "XBTUSD", "type": "buy", "ordertype": "market", "oflags": "viqc"}
    errors, added = await raw("AddOrder", volume="600", **given)
    assert errors == []
    _, orders = await raw("QueryOrders", txid=added["txid"][0])
    (order,) = orders.values()
    assert (order["status"], order["vol_exec"], order["cost"]) == (
        "closed",
        "0.01000000",
        "600.00000",
    )
    sell = {**given, "type": "sell"}
    assert (await raw("AddOrder", volume="600", **sell))[0] == ["EGeneral:Invalid arguments:viqc"]


async def test_a_stop_loss_waits_and_becomes_a_market_order(
    raw: Raw, http: aiohttp.ClientSession
) -> None:
    stop = {"pair": "XBTUSD", "type": "sell", "ordertype": "stop-loss", "volume": "0.1"}
    errors, added = await raw("AddOrder", price="59000", **stop)
    assert errors == []
    assert added["descr"]["order"] == "sell 0.10000000 XBTUSD @ stop loss 59000.0"
    (txid,) = added["txid"]
    _, listed = await raw("OpenOrders")
    order = listed["open"][txid]
    assert order["descr"]["ordertype"] == "stop-loss"
    assert (order["descr"]["price"], order["trigger"]) == ("59000.0", "last")
    limited = {**stop, "ordertype": "stop-loss-limit"}
    _, second = await raw("AddOrder", price="59000", price2="58000", **limited)
    text = "sell 0.10000000 XBTUSD @ stop loss 59000.0 -> limit 58000.0"
    assert second["descr"]["order"] == text
    other = Raw(http, raw.url, OTHER_KEY, OTHER_SECRET)
    await other.limit("58900", volume="3")
    sale = {"pair": "XBTUSD", "type": "sell", "ordertype": "market"}
    await other("AddOrder", volume="1.5", **sale)
    await raw("AddOrder", volume="0.5", **sale)
    _, orders = await raw("QueryOrders", txid=f"{txid},{second['txid'][0]}")
    assert {order["misc"] for order in orders.values()} == {"stopped"}
    assert orders[txid]["status"] == "closed"


# Many at once.


async def test_a_batch_is_placed_as_far_as_it_goes(raw: Raw) -> None:
    def one(price: str, volume: str = "0.01") -> dict[str, str]:
        return {"type": "buy", "ordertype": "limit", "price": price, "volume": volume}

    errors, result = await raw(
        "AddOrderBatch", as_json=True, pair="XBTUSD", orders=[one("50000"), one("1", "100")]
    )
    assert errors == []
    first, second = result["orders"]
    assert first["descr"]["order"] == "buy 0.01000000 XBTUSD @ limit 50000.0"
    assert second["error"].startswith("EOrder:")
    single = await raw("AddOrderBatch", as_json=True, pair="XBTUSD", orders=[one("50000")])
    assert single == (["EGeneral:Invalid arguments:orders"], None)


async def test_a_batch_of_cancels_tells_how_many_it_was(raw: Raw) -> None:
    txids = [(await raw.limit("50000"))[1]["txid"][0] for _ in range(2)]
    await raw.limit("50000", cl_ord_id="mine")
    cancelled = await raw(
        "CancelOrderBatch", as_json=True, orders=txids, cl_ord_ids=["mine", "nobodys"]
    )
    assert cancelled == ([], {"count": 3})
    assert await raw("OpenOrders") == ([], {"open": {}})
    too_many = [f"id-{number}" for number in range(51)]
    refused = await raw("CancelOrderBatch", as_json=True, orders=[], cl_ord_ids=too_many)
    assert refused == (["EGeneral:Invalid arguments:orders"], None)


async def test_cancel_all_takes_every_order_of_the_account_alone(
    raw: Raw, http: aiohttp.ClientSession
) -> None:
    other = Raw(http, raw.url, OTHER_KEY, OTHER_SECRET)
    await other.limit("50000")
    await raw.limit("50000")
    await raw.limit("2000", pair="ETHUSD", volume="1")
    assert await raw("CancelAll") == ([], {"count": 2})
    assert await raw("CancelAll") == ([], {"count": 0})
    assert len((await other("OpenOrders"))[1]["open"]) == 1


# Changing.


async def test_an_amended_order_keeps_its_identifier(raw: Raw) -> None:
    _, added = await raw.limit("50000", cl_ord_id="mine")
    (txid,) = added["txid"]
    errors, amended = await raw("AmendOrder", txid=txid, limit_price="51000", order_qty="0.02")
    assert errors == []
    assert amended["amend_id"].startswith("T")
    _, listed = await raw("OpenOrders")
    order = listed["open"][txid]
    assert (order["descr"]["price"], order["vol"], order["cl_ord_id"]) == (
        "51000.0",
        "0.02000000",
        "mine",
    )
    refused = await raw("AmendOrder", cl_ord_id="mine", limit_price="61000", post_only="true")
    assert refused == (["EOrder:Post only order"], None)
    assert await raw("AmendOrder", txid=txid) == (["EGeneral:Invalid arguments"], None)


async def test_an_edited_order_is_another(raw: Raw) -> None:
    _, added = await raw.limit("50000")
    (txid,) = added["txid"]
    errors, edited = await raw("EditOrder", txid=txid, pair="XBTUSD", price="51000")
    assert errors == []
    assert (edited["originaltxid"], edited["orders_cancelled"]) == (txid, 1)
    _, listed = await raw("OpenOrders")
    (left,) = listed["open"]
    assert left == edited["txid"] != txid
    assert listed["open"][left]["descr"]["price"] == "51000.0"


# Limits.


async def test_the_call_counter_is_enforced_and_orders_do_not_count(
    limited: Venue, http: aiohttp.ClientSession
) -> None:
    """The counter falls by one in two seconds, so what is refused is asked for until it is; refused
    calls count on, and ten of them take it beyond what a slow machine gives back."""
    raw = Raw(http, limited.url)
    taken = refused = 0
    while refused < 10:
        errors, _ = await raw("Balance")
        assert errors in ([], ["EAPI:Rate limit exceeded"])
        taken, refused = taken + (not errors), refused + bool(errors)
        assert (taken >= 20) or not refused
    assert (await raw.limit("50000"))[0] == []
    assert (await raw("CancelAll"))[0] == ["EAPI:Rate limit exceeded"]
    other = Raw(http, limited.url, OTHER_KEY, OTHER_SECRET)
    assert (await other("Balance"))[0] == []


async def test_a_young_order_is_dear_to_cancel_and_a_batch_goes_through(
    limited: Venue, http: aiohttp.ClientSession, hand: Hand
) -> None:
    """125 of the trading counter are 30 orders and twelve cancels of them at once: the last is
    taken at 118, and puts it over the limit."""
    raw = Raw(http, limited.url)
    names = [f"order-{number}" for number in range(30)]
    for name in names:
        assert (await raw.limit("50000", cl_ord_id=name))[0] == []
    outcomes = [(await raw("CancelOrder", cl_ord_id=name))[0] for name in names]
    done = outcomes.count([])
    assert done == 12
    assert outcomes[done:] == [["EOrder:Rate limit exceeded"]] * (30 - done)
    assert (await raw.limit("50000"))[0] == ["EOrder:Rate limit exceeded"]
    other_pair = await raw.limit("2000", pair="ETHUSD", volume="1")
    assert other_pair[0] == []
    left = await raw("CancelOrderBatch", as_json=True, orders=[], cl_ord_ids=names[done:-1])
    assert left == ([], {"count": 29 - done})
    assert (await raw("CancelOrder", cl_ord_id=names[-1]))[0] == ["EOrder:Rate limit exceeded"]
    hand.forward(300)
    assert await raw("CancelOrder", cl_ord_id=names[-1]) == ([], {"count": 1})


async def test_eighty_orders_rest_in_a_pair(venue: Venue, raw: Raw) -> None:
    outcomes = [(await raw.limit("50000"))[0] for _ in range(81)]
    assert outcomes == [[]] * 80 + [["EOrder:Orders limit exceeded"]]


# What the venue does by itself.


async def test_the_dead_mans_switch_tells_when_it_fires(raw: Raw, venue: Venue) -> None:
    errors, armed = await raw("CancelAllOrdersAfter", timeout=60)
    assert errors == []
    now = datetime.fromisoformat(armed["currentTime"])
    assert datetime.fromisoformat(armed["triggerTime"]) - now == timedelta(seconds=60)
    expires_ns = venue.exchange.dead_man("main", None)
    assert expires_ns is not None
    assert abs(expires_ns - time.time_ns() - 60 * 10**9) < 30 * 10**9
    _, disarmed = await raw("CancelAllOrdersAfter", timeout=0)
    assert disarmed["triggerTime"] == "0"
    assert venue.exchange.dead_man("main", None) is None
    refused = await raw("CancelAllOrdersAfter", timeout=86_401)
    assert refused == (["EGeneral:Invalid arguments:timeout"], None)


async def test_a_market_that_only_takes_cancels_says_so(raw: Raw, venue: Venue) -> None:
    await raw.limit("50000", cl_ord_id="mine")
    venue.exchange.set_session("XBTUSD", MarketState.CANCEL_ONLY)
    assert (await raw.limit("50000"))[0] == ["EService:Market in cancel_only mode"]
    _, pairs = await raw.public("AssetPairs", pair="XBTUSD")
    assert pairs["XXBTZUSD"]["status"] == "cancel_only"
    assert (await raw.public("SystemStatus"))[1]["status"] == "online"
    assert await raw("CancelOrder", cl_ord_id="mine") == ([], {"count": 1})
    venue.exchange.set_session(None, MarketState.HALTED)
    assert (await raw.limit("50000"))[0] == ["EService:Unavailable"]
    assert (await raw.public("SystemStatus"))[1]["status"] == "maintenance"


async def test_a_revoked_key_is_no_key(raw: Raw, venue: Venue) -> None:
    venue.keys.revoke_only({"main"})
    assert (await raw("Balance"))[0] == ["EAPI:Invalid key"]


async def test_public_data_have_krakens_shapes(raw: Raw, venue: Venue) -> None:
    await raw("AddOrder", pair="XBTUSD", type="buy", ordertype="market", volume="0.5")
    _, ticker = await raw.public("Ticker", pair="XBTUSD")
    assert ticker["XXBTZUSD"]["b"][0] == "59990.00000"
    assert ticker["XXBTZUSD"]["c"] == ["60000.00000", "0.50000000"]
    _, depth = await raw.public("Depth", pair="XBTUSD", count="1")
    assert depth["XXBTZUSD"]["asks"][0][:2] == ["60000.0", "0.50000000"]
    _, trades = await raw.public("Trades", pair="XBTUSD")
    assert trades["XXBTZUSD"][0][:2] == ["60000.00000", "0.50000000"]
    assert trades["XXBTZUSD"][0][3] == "b"
    _, after = await raw.public("Trades", pair="XBTUSD", since=trades["last"])
    assert after["XXBTZUSD"] == []
    _, ohlc = await raw.public("OHLC", pair="XBTUSD", interval="1")
    assert ohlc["XXBTZUSD"][-1][1:5] == ["60000.0"] * 4
    _, now = await raw.public("Time")
    assert abs(now["unixtime"] - time.time()) < 10


async def test_the_keys_own_facts_are_told(
    raw: Raw, venue: Venue, eventually: Callable[..., Any]
) -> None:
    _, info = await raw("GetApiKeyInfo")
    assert "modify-trades" in info["permissions"]
    assert info["nonce"] == str(raw._nonce)
    _, volume = await raw("TradeVolume", pair="XBTUSD")
    assert volume["fees"]["XXBTZUSD"]["fee"] == "0.4000"
    assert volume["fees_maker"]["XXBTZUSD"]["fee"] == "0.2500"
    _, positions = await raw("OpenPositions")
    assert positions == {}
    _, worth = await raw("TradeBalance")
    assert float(worth["eb"]) > 1_000_000
