"""risk-management as a process."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from openbell.trading.bus import Subscriber
from openbell.trading.messages import RISK_SOCKET, RISK_TOPIC, RiskState


async def test_it_says_exposure_and_breaches_on_the_bus_and_over_http(
    desk: Any, engine: Any, await_that: Callable[..., Any]
) -> None:
    desk.edit("max_open_positions = 5", "max_open_positions = 0")
    desk.start_venue()
    for service in ("market-data", "risk-management", "market-analysis"):
        desk.start(service)
    risk = Subscriber(desk.layout.run / RISK_SOCKET, {RISK_TOPIC: RiskState})
    state = (await risk.receive()).body
    while not state.breaches:
        state = (await risk.receive()).body
    risk.close()
    assert state.breaches == ("max_open_positions",)
    assert state.total_exposure > 0
    _, told = desk.ask("risk-management", "/v1/risk")
    assert told["known"]
    used = {each["limit"]: each for each in told["utilisation"]}
    assert Decimal(used["max_total_exposure"]["percent"]) > 0
    assert told["limits"]["max_open_positions"] == 0
    alerts = [line for line in desk.log("risk-management") if line.get("alert")]
    assert [line["limit"] for line in alerts][:1] == ["max_open_positions"]
    status, health = desk.ask("risk-management", "/health")
    assert (status, health["status"]) == (200, "degraded")
    assert desk.end("risk-management") == 0


async def test_without_the_engines_journal_it_claims_to_know_nothing(desk: Any) -> None:
    desk.start("risk-management")
    await desk.ready("risk-management")
    assert desk.ask("risk-management", "/v1/risk")[1]["known"] is False
    assert desk.ask("risk-management", "/health")[1]["status"] == "degraded"
