"""The Alpaca adapter against a venue that answers as a test tells it to: what goes over the wire,
and what its answers mean."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    OrdStatus,
    OrdType,
    Purpose,
    Side,
    TimeInForce,
)
from openbell.errors import ConfigError
from openbell.venues.alpaca import wire
from openbell.venues.alpaca.pacing import AlpacaPacing
from openbell.venues.alpaca.venue import AlpacaVenue
from openbell.venues.credentials import Credentials
from openbell.venues.port import (
    Accepted,
    Rejected,
    Unknown,
    VenueAuthError,
    VenueRefusedError,
    VenueThrottledError,
    VenueUnavailableError,
)

KEY, SECRET = "canary-key-5f2d9e", "canary-secret-81c04b"
ORDER = {
    "id": "61e69015-8549-4bfd-b9c3-01e75843f47d",
    "client_order_id": "ob00000000-1-1",
    "created_at": "2024-08-08T13:30:00.123456789Z",
    "updated_at": "2024-08-08T09:30:01-04:00",
    "submitted_at": "2024-08-08T13:30:00.123456789Z",
    "symbol": "AAPL",
    "qty": "2",
    "filled_qty": "0",
    "type": "limit",
    "side": "buy",
    "limit_price": "150.1",
    "stop_price": None,
    "status": "new",
}
ACCOUNT = {
    "account_number": "PA1234567890",
    "status": "ACTIVE",
    "currency": "USD",
    "cash": "-250.75",
    "equity": "1000.5",
    "multiplier": "2",
}
ASSET = {
    "id": "b0b6dd9d-8b9b-48a9-ba46-b9d54906e415",
    "class": "us_equity",
    "symbol": "AAPL",
    "tradable": True,
    "fractionable": True,
    "status": "active",
}


@dataclass
class Answer:
    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Scripted:
    """Answers by method and path; the last answer of a list repeats."""

    url: str = ""
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)

    def on(self, call: str, body: Any, status: int = 200, **headers: str) -> None:
        method, path = call.split(" ")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault((method, path), []).append(Answer(status, body, named))

    def sent(self, call: str) -> list[tuple[dict[str, str], Any]]:
        """Query and JSON body of every such request."""
        method, path = call.split(" ")
        return [(query, body) for m, p, query, body in self.seen if (m, p) == (method, path)]

    async def serve(self, request: web.Request) -> web.Response:
        assert request.headers["APCA-API-KEY-ID"] == KEY
        assert request.headers["APCA-API-SECRET-KEY"] == SECRET
        text = await request.text()
        body = json.loads(text) if text else None
        self.seen.append((request.method, request.path, dict(request.query), body))
        answers = self.answers.get((request.method, request.path))
        assert answers, f"nothing scripted for {request.method} {request.path}"
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        return web.Response(status=answer.status, text=text, headers=answer.headers)


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    made = Scripted()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def opened(scripted: Scripted) -> AsyncIterator[Callable[..., AlpacaVenue]]:
    made: list[AlpacaVenue] = []

    def make(**changes: Any) -> AlpacaVenue:
        fields = {"url": scripted.url, "symbols": ("AAPL/USD",), **changes}
        venue = AlpacaVenue("sim", VenueConfig(**fields), Credentials(KEY, SECRET))
        made.append(venue)
        return venue

    yield make
    for venue in made:
        await venue.close()


@pytest.fixture
def venue(opened: Callable[..., AlpacaVenue]) -> AlpacaVenue:
    return opened()


def limit(**changes: Any) -> NewOrder:
    fields: dict[str, Any] = {
        "cl_ord_id": ClOrdID("ob00000000-1-1"),
        "venue": "sim",
        "symbol": "AAPL/USD",
        "side": Side.BUY,
        "ord_type": OrdType.LIMIT,
        "order_qty": Decimal(2),
        "price": Decimal("150.10"),
    }
    return NewOrder(**{**fields, **changes})


def market(**changes: Any) -> NewOrder:
    return limit(**{"ord_type": OrdType.MARKET, "price": None, **changes})


# What is sent


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (limit(), {"type": "limit", "time_in_force": "gtc", "qty": "2", "limit_price": "150.1"}),
        (limit(time_in_force=TimeInForce.IOC), {"time_in_force": "ioc"}),
        (limit(time_in_force=TimeInForce.FOK), {"time_in_force": "fok"}),
        # A part of a share is taken in day orders only.
        (limit(order_qty=Decimal("0.5")), {"qty": "0.5", "time_in_force": "day"}),
        (market(side=Side.SELL), {"type": "market", "time_in_force": "day", "side": "sell"}),
        (market(time_in_force=TimeInForce.IOC), {"time_in_force": "ioc"}),
        (market(order_qty=Decimal("1E-9")), {"qty": "0.000000001", "time_in_force": "day"}),
        (market(side=Side.SELL, purpose=Purpose.FLATTEN), {"position_intent": "sell_to_close"}),
        (limit(purpose=Purpose.FLATTEN), {"position_intent": "buy_to_close"}),
    ],
)
async def test_an_order_in_alpacas_words(
    scripted: Scripted, venue: AlpacaVenue, order: NewOrder, expected: dict[str, str]
) -> None:
    scripted.on("POST /v2/orders", ORDER)
    assert await venue.submit(order) == Accepted(venue_order_id=ORDER["id"])
    ((_, body),) = scripted.sent("POST /v2/orders")
    assert body["client_order_id"] == order.cl_ord_id
    assert {name: body[name] for name in expected} == expected
    assert all(isinstance(value, str) for value in body.values())
    assert ("position_intent" in body) == (order.purpose is Purpose.FLATTEN)


@pytest.mark.parametrize(
    "order",
    [
        limit(post_only=True),
        limit(price=None),
        market(price=Decimal(1)),
        limit(order_qty=Decimal("0.5"), time_in_force=TimeInForce.IOC),
        market(order_qty=Decimal("0.5"), time_in_force=TimeInForce.FOK),
        limit(symbol="MSFT/USD"),
        limit(ord_type=OrdType.STOP),
    ],
)
async def test_what_makes_no_sense_is_not_sent(
    scripted: Scripted, venue: AlpacaVenue, order: NewOrder
) -> None:
    outcome = await venue.submit(order)
    assert isinstance(outcome, Rejected)
    assert outcome.code == "bad_order"
    assert scripted.seen == []


# What answers mean


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (403, {"code": 40310000, "message": "insufficient buying power"}, Rejected),
        (422, {"code": 42210000, "message": 'asset "X" not found'}, Rejected),
        (401, {"message": "unauthorized."}, Rejected),
        (403, {"message": "forbidden."}, Rejected),
        # It proves that an earlier send of the same intent arrived.
        (422, {"code": 40010001, "message": "client_order_id must be unique"}, Unknown),
        (422, {"code": 40010001, "message": "client order id must be unique"}, Unknown),
        (500, {"code": 50010000, "message": "internal server error occurred"}, Unknown),
        (504, "", Unknown),
        (502, "<html>", Unknown),
        (400, "no code", Unknown),
        (422, {"message": "no code"}, Unknown),
        (302, "", Unknown),
        (200, "{}", Unknown),
        (200, "cut off", Unknown),
    ],
)
async def test_the_outcome_of_a_submit(
    scripted: Scripted, venue: AlpacaVenue, status: int, body: Any, expected: type
) -> None:
    scripted.on("POST /v2/orders", body, status)
    outcome = await venue.submit(limit())
    assert isinstance(outcome, expected), outcome
    assert len(scripted.seen) == 1
    if isinstance(outcome, Rejected) and isinstance(body, dict) and "code" in body:
        assert outcome.code == str(body["code"])


async def test_after_429_nothing_is_sent_until_the_minute_ends(
    scripted: Scripted, venue: AlpacaVenue
) -> None:
    """Alpaca names no Retry-After: the end of the minute, less the reply's own time."""
    scripted.on(
        "POST /v2/orders",
        {"code": 42910000, "message": "rate limit exceeded"},
        429,
        X_RateLimit_Limit="200",
        X_RateLimit_Remaining="0",
        X_RateLimit_Reset="1723123860",
        Date="Thu, 08 Aug 2024 13:30:43 GMT",
    )
    outcome = await venue.submit(limit())
    assert isinstance(outcome, Rejected)
    assert (outcome.code, outcome.text) == (
        "throttled",
        "retry after 17.0 s: rate limit exceeded",
    )
    assert isinstance(await venue.submit(limit()), Rejected)
    with pytest.raises(VenueThrottledError):
        await venue.balances()
    assert len(scripted.seen) == 1


