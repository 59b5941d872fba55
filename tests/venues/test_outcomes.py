"""What a submit, a cancel and a query come to, against a venue over a bare socket."""

from __future__ import annotations

import asyncio
import socket
import traceback
from decimal import Decimal

import pytest

from openbell.domain.orders import ClOrdID, OrdType, TimeInForce
from openbell.venues.port import (
    Accepted,
    Rejected,
    Unknown,
    VenueAuthError,
    VenueRefusedError,
    VenueThrottledError,
    VenueUnavailableError,
)

ORDER = "/api/v3/order"
ACK = {"symbol": "BTCUSDT", "orderId": 77, "clientOrderId": "ob00000000-1-1", "transactTime": 1}


@pytest.fixture
def venue(scripted, open_binance):
    return open_binance(scripted.url)


async def test_an_acknowledged_order_is_accepted_with_the_venues_id(
    venue, scripted, limit_order, answers
):
    scripted.on("POST", ORDER, answers.reply(ACK))
    assert await venue.submit(limit_order()) == Accepted(venue_order_id="77")
    sent = scripted.seen[-1].params
    assert sent["newClientOrderId"] == "ob00000000-1-1"
    assert (sent["quantity"], sent["price"], sent["timeInForce"]) == ("0.001", "20000.1", "GTC")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-1013, "Filter failure: LOT_SIZE"),
        (-1013, "Filter failure: PRICE_FILTER"),
        (-1013, "Filter failure: NOTIONAL"),
        (-2010, "Account has insufficient balance for requested action."),
        (-2010, "Order would immediately match and take."),
        (-1021, "Timestamp for this request is outside of the recvWindow."),
        (-1022, "Signature for this request is not valid."),
        (-2015, "Invalid API-key, IP, or permissions for action."),
        (-1121, "Invalid symbol."),
    ],
)
async def test_what_the_venue_refuses_is_rejected_with_its_own_code(
    venue, scripted, limit_order, answers, code, text
):
    scripted.on("POST", ORDER, answers.refusal(code, text))
    assert await venue.submit(limit_order()) == Rejected(code=str(code), text=text)


@pytest.mark.parametrize("code", [-1000, -1001, -1006, -1007])
@pytest.mark.parametrize("status", [400, 504])
async def test_codes_that_say_status_unknown_are_unknown_whatever_the_http_status(
    venue, scripted, limit_order, answers, code, status
):
    scripted.on("POST", ORDER, answers.refusal(code, "execution status unknown", status))
    assert isinstance(await venue.submit(limit_order()), Unknown)


async def test_a_duplicate_id_is_unknown_because_it_proves_an_order(
    venue, scripted, limit_order, answers
):
    scripted.on("POST", ORDER, answers.refusal(-2010, "Duplicate order sent."))
    outcome = await venue.submit(limit_order())
    assert isinstance(outcome, Unknown)
    assert outcome.why.startswith("duplicate id")


@pytest.mark.parametrize(
    "fault", ["503", "502_html", "redirect", "html_200", "other_shape", "cut", "half", "hang"]
)
@pytest.mark.parametrize("effect", ["submit", "cancel", "cancel_all"])
async def test_an_effect_without_a_clear_answer_is_unknown_and_sent_exactly_once(
    scripted, open_binance, limit_order, answers, fault, effect
):
    html = type(answers.cut)(status=200, body=b"<html>hello</html>")
    answer = {
        "503": answers.refusal(-1008, "Server is currently overloaded", 503),
        "502_html": type(html)(status=502, body=b"<html>bad gateway</html>"),
        "redirect": answers.reply({}, 307, Location="/api/v3/order"),
        "html_200": html,
        "other_shape": answers.reply({"hello": "world"}),
        "cut": answers.cut,
        "half": answers.half,
        "hang": answers.hang,
    }[fault]
    venue = open_binance(scripted.url, timeout=2.0 if fault == "hang" else 10.0)
    method, path = {
        "submit": ("POST", ORDER),
        "cancel": ("DELETE", ORDER),
        "cancel_all": ("DELETE", "/api/v3/openOrders"),
    }[effect]
    scripted.on(method, path, answer)
    # A kept-alive connection first: clients repeat requests on those by themselves.
    await venue.server_time_ns()
    if effect == "submit":
        outcome = await venue.submit(limit_order())
    elif effect == "cancel":
        outcome = await venue.cancel("BTC/USDT", ClOrdID("ob00000000-1-1"))
    else:
        outcome = await venue.cancel_all("BTC/USDT")
    assert isinstance(outcome, Unknown)
    assert scripted.count(method, path) == 1


