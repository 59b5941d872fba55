"""A desk with a live venue says so at every start, whoever starts what."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.controller.conftest import MakeDesk
from tests.harness.controller_process import ControllerProcess

NOTICE = "LIVE: real money at real"

# Nobody answers at the address: no test may reach a real venue.
DESK = """
[venues.real]
environment = "live"
allow_live = true
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
key_env = "LIVE_KEY"
secret_env = "LIVE_SECRET"
[services.execution-engine]
command = ["{python}", "-m", "openbell.services.execution_engine"]
port = {p1}
ready = { kind = "http", path = "/ready" }
role = "engine"
venues = ["real"]
"""


@pytest.fixture
def live(make_desk: MakeDesk) -> ControllerProcess:
    made = make_desk(DESK)
    made.environ |= {"LIVE_KEY": "k" * 20, "LIVE_SECRET": "s" * 20}
    return made


def openbell(desk: ControllerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openbell", *arguments, "--desk", str(desk.folder)],
        env=desk.environ,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def test_every_start_of_a_live_desk_says_so(live: ControllerProcess) -> None:
    before = openbell(live, "status")
    assert NOTICE in before.stdout and "LIVE " in before.stdout.splitlines()[-1]

    live.start()
    controller_log = live.layout.controller_log
    live.until(lambda: NOTICE in controller_log.read_text(), "the controller says it")
    live.until(
        lambda: any(
            line["action"] == "controller.started" and line["detail"]["live"] == ["real"]
            for line in live.audit()
        ),
        "the audit log has it",
    )

    engine_log = live.layout.service_log("execution-engine")
    for count, verb in enumerate(("start", "restart"), 1):
        done = openbell(live, verb, "execution-engine", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert NOTICE in done.stderr
        assert engine_log.read_text().count(NOTICE) == count
    assert NOTICE not in openbell(live, "stop", "execution-engine").stderr

    text = openbell(live, "status").stdout.splitlines()
    assert text[1] == NOTICE
    document = json.loads(openbell(live, "status", "--json").stdout)
    assert document["live"] == ["real"]
    assert [row["environment"] for row in document["venues"]] == ["live"]

    live.kill()
    live.start()
    live.until(lambda: controller_log.read_text().count(NOTICE) == 2, "a new controller says it")


def test_up_says_it_and_a_desk_of_simulated_venues_says_nothing(
    live: ControllerProcess, make_desk: MakeDesk
) -> None:
    assert NOTICE in openbell(live, "up", "--only", "execution-engine").stderr
    text = DESK.replace("allow_live = true\n", "").replace('"live"', '"simulated"')
    paper = make_desk(text)
    paper.environ |= {"LIVE_KEY": "k" * 20, "LIVE_SECRET": "s" * 20}
    paper.start()
    done = openbell(paper, "start", "execution-engine")
    assert done.returncode == 0
    assert "LIVE" not in done.stdout + done.stderr + openbell(paper, "status").stdout
    assert "LIVE:" not in paper.layout.controller_log.read_text()
    assert paper.status()["live"] == []
