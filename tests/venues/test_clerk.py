"""The clerk, as a process, at a venue that behaves and at ones that do not."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest
from tests.harness.guarded_desk import guarded_desk

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.domain.ids import mint
from openbell.venues import clerk
from openbell.venues.asking import withdraw
from openbell.venues.unlisted import KnownOrder

DESK = """
[desk]
name = "test"

[venues.sim]
url = "{url}"
symbols = ["BTC/USDT", "ETH/USDT"]
timeout = "3s"

[services.engine]
command = ["true"]
venues = ["sim"]
"""
SYMBOLS = [
    {
        "symbol": f"{base}USDT",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "9"},
            {"filterType": "NOTIONAL", "minNotional": "5"},
        ],
    }
    for base in ("BTC", "ETH")
]


class Account:
    """A Binance account over the scripted venue."""

    def __init__(self, answers) -> None:
        self.answers = answers
        self.orders: dict[str, dict] = {}
        self.hide = 0
        """So many lists of open orders are empty although orders are open."""
        self.refuse_cancels = False
        self.ended: dict[str, dict] = {}
        """Told to who asks for one of them."""
        self.mute = False
        """Whoever asks for one order gets an error."""
        self.balances = {"BTC": ("0", "0"), "ETH": ("0", "0"), "USDT": ("100", "0")}

    def add(self, cl_ord_id: str, symbol: str = "BTCUSDT", price: str = "100.00") -> None:
        self.orders[cl_ord_id] = {
            "symbol": symbol, "orderId": len(self.orders) + 1, "clientOrderId": cl_ord_id,
            "price": price, "origQty": "1.000", "executedQty": "0.250", "status": "NEW",
            "type": "LIMIT", "side": "BUY", "time": 1, "updateTime": 1,
        }  # fmt: skip

    def answer(self, seen):
        reply, refusal = self.answers.reply, self.answers.refusal
        match seen.method, seen.path:
            case "GET", "/api/v3/exchangeInfo":
                return reply({"symbols": SYMBOLS})
            case "GET", "/api/v3/ticker/bookTicker":
                return reply({"bidPrice": "99", "bidQty": "1", "askPrice": "101", "askQty": "1"})
            case "GET", "/api/v3/account":
                return reply(
                    {
                        "balances": [
                            {"asset": name, "free": free, "locked": locked}
                            for name, (free, locked) in self.balances.items()
                        ]
                    }
                )
            case "GET", "/api/v3/openOrders":
                if self.hide:
                    self.hide -= 1
                    return reply([])
                symbol = seen.params["symbol"]
                return reply([o for o in self.orders.values() if o["symbol"] == symbol])
            case "GET", "/api/v3/order":
                if self.mute:
                    return refusal(-1001, "Internal error.", 500)
                name = seen.params["origClientOrderId"]
                found = self.orders.get(name) or self.ended.get(name)
                return reply(found) if found else refusal(-2013, "Order does not exist.")
            case "DELETE", "/api/v3/order":
                found = self.orders.get(seen.params["origClientOrderId"])
                if found is None:
                    return refusal(-2011, "Unknown order sent.")
                if self.refuse_cancels:
                    return refusal(-2011, "Market is closed.")
                ended = self.orders.pop(found["clientOrderId"]) | {"status": "CANCELED"}
                self.ended[found["clientOrderId"]] = ended
                return reply(ended)
        return None


@pytest.fixture
def account(scripted, answers) -> Account:
    made = Account(answers)
    scripted.answered_by = made.answer
    return made


@pytest.fixture
def desk(tmp_path: Path, scripted, monkeypatch):
    monkeypatch.delenv("OPENBELL_STATE", raising=False)
    (tmp_path / "desk.toml").write_text(DESK.format(url=scripted.url))
    return load_desk(tmp_path)


@pytest.fixture
def layout(desk) -> DeskLayout:
    return DeskLayout.for_desk(desk.folder)


@pytest.fixture
def own(layout):
    return lambda number: mint(layout.desk_id, 1, number)


async def test_asking_tells_orders_positions_and_balances(account, desk, layout, own):
    account.add(own(1))
    account.add("someone-elses", "ETHUSDT")
    account.balances |= {"BTC": ("0.01", "0"), "ETH": ("1", "0.5"), "USDT": ("10", "75")}
    [answer] = await clerk.ask_venues(layout, desk, ["sim"], 30)
    assert (answer.name, answer.status, answer.why) == ("sim", "ok", "")
    assert {(o.cl_ord_id, o.symbol, o.own, o.leaves_qty) for o in answer.open_orders} == {
        (own(1), "BTC/USDT", True, Decimal("0.750")),
        ("someone-elses", "ETH/USDT", False, Decimal("0.750")),
    }
    assert [(p.symbol, p.venue_quantity, p.dust) for p in answer.positions] == [
        ("BTC/USDT", Decimal("0.01"), True),
        ("ETH/USDT", Decimal("1.5"), False),
    ]


async def test_cancelling_takes_our_orders_and_leaves_others(account, desk, layout, own):
    for number in range(1, 8):
        account.add(own(number))
    account.add("someone-elses")
    account.balances["USDT"] = ("10", "75")
    [answer] = await clerk.cancel_own_orders(layout, desk, ["sim"], 30)
    assert answer.cancel.result == "verified"
    assert set(answer.cancel.cancelled) == {own(number) for number in range(1, 8)}
    assert list(account.orders) == ["someone-elses"]
    assert [order.own for order in answer.open_orders] == [False]


UNMAKEABLE = 'adapter = "mt5"\nenvironment = "practice"\nsecret_env = "S"'


async def test_a_table_of_which_no_adapter_can_be_made_is_left_for_the_mended_one(
    account, desk, layout, own
):
    """A desk was half opened with a venue that cannot be made. Its file was mended since, and is
    closed: what the venue holds must be seen, and it is never said to hold nothing."""
    file = desk.folder / "desk.toml"
    good = file.read_text()
    file.write_text(good.replace(f'url = "{desk.file.venues["sim"].url}"', UNMAKEABLE))
    (desk.folder / ".env").write_text("S=token\n")
    (desk.folder / ".env").chmod(0o600)
    as_opened = load_desk(desk.folder)
    [answer] = await clerk.ask_venues(layout, as_opened, ["sim"], 30)
    assert answer.status == "unknown" and "mend [venues.sim]" in answer.why, answer
    file.write_text(good)
    account.add(own(1))
    known = {"sim": [KnownOrder(cl_ord_id=own(1), symbol="BTC/USDT")]}
    [answer] = await clerk.ask_venues(layout, as_opened, ["sim"], 30, known)
    assert answer.status == "unknown", "what the journal holds open rests where the table said"
    [answer] = await clerk.cancel_own_orders(layout, as_opened, ["sim"], 30)
    assert (answer.status, answer.cancel.result) == ("ok", "verified"), answer
    assert account.orders == {}


async def test_at_kraken_the_clerk_withdraws_what_rests_by_the_venues_own_log(
    tmp_path, monkeypatch
):
    """Kraken tells orders by its own names of pairs, which a new process has yet to ask for."""
    monkeypatch.delenv("OPENBELL_STATE", raising=False)
    with guarded_desk(tmp_path / "desk", "kraken") as desk:
        rested = await desk.rest("kraken", 2)
        assert desk.resting("kraken") == 2
        [answer] = await clerk.cancel_own_orders(
            desk.layout, load_desk(desk.folder), ["kraken"], 30
        )
        assert (answer.status, answer.cancel.result) == ("ok", "verified"), answer
        assert set(answer.cancel.cancelled) == set(rested)
        assert [order["status"] for order in desk.truth("kraken")] == ["CANCELED"] * 2


async def test_one_empty_answer_does_not_prove_that_nothing_is_open(
    account, scripted, open_binance, own, layout
):
    account.add(own(1))
    account.hide = 2  # both symbols, one look
    venue = open_binance(scripted.url)
    give_up_at_s = asyncio.get_running_loop().time() + 20
    result = await withdraw(venue, layout.desk_id, give_up_at_s)
    assert result.result == "verified"
    assert result.cancelled == (own(1),)
    assert account.orders == {}


async def test_the_riskiest_order_is_cancelled_first(account, scripted, open_binance, own, layout):
    for number, price in enumerate(["1.00", "900.00", "30.00"]):
        account.add(own(number), price=price)
    await withdraw(
        open_binance(scripted.url), layout.desk_id, asyncio.get_running_loop().time() + 20
    )
    first = next(seen for seen in scripted.seen if seen.method == "DELETE")
    assert first.params["origClientOrderId"] == own(1)


async def test_orders_that_cannot_be_cancelled_remain_and_are_listed(account, desk, layout, own):
    account.add(own(1))
    account.balances["USDT"] = ("10", "75")
    account.refuse_cancels = True
    [answer] = await clerk.cancel_own_orders(layout, desk, ["sim"], 8)
    assert answer.cancel.result == "remaining"
    assert answer.cancel.refused == {own(1): "-2011 Market is closed."}
    assert [order.cl_ord_id for order in answer.own_orders] == [own(1)]


async def test_an_empty_list_beside_locked_funds_is_unknown(account, desk, layout):
    account.balances["USDT"] = ("10", "75")
    [answer] = await clerk.ask_venues(layout, desk, ["sim"], 30)
    assert answer.status == "unknown"
    assert "75 USDT" in answer.why


def known(*names: str) -> dict[str, list[KnownOrder]]:
    return {"sim": [KnownOrder(cl_ord_id=name, symbol="BTC/USDT") for name in names]}


async def test_an_order_that_the_journal_knows_and_the_list_leaves_out_is_told_and_unknown(
    account, desk, layout, own
):
    account.add(own(1))
    account.hide = 1000
    [answer] = await clerk.ask_venues(layout, desk, ["sim"], 30, known(own(1)))
    assert answer.status == "unknown"
    assert f"leaves out {own(1)}" in answer.why
    assert [order.cl_ord_id for order in answer.own_orders] == [own(1)]


async def test_a_known_order_that_the_venue_calls_ended_is_no_doubt(account, desk, layout, own):
    account.add(own(1))
    account.ended[own(1)] = account.orders.pop(own(1)) | {"status": "FILLED"}
    [answer] = await clerk.ask_venues(layout, desk, ["sim"], 30, known(own(1)))
    assert (answer.status, answer.ended, answer.open_orders) == ("ok", (own(1),), ())


@pytest.mark.parametrize(("mute", "told"), [(False, "knows none"), (True, "Internal error")])
async def test_a_known_order_of_which_the_venue_tells_no_end_is_unknown(
    account, desk, layout, own, mute, told
):
    account.mute = mute
    [answer] = await clerk.ask_venues(layout, desk, ["sim"], 30, known(own(1)))
    assert answer.status == "unknown"
    assert told in answer.why and own(1) in answer.why
    [cancelling] = await clerk.cancel_own_orders(layout, desk, ["sim"], 30, known(own(1)))
    assert (cancelling.status, cancelling.cancel.result) == ("unknown", "unknown")


async def test_an_order_hidden_by_an_empty_list_is_cancelled_by_its_id(account, desk, layout, own):
    account.add(own(1))
    account.hide = 1000
    [answer] = await clerk.cancel_own_orders(layout, desk, ["sim"], 30, known(own(1)))
    assert account.orders == {}
    assert (answer.status, answer.cancel.result) == ("ok", "verified")
    assert answer.cancel.cancelled == (own(1),)


async def test_a_hidden_order_that_nobody_may_look_up_is_cancelled_all_the_same_and_unknown(
    account, desk, layout, own
):
    account.add(own(1))
    account.hide, account.mute = 1000, True
    [answer] = await clerk.cancel_own_orders(layout, desk, ["sim"], 30, known(own(1)))
    assert account.orders == {}
    assert (answer.status, answer.cancel.result) == ("unknown", "unknown")


async def test_an_incomplete_list_is_unknown(account, scripted, answers, desk, layout):
    def answer(seen):
        if seen.path == "/api/v3/openOrders" and seen.params["symbol"] == "ETHUSDT":
            return answers.refusal(-1000, "Unknown.", 500)
        return account.answer(seen)

    scripted.answered_by = answer
    [found] = await clerk.ask_venues(layout, desk, ["sim"], 30)
    assert (found.status, found.why) == ("unknown", "the list of open orders is incomplete")


async def test_a_venue_that_hangs_is_unknown_in_time_and_the_clerk_is_gone(
    scripted, answers, desk, layout
):
    scripted.answered_by = lambda _: answers.hang
    started_s = time.monotonic()
    [answer] = await clerk.cancel_own_orders(layout, desk, ["sim"], 4)
    assert time.monotonic() - started_s < 15
    assert answer.status == "unknown"
    assert answer.cancel.result == "unknown"


async def test_a_clerk_that_hangs_itself_is_killed(desk, layout, tmp_path, monkeypatch):
    stuck = tmp_path / "stuck"
    stuck.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    stuck.chmod(0o700)
    monkeypatch.setattr(clerk.sys, "executable", str(stuck))
    [answer] = await clerk.ask_venues(layout, desk, ["sim"], 1)
    assert (answer.status, answer.why) == ("unknown", "no answer within 1 s")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_all_but_two_seconds_are_for_asking_however_long_the_start_takes(
    desk, layout, tmp_path, monkeypatch
):
    """Kraken's question may have to wait half a minute; a share of it lost to the start is too much."""
    reader = tmp_path / "reader"
    reader.write_text(f"#!/bin/sh\nsleep 0.5\nexec cat > {tmp_path}/told\n")
    reader.chmod(0o700)
    monkeypatch.setattr(clerk.sys, "executable", str(reader))
    before_s = time.monotonic()
    await clerk.ask_venues(layout, desk, ["sim"], 38)
    told = json.loads((tmp_path / "told").read_text())
    assert before_s + 36 <= told["give_up_at_s"] <= time.monotonic() + 36