async def test_at_four_fifths_of_the_budget_queries_stop_and_cancels_go_on(
    scripted: Scripted, venue: AlpacaVenue
) -> None:
    spent = {"X_RateLimit_Limit": "200", "X_RateLimit_Remaining": "40"}
    scripted.on("GET /v2/account", ACCOUNT, **spent)
    scripted.on("GET /v2/orders:by_client_order_id", ORDER)
    scripted.on(f"DELETE /v2/orders/{ORDER['id']}", "", 204)
    await venue.balances()
    with pytest.raises(VenueThrottledError):
        await venue.balances()
    # The look for Alpaca's id is a part of the cancel.
    assert isinstance(await venue.cancel("AAPL/USD", ClOrdID("ob00000000-1-1")), Accepted)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-RateLimit-Reset": "1723123860", "Date": "Thu, 08 Aug 2024 13:30:43 GMT"}, 17),
        ({"X-RateLimit-Reset": "1723123860", "Date": "Thu, 08 Aug 2024 13:31:43 GMT"}, 1),
        ({"X-RateLimit-Reset": "1723123860", "Date": "Thu, 08 Aug 2024 11:30:43 GMT"}, 60),
        ({"X-RateLimit-Reset": "1723123860"}, 60),
        ({"Date": "Thu, 08 Aug 2024 13:30:43 GMT"}, 60),
        ({"X-RateLimit-Reset": "soon", "Date": "never"}, 60),
        ({"Retry-After": "5", "X-RateLimit-Reset": "1723123860"}, 5),
    ],
)
def test_how_long_a_429_holds(headers: dict[str, str], expected: float) -> None:
    assert AlpacaPacing().refused(429, headers, 1000.0) == expected


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"code": 40110000, "message": "request is not authorized"}, VenueAuthError),
        (403, {"message": "forbidden."}, VenueAuthError),
        (503, "", VenueUnavailableError),
        (422, {"code": 42210000, "message": "no"}, VenueRefusedError),
        (200, {"cash": "1"}, VenueUnavailableError),
        (200, {**ACCOUNT, "cash": "NaN"}, VenueUnavailableError),
    ],
)
async def test_the_errors_of_a_query(
    scripted: Scripted, venue: AlpacaVenue, status: int, body: Any, error: type[Exception]
) -> None:
    scripted.on("GET /v2/account", body, status)
    with pytest.raises(error) as caught:
        await venue.balances()
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)


