"""OANDA's transaction ids survive a crash of the venue: they follow from the order log alone."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from openbell_sim import testing
from openbell_sim.faces.oanda.book import account_id
from openbell_sim.testing import VenueProcess, venue_process

ACCOUNT = f"/v3/accounts/{account_id('main')}"


def call(process: VenueProcess, method: str, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        process.url + ACCOUNT + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {testing.SECRET}"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def place(process: VenueProcess, **spec: object) -> Any:
    order = {"type": "MARKET", "instrument": "EUR_USD", "units": "5000", "timeInForce": "IOC"}
    return call(process, "POST", "/orders", {"order": {**order, **spec}})


def everything(process: VenueProcess) -> dict[str, Any]:
    """But for what prices make of it."""
    trades = call(process, "GET", "/trades?state=ALL")["trades"]
    for trade in trades:
        trade.pop("unrealizedPL", None)
    return {
        "transactions": call(process, "GET", "/transactions/sinceid?id=0"),
        "orders": call(process, "GET", "/orders?state=ALL"),
        "trades": trades,
    }


def test_transactions_orders_and_trades_read_the_same_after_a_crash(tmp_path: Path) -> None:
    arguments = ("--face", "oanda", "--limit-scale", "0", "--log", str(tmp_path / "venue.jsonl"))
    with venue_process(*arguments) as process:
        place(process, units="250000", takeProfitOnFill={"price": "1.5"})
        filled = place(process, units="-3000", clientExtensions={"id": "a", "comment": "c"})
        assert "orderFillTransaction" in filled
        limit = {"type": "LIMIT", "price": "1.00000", "timeInForce": "GTC"}
        place(process, **limit, clientExtensions={"id": "resting", "tag": "t"})
        replacing = {"type": "LIMIT", "instrument": "EUR_USD", "units": "7", "price": "1.01"}
        call(process, "PUT", "/orders/@resting", {"order": replacing})
        call(process, "PUT", "/positions/EUR_USD/close", {"longUnits": "1000"})
        before = everything(process)
        process.kill()
    with venue_process(*arguments) as process:
        assert everything(process) == before
        last = int(before["transactions"]["lastTransactionID"])
        assert place(process, units="1")["orderCreateTransaction"]["id"] == str(last + 1)
