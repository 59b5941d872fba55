"""The parts of the Kraken adapter that ask nobody: identifiers, nonces, budget, errors, shapes."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.ids import mint
from openbell.domain.orders import ClOrdID, NewOrder, OrdStatus, OrdType, Side, TimeInForce
from openbell.venues.kraken import errors, nonces, wire
from openbell.venues.kraken.budget import TIERS, Budget, tier_of
from openbell.venues.kraken.executions import Execution, order_in, report_of
from openbell.venues.kraken.ids import from_kraken, to_kraken
from openbell.venues.kraken.nonces import Line, Nonces
from openbell.venues.kraken.requests import deadline, order_params
from openbell.venues.problem import Meaning
from openbell.venues.settings import KRAKEN_TIERS

SECOND_NS = 1_000_000_000
LONG_GRACE_S = 1.0
"""In place of the adapter's: longer than a busy machine stands still."""

# Identifiers.


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**40 - 1), st.integers(0, 2**34 - 1))
def test_our_identifiers_come_back_from_the_uuid(desk: int, epoch: int, counter: int) -> None:
    cl_ord_id = mint(f"{desk:08x}", epoch, counter)
    text = to_kraken(cl_ord_id)
    assert text is not None
    assert UUID(text).version == 4
    assert from_kraken(text) == cl_ord_id
    assert from_kraken(text.replace("-", "").upper()) == cl_ord_id


@given(st.uuids())
def test_others_uuids_stay_what_they_are(uuid: UUID) -> None:
    text = str(uuid)
    back = from_kraken(text)
    assert back == text or to_kraken(back) == text
    assert to_kraken(ClOrdID(text)) == text


def test_text_goes_as_it_is_where_kraken_takes_it() -> None:
    assert to_kraken(ClOrdID("desk-1")) == "desk-1"
    assert from_kraken("desk-1") == "desk-1"
    assert to_kraken(ClOrdID("x" * 19)) is None
    assert to_kraken(ClOrdID("")) is None
    assert from_kraken(None) == ""


# Nonces.


def test_nonces_grow_whatever_the_clock_does() -> None:
    times = iter([5, 5, 4, 100, 7])
    nonces = Nonces(lambda: next(times))
    assert [nonces.next() for _ in range(5)] == [5, 6, 7, 100, 101]


def test_a_lead_is_taken_only_after_two_refusals_in_a_row() -> None:
    now = 1_000 * SECOND_NS
    nonces = Nonces(lambda: now)
    nonces.refused()
    assert nonces.next() < now + SECOND_NS
    nonces.taken()
    nonces.refused()
    assert nonces.next() < now + SECOND_NS
    nonces.refused()
    assert nonces.next() >= now + SECOND_NS
    for _ in range(8):
        nonces.refused()
    year_ns = 365 * 86_400 * SECOND_NS
    assert now + year_ns / 2 < nonces.next() < 2**63


async def test_effects_keep_their_order_and_wait_for_no_query() -> None:
    line, order = Line(), []
    answered = asyncio.Event()

    async def query() -> None:
        async with line.query():
            order.append("query")
            await answered.wait()

    async def effect(name: str, holds: asyncio.Event | None = None) -> None:
        async with line.effect():
            order.append(name)
            if holds is not None:
                await holds.wait()

    hanging = asyncio.create_task(query())
    await asyncio.sleep(0)
    held = asyncio.Event()
    first = asyncio.create_task(effect("first", held))
    await asyncio.sleep(0)
    second = asyncio.create_task(effect("second"))
    await asyncio.sleep(0)
    assert order == ["query", "first"]
    held.set()
    await asyncio.gather(first, second)
    assert order == ["query", "first", "second"]
    answered.set()
    await hanging


async def test_a_request_that_is_not_answered_holds_up_the_next_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nonces, "GRACE_S", LONG_GRACE_S)
    line, never = Line(), asyncio.Event()

    async def hang() -> None:
        async with line.effect():
            await never.wait()

    stuck = asyncio.create_task(hang())
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with line.effect():
        waited = loop.time() - before
    assert LONG_GRACE_S * 0.9 <= waited < LONG_GRACE_S + 30
    before = loop.time()
    async with line.query():
        pass
    assert loop.time() - before < LONG_GRACE_S
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)


async def test_one_who_leaves_the_line_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonces, "GRACE_S", LONG_GRACE_S)
    line, never = Line(), asyncio.Event()

    async def wait_in_line() -> None:
        async with line.effect():
            await never.wait()

    first, second = (asyncio.create_task(wait_in_line()) for _ in range(2))
    await asyncio.sleep(0)
    for task in (second, first):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    async with asyncio.timeout(LONG_GRACE_S):
        async with line.effect():
            pass