# Cancels


async def test_a_cancel_asks_for_alpacas_id_where_it_is_not_known(
    scripted: Scripted, venue: AlpacaVenue
) -> None:
    cl_ord_id = ClOrdID("ob00000000-1-1")
    path = f"DELETE /v2/orders/{ORDER['id']}"
    scripted.on("GET /v2/orders:by_client_order_id", ORDER)
    scripted.on(path, "", 204)
    assert await venue.cancel("AAPL/USD", cl_ord_id) == Accepted(venue_order_id=ORDER["id"])
    assert len(scripted.sent("GET /v2/orders:by_client_order_id")) == 1
    scripted.on("POST /v2/orders", ORDER)
    await venue.submit(limit())
    assert isinstance(await venue.cancel("AAPL/USD", cl_ord_id), Accepted)
    assert len(scripted.sent("GET /v2/orders:by_client_order_id")) == 1
    assert len(scripted.sent(path)) == 2


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, {"code": 40410000, "message": "order not found"}, "40410000"),
        (503, "", "never_arrived"),
        (429, {"code": 42910000, "message": "rate limit exceeded"}, "throttled"),
    ],
)
async def test_a_cancel_whose_order_cannot_be_looked_up_was_never_sent(
    scripted: Scripted, venue: AlpacaVenue, status: int, body: Any, code: str
) -> None:
    scripted.on("GET /v2/orders:by_client_order_id", body, status)
    outcome = await venue.cancel("AAPL/USD", ClOrdID("x"))
    assert isinstance(outcome, Rejected)
    assert outcome.code == code
    assert (outcome.retry_after_s is not None) is (code == "throttled")
    assert len(scripted.seen) == 1


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (422, {"code": 42210000, "message": 'order is already in "filled" state'}, Rejected),
        (404, {"code": 40410000, "message": "order not found"}, Rejected),
        (500, {"code": 50010000, "message": "failed to cancel"}, Unknown),
    ],
)
async def test_the_outcome_of_a_cancel(
    scripted: Scripted, venue: AlpacaVenue, status: int, body: Any, expected: type
) -> None:
    scripted.on("DELETE /v2/orders/abc", body, status)
    outcome = await venue.cancel("AAPL/USD", ClOrdID(""), venue_order_id="abc")
    assert isinstance(outcome, expected)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], Accepted),
        ([200, 200], Accepted),
        ([200, 500], Unknown),
        ([422], Unknown),
    ],
)
async def test_a_mass_cancel_is_acknowledged_by_every_order(
    scripted: Scripted, venue: AlpacaVenue, rows: list[int], expected: type
) -> None:
    answer = [{"id": str(number), "status": status} for number, status in enumerate(rows)]
    scripted.on("DELETE /v2/orders", answer, 207)
    assert isinstance(await venue.cancel_account(), expected)


