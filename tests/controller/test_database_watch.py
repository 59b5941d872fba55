"""A desk database that is overwritten while the desk is open: told within seconds, with what to do."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.harness.controller_process import ControllerProcess


def test_it_is_an_alert_a_record_and_a_reason_in_status_and_the_controller_goes_on(
    desk: ControllerProcess,
) -> None:
    """It was noticed at the next start, hours later: what trades only appends to it."""
    assert desk.run("open")[-1]["event"] == "done"
    size = desk.layout.database.stat().st_size

    def reasons() -> list[str]:
        return [str(each) for each in desk.get("health")[1]["reasons"]]

    assert not any("database" in reason for reason in reasons())
    before = desk.pids()
    with desk.layout.database.open("r+b") as file:
        file.write(os.urandom(size))
    desk.until(lambda: any("database is damaged" in reason for reason in reasons()), "health")
    alerts = [line for line in lines(desk) if line["event"] == "the desk database is damaged"]
    assert [(alert["alert"], alert["level"]) for alert in alerts] == [(True, "critical")]
    assert "openbell halt" in alerts[0]["hint"]
    assert "database.damaged" in [record["action"] for record in desk.audit()]
    assert desk.pids() == before


def lines(desk: ControllerProcess) -> list[dict[str, Any]]:
    text = desk.layout.controller_log.read_text()
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