# Budget.


def test_queries_stop_at_four_fifths_and_go_on_as_the_counter_falls() -> None:
    budget = Budget(TIERS["intermediate"])
    sent = 0
    while budget.query_wait_s(1, 0.0) == 0:
        budget.called(1, 0.0)
        sent += 1
    assert sent == 16
    wait_s = budget.query_wait_s(1, 0.0)
    assert wait_s == pytest.approx(2.0)
    assert budget.query_wait_s(1, wait_s) == 0
    assert budget.shut_s(0.0) == 0


def test_a_counter_that_was_exceeded_is_taken_for_full() -> None:
    budget = Budget(TIERS["pro"])
    assert budget.calls_exceeded(10.0) == pytest.approx(5.0)
    assert budget.query_wait_s(2, 16.0) == 0


def test_orders_leave_room_for_cancels_of_each_pair() -> None:
    budget = Budget(TIERS["starter"])
    sent = 0
    while budget.order_wait_s("BTC/USD", 0.0) == 0:
        budget.order_sent("BTC/USD", ClOrdID(f"a-{sent}"), 0.0)
        sent += 1
    assert sent == 48
    assert budget.order_wait_s("ETH/USD", 0.0) == 0
    budget.cancel_sent("BTC/USD", ClOrdID("a-0"), 4.0)
    young_s = budget.order_wait_s("BTC/USD", 4.0)
    assert young_s == pytest.approx(48 - 4 + 8 + 1 - 48)
    budget.cancel_sent("BTC/USD", ClOrdID("a-1"), 301.0)
    assert budget.order_wait_s("BTC/USD", 301.0) == 0
    assert budget.orders_exceeded("BTC/USD", 301.0) == pytest.approx(13.0)


def test_a_lockout_shuts_everything() -> None:
    budget = Budget(TIERS["pro"])
    budget.locked_out(0.0)
    for wait_s in (
        budget.shut_s(1.0),
        budget.query_wait_s(1, 1.0),
        budget.order_wait_s("X/Y", 1.0),
    ):
        assert wait_s == pytest.approx(119.0)
    assert budget.shut_s(121.0) == 0


def test_the_tier_and_its_numbers_come_from_the_options() -> None:
    assert tier_of({}) == TIERS["intermediate"]
    assert tier_of({"tier": "pro", "call_limit": "60"}).call_limit == 60
    assert tuple(TIERS) == KRAKEN_TIERS, "what desk.toml may name"


# Errors.


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ("EAPI:Invalid key", Meaning.NOT_ALLOWED),
        ("EAPI:Invalid signature", Meaning.NOT_ALLOWED),
        ("EAPI:Invalid nonce", Meaning.NOT_ALLOWED),
        ("EAPI:Rate limit exceeded", Meaning.THROTTLED),
        ("EGeneral:Permission denied", Meaning.NOT_ALLOWED),
        ("EGeneral:Temporary lockout", Meaning.THROTTLED),
        ("EGeneral:Invalid arguments:volume", Meaning.REFUSED),
        ("EGeneral:Invalid arguments:cl_ord_id not unique", Meaning.DUPLICATE),
        ("EGeneral:Internal error", Meaning.UNCERTAIN),
        ("EGeneral:Internal error:7", Meaning.UNCERTAIN),
        ("EOrder:Unknown order", Meaning.NO_SUCH_ORDER),
        ("EOrder:Invalid order", Meaning.NO_SUCH_ORDER),
        ("EOrder:Insufficient funds", Meaning.REFUSED),
        ("EOrder:Post only order", Meaning.REFUSED),
        ("EOrder:Rate limit exceeded", Meaning.THROTTLED),
        ("EService:Unavailable", Meaning.UNCERTAIN),
        ("EService:Busy", Meaning.UNCERTAIN),
        ("EService:Timeout", Meaning.UNCERTAIN),
        ("EService:Deadline elapsed", Meaning.UNCERTAIN),
        ("EService:Market in cancel_only mode", Meaning.REFUSED),
        ("EService: Throttled: 1700000000", Meaning.THROTTLED),
        ("EDatabase:Internal error", Meaning.UNCERTAIN),
        ("ESomething:New", Meaning.UNCERTAIN),
    ],
)
def test_what_each_error_says_of_its_request(message: str, meaning: Meaning) -> None:
    problem = errors.problem_in(200, msgspec.json.encode({"error": [message]}))
    assert problem is not None
    assert (problem.meaning, problem.code) == (meaning, message)