# Lists


def numbered(number: int, **changes: Any) -> dict[str, Any]:
    at = f"2024-08-08T13:30:00.{number:06d}Z"
    return {
        **ORDER,
        "id": f"id-{number}",
        "client_order_id": f"c-{number}",
        "created_at": at,
        "submitted_at": at,
        **changes,
    }


async def test_a_page_that_was_cut_does_not_cut_the_list(
    scripted: Scripted, venue: AlpacaVenue
) -> None:
    """One order is told, the other two only when asked for what comes after it."""
    for page in ([1], [3, 2, 1], [1, 2, 3], [3]):
        scripted.on("GET /v2/orders", [numbered(n) for n in page])
    listing = await venue.open_orders()
    assert [order.cl_ord_id for order in listing.orders] == ["c-1", "c-2", "c-3"]
    assert listing.complete
    queries = [query for query, _ in scripted.sent("GET /v2/orders")]
    assert [(query["direction"], query.get("after")) for query in queries] == [
        ("asc", None),
        ("desc", "2024-08-08T13:30:00.000000000Z"),
        ("asc", "2024-08-08T13:30:00.000000000Z"),
        ("desc", "2024-08-08T13:30:00.000002000Z"),
    ]
    assert queries[0] == {
        "status": "open",
        "symbols": "AAPL",
        "limit": "500",
        "direction": "asc",
    }


async def test_pages_that_are_always_cut_to_one_row_are_not_the_whole_list(
    scripted: Scripted, venue: AlpacaVenue
) -> None:
    """The oldest again and again; the newest shows that there are others."""
    for number in (1, 3, 1):
        scripted.on("GET /v2/orders", [numbered(number)])
    listing = await venue.open_orders()
    assert [order.cl_ord_id for order in listing.orders] == ["c-1", "c-3"]
    assert not listing.complete


