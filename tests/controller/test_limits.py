"""Limits changed over the API, with a real controller and a gate that says what it applies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from openbell.cli.main import openbell

RISK = """
[risk]
max_total_exposure = "100000"
max_open_positions = 5
[risk.max_position]
"BTC/USDT" = "2"
[venues.binance]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT", "ETH/USDT"]
"""
GATE = """
[services.risk]
command = ["{python}", "{desk}/gate.py"]
port = {p1}
role = "risk"
ready = { kind = "http", path = "/" }
"""
GATE_PY = """
import http.server, json, os, pathlib
from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.trading.limits_in_force import LimitsInForce

layout = DeskLayout.for_desk(pathlib.Path(os.environ["OPENBELL_DESK"]))
limits = LimitsInForce(load_desk(layout.desk).file.risk, layout.risk_limits)

SAYS = {
    "/v1/state": {"phase": "ready", "pnl": {"realized": "1", "unrealized": "2"}},
    "/v1/risk": {"known": True, "utilisation": [{"limit": "max_total_exposure", "used": "99999"}]},
    "/v1/orders": {"venues": {}, "orders": []},
    "/v1/positions": {"positions": [], "pnl": None},
    "/v1/halt": {"halted": True},
    "/v1/reconcile": {"ok": True, "mismatches": [], "positions": []},
}

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        deaf = (layout.state / "deaf").exists() and self.path == "/v1/limits"
        self.send_response(500 if deaf else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        says = limits.now().document() if self.path == "/v1/limits" else SAYS.get(self.path, {})
        self.wfile.write(json.dumps(says).encode())
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()
    def log_message(self, *_): pass

print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["OPENBELL_PORT"])), Page).serve_forever()
"""
TWO_PEOPLE = """
[approvals]
needed_for = ["limits-raise"]
[approvals.people]
alice = ["operator"]
bob = ["risk"]
"""


def by(name: str) -> dict[str, dict[str, str]]:
    return {"headers": {"X-Openbell-Actor": name}}


def in_force(document: dict[str, Any]) -> dict[str, str]:
    return {row["limit"]: row["in_force"] for row in document["limits"]}


def openbell_says(desk: Any, *arguments: str) -> tuple[int, Any]:
    done = CliRunner().invoke(openbell, ["--desk", str(desk.folder), "--json", *arguments])
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def desk(make_desk: Any) -> Any:
    """With a gate that runs: risk-management's part of the limits, without a market."""
    made = make_desk(RISK + GATE)
    (made.folder / "gate.py").write_text(GATE_PY)
    made.start()
    assert made.post("services/start", {"services": ["risk"]})[0] == 200
    return made


def test_limits_are_made_tighter_confirmed_recorded_and_taken_back(desk: Any) -> None:
    status, done = desk.post(
        "limits", {"limits": ["max_total_exposure=5000"], "reason": "storm"}, **by("ann")
    )
    assert (status, done["raised"], done["verified"], done["version"]) == (200, False, True, 1)
    assert [(each["role"], each["said"]) for each in done["gates"]] == [("risk", "confirmed")]
    said = desk.get("risk/applied")[1]
    assert said.get("asked") is True, said
    assert (said["tells"], said["limits"], said["rules"]) == (True, done["hash"], []), said
    desk.post("limits", {"limits": ["max_position:ETH/USDT=3"], "reason": "ETH"}, **by("joe"))
    desk.kill()
    desk.start()
    document = desk.get("limits")[1]
    assert in_force(document)["max_total_exposure"] == "5000", "the second change keeps the first"
    assert in_force(document)["max_position:ETH/USDT"] == "3"
    assert document["verified"] and document["version"] == 2
    shown = desk.status()["limits"]
    assert (shown["hash"], shown["changes"][0]["by"]) == (document["hash"], "joe")

    code, less = openbell_says(desk, "limits", "set", "--reduce-by", "50%", "--reason", "half")
    assert code == 0, less
    assert in_force(less)["max_total_exposure"] == "2500"
    assert in_force(less)["max_open_positions"] == "2"
    code, part = openbell_says(
        desk, "limits", "restore", "max_total_exposure", "--yes", "--reason", "calm"
    )
    assert (code, part["raised"]) == (0, True)
    assert in_force(part)["max_total_exposure"] == "100000"
    assert in_force(part)["max_open_positions"] == "2"
    code, all_of_it = openbell_says(desk, "limits", "restore", "--yes", "--reason", "calm")
    assert (code, all_of_it["changes"]) == (0, [])
    assert openbell_says(desk, "limits", "show")[1]["version"] == 5
    code, nothing = openbell_says(desk, "limits", "restore", "--yes", "--reason", "once more")
    assert (code, nothing["changed"], nothing["request"], nothing["version"]) == (0, False, None, 5)

    acts = [line for line in desk.audit() if line["action"].startswith("limits.")]
    assert [line["action"] for line in acts] == [
        "limits.tightened", "limits.tightened", "limits.tightened", "limits.raised",
        "limits.raised",
    ]  # fmt: skip
    assert acts[0]["actor"] == "ann"
    assert acts[0]["detail"]["was"] == {"max_total_exposure": "100000"}
    assert acts[0]["detail"]["is"] == {"max_total_exposure": "5000"}


