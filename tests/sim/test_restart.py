"""The order log: what a venue knows after kill -9, and what it makes of a damaged file."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from openbell.errors import CorruptError, StorageError
from openbell_sim import testing
from openbell_sim.events import Deposit, Event
from openbell_sim.order_log import OrderLog


def deposits(count: int) -> list[Event]:
    return [
        Deposit(account="main", currency="USDT", amount=Decimal(n), at_ns=n) for n in range(count)
    ]


def write(path: Path, events: list[Event]) -> None:
    log = OrderLog(path)
    log.append(events)
    log.close()


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "venue.log"
    write(path, deposits(3))
    log = OrderLog(path)
    assert list(log.read()) == deposits(3)
    log.append(deposits(1))
    log.close()
    log = OrderLog(path)
    assert list(log.read()) == deposits(3) + deposits(1)
    log.close()


def test_a_torn_last_line_is_cut_off_and_told(tmp_path: Path) -> None:
    path = tmp_path / "venue.log"
    write(path, deposits(3))
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        path.write_bytes(whole[:-cut])
        log = OrderLog(path)
        assert list(log.read()) == deposits(2)
        assert log.torn
        log.append(deposits(1))
        log.close()
        log = OrderLog(path)
        assert list(log.read()) == deposits(2) + deposits(1)
        log.close()


def test_a_line_broken_in_the_middle_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "venue.log"
    write(path, deposits(3))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"event":"deposit"\n' + lines[2])
    log = OrderLog(path)
    with pytest.raises(CorruptError, match="line 2"):
        list(log.read())
    log.close()


def test_two_venues_cannot_share_a_log(tmp_path: Path) -> None:
    first = OrderLog(tmp_path / "venue.log")
    with pytest.raises(StorageError, match="another venue"):
        OrderLog(tmp_path / "venue.log")
    first.close()
    OrderLog(tmp_path / "venue.log").close()


async def _truth(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in ("orders", "fills", "positions"):
        async with http.get(f"{url}/sim/v1/{name}") as reply:
            result |= await reply.json()
    return result


async def test_a_killed_venue_goes_on_with_the_same_orders_fills_and_balances(
    tmp_path: Path,
    http: aiohttp.ClientSession,
    signed_at: Callable[[str], Any],
) -> None:
    arguments = ("--log", str(tmp_path / "venue.log"), "--symbols", "BTCUSDT")
    with testing.venue_process(*arguments) as process:
        call = signed_at(process.url)
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
        for number in range(3):
            status, body = await call.order(
                **order, quantity="0.01", price="50000", newClientOrderId=f"rest-{number}"
            )
            assert status == 200, body
        await call.order(symbol="BTCUSDT", side="SELL", type="MARKET", quantity="0.02")
        await call("DELETE", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="rest-1")
        await call.order(**order, quantity="0.000000001", price="50000")
        before = await _truth(http, process.url)
        process.kill()
    assert [row["status"] for row in before["orders"]] == [
        "NEW",
        "CANCELED",
        "NEW",
        "FILLED",
        "REJECTED",
    ]
    with testing.venue_process(*arguments) as process:
        call = signed_at(process.url)
        assert await _truth(http, process.url) == before
        _, open_orders, _ = await call("GET", "/api/v3/openOrders", symbol="BTCUSDT")
        assert [row["clientOrderId"] for row in open_orders] == ["rest-0", "rest-2"]
        status, body = await call.order(
            **order, quantity="0.01", price="50000", newClientOrderId="later"
        )
        assert status == 200
        assert body["orderId"] > max(int(row["order_id"]) for row in before["orders"])


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit on another process is Linux's")
async def test_a_venue_that_cannot_record_an_order_dies_and_never_answers(
    tmp_path: Path, signed_at: Callable[[str], Any]
) -> None:
    path = tmp_path / "venue.log"
    arguments = ("--log", str(path), "--symbols", "BTCUSDT")
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
    with testing.venue_process(*arguments) as process:
        limit = path.stat().st_size + 40
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(aiohttp.ClientError):
            await signed_at(process.url).order(**order, quantity="0.01", price="50000")
        assert process.process.wait(20) == StorageError.exit_code
    with testing.venue_process(*arguments) as process:
        _, rows, _ = await signed_at(process.url)("GET", "/api/v3/openOrders", symbol="BTCUSDT")
        assert rows == []