async def test_a_page_full_of_one_moment_leaves_the_list_incomplete(
    scripted: Scripted, venue: AlpacaVenue
) -> None:
    page = [{**numbered(1), "id": f"id-{number}"} for number in range(500)]
    scripted.on("GET /v2/orders", page)
    listing = await venue.open_orders()
    assert len(listing.orders) == 500
    assert not listing.complete


def activity(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"20240808133000{number:03d}::x",
        "activity_type": "FILL",
        "transaction_time": f"2024-08-08T13:30:00.{number:03d}Z",
        "price": "150.05",
        "qty": "1",
        "side": "sell_short",
        "symbol": "AAPL",
        "order_id": "order-1",
        "cum_qty": str(number),
        **changes,
    }


async def test_fills_are_read_page_by_page_and_named_by_what_was_filled_so_far(
    scripted: Scripted, venue: AlpacaVenue
) -> None:
    path = "GET /v2/account/activities/FILL"
    scripted.on(path, [activity(1), activity(2, symbol="MSFT")])
    scripted.on(path, [activity(3)])
    scripted.on(path, [])
    since_ns = wire.time_ns("2024-08-08T13:30:00.001Z")
    fills = await venue.fills("AAPL/USD", since_ns=since_ns)
    assert [(fill.exec_id, fill.side) for fill in fills] == [
        ("order-1:1", Side.SELL),
        ("order-1:3", Side.SELL),
    ]
    first, second, last = (query for query, _ in scripted.sent(path))
    assert first["after"] == "2024-08-08T13:29:59Z"
    assert second["page_token"] == activity(2)["id"]
    assert last["page_token"] == activity(3)["id"]


async def test_an_orders_fills_are_looked_for_until_it_is_accounted_for(
    scripted: Scripted, venue: AlpacaVenue
) -> None:
    scripted.on("GET /v2/orders/order-1", {**ORDER, "filled_qty": "2"})
    path = "GET /v2/account/activities/FILL"
    scripted.on(path, [activity(1), activity(1, order_id="other", id="y"), activity(2)])
    fills = await venue.fills("AAPL/USD", venue_order_id="order-1")
    assert [fill.exec_id for fill in fills] == ["order-1:1", "order-1:2"]
    assert {fill.cl_ord_id for fill in fills} == {""}
    assert len(scripted.sent(path)) == 1


async def test_positions_are_alpacas_less_the_holdings(
    scripted: Scripted, opened: Callable[..., AlpacaVenue]
) -> None:
    venue = opened(symbols=("AAPL/USD", "MSFT/USD", "SPY/USD"), holdings={"MSFT": "3"})
    rows = [("AAPL", "-5", "short"), ("MSFT", "10.5", "long"), ("TSLA", "1", "long")]
    scripted.on("GET /v2/positions", [position(*row) for row in rows])
    scripted.on("GET /v2/account", worth(long="115.00001", short="-49.99"))
    held = {each.symbol: each.quantity for each in await venue.positions()}
    assert held == {"AAPL/USD": -5, "MSFT/USD": Decimal("7.5"), "SPY/USD": 0}
    assert len(scripted.seen) == 2


def position(symbol: str, qty: str, side: str) -> dict[str, Any]:
    """At a price of 10."""
    value = str(Decimal(qty) * 10)
    return {
        "symbol": symbol,
        "qty": qty,
        "side": side,
        "avg_entry_price": "7",
        "market_value": value,
    }


def worth(**told: str | None) -> dict[str, Any]:
    """`long` and `short`, as the account tells them."""
    return {**ACCOUNT, **{f"{side}_market_value": value for side, value in told.items()}}


