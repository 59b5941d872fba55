"""Lists that come in pages, parts or not at all."""

from __future__ import annotations

from decimal import Decimal

import pytest

from openbell.domain.orders import OrdStatus
from openbell.venues.port import AccountSummary, VenueRefusedError, VenueUnavailableError

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000


def trade(trade_id: int, time_ms: int) -> dict[str, object]:
    return {
        "symbol": "BTCUSDT",
        "id": trade_id,
        "orderId": trade_id // 10,
        "price": "20000.00000001",
        "qty": "0.00000003",
        "commission": "0.00000001",
        "commissionAsset": "BNB",
        "time": time_ms,
        "isBuyer": True,
        "isMaker": trade_id % 2 == 0,
    }


def serve_trades(scripted, answers, trades, page):
    """myTrades by Binance's rules, in pages of at most `page`."""

    def answer(seen):
        if (seen.method, seen.path) != ("GET", "/api/v3/myTrades"):
            return None
        asked = seen.params
        assert int(asked["limit"]) == 1000
        start, end = int(asked.get("startTime", 0)), int(asked.get("endTime", NOW_MS * 2))
        if "startTime" in asked and end - start >= DAY_MS:
            return answers.refusal(-1127, "More than 24 hours between startTime and endTime.")
        found = [
            each
            for each in trades
            if start <= each["time"] <= end
            and each["id"] >= int(asked.get("fromId", 0))
            and asked.get("orderId", str(each["orderId"])) == str(each["orderId"])
        ]
        return answers.reply(found[:page])

    scripted.answered_by = answer


@pytest.fixture
def venue(scripted, open_binance):
    return open_binance(scripted.url)


@pytest.mark.parametrize("page", [1, 3, 1000])
async def test_fills_are_complete_however_short_the_pages(venue, scripted, answers, page):
    trades = [trade(i, NOW_MS - 10_000 + i) for i in range(1, 12)]
    serve_trades(scripted, answers, trades, page)
    fills = await venue.fills("BTC/USDT")
    assert [int(fill.exec_id) for fill in fills] == list(range(1, 12))
    assert fills[0].last_px == Decimal("20000.00000001")
    assert (fills[0].is_maker, fills[1].is_maker) == (False, True)


async def test_fills_since_long_ago_are_found_through_windows_of_a_day(venue, scripted, answers):
    trades = [trade(5, NOW_MS - 9 * DAY_MS), trade(6, NOW_MS - 3 * DAY_MS), trade(7, NOW_MS - 5)]
    serve_trades(scripted, answers, trades, 1000)
    fills = await venue.fills("BTC/USDT", since_ns=(NOW_MS - 5 * DAY_MS) * 1_000_000)
    assert [fill.exec_id for fill in fills] == ["6", "7"]


async def test_fills_of_one_order_are_only_that_orders(venue, scripted, answers):
    trades = [trade(i, NOW_MS - 1000 + i) for i in range(1, 40)]
    serve_trades(scripted, answers, trades, 4)
    fills = await venue.fills("BTC/USDT", venue_order_id="2")
    assert [int(fill.exec_id) for fill in fills] == list(range(20, 30))


async def test_a_page_that_fails_fails_the_whole_list(venue, scripted, answers):
    pages = [answers.reply([trade(1, NOW_MS)]), answers.refusal(-1000, "Unknown.", 500)]
    scripted.on("GET", "/api/v3/myTrades", *pages)
    with pytest.raises(VenueUnavailableError):
        await venue.fills("BTC/USDT")


def order(symbol: str, order_id: int) -> dict[str, object]:
    return {
        "symbol": symbol,
        "orderId": order_id,
        "clientOrderId": f"ob00000000-1-{order_id}",
        "price": "10.00",
        "origQty": "1.0",
        "executedQty": "0.0",
        "status": "NEW",
        "type": "LIMIT",
        "side": "BUY",
        "time": NOW_MS,
        "updateTime": NOW_MS,
    }


async def test_open_orders_are_incomplete_when_one_symbol_could_not_be_asked(
    venue, scripted, answers
):
    scripted.answered_by = lambda seen: (
        answers.refusal(-1000, "Unknown.", 500)
        if seen.params["symbol"] == "ETHUSDT"
        else answers.reply([order("BTCUSDT", 1)])
    )
    listing = await venue.open_orders()
    assert not listing.complete
    assert [each.symbol for each in listing.orders] == ["BTC/USDT"]
    assert (await venue.open_orders(["BTC/USDT"])).complete


async def test_open_orders_raise_when_no_symbol_could_be_asked(venue, scripted, answers):
    scripted.answered_by = lambda _: answers.refusal(-1000, "Unknown.", 500)
    with pytest.raises(VenueUnavailableError):
        await venue.open_orders()


