"""The start-up log tells what the steps of an opening left in its record, and the last word on each."""

from __future__ import annotations

from typing import Any

import pytest

from openbell.procedures.startup_log import log_rows, startup_log


def service(name: str, outcome: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "outcome": outcome, "seconds": 0.0, "reason": "", **more}


STEPS: list[dict[str, Any]] = [
    {
        "name": "preflight",
        "after": {
            "checks": [
                {
                    "name": "disk",
                    "title": "Disk",
                    "found": "ok",
                    "detail": "",
                    "facts": {"free": 1},
                },
                {
                    "name": "network_v",
                    "title": "Network to v",
                    "found": "ok",
                    "detail": "reached",
                    "facts": {"connect_ms": 125.0},
                },
                {
                    "name": "dependency_db",
                    "title": "db (postgres)",
                    "found": "unknown",
                    "detail": "no answer",
                    "facts": {"took_ms": None},
                },
            ]
        },
    },
    {
        "name": "start_core",
        "after": {
            "phase": "core",
            "services": [
                service("engine", "failed", seconds=3.0, reason="exited with status 1"),
                service("limits", "already_running", memory_bytes=1 << 20),
            ],
        },
    },
    {"name": "begin_trading", "after": None},
    {
        "name": "start_core",
        "after": {
            "phase": "core",
            "services": [service("engine", "ready", seconds=1.25, memory_bytes=3 << 20)],
        },
    },
]


def test_the_last_word_on_each_component_counts() -> None:
    components = {each["component"]: each for each in startup_log(STEPS)["components"]}
    engine = components["engine"]
    assert (engine["outcome"], engine["seconds"], engine["phase"]) == ("ready", 1.25, "core")
    assert components["limits"]["seconds"] is None, "it was not started, so it took no time"


def test_connections_are_told_with_their_time_and_without_where_there_is_none() -> None:
    told = {each["connection"]: each for each in startup_log(STEPS)["connections"]}
    assert told["Network to v"]["milliseconds"] == 125.0
    assert told["db (postgres)"]["milliseconds"] is None
    assert "Disk" not in told


def test_people_read_it_as_rows() -> None:
    rows = log_rows(startup_log(STEPS))
    assert ("engine", "core", "ready", "1.250 s", "3.0 MiB") in rows
    assert ("Network to v", "connection", "ok", "0.125 s", "") in rows


def test_an_opening_without_evidence_has_an_empty_log() -> None:
    assert startup_log([{"name": "x", "after": None}]) == {"components": [], "connections": []}


@pytest.mark.parametrize(
    "services", [{"engine": "ready"}, ["engine"], "engine", [{"outcome": "ready"}]]
)
def test_what_an_earlier_version_left_makes_no_row_and_no_failure(services: object) -> None:
    steps = [{"name": "start_services", "after": {"services": services}}]
    assert startup_log(steps)["components"] == []