NOT_HELD = {"code": 40410000, "message": "position does not exist"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], {"long": "100", "short": "0"}),
        ([], {"long": "0", "short": "-100"}),
        ([("MSFT", "10", "long")], {"long": "200", "short": "0"}),
        ([("MSFT", "10", "long")], {"long": "100", "short": "-0.01"}),
        ([], {"long": None, "short": "0"}),
        ([], {}),
    ],
)
async def test_a_list_of_positions_that_was_cut_is_never_read_as_flat(
    scripted: Scripted,
    opened: Callable[..., AlpacaVenue],
    rows: list[tuple[str, str, str]],
    told: dict[str, str | None],
) -> None:
    """Where the account is worth something else than the list, what the list leaves out is asked
    for by itself: what is held there all the same makes the list no answer."""
    venue = opened(symbols=("AAPL/USD", "MSFT/USD"))
    scripted.on("GET /v2/positions", [position(*row) for row in rows])
    scripted.on("GET /v2/account", worth(**told))
    scripted.on("GET /v2/positions/AAPL", position("AAPL", "10", "long"))
    scripted.on("GET /v2/positions/MSFT", NOT_HELD, 404)
    with pytest.raises(VenueUnavailableError, match="leaves out AAPL"):
        await venue.positions()
    assert len(scripted.sent("GET /v2/positions")) == 3


@pytest.mark.parametrize(
    "told", [{"long": "500", "short": "0"}, {"long": "0", "short": "-0.01"}, {"long": None}]
)
async def test_an_account_that_is_worth_more_than_the_list_is_flat_where_each_stock_says_so(
    scripted: Scripted, opened: Callable[..., AlpacaVenue], told: dict[str, str | None]
) -> None:
    """A price that moved, or what the account holds beside the desk's symbols."""
    venue = opened(symbols=("AAPL/USD", "MSFT/USD"))
    scripted.on("GET /v2/positions", [])
    scripted.on("GET /v2/account", worth(**told))
    for symbol in ("AAPL", "MSFT"):
        scripted.on(f"GET /v2/positions/{symbol}", NOT_HELD, 404)
    assert [each.quantity for each in await venue.positions()] == [0, 0]
    assert len(scripted.sent("GET /v2/positions")) == 1


async def test_a_stock_that_is_gone_from_the_list_is_asked_for_by_itself_however_little_it_is_worth(
    scripted: Scripted, opened: Callable[..., AlpacaVenue]
) -> None:
    venue = opened(symbols=("AAPL/USD", "MSFT/USD"))
    both = [position("AAPL", "0.01", "long"), position("MSFT", "100", "long")]
    scripted.on("GET /v2/positions", both)
    scripted.on("GET /v2/positions", both[1:])
    scripted.on("GET /v2/positions", both)
    scripted.on("GET /v2/account", worth(long="1000.1", short="0"))
    scripted.on("GET /v2/positions/AAPL", both[0])
    held = [each.quantity for each in await venue.positions()]
    assert [each.quantity for each in await venue.positions()] == held == [Decimal("0.01"), 100]
    assert len(scripted.sent("GET /v2/positions/AAPL")) == 1


async def test_an_error_about_a_single_position_is_no_proof_that_it_is_flat(
    scripted: Scripted, venue: AlpacaVenue
) -> None:
    scripted.on("GET /v2/positions", [])
    scripted.on("GET /v2/account", worth(long="100", short="0"))
    scripted.on("GET /v2/positions/AAPL", {"code": 50010000, "message": "internal"}, 500)
    with pytest.raises(VenueUnavailableError):
        await venue.positions()


# Connecting


async def test_connecting_proves_the_key_the_account_and_the_symbols(
    scripted: Scripted, opened: Callable[..., AlpacaVenue]
) -> None:
    scripted.on("GET /v2/account", ACCOUNT)
    scripted.on("GET /v2/assets/AAPL", ASSET)
    scripted.on("GET /v2/assets/PENNY", {**ASSET, "fractionable": False})
    scripted.on("GET /v2/assets/DEAD", {**ASSET, "tradable": False})
    scripted.on("GET /v2/assets/NOPE", {"code": 40410000, "message": "asset not found"}, 404)
    venue = opened(symbols=("AAPL/USD", "PENNY/USD"), account="PA1234567890")
    await venue.connect()
    assert venue.rules("AAPL/USD").lot_size == Decimal("1E-9")
    assert venue.rules("AAPL/USD").min_notional == 1
    assert (venue.rules("PENNY/USD").lot_size, venue.rules("PENNY/USD").min_notional) == (1, 0)
    with pytest.raises(VenueRefusedError, match="DEAD/USD, NOPE/USD"):
        await opened(symbols=("AAPL/USD", "DEAD/USD", "NOPE/USD")).connect()
    with pytest.raises(VenueRefusedError, match="PA1234567890"):
        await opened(account="PA0000000000").connect()