async def test_a_venue_that_is_gone_is_unknown(scripted, desk, layout, tmp_path):
    text = (tmp_path / "desk.toml").read_text().replace(scripted.url, "http://127.0.0.1:1")
    (tmp_path / "desk.toml").write_text(text)
    [answer] = await clerk.ask_venues(layout, load_desk(tmp_path), ["sim"], 30)
    assert answer.status == "unknown"
    assert "no connection" in answer.why


async def test_a_desk_file_broken_after_the_opening_does_not_blind_the_clerk(
    account, desk, layout, tmp_path
):
    (tmp_path / "desk.toml").write_text("[desk\n")
    [answer] = await clerk.ask_venues(layout, desk, ["sim"], 30)
    assert answer.status == "ok"


async def test_the_clerk_is_a_command_too(account, desk, layout, own, tmp_path):
    account.add(own(1))
    account.balances["USDT"] = ("10", "75")
    environment = {**os.environ, "OPENBELL_STATE": str(layout.state)}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "openbell.venues.clerk", "--desk", str(tmp_path), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    asked = await asyncio.to_thread(run, "ask")
    assert asked.returncode == 0, asked.stderr
    document = json.loads(asked.stdout)
    assert document["action"] == "ask"
    assert document["venues"][0]["open_orders"][0]["cl_ord_id"] == own(1)
    unknown = await asyncio.to_thread(run, "ask", "--venue", "moon")
    assert unknown.returncode == 2
    assert "sim" in unknown.stderr
    account.orders.clear()
    doubtful = await asyncio.to_thread(run, "ask")
    assert doubtful.returncode == 7