async def test_no_connection_means_never_arrived(open_binance, limit_order):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    outcome = await open_binance(url).submit(limit_order())
    assert isinstance(outcome, Rejected)
    assert outcome.code == "never_arrived"


@pytest.mark.parametrize("status", [429, 418])
async def test_throttled_is_rejected_and_nothing_more_is_sent_before_the_named_time(
    venue, scripted, limit_order, answers, status
):
    scripted.on(
        "POST", ORDER, answers.refusal(-1003, "Too many requests.", status, Retry_After="7")
    )
    first = await venue.submit(limit_order())
    assert isinstance(first, Rejected)
    assert first.code == "throttled"
    assert "7.0 s" in first.text
    second = await venue.submit(limit_order())
    third = await venue.cancel("BTC/USDT", ClOrdID("ob00000000-1-1"))
    assert {second.code, third.code} == {"throttled"}
    with pytest.raises(VenueThrottledError) as raised:
        await venue.open_orders()
    assert 0 < raised.value.retry_after_s <= 7
    assert len(scripted.seen) == 1


async def test_too_many_orders_leave_cancels_open(venue, scripted, limit_order, answers):
    """429 with -1015 concerns new orders alone."""
    scripted.on("POST", ORDER, answers.refusal(-1015, "Too many new orders.", 429))
    scripted.on("DELETE", ORDER, answers.reply({"orderId": 5}))
    outcome = await venue.submit(limit_order())
    assert outcome == Rejected(code="-1015", text="Too many new orders.")
    assert isinstance(await venue.cancel("BTC/USDT", ClOrdID("x")), Accepted)


async def test_queries_stop_at_four_fifths_of_the_budget_and_cancels_do_not(
    venue, scripted, answers
):
    venue._pacing.budget = 1000
    # The middle of a minute by the venue's clock, told first: by this machine's a minute may have
    # just begun, when counts are not believed.
    middle = {"serverTime": 1_700_000_020_000}
    scripted.on(
        "GET",
        "/api/v3/time",
        answers.reply(middle),
        answers.reply(middle, X_MBX_USED_WEIGHT_1M="800"),
    )
    await venue.server_time_ns()
    await venue.server_time_ns()
    with pytest.raises(VenueThrottledError):
        await venue.server_time_ns()
    scripted.on("DELETE", ORDER, answers.reply({"orderId": 5}))
    assert isinstance(await venue.cancel("BTC/USDT", ClOrdID("x")), Accepted)


async def test_a_cancel_of_no_such_order_is_rejected(venue, scripted, answers):
    scripted.on("DELETE", ORDER, answers.refusal(-2011, "Unknown order sent."))
    outcome = await venue.cancel("BTC/USDT", ClOrdID("ob00000000-1-1"))
    assert outcome == Rejected(code="-2011", text="Unknown order sent.")


async def test_a_post_only_order_is_a_limit_maker_without_time_in_force(
    venue, scripted, limit_order, answers
):
    scripted.on("POST", ORDER, answers.reply(ACK))
    await venue.submit(limit_order(post_only=True))
    sent = scripted.seen[-1].params
    assert sent["type"] == "LIMIT_MAKER"
    assert "timeInForce" not in sent


@pytest.mark.parametrize(
    "changes",
    [
        {"price": None},
        {"ord_type": OrdType.MARKET},
        {"post_only": True, "time_in_force": TimeInForce.IOC},
    ],
)
async def test_an_order_that_makes_no_sense_is_not_sent(venue, scripted, limit_order, changes):
    outcome = await venue.submit(limit_order(**changes))
    assert isinstance(outcome, Rejected)
    assert outcome.code == "bad_order"
    assert scripted.seen == []


@pytest.mark.parametrize(
    ("quantity", "text"),
    [("0.00001", "0.00001"), ("1E-8", "0.00000001"), ("1E+3", "1000"), ("0.10000000", "0.1")],
)
async def test_quantities_are_written_plainly_and_exactly(
    venue, scripted, limit_order, answers, quantity, text
):
    scripted.on("POST", ORDER, answers.reply(ACK))
    await venue.submit(limit_order(order_qty=Decimal(quantity)))
    assert scripted.seen[-1].params["quantity"] == text