async def test_only_the_venues_own_word_makes_an_order_unknown_to_it(venue, scripted, answers):
    path = "/api/v3/order"
    scripted.on("GET", path, answers.refusal(-2013, "Order does not exist."))
    assert await venue.order("BTC/USDT", "ob00000000-1-9") is None
    scripted.on("GET", path, answers.refusal(-2026, "Order was archived."))
    with pytest.raises(VenueRefusedError):
        await venue.order("BTC/USDT", "ob00000000-1-9")
    scripted.on("GET", path, type(answers.cut)(status=404, body=b"not here"))
    with pytest.raises(VenueUnavailableError):
        await venue.order("BTC/USDT", "ob00000000-1-9")


async def test_a_cancelled_order_is_found_under_the_id_it_was_sent_with(venue, scripted, answers):
    found = {**order("BTCUSDT", 3), "status": "CANCELED", "clientOrderId": "cancel-id"}
    scripted.on("GET", "/api/v3/order", answers.reply(found))
    answer = await venue.order("BTC/USDT", "ob00000000-1-3")
    assert (answer.cl_ord_id, answer.status) == ("ob00000000-1-3", OrdStatus.CANCELED)


async def test_positions_are_balances_less_holdings(scripted, open_binance, answers):
    venue = open_binance(
        scripted.url,
        symbols=("BTC/USDT", "BTC/EUR", "ETH/USDT"),
        holdings={"BTC": Decimal("1.5")},
    )
    balances = [
        {"asset": "BTC", "free": "1.20000000", "locked": "0.30000001"},
        {"asset": "ETH", "free": "0.00", "locked": "0.00"},
        {"asset": "USDT", "free": "100.00", "locked": "0.00"},
    ]
    scripted.on("GET", "/api/v3/account", answers.reply({"balances": balances}))
    positions = {each.symbol: each.quantity for each in await venue.positions()}
    assert positions == {
        "BTC/USDT": Decimal("0.00000001"),
        "BTC/EUR": Decimal(0),
        "ETH/USDT": Decimal(0),
    }


async def test_an_account_without_any_currency_is_no_answer(venue, scripted, answers):
    scripted.on("GET", "/api/v3/account", answers.reply({"balances": []}))
    with pytest.raises(VenueUnavailableError, match="no currency"):
        await venue.positions()


async def test_connecting_names_the_symbols_the_venue_does_not_trade(venue, scripted, answers):
    scripted.on("GET", "/api/v3/exchangeInfo", answers.reply({"symbols": []}))
    with pytest.raises(VenueRefusedError, match="BTC/USDT, ETH/USDT"):
        await venue.connect()


async def test_connecting_names_the_symbol_that_makes_binance_refuse_the_whole_list(
    scripted, open_binance, answers
):
    info = {
        "symbol": "BTCUSDT",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "filters": [],
    }
    scripted.answered_by = lambda seen: (
        answers.refusal(-1121, "Invalid symbol.")
        if "NOPE" in seen.params["symbols"]
        else answers.reply({"symbols": [info]})
    )
    venue = open_binance(scripted.url, symbols=("BTC/USDT", "NOPE/USDT"))
    with pytest.raises(VenueRefusedError, match="NOPE/USDT") as raised:
        await venue.connect()
    assert "BTC/USDT" not in raised.value.message


async def test_the_account_of_the_key_is_told_by_its_number(venue, scripted, answers):
    account = {"balances": [], "accountType": "SPOT", "uid": 354937868}
    scripted.on("GET", "/api/v3/account", answers.reply(account))
    assert await venue.accounts() == [
        AccountSummary(account_id="354937868", kind="SPOT", active=True)
    ]


@pytest.mark.parametrize("trade", [True, False])
async def test_what_the_key_may_do_is_told_by_the_main_site(venue, scripted, answers, trade):
    """Permission for futures is none for spot."""
    told = {
        "ipRestrict": True,
        "enableReading": True,
        "enableWithdrawals": False,
        "enableFutures": not trade,
        "enableSpotAndMarginTrading": trade,
    }
    scripted.on("GET", "/sapi/v1/account/apiRestrictions", answers.reply(told))
    permissions = await venue.key_permissions()
    assert (permissions.trade, permissions.withdraw, permissions.note) == (trade, False, "")


async def test_the_test_system_tells_no_permissions(scripted, open_binance):
    venue = open_binance(None, environment="practice", key_env="K", secret_env="S")
    permissions = await venue.key_permissions()
    assert (permissions.trade, permissions.withdraw) == (None, None)
    assert scripted.seen == []
