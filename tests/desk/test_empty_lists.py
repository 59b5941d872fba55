"""`down` past an engine that is gone, at a venue whose list of open orders is empty though orders
rest: "none remain" is never said on the list's word alone. Judged from the venue's own log."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.paper_desk import PaperDesk, end_everything
from tests.harness.venue_desk import make_desk
from tests.venues.subjects import alpaca

pytestmark = [pytest.mark.desk, pytest.mark.timeout(900)]

EMPTY = {"kind": "empty_list"}
MUTE = {"kind": "http_status", "status": 500, "kinds": ["order"]}


@pytest.fixture
def desk(tmp_path: Path, await_that: Callable[..., None]) -> Iterator[PaperDesk]:
    """At Alpaca's face, where no balance tells that an order rests; the engine was killed and does
    not come back."""
    made = make_desk(tmp_path / "desk", alpaca.SUBJECT, tick=alpaca.SUBJECT.coarse_tick)
    file = made.folder / "desk.toml"
    text = file.read_text()
    for after, more in (
        ("[services.execution-engine]\n", 'restart = { policy = "never" }\n'),
        # What the venue does not tell, it does not tell however long it is asked.
        ("[closing]\n", 'wait_for_orders = "8s"\n'),
    ):
        assert text.count(after) == 1, after
        text = text.replace(after, after + more)
    # Nobody but the closings is to withdraw what rests.
    file.write_text(f'{text}[guard]\ndead_man_timeout = "1h"\n')
    try:
        assert made.run("up").document["opened"]
        await_that(lambda: resting(made) != [], "a resting order at the venue")
        os.kill(made.service("execution-engine")["pid"], signal.SIGKILL)
        await_that(
            lambda: made.service("execution-engine")["state"] in ("failed", "stopped"),
            "the engine's end",
        )
        yield made
    finally:
        end_everything(made)


def resting(desk: PaperDesk) -> list[dict[str, Any]]:
    return [order for order in desk.venue_truth("orders") if order["status"] == "NEW"]


def suffer(desk: PaperDesk, *faults: dict[str, Any]) -> None:
    """These, and none of those before."""
    url = f"{desk.status()['venues'][0]['sim_url']}/sim/v1/control/faults"
    urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10).close()
    for fault in faults:
        urllib.request.urlopen(url, data=json.dumps(fault).encode(), timeout=10).close()


def test_what_the_venue_will_not_tell_is_not_determined_and_what_it_hides_is_found_and_cancelled(
    desk: PaperDesk,
) -> None:
    """Closed twice: first nothing is told of the orders; then the list alone is empty, and each order of the
    journal is asked for."""
    suffer(desk, EMPTY, MUTE)
    closed = close(desk)
    assert closed["remaining_orders"] is None, closed["remaining_orders"]
    assert "their end is not proven" in "; ".join(closed["unknown"])
    assert desk.service("venue-sim")["state"] == "ready", "it is asked again"
    assert open_by_the_log(desk) != []

    suffer(desk, EMPTY)
    closed = close(desk)
    steps = {step["name"]: step for step in closed["steps"]}
    assert steps["cancel_orders"]["outcome"] == "done", steps["cancel_orders"]
    assert closed["remaining_orders"] == []
    assert open_by_the_log(desk) == []


def close(desk: PaperDesk) -> dict[str, Any]:
    ran = desk.run("down", "--yes", "--flatten", "keep", "--orders", "cancel", expect=7)
    return dict(ran.document)


def open_by_the_log(desk: PaperDesk) -> list[str]:
    """ClOrdIDs of orders that were accepted and did not end, from the venue's record."""
    (log,) = (desk.folder / "state" / "services" / "venue-sim").glob("*.jsonl")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    rest = {e["order_id"]: e for e in events if e["event"] == "accept" and e["ord_type"] == "LIMIT"}
    for event in events:
        if event["event"] in ("cancel", "expire"):
            rest.pop(event["order_id"], None)
    return [event["cl_ord_id"] for event in rest.values()]