def test_what_a_gate_does_not_confirm_is_in_force_and_not_verified(desk: Any) -> None:
    (desk.layout.state / "deaf").touch()
    code, done = openbell_says(
        desk, "limits", "set", "max_total_exposure=5000", "--reason", "storm"
    )
    assert (code, done["changed"], done["verified"]) == (7, True, False)
    assert done["gates"][0]["said"] == "unknown" and "risk" in done["why"]
    (desk.layout.state / "deaf").unlink()
    assert openbell_says(desk, "limits", "show")[0] == 0
    # Started with this file, the gate goes on by it: another one is another set of limits.
    text = (desk.folder / "desk.toml").read_text()
    (desk.folder / "desk.toml").write_text(text.replace('"BTC/USDT" = "2"', '"BTC/USDT" = "1"'))
    desk.kill()
    desk.start()
    code, shown = openbell_says(desk, "limits", "show")
    assert (code, shown["gates"][0]["said"]) == (7, "differs")
    desk.layout.risk_limits.write_bytes(b"{")
    code, shown = openbell_says(desk, "limits", "show")
    assert (code, shown["gates"][0]["said"]) == (7, "unknown")
    assert (
        "NOT KNOWN" in CliRunner().invoke(openbell, ["--desk", str(desk.folder), "status"]).output
    )


def test_a_lock_and_senseless_values_leave_the_limits_as_they_are(desk: Any) -> None:
    for body in (
        {"limits": ["max_total_exposure=100001"], "reason": "more"},
        {"limits": [], "reason": "none"},
        {"limits": ["max_total_exposure=1"], "reason": " "},
        {"limits": ["max_total_exposure=1"], "reduce_by_percent": "5", "reason": "both"},
        {"reduce_by_percent": "101", "reason": "too much"},
    ):
        assert desk.post("limits", body)[0] == 422, body
    assert desk.post("limits/restore", {"limits": ["max_daily_loss"], "reason": "x"})[0] == 422
    desk.post("lock", {"reason": "audit"}, **by("ann"))
    status, refused = desk.post("limits", {"limits": ["max_total_exposure=1"], "reason": "x"})
    assert (status, refused["locked_by"]) == (403, "ann")
    assert desk.post("limits/restore", {"reason": "x"})[0] == 403
    assert desk.get("limits")[1]["version"] == 0


