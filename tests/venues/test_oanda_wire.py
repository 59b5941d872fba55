"""What OANDA says, in our words: its published examples, and what is no answer."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.oanda_examples import response

from openbell.domain.orders import OrdStatus, OrdType, Side
from openbell.venues.oanda import wire
from openbell.venues.oanda.history import CutError, History
from openbell.venues.problem import Meaning

D = Decimal


def decode(shape: Any, payload: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(payload), type=shape)


# Published examples.


@pytest.mark.parametrize(
    ("shape", "module", "name"),
    [
        (wire.Accounts, "accounts", "_v3_accounts"),
        (wire.Summary, "accounts", "_v3_account_by_accountID_summary"),
        (wire.Instruments, "accounts", "_v3_account_by_accountID_instruments"),
        (wire.Created, "orders", "_v3_accounts_accountID_orders_create"),
        (wire.Created, "orders", "_v3_accounts_accountID_order_replace"),
        (wire.Created, "trades", "_v3_account_accountID_trades_close"),
        (wire.Cancelled, "orders", "_v3_accounts_accountID_order_cancel"),
        (wire.PendingOrders, "orders", "_v3_accounts_accountID_orders_pending"),
        (wire.PendingOrders, "orders", "_v3_accounts_accountID_orders_list"),
        (wire.OrderAnswer, "orders", "_v3_accounts_accountID_order_details"),
        (wire.Positions, "positions", "_v3_accounts_accountID_positions"),
        (wire.Positions, "positions", "_v3_accounts_accountID_openpositions"),
        (wire.Prices, "pricing", "_v3_accounts_accountID_pricing"),
        (wire.TransactionPages, "transactions", "_v3_accounts_accountID_transactions"),
        (wire.Transactions, "transactions", "_v3_accounts_transaction_idrange"),
        (wire.Transactions, "transactions", "_v3_accounts_transaction_sinceid"),
    ],
)
def test_a_published_answer_is_read(shape: Any, module: str, name: str) -> None:
    assert isinstance(decode(shape, response(module, name)), shape)


@pytest.mark.parametrize(
    ("module", "name", "field"),
    [
        ("transactions", "_v3_accounts_transaction_details", "transaction"),
        ("orders", "_v3_accounts_accountID_orders_create", "orderCreateTransaction"),
        ("orders", "_v3_accounts_accountID_order_cancel", "orderCancelTransaction"),
        ("trades", "_v3_account_accountID_trades_close", "orderFillTransaction"),
        ("trades", "_v3_account_accountID_trades_crcdo", "stopLossOrderTransaction"),
        ("trades", "_v3_account_accountID_trades_crcdo", "takeProfitOrderTransaction"),
        ("positions", "_v3_accounts_accountID_position_close", "longOrderFillTransaction"),
        (
            "orders",
            "_v3_accounts_accountID_order_clientextensions",
            "orderClientExtensionsModifyTransaction",
        ),
    ],
)
def test_a_published_transaction_is_read(module: str, name: str, field: str) -> None:
    told = response(module, name)[field]
    read = decode(wire.Transaction, told)
    assert (read.id, read.type) == (told["id"], told["type"])
    assert read.units == D(told.get("units", "0"))


def test_published_streams_are_read_line_by_line() -> None:
    for line in response("pricing", "_v3_accounts_accountID_pricing_stream"):
        if decode(wire.StreamLine, line).type == "PRICE":
            price = decode(wire.Price, line)
            quote = price.to_port(venue="v", received_ns=1)
            assert quote is not None
            assert quote.is_sound
            assert (str(quote.bid_px), price.can_be_traded_on) == (line["bids"][0]["price"], True)
    beats = response("transactions", "_v3_accounts_transactions_stream")
    assert {decode(wire.StreamLine, line).last_transaction_id for line in beats} == {"2311"}


def test_published_pages_lead_to_their_first_transaction() -> None:
    told = response("transactions", "_v3_accounts_accountID_transactions")
    pages = decode(wire.TransactionPages, told)
    assert pages.first_number == 1
    # What `history` relies on: transactions are numbered without gaps.
    assert str(told["count"]) == told["lastTransactionID"]


def test_published_transactions_make_a_history() -> None:
    """An order created, given a client id, replaced, and its replacement cancelled."""
    history = History(2311, "EUR")
    for name in ("_v3_accounts_transaction_sinceid", "_v3_accounts_transaction_idrange"):
        page = decode(wire.Transactions, response("transactions", name))
        history.prepend(page.transactions)
    assert (history.floor, history.top) == (2303, 2311)
    first, second = history.order(2304), history.order(2307)
    assert first is not None
    assert second is not None
    assert (first.cl_ord_id, first.status, first.price) == ("myID", OrdStatus.CANCELED, D("1.2"))
    assert (second.side, second.order_qty) == (Side.SELL, D(500000))
    assert second.status is OrdStatus.CANCELED
    assert history.number_of("myID") == 2307
    third = history.order(2309)
    assert third is not None
    assert (third.status, third.symbol, third.ord_type) == (
        OrdStatus.NEW,
        "EUR/USD",
        OrdType.LIMIT,
    )


def test_a_published_close_is_one_execution_of_several_trades() -> None:
    told = response("positions", "_v3_accounts_accountID_position_close")
    history = History(6389, "EUR")
    history.extend(
        [
            decode(wire.Transaction, told["longOrderCreateTransaction"]),
            decode(wire.Transaction, told["longOrderFillTransaction"]),
        ]
    )
    [fill] = history.fills_of(6390)
    assert (fill.exec_id, fill.side, fill.last_qty) == ("6391", Side.SELL, D(251))
    assert (fill.last_px, fill.fee_currency) == (D("1.13018"), "EUR")
    order = history.order(6390)
    assert order is not None
    assert (order.status, order.reduce_only) == (OrdStatus.FILLED, True)


def test_published_instruments_have_exact_grids() -> None:
    told = decode(
        wire.Instruments, response("accounts", "_v3_account_by_accountID_instruments")
    ).instruments
    rules = {each.name: each.to_port() for each in told}
    euro, index = rules["EUR_USD"], rules["EU50_EUR"]
    assert (euro.tick_size, euro.lot_size, euro.max_qty) == (D("0.00001"), D(1), D(100000000))
    assert (index.symbol, index.tick_size) == ("EU50/EUR", D("0.1"))


# Times, numbers.


@given(st.integers(min_value=0, max_value=4 * 10**18))
def test_a_time_comes_back_as_it_was_written(at_ns: int) -> None:
    assert wire.time_ns(wire.unix_time(at_ns)) == at_ns


@pytest.mark.parametrize(
    "text",
    ["1477345698.593753865", "2016-10-24T21:48:18.593753865Z"],
)
def test_both_formats_tell_the_same_time(text: str) -> None:
    assert wire.time_ns(text) == 1_477_345_698_593_753_865


@pytest.mark.parametrize("text", ["", "yesterday", "2016-10-24 21:48:18", "1.2.3"])
def test_what_is_no_time_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        wire.time_ns(text)


FILL = {
    "id": "7",
    "time": "1477345698.5",
    "type": "ORDER_FILL",
    "orderID": "6",
    "clientOrderID": "mine",
    "instrument": "EUR_USD",
    "units": "-100",
    "price": "1.1",
    "fullVWAP": "1.10005",
    "commission": "0.25",
}


def test_amounts_keep_every_digit() -> None:
    read = decode(wire.Transaction, {**FILL, "units": "-12345678901234567.125"})
    assert read.units == D("-12345678901234567.125")
    assert read.filled_at == D("1.10005")


@pytest.mark.parametrize(
    "change",
    [
        {"units": "NaN"},
        {"price": "Infinity"},
        {"id": "seven"},
        {"time": "now"},
        {"orderID": ""},
        {"price": None, "fullVWAP": None},
    ],
)
def test_a_transaction_that_makes_no_sense_is_no_answer(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(wire.Transaction, {**FILL, **change})


# Errors.


@pytest.mark.parametrize(
    ("status", "body", "meaning", "code"),
    [
        (
            400,
            {"errorMessage": "m", "errorCode": "PRICE_INVALID"},
            Meaning.REFUSED,
            "PRICE_INVALID",
        ),
        (
            400,
            {
                "errorMessage": "m",
                "orderRejectTransaction": {"rejectReason": "UNITS_INVALID"},
            },
            Meaning.REFUSED,
            "UNITS_INVALID",
        ),
        (400, {"errorMessage": "Invalid value"}, Meaning.REFUSED, "http_400"),
        (
            400,
            {"errorMessage": "m", "errorCode": "CLIENT_ORDER_ID_ALREADY_EXISTS"},
            Meaning.DUPLICATE,
            "CLIENT_ORDER_ID_ALREADY_EXISTS",
        ),
        (401, {"errorMessage": "m"}, Meaning.NOT_ALLOWED, "http_401"),
        (403, {"errorMessage": "m"}, Meaning.NOT_ALLOWED, "http_403"),
        (
            404,
            {"errorMessage": "m", "errorCode": "ORDER_DOESNT_EXIST"},
            Meaning.NO_SUCH_ORDER,
            "ORDER_DOESNT_EXIST",
        ),
        (
            404,
            {"errorMessage": "m", "errorCode": "NO_SUCH_ORDER"},
            Meaning.NO_SUCH_ORDER,
            "NO_SUCH_ORDER",
        ),
        (
            404,
            {"errorMessage": "m", "errorCode": "NO_SUCH_ACCOUNT"},
            Meaning.REFUSED,
            "NO_SUCH_ACCOUNT",
        ),
        (429, {"errorMessage": "m"}, Meaning.THROTTLED, "http_429"),
        (503, {"errorMessage": "m"}, Meaning.UNCERTAIN, "http_503"),
        (302, {"errorMessage": "m"}, Meaning.UNCERTAIN, "http_302"),
    ],
)
def test_an_error_means_what_its_status_and_code_say(
    status: int, body: object, meaning: Meaning, code: str
) -> None:
    problem = wire.problem_in(status, msgspec.json.encode(body))
    assert problem is not None
    assert (problem.meaning, problem.code) == (meaning, code)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"\xff\xfe", b'{"code":1}'])
def test_a_failure_without_oandas_own_words_is_uncertain(body: bytes) -> None:
    for status in (400, 403, 404, 502):
        problem = wire.problem_in(status, body)
        assert problem is not None
        assert (problem.meaning, problem.code) == (Meaning.UNCERTAIN, f"http_{status}")
    throttled = wire.problem_in(429, body)
    assert throttled is not None
    assert throttled.meaning is Meaning.THROTTLED


# The history.


def order(number: int, kind: str = "LIMIT", **more: object) -> wire.Transaction:
    facts = {
        "id": str(number), "time": f"{number}.0", "type": f"{kind}_ORDER", "units": "100",
        "instrument": "EUR_USD", "timeInForce": "GTC", "clientExtensions": {"id": f"c{number}"},
        "price": "1.1",
    }  # fmt: skip
    return decode(wire.Transaction, {**facts, **more})


def fill(number: int, of: int, units: str, **more: object) -> wire.Transaction:
    facts = {**FILL, "id": str(number), "time": f"{number}.0", "orderID": str(of), "units": units}
    return decode(wire.Transaction, {**facts, **more})


def cancel(number: int, of: int, reason: str = "CLIENT_REQUEST") -> wire.Transaction:
    facts = {"id": str(number), "time": f"{number}.0", "type": "ORDER_CANCEL", "reason": reason}
    return decode(wire.Transaction, {**facts, "orderID": str(of)})


def told(*transactions: wire.Transaction) -> History:
    history = History(transactions[0].number - 1, "USD")
    history.extend(transactions)
    return history


def test_a_history_with_a_hole_is_a_cut_one() -> None:
    history = told(order(10))
    for page in ([order(12)], [order(11), order(13)], [order(10)]):
        with pytest.raises(CutError):
            history.extend(page)
    with pytest.raises(CutError):
        history.prepend([order(8)])
    assert (history.floor, history.top) == (9, 10)


@pytest.mark.parametrize(
    ("events", "status", "cum_qty"),
    [
        ([order(1)], OrdStatus.NEW, 0),
        ([order(1), fill(2, 1, "40")], OrdStatus.PARTIALLY_FILLED, 40),
        ([order(1), fill(2, 1, "40"), fill(3, 1, "60")], OrdStatus.FILLED, 100),
        ([order(1), fill(2, 1, "40"), cancel(3, 1)], OrdStatus.CANCELED, 40),
        ([order(1), cancel(2, 1, "CLIENT_REQUEST_REPLACED")], OrdStatus.CANCELED, 0),
        ([order(1), cancel(2, 1, "TIME_IN_FORCE_EXPIRED")], OrdStatus.EXPIRED, 0),
        ([order(1, "MARKET"), cancel(2, 1, "INSUFFICIENT_LIQUIDITY")], OrdStatus.EXPIRED, 0),
        ([order(1, "MARKET"), cancel(2, 1, "MARKET_HALTED")], OrdStatus.EXPIRED, 0),
        # Whether or not OANDA says that it dropped the rest of one that never rests.
        ([order(1, "MARKET"), fill(2, 1, "40")], OrdStatus.EXPIRED, 40),
        ([order(1, timeInForce="IOC"), fill(2, 1, "40")], OrdStatus.EXPIRED, 40),
    ],
)
def test_an_orders_state_follows_from_its_transactions(
    events: list[wire.Transaction], status: OrdStatus, cum_qty: int
) -> None:
    found = told(*events).order(1)
    assert found is not None
    assert (found.status, found.cum_qty, found.order_qty) == (status, cum_qty, 100)
    assert found.updated_ns == events[-1].at_ns
    # Read backwards, page by page, it is the same order.
    backwards = History(len(events), "USD")
    for event in reversed(events):
        backwards.prepend([event])
    assert backwards.order(1) == found


@pytest.mark.parametrize(
    ("kind", "more", "ord_type", "price", "stop_px"),
    [
        ("LIMIT", {}, OrdType.LIMIT, D("1.1"), None),
        ("STOP", {}, OrdType.STOP, None, D("1.1")),
        ("MARKET_IF_TOUCHED", {}, OrdType.STOP, None, D("1.1")),
        ("MARKET", {"price": None}, OrdType.MARKET, None, None),
        ("MARKET", {"price": None, "priceBound": "1.2"}, OrdType.LIMIT, D("1.2"), None),
        ("OF_ANOTHER_KIND", {}, OrdType.STOP, None, D("1.1")),
    ],
)
def test_every_kind_of_order_has_a_place_in_our_words(
    kind: str, more: dict[str, Any], ord_type: OrdType, price: D | None, stop_px: D | None
) -> None:
    found = told(order(1, kind, **more)).order(1)
    assert found is not None
    assert (found.ord_type, found.price, found.stop_px) == (ord_type, price, stop_px)


def test_protection_has_side_and_quantity_of_the_trade_it_hangs_on() -> None:
    opening = fill(2, 1, "100", tradeOpened={"tradeID": "2", "units": "100"})
    stop = order(3, "STOP_LOSS", instrument="", units="0", tradeID="2", price="1.05")
    found = told(order(1, "MARKET"), opening, stop).order(3)
    assert found is not None
    assert (found.side, found.order_qty, found.stop_px) == (Side.SELL, 100, D("1.05"))
    assert found.reduce_only
    alone = History(2, "USD")
    alone.extend([stop])
    assert (alone.order(3), alone.needs(3)) == (None, 2)


def test_the_newest_order_has_a_name_that_was_used_again() -> None:
    name = {"clientExtensions": {"id": "again"}}
    history = told(order(1, **name), cancel(2, 1), order(3, **name))
    assert history.number_of("again") == 3
    later = History(2, "USD")
    later.extend([order(3, **name)])
    later.prepend([order(1, **name), cancel(2, 1)])
    assert later.number_of("again") == 3


def test_fills_of_older_orders_are_told_too() -> None:
    history = told(fill(7, 1, "40"), fill(8, 2, "-10"))
    assert [(f.exec_id, f.cl_ord_id, f.fee) for f in history.fills_since(0)] == [
        ("7", "mine", D("0.25")),
        ("8", "mine", D("0.25")),
    ]
    assert [f.exec_id for f in history.fills_since(8_000_000_000)] == ["8"]
