"""A desk that trades is restarted, its controller killed in the middle, and the venue's own log tells."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psutil
from tests.harness.paper_desk import PaperDesk

OPEN = {"NEW", "PARTIALLY_FILLED"}


def accepted(desk: PaperDesk) -> list[dict[str, Any]]:
    """As the simulated venue wrote it down itself."""
    log = desk.folder / "state" / "services" / "venue-sim" / "venue.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return [event for event in events if event["event"] == "accept"]


def step(report: dict[str, Any], name: str) -> dict[str, Any]:
    return dict([each for each in report["steps"] if each["name"] == name][-1])


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1e9)


def test_a_quick_restart_sends_nothing_between_its_halt_and_its_gate(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    """Killed in the closing, and gone on with; positions stay as the venue holds them."""
    desk = paper_desk
    assert desk.run("up").document["outcome"] == "trading"
    await_that(
        lambda: any(order["status"] in OPEN for order in desk.venue_truth("orders")),
        "an order is open at the venue",
        timeout_s=150,
    )
    controller = psutil.Process(desk.status()["controller"]["pid"])
    command = subprocess.Popen(
        desk.command("restart", "--quick", "--yes", "--reason", "test", "--json"),
        env=desk.environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        before = ("halt_strategies", "cancel_orders", "")

        def there() -> bool:
            run = desk.status()["run"]
            return run is not None and run["procedure"] == "close" and run["step"] not in before

        await_that(there, "the closing has withdrawn the orders")
        controller.send_signal(signal.SIGKILL)
    finally:
        command.kill()
        command.wait()
    done = desk.run("restart", "--yes").document
    assert done["restarted"] is True and done["opening"]["outcome"] == "trading", done
    assert desk.status()["state"] == "trading"

    closing = desk.run("procedure", "report", done["closing"]["run"], "--format", "json").document
    opening = desk.run("procedure", "report", done["opening"]["run"], "--format", "json").document
    assert opening["parameters"]["restart_of"] == closing["run"]
    assert [each["action"] for each in closing["events"]].count("run.resumed") == 1
    halted = ns(step(closing, "halt_strategies")["finished"])
    let = ns(step(opening, "begin_trading")["started"])
    seen = accepted(desk)
    between = [each for each in seen if halted <= each["received_ns"] < let]
    assert between == [], "sent while the desk was being restarted"
    assert any(each["received_ns"] < halted for each in seen)
    twice = [key for key, n in Counter(each["cl_ord_id"] for each in seen).items() if n > 1]
    assert twice == [], f"sent twice: {twice}"
    gate = {row["name"] for name in ("check_venues", "check_readiness")
            for row in step(opening, name)["after"]["checks"]}  # fmt: skip
    assert {"venue_binance", "account_binance", "reconciliation"} <= gate