def test_to_loosen_takes_another_person_who_saw_exactly_this(make_desk: Any) -> None:
    desk = make_desk(RISK + TWO_PEOPLE + '[services.base]\ncommand = ["sleep", "86400"]\n')
    desk.start()
    assert desk.post(
        "limits", {"limits": ["max_total_exposure=5000"], "reason": "storm"}, **by("alice")
    )[1]["changed"], "tightening asks nobody"
    ask = {"limits": ["max_total_exposure=9000"], "reason": "calm"}
    status, answer = desk.post("limits", ask, **by("alice"))
    assert (status, answer["changed"]) == (202, False)
    request = answer["request"]
    assert in_force(desk.get("limits")[1])["max_total_exposure"] == "5000"
    approval = {"request": request["id"], "digest": request["digest"], "reason": "looked"}
    status, refused = desk.post("limits/approve", {**approval, "reason": " "}, **by("bob"))
    assert status == 422 and "needs a reason" in refused["message"]
    assert desk.post("limits/approve", approval, **by("alice"))[0] == 403, "not one's own"
    assert desk.post("limits/approve", {**approval, "digest": "x"}, **by("bob"))[0] == 403
    desk.post("limits", {"limits": ["max_open_positions=1"], "reason": "more"}, **by("bob"))
    status, refused = desk.post("limits/approve", approval, **by("bob"))
    assert status == 403 and "changed since" in refused["message"]
    approval_of = desk.post("limits/restore", {"reason": "calm"}, **by("alice"))[1]["request"]
    desk.kill()
    desk.start()
    status, done = desk.post(
        "limits/approve",
        {"request": approval_of["id"], "digest": approval_of["digest"], "reason": "looked"},
        **by("bob"),
    )  # fmt: skip
    assert (status, done["changes"], done["approved_by"]) == (200, [], "bob")
    raised = next(line for line in desk.audit() if line["action"] == "limits.raised")
    assert (raised["actor"], raised["detail"]["approved_by"]) == ("alice", "bob")


REDUCED = """
[risk]
max_total_exposure = "1000"
[closing.reduce_limits]
by = "50%"
stages = 2
every = "2s"
[services.engine]
command = ["{python}", "{desk}/gate.py"]
port = {p2}
role = "engine"
ready = { kind = "http", path = "/" }
"""


def is_over(desk: Any) -> bool:
    """The controller of a closed desk leaves by itself."""
    try:
        return desk.status()["run"] is None
    except OSError:
        return True


def test_a_closing_killed_while_it_reduces_ends_the_same_and_the_next_opening_takes_it_back(
    make_desk: Any,
) -> None:
    """Positions stay above the limits here, so each stage takes its time, and can be killed in it."""
    desk = make_desk(REDUCED + GATE)
    (desk.folder / "gate.py").write_text(GATE_PY)
    desk.start()
    assert desk.post("services/start", {"services": ["risk", "engine"]})[0] == 200
    desk.post("limits", {"limits": ["max_daily_loss=50"], "reason": "mine"}, **by("ann"))
    run = desk.post("close", {"reason": "end of day"}, **by("joe"))[1]["run"]
    desk.until(lambda: desk.get("limits")[1]["version"] == 2, "the first stage is in force")
    desk.kill()
    desk.start()
    assert in_force(desk.get("limits")[1])["max_total_exposure"] == "750"
    assert desk.post("limits/restore", {"reason": "x"})[0] == 403, "the closing keeps the lock"
    assert desk.post("close", {}, **by("joe"))[1]["run"] == run, "it is gone on with"
    desk.until(lambda: is_over(desk), "it is over")
    desk.kill()  # where it has not left by itself
    desk.start()
    step = [s for s in desk.get(f"runs/{run}")[1]["steps"] if s["name"] == "reduce_limits"][-1]
    assert (step["outcome"], "reduced by 50 %" in step["detail"]) == ("done", True), step
    rows = json.loads((desk.layout.statements / f"{run}-limits.json").read_text())
    assert [(r["stage"], r["limits"]) for r in rows] == [
        (1, {"max_total_exposure": "750"}), (2, {"max_total_exposure": "500"}),
    ]  # fmt: skip
    assert {(r["within"], r["realized_pnl"], r["unrealized_pnl"]) for r in rows} == {
        (False, "1", "2")
    }
    assert in_force(desk.get("limits")[1])["max_total_exposure"] == "500"
    desk.run("open")
    after = desk.get("limits")[1]
    assert in_force(after) | {"max_total_exposure": "1000", "max_daily_loss": "50"} == in_force(
        after
    )
    restored = next(line for line in desk.audit() if line["action"] == "limits.restored")
    assert restored["detail"]["was"][0]["run"] == run