def test_one_doubt_among_the_errors_is_a_doubt() -> None:
    body = b'{"error":["EOrder:Insufficient funds","EService:Unavailable"]}'
    problem = errors.problem_in(200, body)
    assert problem is not None
    assert problem.meaning is Meaning.UNCERTAIN


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (502, b"<html>Bad gateway</html>", Meaning.UNCERTAIN),
        (520, b'{"error":["EOrder:Insufficient funds"]}', Meaning.UNCERTAIN),
        (200, b"<html>Checking your browser</html>", Meaning.UNCERTAIN),
        (200, b'{"result":{}}', Meaning.UNCERTAIN),
        (403, b"", Meaning.UNCERTAIN),
        (429, b"slow down", Meaning.THROTTLED),
    ],
)
def test_another_status_was_given_by_what_stands_before_kraken(
    status: int, body: bytes, meaning: Meaning
) -> None:
    problem = errors.problem_in(status, body)
    assert problem is not None
    assert problem.meaning is meaning


def test_a_warning_is_no_error() -> None:
    assert errors.problem_in(200, b'{"error":["WGeneral:Old"],"result":{}}') is None


# New orders.


def new_order(**changes: Any) -> NewOrder:
    fields: dict[str, Any] = {
        "cl_ord_id": mint("3f9a01c4", 71, 9),
        "venue": "krk",
        "symbol": "BTC/USD",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "order_qty": Decimal("1E-3"),
        "price": Decimal("62000.10"),
    }
    return NewOrder(**{**fields, **changes})


def test_an_order_is_put_in_krakens_words() -> None:
    assert order_params(new_order(post_only=True), "soon") == {
        "pair": "XBTUSD",
        "type": "buy",
        "ordertype": "limit",
        "volume": "0.001",
        "price": "62000.10",
        "timeinforce": "GTC",
        "oflags": "post,fciq",
        "cl_ord_id": to_kraken(mint("3f9a01c4", 71, 9)),
        "deadline": "soon",
    }
    market = new_order(symbol="DOGE/USD", ord_type=OrdType.MARKET, side=Side.SELL, price=None)
    params = order_params(market, "soon")
    assert isinstance(params, dict)
    assert (params["pair"], params["ordertype"], params["type"]) == ("XDGUSD", "market", "sell")
    assert "price" not in params


@pytest.mark.parametrize(
    "changes",
    [
        {"price": None},
        {"time_in_force": TimeInForce.FOK},
        {"time_in_force": TimeInForce.IOC, "post_only": True},
        {"ord_type": OrdType.MARKET},
        {"ord_type": OrdType.STOP},
        {"cl_ord_id": ClOrdID("an-identifier-of-someone-else")},
    ],
)
def test_an_order_that_makes_no_sense_is_not_sent(changes: dict[str, Any]) -> None:
    assert isinstance(order_params(new_order(**changes), "soon"), str)


def test_the_deadline_is_our_time_out_as_far_as_kraken_allows() -> None:
    at_ms = 1_700_000_000_250
    assert deadline(at_ms, 5.0) == "2023-11-14T22:13:25.250Z"
    assert deadline(at_ms, 0.5) == "2023-11-14T22:13:23.250Z"
    assert deadline(at_ms, 600.0) == "2023-11-14T22:14:19.250Z"


# Shapes.


def rest_order(**changes: Any) -> wire.Order:
    row: dict[str, Any] = {
        "status": "open",
        "cl_ord_id": None,
        "vol": "1.00000000",
        "vol_exec": "0.00000000",
        "opentm": 1688665496.7808,
        "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "price": "62000.1"},
    }
    return msgspec.json.decode(msgspec.json.encode({**row, **changes}), type=wire.Order)


def symbol_of(name: str) -> str:
    return {"XBTUSD": "BTC/USD", "BTC/USD": "BTC/USD"}[name]


@pytest.mark.parametrize(
    ("status", "executed", "expected"),
    [
        ("pending", "0", OrdStatus.NEW),
        ("open", "0", OrdStatus.NEW),
        ("open", "0.4", OrdStatus.PARTIALLY_FILLED),
        ("closed", "1", OrdStatus.FILLED),
        ("canceled", "0.4", OrdStatus.CANCELED),
        ("expired", "0", OrdStatus.EXPIRED),
        ("dreaming", "0", OrdStatus.UNKNOWN),
    ],
)
def test_each_status_has_its_word(status: str, executed: str, expected: OrdStatus) -> None:
    order = rest_order(status=status, vol_exec=executed).to_port("OABC", symbol_of)
    assert (order.status, order.cum_qty) == (expected, Decimal(executed))
    assert order.created_ns == 1_688_665_496_780_800_000


