"""The emergency stop of a whole paper desk, by command and over the API, judged by the venue."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from tests.harness.paper_desk import PaperDesk

pytestmark = [pytest.mark.desk, pytest.mark.timeout(400)]

OPEN = ("NEW", "PARTIALLY_FILLED")


def test_it_needs_neither_controller_nor_database_nor_bus_nor_risk_nor_strategies(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    """First the orders of one strategy, which the engine cancels while the others go on; then all."""
    desk = paper_desk
    desk.run("up")
    name = "market_making_btc"
    await_that(lambda: any(o["strategy"] == name for o in _engine_orders(desk)), "it quotes")
    stated = desk.run("emergency-stop", "--yes", "--scope", f"strategy:{name}").document
    assert stated["result"] == "verified", stated
    assert [o for o in _engine_orders(desk) if o["strategy"] == name] == []
    seen = desk.status()
    assert (seen["state"], seen["emergency"]) == ("trading", None)

    release = (
        "kill-switch",
        "deactivate",
        "--scope",
        f"strategy:{name}",
        "--reason",
        "looked at",
        "--yes",
    )
    desk.run(*release)
    await_that(lambda: bool(_open(desk)), "orders rest")
    url, controller = seen["venues"][0]["sim_url"], seen["controller"]["pid"]
    pids = {row["name"]: row["pid"] for row in seen["services"]}
    os.kill(controller, signal.SIGSTOP)
    # Who publishes on the bus, who limits, and who decides to trade: gone, and nobody starts them again.
    for name in ("market-data", "risk-management", "market-analysis"):
        os.kill(pids[name], signal.SIGKILL)
    try:
        for name in ("desk.db", "desk.db-wal"):
            (desk.folder / "state" / name).write_bytes(b"garbage " * 1000)
        stated = desk.run("emergency-stop", "--yes", "--reason", "prices look wrong").document
        assert stated["result"] == "verified"
        assert _open_at(url) == []
        last_ns = max(order["received_ns"] for order in _orders_at(url))
    finally:
        with contextlib.suppress(ProcessLookupError):  # the guard ends one that hangs for too long
            os.kill(controller, signal.SIGCONT)
    await_that(lambda: _states(desk)["execution-engine"] == "stopped", "the controller sees it")
    time.sleep(0.5)  # longer than every back-off of this desk
    states = _states(desk)
    assert {name for name, state in states.items() if state != "stopped"} == {"venue-sim"}
    assert max(order["received_ns"] for order in _orders_at(url)) == last_ns


def test_asked_for_over_the_api_it_breaks_off_what_is_under_way_and_is_opened_again_safely(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    desk = paper_desk
    desk.run("up")
    await_that(lambda: bool(_open(desk)), "orders rest")
    seen = desk.status()
    closing = _post(desk, seen, "close", {"flatten": "conservative"})
    stated = _post(desk, seen, "emergency-stop", {"reason": "stop"})
    assert stated["verified"] is True
    assert _open(desk) == []
    after = desk.status()
    assert after["state"] == "emergency"
    assert after["emergency"]["statement"]["course"] == stated["course"]
    run = _get(desk, seen, f"runs/{closing['run']}")
    assert run["state"] in ("failed", "done")
    refused = desk.run("start", "execution-engine", expect=1)
    assert "emergency stop" in json.dumps(refused.document)

    opened = desk.run("up").document
    assert opened["outcome"] == "safe"
    assert "emergency stop: stop" in opened["message"]
    assert desk.status()["emergency"] is None
    audit = json.dumps(desk.run("audit", "show").document)
    for act in ("emergency_stop", "emergency.held", "emergency.begun", "emergency.ended"):
        assert act in audit
    assert "emergency.cleared" in audit


def test_it_is_not_begun_where_nobody_is_there_to_ask(paper_desk: PaperDesk) -> None:
    refused = paper_desk.run("emergency-stop", expect=2)
    assert "--yes" in refused.document["hint"]
    assert not (paper_desk.folder / "state" / "latches").exists()
    plan = paper_desk.run("emergency-stop", "--plan").document
    assert plan["steps"][0]["actions"] == ["latch desk"]
    assert not (paper_desk.folder / "state" / "emergency.json").exists()


def _engine_orders(desk: PaperDesk) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = desk.run("orders").document["orders"]
    return rows


def _open(desk: PaperDesk) -> list[dict[str, Any]]:
    return [order for order in desk.venue_truth("orders") if order["status"] in OPEN]


def _orders_at(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/sim/v1/orders", timeout=10) as answer:
        orders: list[dict[str, Any]] = json.load(answer)["orders"]
    return orders


def _open_at(url: str) -> list[dict[str, Any]]:
    return [order for order in _orders_at(url) if order["status"] in OPEN]


def _states(desk: PaperDesk) -> dict[str, str]:
    return {service["name"]: service["state"] for service in desk.status()["services"]}


def _post(desk: PaperDesk, seen: dict[str, Any], path: str, body: dict[str, Any]) -> Any:
    return _call(desk, seen, path, json.dumps(body).encode())


def _get(desk: PaperDesk, seen: dict[str, Any], path: str) -> Any:
    return _call(desk, seen, path, None)


def _call(desk: PaperDesk, seen: dict[str, Any], path: str, body: bytes | None) -> Any:
    token = (desk.folder / "state" / "api.token").read_text().strip()
    request = urllib.request.Request(
        f"{seen['controller']['url']}/api/v1/{path}",
        data=body,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=90) as answer:
        return json.load(answer)