async def test_the_account_says_what_the_key_may_do(scripted: Scripted, venue: AlpacaVenue) -> None:
    scripted.on("GET /v2/account", ACCOUNT)
    scripted.on("GET /v2/account", {**ACCOUNT, "trading_blocked": True, "status": "INACTIVE"})
    assert (await venue.key_permissions()).trade is True
    blocked = await venue.key_permissions()
    assert (blocked.trade, blocked.note) == (False, "trading_blocked, status INACTIVE")
    (account,) = await venue.accounts()
    assert (account.account_id, account.kind, account.equity) == (
        "PA1234567890",
        "margin x2",
        Decimal("1000.5"),
    )


@pytest.mark.parametrize(
    ("environment", "trading"),
    [("practice", "https://paper-api.alpaca.markets"), ("live", "https://api.alpaca.markets")],
)
def test_the_venues_own_addresses(environment: str, trading: str) -> None:
    config = VenueConfig(
        environment=environment,
        allow_live=environment == "live",
        symbols=("AAPL/USD",),
        key_env="K",
        secret_env="S",
    )
    venue = AlpacaVenue("alpaca", config, Credentials(KEY, SECRET))
    assert venue._get("/v2/clock").url == f"{trading}/v2/clock"
    assert venue._get("/v2/x", data=True).url == "https://data.alpaca.markets/v2/x"


@pytest.mark.parametrize(
    "changes", [{"symbols": ("BTC/EUR",)}, {"options": {"feed": "carrier-pigeon"}}]
)
def test_what_alpaca_does_not_have_is_said_at_once(
    opened: Callable[..., AlpacaVenue], changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        opened(**changes)


# Shapes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-08-08T13:30:00Z", 1723123800_000000000),
        ("2024-08-08T13:30:00.1Z", 1723123800_100000000),
        ("2024-08-08T13:30:00.123456789Z", 1723123800_123456789),
        ("2024-08-08T09:30:00.000000001-04:00", 1723123800_000000001),
        ("2024-08-08T13:30:00.1234567899Z", 1723123800_123456789),
    ],
)
def test_times_keep_every_digit(text: str, expected: int) -> None:
    assert wire.time_ns(text) == expected


@pytest.mark.parametrize(
    ("status", "filled", "expected"),
    [
        ("accepted", "0", OrdStatus.NEW),
        ("pending_replace", "1", OrdStatus.PARTIALLY_FILLED),
        ("done_for_day", "0", OrdStatus.NEW),
        ("pending_cancel", "1", OrdStatus.PENDING_CANCEL),
        ("replaced", "1", OrdStatus.CANCELED),
        ("expired", "0", OrdStatus.EXPIRED),
        ("calculated", "2", OrdStatus.UNKNOWN),
        ("invented tomorrow", "0", OrdStatus.UNKNOWN),
    ],
)
async def test_a_status_of_alpaca_in_fix_words(
    scripted: Scripted, venue: AlpacaVenue, status: str, filled: str, expected: OrdStatus
) -> None:
    told = {**ORDER, "status": status, "filled_qty": filled}
    scripted.on("GET /v2/orders:by_client_order_id", told)
    found = await venue.order("AAPL/USD", ClOrdID("ob00000000-1-1"))
    assert found is not None
    assert found.status is expected
    assert found.created_ns == 1723123800_123456789
    assert found.updated_ns == 1723123801_000000000