@pytest.mark.parametrize(
    ("kind", "price", "price2", "expected"),
    [
        ("limit", "62000.1", "0", (OrdType.LIMIT, Decimal("62000.1"), None)),
        ("market", "0", "0", (OrdType.MARKET, None, None)),
        ("stop-loss", "59000", "0", (OrdType.STOP, None, Decimal(59000))),
        (
            "stop-loss-limit",
            "59000",
            "58000",
            (OrdType.STOP_LIMIT, Decimal(58000), Decimal(59000)),
        ),
        ("take-profit", "70000", "0", (OrdType.STOP, None, Decimal(70000))),
        ("trailing-stop", "+5.0%", "0", (OrdType.STOP, None, None)),
        ("iceberg", "62000", "0", (OrdType.LIMIT, Decimal(62000), None)),
    ],
)
def test_every_class_of_order_is_seen(
    kind: str, price: str, price2: str, expected: tuple[Any, ...]
) -> None:
    descr = {"pair": "XBTUSD", "type": "sell", "ordertype": kind, "price": price, "price2": price2}
    order = rest_order(descr=descr).to_port("OABC", symbol_of)
    assert (order.ord_type, order.price, order.stop_px) == expected


def test_a_number_that_is_none_is_no_answer() -> None:
    with pytest.raises(msgspec.ValidationError):
        rest_order(vol="NaN")
    with pytest.raises(msgspec.ValidationError):
        rest_order(descr={"pair": "XBTUSD", "type": "lend", "ordertype": "limit"})


def test_what_earns_by_itself_belongs_to_its_currency_and_what_is_staked_does_not() -> None:
    held = {
        "XXBT": wire.Holding(balance=Decimal("1.5"), hold_trade=Decimal("0.5")),
        "XBT.F": wire.Holding(balance=Decimal("0.25")),
        "ETH.S": wire.Holding(balance=Decimal(3)),
        "ZUSD": wire.Holding(balance=Decimal("100.5")),
    }
    assets = {
        "XXBT": wire.AssetInfo(altname="XBT"),
        "ZUSD": wire.AssetInfo(altname="USD"),
        "ETH.S": wire.AssetInfo(altname="ETH.S"),
    }
    found = wire.balances(held, assets)
    assert set(found) == {"BTC", "ETH.S", "USD"}
    assert (found["BTC"].free, found["BTC"].locked) == (Decimal("1.25"), Decimal("0.5"))


def execution(**fields: Any) -> Execution:
    row = {
        "order_id": "OABC",
        "exec_type": "new",
        "order_status": "new",
        "timestamp": "2023-09-22T10:33:05.709982Z",
        **fields,
    }
    return msgspec.json.decode(msgspec.json.encode(row), type=Execution)


TERMS = {
    "symbol": "BTC/USD",
    "side": "sell",
    "order_type": "limit",
    "order_qty": 0.005,
    "limit_price": 26500.0,
}


def test_an_order_is_known_from_its_first_event_on() -> None:
    pending = execution(exec_type="pending_new", order_status="pending_new", **TERMS)
    first = order_in(pending, None, symbol_of)
    assert first.status is OrdStatus.PENDING_NEW
    live = order_in(execution(), first, symbol_of)
    assert (live.status, live.price, live.order_qty) == (
        OrdStatus.NEW,
        Decimal("26500.0"),
        Decimal("0.005"),
    )
    assert live.updated_ns == 1_695_378_785_709_982_000
    trade = execution(
        exec_type="trade", order_status="partially_filled", exec_id="TABC", last_qty=0.005,
        last_price=26599.9, cum_qty=0.005, liquidity_ind="t", fees=[{"asset": "USD", "qty": 0.3}],
    )  # fmt: skip
    report = report_of(trade, order_in(trade, live, symbol_of))
    assert report.order.status is OrdStatus.PARTIALLY_FILLED
    assert report.fill is not None
    assert (report.fill.exec_id, report.fill.last_px) == ("TABC", Decimal("26599.9"))
    assert (report.fill.fee, report.fill.fee_currency) == (Decimal("0.3"), "USD")
    ended = execution(exec_type="filled", order_status="filled", cum_qty=0.005)
    assert order_in(ended, report.order, symbol_of).status is OrdStatus.FILLED


def test_an_event_of_an_order_that_was_never_told_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="not told before"):
        order_in(execution(exec_type="canceled", order_status="canceled"), None, symbol_of)
    with pytest.raises(KeyError):
        order_in(execution(**{**TERMS, "symbol": "NO/ONE"}), None, symbol_of)


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("2023-09-22T10:33:05Z", 1_695_378_785 * SECOND_NS),
        ("2023-09-22T10:33:05.7Z", 1_695_378_785_700_000_000),
        ("2023-09-22T10:33:05.709982123Z", 1_695_378_785_709_982_123),
    ],
)
def test_times_keep_every_digit(text: str, expected_ns: int) -> None:
    assert wire.moment_ns(text) == expected_ns
