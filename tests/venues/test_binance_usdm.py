"""The USD-M adapter against venues that say what a test tells them to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal

import aiohttp
import pytest
from aiohttp import web

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID, OrdStatus, OrdType, Purpose, Side
from openbell.venues.binance import usdm_stream
from openbell.venues.binance.usdm import BinanceUsdmVenue
from openbell.venues.credentials import Credentials
from openbell.venues.port import (
    Accepted,
    OrderReport,
    Rejected,
    StreamDown,
    StreamUp,
    Unknown,
    VenueRefusedError,
    VenueUnavailableError,
)
from openbell.venues.pushing import Backoff

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
ONE, TWO = ClOrdID("ob00000000-1-1"), ClOrdID("ob00000000-1-2")
ORDER = {
    "symbol": "BTCUSDT",
    "orderId": 77,
    "clientOrderId": ONE,
    "price": "20000.10",
    "origQty": "0.010",
    "executedQty": "0.003",
    "status": "PARTIALLY_FILLED",
    "type": "LIMIT",
    "side": "SELL",
    "time": NOW_MS,
    "updateTime": NOW_MS + 1,
    "reduceOnly": True,
}
ALGO = {
    "symbol": "BTCUSDT",
    "algoId": 3358,
    "clientAlgoId": "theirs",
    "orderType": "STOP",
    "side": "BUY",
    "algoStatus": "NEW",
    "quantity": "0.002",
    "triggerPrice": "21000.00",
    "price": "21010.00",
    "createTime": NOW_MS,
    "updateTime": NOW_MS,
    "reduceOnly": False,
    "icebergQuantity": None,
}
SYMBOL = {
    "symbol": "BTCUSDT",
    "contractType": "PERPETUAL",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "filters": [
        {"filterType": "PRICE_FILTER", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
        {"filterType": "MIN_NOTIONAL", "notional": "100"},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
    ],
}


@pytest.fixture
async def open_usdm():
    opened: list[BinanceUsdmVenue] = []

    def make(url: str, **keys) -> BinanceUsdmVenue:
        config = VenueConfig(
            adapter="binance-usdm",
            url=url,
            **{"symbols": ("BTC/USDT", "ETH/USDT"), "timeout": 5.0, **keys},
        )
        venue = BinanceUsdmVenue("sim", config, Credentials("canary-key", "canary-secret"))
        opened.append(venue)
        return venue

    yield make
    for venue in opened:
        await venue.close()


@pytest.fixture
def venue(scripted, open_usdm, answers):
    scripted.on("GET", "/fapi/v1/time", answers.reply({"serverTime": NOW_MS}))
    return open_usdm(scripted.url)


# Orders.


async def test_flattening_orders_are_reduce_only_and_others_are_not(
    venue, scripted, answers, limit_order
):
    scripted.on("POST", "/fapi/v1/order", answers.reply(ORDER))
    assert await venue.submit(limit_order()) == Accepted(venue_order_id="77")
    assert "reduceOnly" not in scripted.seen[-1].params
    await venue.submit(limit_order(purpose=Purpose.FLATTEN, ord_type=OrdType.MARKET, price=None))
    sent = scripted.seen[-1].params
    assert (sent["reduceOnly"], sent["type"], sent["newClientOrderId"]) == ("true", "MARKET", ONE)
    assert "positionSide" not in sent


async def test_post_only_is_a_time_in_force(venue, scripted, answers, limit_order):
    scripted.on("POST", "/fapi/v1/order", answers.reply(ORDER))
    await venue.submit(limit_order(post_only=True))
    sent = scripted.seen[-1].params
    assert (sent["type"], sent["timeInForce"], sent["price"]) == ("LIMIT", "GTX", "20000.1")


@pytest.mark.parametrize(
    ("code", "kind"),
    [(-2019, Rejected), (-2022, Rejected), (-5022, Rejected), (-4116, Unknown), (-1007, Unknown)],
)
async def test_codes_of_this_venue_have_their_meaning(
    venue, scripted, answers, limit_order, code, kind
):
    scripted.on("POST", "/fapi/v1/order", answers.refusal(code, "no"))
    assert isinstance(await venue.submit(limit_order()), kind)


async def test_too_many_orders_leave_cancels_open(venue, scripted, answers, limit_order):
    """429 with -1015 concerns new orders alone; a minute without cancels would be a minute with
    whatever they should have withdrawn."""
    scripted.on("POST", "/fapi/v1/order", answers.refusal(-1015, "Too many new orders.", 429))
    scripted.on("DELETE", "/fapi/v1/order", answers.reply(ORDER))
    assert (await venue.submit(limit_order())).code == "-1015"
    assert isinstance(await venue.cancel("BTC/USDT", ONE), Accepted)


async def test_a_conditional_order_is_cancelled_where_it_is_kept(venue, scripted, answers):
    done = {"algoId": 3358, "clientAlgoId": "theirs", "code": "200", "msg": "success"}
    scripted.on("DELETE", "/fapi/v1/algoOrder", answers.reply(done))
    outcome = await venue.cancel("BTC/USDT", ClOrdID("theirs"), venue_order_id="algo:3358")
    assert outcome == Accepted(venue_order_id="algo:3358")
    assert scripted.seen[-1].params["algoId"] == "3358"


BATCH = "/fapi/v1/batchOrders"


async def test_each_order_of_a_batch_has_its_own_outcome(venue, scripted, answers):
    refused = {"code": -2011, "msg": "Unknown order sent."}
    scripted.on("DELETE", BATCH, answers.reply([{**ORDER, "status": "CANCELED"}, refused]))
    assert await venue.cancel_many("BTC/USDT", [ONE, TWO]) == [
        Accepted(venue_order_id="77"),
        Rejected(code="-2011", text="Unknown order sent."),
    ]
    sent = scripted.seen[-1].params
    assert json.loads(sent["origclientorderidlist"]) == [ONE, TWO]
    assert scripted.count("DELETE", BATCH) == 1


@pytest.mark.parametrize(
    "entries",
    [
        [{**ORDER}],
        [{**ORDER}, {**ORDER}],
        [{**ORDER}, {"code": -1007, "msg": "Timeout"}],
    ],
    ids=["one answer to two", "the same order twice", "status unknown"],
)
async def test_what_a_batch_does_not_say_clearly_is_unknown(venue, scripted, answers, entries):
    scripted.on("DELETE", BATCH, answers.reply(entries))
    outcomes = await venue.cancel_many("BTC/USDT", [ONE, TWO])
    assert isinstance(outcomes[1], Unknown)


async def test_an_empty_batch_asks_nothing(venue, scripted):
    assert await venue.cancel_many("BTC/USDT", []) == []
    assert scripted.seen == []


@pytest.mark.parametrize(
    ("plain", "conditional", "kind"),
    [(200, 200, Accepted), (200, 503, Unknown), (400, 503, Unknown), (200, 400, Rejected)],
)
async def test_cancel_all_withdraws_both_kinds_and_is_as_sure_as_the_less_sure_one(
    venue, scripted, answers, plain, conditional, kind
):
    done = {"code": 200, "msg": "The operation of cancel all open order is done."}
    for path, status in (("allOpenOrders", plain), ("algoOpenOrders", conditional)):
        answer = answers.reply(done) if status == 200 else answers.refusal(-1, "no", status)
        scripted.on("DELETE", f"/fapi/v1/{path}", answer)
    assert isinstance(await venue.cancel_all("BTC/USDT"), kind)


async def test_the_dead_mans_switch_is_armed_per_symbol_in_milliseconds(venue, scripted, answers):
    path = "/fapi/v1/countdownCancelAll"
    scripted.on("POST", path, answers.reply({"symbol": "BTCUSDT", "countdownTime": "45000"}))
    # The part of the budget that is kept for cancels is open to it.
    venue._pacing.budget = 1000
    venue._pacing.used(900, 30.0, asyncio.get_running_loop().time())
    await venue.arm_dead_mans_switch(45)
    assert sorted((s.params["symbol"], s.params["countdownTime"]) for s in scripted.seen) == [
        ("BTCUSDT", "45000"),
        ("ETHUSDT", "45000"),
    ]
    await venue.arm_dead_mans_switch(0, ["BTC/USDT"])
    assert scripted.seen[-1].params["countdownTime"] == "0"
    scripted.on("POST", path, answers.refusal(-1000, "Unknown.", 500))
    with pytest.raises(VenueUnavailableError):
        await venue.arm_dead_mans_switch(45)


# Questions.


async def test_orders_of_both_kinds_are_listed_as_what_they_are(venue, scripted, answers):
    scripted.on("GET", "/fapi/v1/openOrders", answers.reply([ORDER]))
    scripted.on("GET", "/fapi/v1/openAlgoOrders", answers.reply([ALGO]))
    listing = await venue.open_orders(["BTC/USDT"])
    assert listing.complete
    plain, stop = listing.orders
    assert (plain.venue_order_id, plain.side, plain.cum_qty, plain.reduce_only) == (
        "77",
        Side.SELL,
        Decimal("0.003"),
        True,
    )
    assert (stop.venue_order_id, stop.cl_ord_id, stop.ord_type, stop.stop_px, stop.price) == (
        "algo:3358",
        "theirs",
        OrdType.STOP_LIMIT,
        Decimal("21000.00"),
        Decimal("21010.00"),
    )


async def test_a_list_without_its_conditional_orders_is_incomplete(venue, scripted, answers):
    scripted.on("GET", "/fapi/v1/openOrders", answers.reply([]))
    scripted.answered_by = lambda seen: (
        answers.refusal(-1000, "Unknown.", 500)
        if seen.params.get("symbol") == "BTCUSDT"
        else answers.reply([])
    )
    assert not (await venue.open_orders()).complete
    with pytest.raises(VenueUnavailableError):
        await venue.open_orders(["BTC/USDT"])


@pytest.mark.parametrize(
    ("kind", "ord_type"),
    [
        ("STOP_MARKET", OrdType.STOP),
        ("TAKE_PROFIT", OrdType.STOP_LIMIT),
        ("TAKE_PROFIT_MARKET", OrdType.STOP),
        ("TRAILING_STOP_MARKET", OrdType.STOP),
    ],
)
async def test_every_kind_of_conditional_order_is_seen(venue, scripted, answers, kind, ord_type):
    trailing = {**ALGO, "orderType": kind, "triggerPrice": None, "price": None, "quantity": None}
    scripted.on("GET", "/fapi/v1/openOrders", answers.reply([]))
    scripted.on(
        "GET", "/fapi/v1/openAlgoOrders", answers.reply([{**trailing, "closePosition": True}])
    )
    (order,) = (await venue.open_orders(["BTC/USDT"])).orders
    assert (order.ord_type, order.stop_px, order.reduce_only) == (ord_type, None, True)


def position(symbol: str, amount: str, side: str = "BOTH") -> dict[str, str]:
    return {
        "symbol": symbol,
        "positionSide": side,
        "positionAmt": amount,
        "entryPrice": "20000.5" if Decimal(amount) else "0.0",
    }


async def test_positions_are_of_declared_symbols_and_legs_keep_their_names(
    venue, scripted, answers
):
    listed = [
        position("BTCUSDT", "0.010", "LONG"),
        position("BTCUSDT", "-0.004", "SHORT"),
        position("ETHUSDT", "0.000"),
        position("DOGEUSDT", "100"),
    ]
    scripted.on("GET", "/fapi/v2/positionRisk", answers.reply(listed))
    found = [(p.symbol, p.leg, p.quantity, p.avg_px) for p in await venue.positions()]
    assert found == [
        ("BTC/USDT", "LONG", Decimal("0.010"), Decimal("20000.5")),
        ("BTC/USDT", "SHORT", Decimal("-0.004"), Decimal("20000.5")),
        ("ETH/USDT", "", Decimal(0), None),
    ]


async def test_a_symbol_missing_from_the_positions_is_no_flat_one(venue, scripted, answers):
    scripted.on("GET", "/fapi/v2/positionRisk", answers.reply([position("BTCUSDT", "0")]))
    with pytest.raises(VenueUnavailableError, match="ETH/USDT"):
        await venue.positions()


async def test_what_open_orders_hold_is_locked_and_margin_of_positions_is_not(
    venue, scripted, answers
):
    account = {
        "totalMarginBalance": "1010.00",
        "assets": [
            {
                "asset": "USDT",
                "walletBalance": "1000.00",
                "openOrderInitialMargin": "25.00",
                "positionInitialMargin": "300.00",
                "availableBalance": "685.00",
            }
        ],
    }
    scripted.on("GET", "/fapi/v3/account", answers.reply(account))
    balance = (await venue.balances())["USDT"]
    assert (balance.total, balance.locked) == (Decimal(1000), Decimal(25))


def connecting(scripted, answers, *, hedged: bool = False, **symbol):
    info = {"symbols": [{**SYMBOL, **symbol}], "rateLimits": []}
    scripted.on("GET", "/fapi/v1/exchangeInfo", answers.reply(info))
    mode = answers.reply({"dualSidePosition": hedged})
    scripted.on("GET", "/fapi/v1/positionSide/dual", mode)


async def test_connecting_loads_the_rules_of_perpetuals(scripted, venue, open_usdm, answers):
    connecting(scripted, answers)
    with pytest.raises(VenueRefusedError, match="ETH/USDT"):
        await venue.connect()
    venue = open_usdm(scripted.url, symbols=("BTC/USDT",))
    await venue.connect()
    rules = venue.rules("BTC/USDT")
    assert (rules.tick_size, rules.min_qty, rules.min_notional) == (
        Decimal("0.10"),
        Decimal("0.001"),
        Decimal(100),
    )
    connecting(scripted, answers, contractType="CURRENT_QUARTER")
    with pytest.raises(VenueRefusedError, match="BTC/USDT"):
        await venue.connect()


async def test_an_account_in_hedge_mode_is_refused(scripted, venue, open_usdm, answers):
    connecting(scripted, answers, hedged=True)
    with pytest.raises(VenueRefusedError, match="hedge mode"):
        await open_usdm(scripted.url, symbols=("BTC/USDT",)).connect()


def trade(trade_id: int, time_ms: int) -> dict[str, object]:
    return {
        "id": trade_id,
        "orderId": trade_id // 10,
        "side": "SELL",
        "price": "20000.10",
        "qty": "0.001",
        "commission": "0.01000000",
        "commissionAsset": "USDT",
        "time": time_ms,
        "maker": True,
    }


async def test_fills_since_long_ago_are_found_through_windows_of_a_week(venue, scripted, answers):
    trades = [trade(5, NOW_MS - 30 * DAY_MS), trade(6, NOW_MS - 9 * DAY_MS), trade(7, NOW_MS - 5)]

    def answer(seen):
        if seen.path != "/fapi/v1/userTrades":
            return None
        start, end = (int(seen.params.get(n, d)) for n, d in (("startTime", 0), ("endTime", 2**60)))
        if "startTime" in seen.params and (end - start >= 7 * DAY_MS or "fromId" in seen.params):
            return answers.refusal(-4165, "Maximum time interval is 7 days.")
        found = [t for t in trades if start <= t["time"] <= end]
        return answers.reply([t for t in found if t["id"] >= int(seen.params.get("fromId", 0))][:1])

    scripted.answered_by = answer
    fills = await venue.fills("BTC/USDT", since_ns=(NOW_MS - 20 * DAY_MS) * 1_000_000)
    assert [(f.exec_id, f.side, f.is_maker) for f in fills] == [
        ("6", Side.SELL, True),
        ("7", Side.SELL, True),
    ]


async def test_permissions_are_told_by_the_main_site(venue, scripted, answers):
    told = {
        "ipRestrict": False,
        "enableReading": True,
        "enableWithdrawals": True,
        "enableFutures": True,
        "enableSpotAndMarginTrading": False,
        "tradingAuthorityExpirationTime": NOW_MS,
    }
    scripted.on("GET", "/sapi/v1/account/apiRestrictions", answers.reply(told))
    permissions = await venue.key_permissions()
    assert (permissions.trade, permissions.withdraw) == (True, True)
    assert "any address" in permissions.note
    assert "2023-11-14" in permissions.note


async def test_the_practice_system_is_the_one_that_binance_still_runs(open_usdm):
    """ccxt refuses to sign for its futures sandbox."""
    venue = open_usdm(None, environment="practice", key_env="K", secret_env="S")
    request = venue._signed("POST", "fapiPrivate", "order", {"symbol": "BTCUSDT"})
    assert request.url.startswith("https://demo-fapi.binance.com/fapi/v1/order")
    assert (await venue.key_permissions()).trade is None


# The private stream.

UPDATE = {
    "e": "ORDER_TRADE_UPDATE",
    "E": NOW_MS,
    "T": NOW_MS,
    "o": {
        "s": "BTCUSDT", "c": ONE, "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "0.010",
        "p": "20000.10", "ap": "20000.10", "x": "TRADE", "X": "PARTIALLY_FILLED", "i": 77,
        "l": "0.004", "z": "0.004", "L": "20000.10", "n": "0.04", "N": "USDT", "T": NOW_MS,
        "t": 9, "m": True, "R": False, "ps": "BOTH", "rp": "0",
    },
}  # fmt: skip
ALGO_UPDATE = {
    "e": "ALGO_UPDATE",
    "E": NOW_MS,
    "T": NOW_MS,
    "o": {
        "caid": "theirs", "aid": 3358, "at": "CONDITIONAL", "o": "STOP_MARKET", "s": "BTCUSDT",
        "S": "SELL", "ps": "BOTH", "f": "GTC", "q": "0.01", "X": "TRIGGERED", "ai": "78",
        "tp": "19000", "p": "0", "R": True, "cp": False,
    },
}  # fmt: skip


class PrivateVenue:
    """Gives listen keys `key-1`, `key-2`, ... and pushes what it is told to."""

    def __init__(self) -> None:
        self.keys = 0
        self.kept = 0
        self.keeps = True
        self.opened: list[str] = []
        self.sockets: list[web.WebSocketResponse] = []

    async def key(self, request: web.Request) -> web.Response:
        if request.method == "PUT":
            if not self.keeps:
                return web.json_response({"code": -1125, "msg": "No such key."}, status=400)
            self.kept += 1
            return web.json_response({})
        self.keys += 1
        return web.json_response({"listenKey": f"key-{self.keys}"})

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.opened.append(request.query["listenKey"])
        self.sockets.append(socket)
        async for _ in socket:
            pass
        return socket


@pytest.fixture
async def private(monkeypatch, open_usdm) -> AsyncIterator[tuple[PrivateVenue, BinanceUsdmVenue]]:
    monkeypatch.setattr(usdm_stream, "BACKOFF", Backoff(first_s=0.01, max_s=1.0))
    server = PrivateVenue()
    app = web.Application()
    app.router.add_route("*", "/fapi/v1/listenKey", server.key)
    app.router.add_get("/private/ws", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield server, open_usdm(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await runner.cleanup()


async def heard(events):
    async with asyncio.timeout(60):
        return await anext(events)


async def test_reports_of_both_kinds_are_told(private):
    server, venue = private
    events = venue.stream()
    assert await heard(events) == StreamUp()
    assert server.opened == ["key-1"]
    foreign = {**UPDATE, "o": {**UPDATE["o"], "s": "DOGEUSDT"}}
    for message in (foreign, {"e": "ACCOUNT_UPDATE", "a": {}}, UPDATE, ALGO_UPDATE):
        await server.sockets[-1].send_json(message)
    report = await heard(events)
    assert isinstance(report, OrderReport)
    assert (report.order.cl_ord_id, report.order.status) == (ONE, OrdStatus.PARTIALLY_FILLED)
    assert report.fill is not None
    assert (report.fill.exec_id, report.fill.last_qty, report.fill.fee, report.fill.is_maker) == (
        "9",
        Decimal("0.004"),
        Decimal("0.04"),
        True,
    )
    algo = (await heard(events)).order
    assert (algo.venue_order_id, algo.ord_type, algo.status, algo.stop_px) == (
        "algo:3358",
        OrdType.STOP,
        OrdStatus.EXPIRED,
        Decimal(19000),
    )
    await events.aclose()


async def test_a_listen_key_is_kept_alive_while_the_stream_is_quiet(private, monkeypatch):
    monkeypatch.setattr(usdm_stream, "KEEP_ALIVE_EVERY_S", 0.05)
    server, venue = private
    events = venue.stream()
    await heard(events)
    waiting = asyncio.ensure_future(heard(events))
    while server.kept < 3:
        await asyncio.sleep(0.01)
    await server.sockets[-1].send_json(UPDATE)
    assert isinstance(await waiting, OrderReport)
    await events.aclose()


@pytest.mark.parametrize("end", ["expired", "not kept", "closed"])
async def test_the_end_of_a_key_is_told_and_the_next_stream_has_another(private, monkeypatch, end):
    server, venue = private
    if end == "not kept":
        monkeypatch.setattr(usdm_stream, "KEEP_ALIVE_EVERY_S", 0.05)
        server.keeps = False
    events = venue.stream()
    await heard(events)
    if end == "expired":
        await server.sockets[-1].send_json({"e": "listenKeyExpired", "E": NOW_MS})
    elif end == "closed":
        await server.sockets[-1].close(code=aiohttp.WSCloseCode.GOING_AWAY)
    down = await heard(events)
    assert isinstance(down, StreamDown)
    assert "key-1" not in down.why
    assert await heard(events) == StreamUp()
    assert server.opened == ["key-1", "key-2"]
    await events.aclose()


async def test_an_unreadable_report_is_a_gap(private):
    server, venue = private
    events = venue.stream()
    await heard(events)
    await server.sockets[-1].send_json({**UPDATE, "o": {**UPDATE["o"], "l": "NaN"}})
    assert isinstance(await heard(events), StreamDown)
    assert await heard(events) == StreamUp()
    await events.aclose()