async def test_a_cancelled_caller_is_cancelled_and_the_order_was_sent_once(
    venue, scripted, limit_order, answers
):
    scripted.on("POST", ORDER, answers.hang)
    task = asyncio.create_task(venue.submit(limit_order()))
    while not scripted.count("POST", ORDER):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scripted.count("POST", ORDER) == 1


async def test_closing_under_a_submit_leaves_it_unknown(venue, scripted, limit_order, answers):
    scripted.on("POST", ORDER, answers.hang)
    task = asyncio.create_task(venue.submit(limit_order()))
    while not scripted.count("POST", ORDER):
        await asyncio.sleep(0.01)
    await venue.close()
    assert isinstance(await task, Unknown)


async def test_the_moment_of_sending_is_told_before_the_venue_sees_the_order(
    venue, scripted, limit_order, answers
):
    told = []
    venue.on_sent = lambda cl_ord_id, at_ns: told.append((cl_ord_id, at_ns, len(scripted.seen)))
    scripted.on("POST", ORDER, answers.reply(ACK))
    await venue.submit(limit_order())
    [(cl_ord_id, at_ns, arrived)] = told
    assert (cl_ord_id, arrived) == ("ob00000000-1-1", 0)
    assert at_ns > 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (("refusal", -1121, "Invalid symbol.", 400), VenueRefusedError),
        (("refusal", -2015, "Invalid API-key.", 401), VenueAuthError),
        (("refusal", -1022, "Signature is not valid.", 400), VenueAuthError),
        (("refusal", -1000, "Unknown error.", 500), VenueUnavailableError),
        (("reply", {"hello": 1}, 200), VenueUnavailableError),
    ],
)
async def test_a_query_that_fails_says_what_the_caller_must_do(
    venue, scripted, answers, answer, error
):
    kind, *arguments = answer
    scripted.on("GET", "/api/v3/account", getattr(answers, kind)(*arguments))
    with pytest.raises(error):
        await venue.balances()


async def test_a_venue_that_is_gone_is_unavailable_to_queries(open_binance):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(VenueUnavailableError):
        await open_binance(url).connect()


def chain_of(error: BaseException) -> str:
    """All that a log of the error can show: its traceback with every chained one."""
    return "".join(traceback.format_exception(error)) + repr(error)


async def test_no_secret_and_no_signature_is_in_any_text(
    scripted, open_binance, limit_order, answers, canaries
):
    key, secret = canaries
    venue = open_binance(scripted.url, timeout=2.0)
    scripted.on("POST", ORDER, answers.refusal(-1022, f"bad signature of {key} with {secret}"))
    texts = [repr(venue._credentials), repr(venue._signed("GET", "private", "account"))]
    texts.append(repr(await venue.submit(limit_order())))
    for fault in (answers.hang, answers.cut, answers.refusal(-1, f"no {secret}", 500)):
        scripted.on("GET", "/api/v3/account", fault)
        with pytest.raises(VenueUnavailableError) as raised:
            await venue.balances()
        texts.append(chain_of(raised.value))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = open_binance(f"http://127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(VenueUnavailableError) as raised:
        await gone.balances()
    texts.append(chain_of(raised.value))
    told = "\n".join(texts)
    assert key not in told
    assert secret not in told
    assert "signature=" not in told
    # The originals are there all the same.
    assert "aiohttp.client_exceptions.ClientConnectorError: Connect call failed" in told
    assert "aiohttp.client_exceptions.ServerDisconnectedError" in told


async def test_a_refused_time_stamp_makes_the_next_query_read_the_venues_clock_again(
    venue, scripted, answers
):
    scripted.on(
        "GET",
        "/api/v3/account",
        answers.refusal(-1021, "Timestamp for this request is outside of the recvWindow."),
        answers.reply({"balances": []}),
    )
    await venue.server_time_ns()
    with pytest.raises(VenueAuthError):
        await venue.balances()
    asked = scripted.count("GET", "/api/v3/time")
    assert await venue.balances() == {}
    assert scripted.count("GET", "/api/v3/time") == asked + 1


async def test_signed_requests_carry_the_venues_time_and_not_ours(venue, scripted, answers):
    scripted.on("GET", "/api/v3/account", answers.reply({"balances": []}))
    await venue.balances()
    stamp = int(scripted.seen[-1].params["timestamp"])
    assert 1_700_000_000_000 <= stamp < 1_700_000_060_000
    assert scripted.seen[-1].params["recvWindow"] == "5000"
