"""The controller may be killed at any moment; the desk neither stops nor forgets what was asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import threading
from typing import Any

import psutil
from tests.harness.controller_process import TWO_WEB

from openbell.cli.client import Client


def states(desk: Any) -> dict[str, str]:
    return {row["name"]: row["state"] for row in desk.status()["services"]}


def test_opening_tells_every_step_and_ends_open(desk: Any) -> None:
    events = desk.run("open")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    last = events[-1]
    assert (last["event"], last["outcome"]) == ("done", "trading")
    assert [s["outcome"] for s in last["result"]["services"]] == ["ready", "ready"]
    assert states(desk) == {"base": "ready", "top": "ready"}
    assert desk.status()["state"] == "trading"


def test_only_brings_dependencies_along(desk: Any) -> None:
    last = desk.run("open", {"only": ["base"]})[-1]
    assert last["event"] == "done"
    assert states(desk) == {"base": "ready", "top": "stopped"}


def test_of_two_procedures_at_once_one_wins(make_desk: Any) -> None:
    desk = make_desk(
        '[services.slow]\ncommand = ["sleep", "86400"]\n'
        'ready = { kind = "exec", command = ["test", "-e", "{desk}/go"], every = "50ms" }\n'
    )
    desk.start()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(desk.post("open"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [body for status, body in answers if status == 202]
    lost = [body for status, body in answers if status == 409]
    assert len(won) == len(lost) == 1
    status, refused = desk.post("close")
    assert (status, refused["error"], refused["run"]) == (409, "conflict", won[0]["run"])
    assert refused["actor"] == "api"
    assert desk.post("services/stop", {"services": ["slow"]})[0] == 409
    (desk.folder / "go").touch()
    events = desk.get(f"runs/{won[0]['run']}/events")[1]
    assert events[-1]["event"] == "done"


def test_a_start_that_fails_names_the_service_and_its_last_words(make_desk: Any) -> None:
    desk = make_desk(
        '[services.bad]\ncommand = ["sh", "-c", "echo no licence; exit 3"]\n'
        'ready = { kind = "exec", command = ["false"], timeout = "5s" }\n'
        'restart = { policy = "never" }\n'
        '[services.child]\ncommand = ["sleep", "9"]\ndepends_on = ["bad"]\n'
        '[services.other]\ncommand = ["sleep", "86400"]\n'
    )
    desk.start()
    last = desk.run("open")[-1]
    assert last["event"] == "failed"
    found = {row["name"]: row for row in last["result"]["services"]}
    assert found["bad"]["outcome"] == "failed" and "3" in found["bad"]["reason"]
    assert found["bad"]["log_tail"] == ["no licence"]
    assert found["child"]["outcome"] == "not_started" and "bad" in found["child"]["reason"]
    assert found["other"]["outcome"] == "ready"
    assert states(desk)["other"] == "ready"


def test_safe_mode_outlives_the_controller(desk: Any) -> None:
    assert desk.run("open", {"safe_mode": True})[-1]["outcome"] == "safe"
    desk.kill()
    desk.start()
    assert desk.status()["state"] == "safe"
    desk.run("open")
    assert desk.status()["state"] == "safe", "only resume starts trading in a desk opened safe"


def test_a_latch_stops_the_desk_whatever_was_asked(desk: Any) -> None:
    desk.layout.latch.write_text("")
    last = desk.run("open")[-1]
    assert last["event"] == "done" and "latch" in last["message"]
    assert desk.status()["state"] == "emergency"
    status, refused = desk.post("resume")
    assert (status, refused["error"]) == (403, "refused")
    assert "the kill switch is latched" in refused["blockers"]


def test_closing_stops_everything_and_the_controller_leaves(desk: Any) -> None:
    desk.run("open")
    pids = desk.pids().values()
    last = desk.run("close")[-1]
    assert (last["event"], last["outcome"]) == ("done", "verified"), last
    statement = last["result"]
    assert statement["verified"] and statement["processes_left"] == []
    assert desk.processes[-1].wait(30) == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not desk.layout.controller_socket.exists()


def test_a_closed_desk_leaves_when_nobody_listens(desk: Any) -> None:
    desk.run("open")
    assert desk.post("close")[0] == 202
    assert desk.processes[-1].wait(30) == 0


def test_a_desk_opened_again_before_its_controller_left_keeps_it(desk: Any) -> None:
    """The one who closed was killed and reads no statement; another one opens meanwhile."""
    desk.run("open")
    closing = desk.post("close")[1]["run"]
    desk.until(lambda: desk.get(f"runs/{closing}")[1]["state"] == "done", "closed")
    assert desk.run("open")[-1]["outcome"] == "trading"
    desk.until(
        lambda: "in use again" in desk.layout.controller_log.read_text(), "the controller decides"
    )
    assert desk.processes[-1].poll() is None
    assert desk.status()["state"] == "trading"


def test_a_service_started_by_name_keeps_the_controller_of_a_closed_desk(desk: Any) -> None:
    desk.run("open")
    closing = desk.post("close")[1]["run"]
    desk.until(lambda: desk.get(f"runs/{closing}")[1]["state"] == "done", "closed")
    assert desk.post("services/start", {"services": ["base"]})[1]["results"][0]["ok"]
    desk.until(
        lambda: "in use again" in desk.layout.controller_log.read_text(), "the controller decides"
    )
    assert desk.processes[-1].poll() is None


def test_opening_while_the_desk_is_closed_is_refused_by_name(make_desk: Any) -> None:
    desk = make_desk(
        '[services.stubborn]\ncommand = ["sh", "-c", "trap : TERM; while :; do sleep 0.1; done"]\n'
        'stop = { timeout = "20s" }\n'
    )
    desk.start()
    desk.run("open")
    run = desk.post("close", headers={"X-Openbell-Actor": "ann"})[1]["run"]
    status, refused = desk.post("open")
    assert (status, refused["run"], refused["actor"]) == (409, run, "ann")
    assert refused["message"].startswith("the desk is being closed: close-2, begun by ann")
    os.kill(desk.pids()["stubborn"], signal.SIGKILL)


def test_a_closing_that_was_cut_off_can_be_taken_back(make_desk: Any) -> None:
    desk = make_desk(
        '[services.stubborn]\ncommand = ["sh", "-c", "trap : TERM; while :; do sleep 0.1; done"]\n'
        'stop = { timeout = "20s" }\n'
    )
    desk.start()
    desk.run("open")
    run = desk.post("close")[1]["run"]
    desk.until(lambda: states(desk)["stubborn"] == "stopping", "the service is being stopped")
    desk.kill()
    desk.start()
    assert desk.status()["interrupted_run"]["id"] == run
    os.kill(desk.pids()["stubborn"], signal.SIGKILL)
    desk.until(lambda: states(desk)["stubborn"] != "ready", "the service is gone")
    status, refused = desk.post("open")
    assert (status, refused["run"]) == (403, run), "the closing has locked the desk"
    assert "openbell down" in refused["hint"]
    assert f"openbell procedure cancel {run}" in refused["hint"]
    assert desk.post(f"runs/{run}/cancel", headers={"X-Openbell-Actor": "joe"})[0] == 200
    assert desk.run("open")[-1]["event"] == "done"
    seen = desk.status()
    assert (seen["state"], seen["interrupted_run"]) == ("trading", None)
    assert desk.get(f"runs/{run}")[1]["outcome"] == "cancelled"


def test_a_closing_that_was_cut_off_is_announced_and_gone_on_with(make_desk: Any) -> None:
    """The controller dies while a service takes its time to stop; the next one says so and the
    same request continues the same run."""
    desk = make_desk(
        '[services.stubborn]\ncommand = ["sh", "-c", "trap : TERM; while :; do sleep 0.1; done"]\n'
        'stop = { timeout = "20s" }\n'
    )
    desk.start()
    desk.run("open")
    run = desk.post("close")[1]["run"]
    desk.until(lambda: states(desk)["stubborn"] == "stopping", "the service is being stopped")
    desk.kill()
    desk.start()
    seen = desk.status()
    assert seen["interrupted_run"]["id"] == run
    assert seen["interrupted_run"]["step"] == "stop_services"
    assert seen["state"] == "closing", "a half closed desk does not trade again by itself"
    assert f"openbell procedure resume {run}" in [row["action"] for row in seen["recommendations"]]
    os.kill(desk.pids()["stubborn"], signal.SIGKILL)
    desk.until(lambda: states(desk)["stubborn"] != "ready", "the service is gone")
    status, again = desk.post("close")
    assert (status, again) == (202, {"run": run, "resumed": True, "changed": ""})
    assert desk.get(f"runs/{run}/events")[1][-1]["result"]["verified"]


def test_an_old_closing_without_an_end_is_not_gone_on_with(desk: Any) -> None:
    """Its journal could not be written to its end, and the desk was opened again since: what that
    closing had found is no longer so."""
    desk.run("open")
    desk.kill()
    with sqlite3.connect(desk.layout.database) as database:
        columns = "kind, who, why, params, begun_ns"
        row = "'close', 'ann', '', '{}', 1"
        database.execute(f"INSERT INTO runs ({columns}) VALUES ({row})")
    desk.start()
    assert desk.status()["interrupted_run"]["id"] == "close-2"
    desk.kill()
    with sqlite3.connect(desk.layout.database) as database:
        database.execute(
            "INSERT INTO runs (kind, who, why, params, begun_ns, finished_ns, outcome) "
            "VALUES ('open', 'ann', '', '{}', 2, 3, 'done')"
        )
    desk.start()
    assert desk.status()["interrupted_run"] is None
    assert desk.get("runs/close-2")[1]["outcome"] == "abandoned: a later run was begun"


def test_a_desk_closed_and_opened_again_is_as_new(desk: Any) -> None:
    desk.run("open")
    desk.run("close")
    desk.processes[-1].wait(30)
    desk.start()
    assert desk.status()["state"] == "offline"
    assert desk.run("open")[-1]["outcome"] == "trading"


def test_every_change_is_in_the_audit_log(desk: Any) -> None:
    desk.run("open")
    desk.post("services/restart", {"services": ["top"]}, headers={"X-Openbell-Actor": "ann"})
    desk.post("halt", {"reason": "r"})
    desk.post("resume")
    desk.run("close")
    desk.processes[-1].wait(30)
    records = desk.audit()
    actions = [record["action"] for record in records]
    for action in (
        "controller.started",
        "desk.open",
        "desk.opened",
        "service.restart",
        "desk.halt",
        "desk.resume",
        "desk.close",
        "desk.closed",
        "controller.ended",
    ):
        assert action in actions
    assert next(r for r in records if r["action"] == "service.restart")["actor"] == "ann"


def test_a_port_that_another_holds_leaves_the_socket(make_desk: Any) -> None:
    desk = make_desk('[services.a]\ncommand = ["sleep", "86400"]\n')
    with socket.socket() as other:
        other.bind(("127.0.0.1", desk.port))
        other.listen()
        desk.start()
        controller = desk.status()["controller"]
    assert controller["url"] == ""
    assert str(desk.port) in controller["port_problem"]
    assert f"pid {os.getpid()}" in controller["port_problem"]


def test_health_gives_a_verdict(desk: Any) -> None:
    assert desk.get("health")[1]["verdict"] == "not_running"
    desk.run("open")
    healthy = desk.get("health")[1]
    assert (healthy["verdict"], healthy["exit_code"]) == ("healthy", 0)
    desk.post("services/stop", {"services": ["top", "base"]})
    ill = desk.get("health")[1]
    assert (ill["verdict"], ill["exit_code"]) == ("unhealthy", 2)
    assert any("base" in reason for reason in ill["reasons"])


def test_exit_needs_to_be_meant(desk: Any) -> None:
    desk.run("open")
    pids = desk.pids().values()
    assert desk.post("exit")[0] == 403
    assert desk.post("exit", {"detach": True})[0] == 200
    assert desk.processes[-1].wait(30) == 0
    assert all(psutil.pid_exists(pid) for pid in pids)


NAMES_A_SECRET = """
[services.one]
command = ["sleep", "86400"]
secrets = ["TRY_TOKEN"]
[services.two]
command = ["sleep", "86400"]
secrets = ["TRY_TOKEN"]
"""


def test_a_secret_that_was_exchanged_counts_from_the_next_start(make_desk: Any) -> None:
    """A wrong key was mended in `.env` while the desk was up. Its services were restarted with the
    one that the controller had read at its own start, and neither `up` nor `down` got further."""
    desk = make_desk(NAMES_A_SECRET)
    file = desk.folder / ".env"

    def write(token: str, mode: int = 0o600) -> None:
        file.write_text(f"TRY_TOKEN={token}\n")
        file.chmod(mode)

    def held() -> dict[str, str]:
        return {
            name: psutil.Process(pid).environ()["TRY_TOKEN"] for name, pid in desk.pids().items()
        }

    write("canary-before")
    desk.start()
    desk.run("open")
    write("canary-after")
    desk.post("services/restart", {"services": ["one"]})
    assert held() == {"one": "canary-after", "two": "canary-before"}
    rows = {row["name"]: row["drifted"] for row in desk.status()["services"]}
    assert rows == {"one": False, "two": True}
    write("canary-third")
    desk.run("open")
    desk.post("services/restart", {"services": ["two"]})
    assert held() == {"one": "canary-after", "two": "canary-third"}
    told = [r for r in desk.audit() if r["action"] == "secrets.reloaded"]
    assert [r["detail"]["variables"] for r in told] == [["TRY_TOKEN"], ["TRY_TOKEN"]]
    assert b"canary" not in desk.layout.audit_log.read_bytes()

    pids = desk.pids()
    write("canary-fourth", 0o644)
    status, refused = desk.post("services/restart", {"services": ["one"]})
    assert (status, refused["error"]) == (403, "refused"), "others could read it"
    assert desk.pids() == pids
    write("canary-fifth")
    desk.post("lock", {"reason": "try"})
    desk.post("services/restart", {"services": ["two"]})
    assert held()["two"] == "canary-third", "a locked desk stays as it is configured"


def test_a_venue_that_cannot_be_made_is_refused_before_anything_is_started(
    make_desk: Any,
) -> None:
    """The engine would end as it starts, and what was started before it would run on."""
    desk = make_desk('[services.a]\ncommand = ["sleep", "86400"]\n')
    desk.start()
    file = desk.folder / "desk.toml"
    good = file.read_text()
    for wrong, line in (
        ('adapter = "ccxt"\noptions = { exchange = "krakn" }', "options.exchange"),
        ('adapter = "kraken"\noptions = { tier = "gold" }', "options.tier"),
    ):
        file.write_text(
            f'{good}[venues.x]\nsymbols = ["BTC/USD"]\nurl = "http://127.0.0.1:1"\n{wrong}\n'
        )
        status, refused = desk.post("open")
        assert (status, refused["error"]) == (422, "config"), refused
        [problem] = refused["problems"]
        assert problem["line"] and problem["key"] == f"venues.x.{line}"
        assert set(desk.pids().values()) == {None}
    file.write_text(good)
    desk.run("open")
    assert None not in desk.pids().values()


ROLES = """
[services.engine]
command = {web}
port = {p1}
role = "engine"
critical = true
[services.feed]
command = ["sleep", "86400"]
"""


def test_a_part_of_a_desk_is_up_and_nothing_is_missed(make_desk: Any) -> None:
    desk = make_desk(ROLES)
    desk.start()
    last = desk.run("open", {"only": ["feed"]})[-1]
    assert (last["event"], last["outcome"]) == ("done", "partial")
    assert last["message"] == "feed is up (only what was asked for)"
    assert (last["result"]["state"], last["result"]["waiting_for"]) == ("safe", "")
    for _ in range(2):
        seen = desk.status()
        assert (seen["state"], seen["why"]) == ("safe", "opened in part, without engine")
        assert [row["action"] for row in seen["recommendations"]] == ["openbell up"]
        assert desk.get("health")[1]["verdict"] == "healthy"
        desk.kill()
        desk.start()
    status, refused = desk.post("resume")
    assert status == 403 and "the engine does not answer: engine is stopped" in refused["blockers"]


def test_the_rest_of_a_desk_can_be_opened_later(desk: Any) -> None:
    last = desk.run("open", {"only": ["base"]})[-1]
    assert (last["outcome"], desk.status()["state"]) == ("partial", "safe")
    assert desk.run("open")[-1]["outcome"] == "trading"
    seen = desk.status()
    assert (seen["state"], seen["recommendations"]) == ("trading", [])
    desk.run("open", {"only": ["base"]})
    desk.post("services/stop", {"services": ["top"]})
    assert desk.get("health")[1]["verdict"] == "degraded", "a whole desk misses what stops"


def test_an_engine_that_does_not_answer_is_not_called_a_broken_journal(make_desk: Any) -> None:
    desk = make_desk(ROLES)
    desk.start()
    desk.post("services/start", {"services": ["feed"]})
    blockers = desk.post("resume")[1]["blockers"]
    assert "the engine does not answer: engine is stopped" in blockers
    assert not [each for each in blockers if "journal" in each or "books" in each]


def test_a_foreign_process_in_the_way_is_named_and_not_to_be_forced(make_desk: Any) -> None:
    desk = make_desk(ROLES)
    found = re.search(
        r"services.engine.*?port = (\d+)", (desk.folder / "desk.toml").read_text(), re.S
    )
    assert found is not None
    port = int(found.group(1))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        desk.start()
        (row,) = [r for r in desk.status()["recommendations"] if r["subject"] == "engine"]
        assert f"on port {port}: pid {os.getpid()}" in row["text"]
        assert row["action"] == f"end pid {os.getpid()} as its owner, or give engine another port"
        status, refused = desk.post("open")
        assert (status, refused["message"]) == (403, "1 process is in the way of the desk")


def planned_start(desk: Any) -> list[str]:
    steps = {each["name"]: each for each in desk.get("plan/open")[1]["steps"]}
    return list(steps["start_services"]["actions"])


def test_a_plan_of_an_opening_foresees_what_its_first_step_leads_to(make_desk: Any) -> None:
    desk = make_desk(ROLES)
    desk.start()
    *before, second = desk.get("plan/open")[1]["steps"]
    phases = [each["actions"] for each in before if each["name"].startswith("start_")]
    assert phases == [["start engine"], ["start feed"]]
    assert second["title"] == "Reconcile, get the permit, run the strategies"
    assert second["actions"] == [
        "let the engine ask for a permit",
        "wait until books are reconciled, the permit is granted and strategies run",
    ]
    *_, second = desk.get("plan/open?safe_mode=true")[1]["steps"]
    assert (second["title"], second["actions"], second["reason"]) == (
        "Stay in safe mode: nothing trades by itself",
        [],
        "the desk is safe",
    )
    *_, second = desk.get("plan/open?only=feed")[1]["steps"]
    assert (second["skipped"], second["reason"]) == (True, "only feed is asked for, not engine")
    desk.post("halt", {"reason": "x"})
    *_, second = desk.get("plan/open")[1]["steps"]
    assert second["title"] == "Leave the halt in place" and not second["actions"]


def test_plans_say_what_would_be_done_and_do_nothing(desk: Any) -> None:
    assert planned_start(desk) == ["start base", "start top once base is ready"]
    assert states(desk) == {"base": "stopped", "top": "stopped"}
    desk.run("open")
    assert planned_start(desk) == []
    _, plan = desk.get("plan/close?flatten=keep&orders=keep")
    assert [step["name"] for step in plan["steps"][:2]] == ["lock", "halt_strategies"]
    assert not desk.status()["lock"]["active"], "a plan locks nothing"
    assert desk.status()["state"] == "trading"


ENGINE = """
import http.server, os, pathlib
HERE = pathlib.Path(__file__).parent
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (HERE / "engine.json").read_bytes()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        (HERE / "engine.json").write_text((HERE / "resumed.json").read_text())
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["OPENBELL_PORT"])), Page).serve_forever()
"""


def test_a_desk_whose_books_are_in_doubt_is_held_until_they_are_not(make_desk: Any) -> None:
    """The engine itself would trade: nobody else waits for it to learn what became of an order."""
    desk = make_desk(
        """
[services.engine]
command = ["{python}", "{desk}/engine.py"]
port = {p1}
role = "engine"
ready = { kind = "http", path = "/" }
"""
    )
    says = {"phase": "ready", "trading": False, "in_doubt": 1, "venues": [], "why_not": "no permit"}
    permit = {"held": True, "scope": "trade"}
    (desk.folder / "engine.py").write_text(ENGINE)
    (desk.folder / "engine.json").write_text(json.dumps(says))
    (desk.folder / "resumed.json").write_text(
        json.dumps({**says, "trading": True, "permit": permit})
    )
    desk.start()
    last = desk.run("open")[-1]
    assert (last["event"], last["outcome"]) == ("failed", "held"), last
    assert (
        "1 orders of which nobody knows" in last["message"] and "openbell orders" in last["message"]
    )
    assert last["result"]["failed_at"] == "check_readiness"
    assert desk.status()["state"] == "safe"
    assert "its opening has not let it trade" in desk.status()["why"]
    again = desk.run("open")[-1]
    assert again["outcome"] == "held", "opened again, it is looked at again"

    (desk.folder / "engine.json").write_text(json.dumps({**says, "in_doubt": 0}))
    (desk.folder / "resumed.json").write_text(
        json.dumps({**says, "in_doubt": 0, "trading": True, "permit": permit})
    )
    assert desk.run("open")[-1]["outcome"] in ("trading", "already_open")
    assert desk.status()["state"] == "trading"


def test_a_controller_whose_socket_was_cleaned_away_is_reached_by_its_port_until_it_has_another(
    make_desk: Any,
) -> None:
    """A cleaner of the temporary folder, in which sockets lie where the desk's path is long: the desk traded
    on and could neither be halted nor closed, and `status` said that no controller ran."""
    desk = make_desk(TWO_WEB)
    desk.start()
    desk.run("open")
    client, run = Client(desk.layout), desk.layout.run
    pid = client.get("status")["controller"]["pid"]
    shutil.rmtree(run)
    run.touch()  # in the way of another folder, so that the port is the only way
    assert client.get("status")["controller"]["pid"] == pid
    assert client.post("halt", {"reason": "try"})["halted"] is True
    desk.until(
        lambda: "the socket cannot be opened again" in desk.layout.controller_log.read_text(),
        "that there is none is told",
    )
    run.unlink()
    desk.until(desk.answers, "its socket leads to it again")
    desk.layout.controller_socket.unlink()
    desk.until(desk.answers, "and again where it alone was taken")
    assert stat.S_IMODE(desk.layout.controller_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert desk.status()["controller"]["pid"] == pid, "the same controller"
    lost = [line for line in desk.audit() if line["action"] == "controller.socket_lost"]
    assert len(lost) == 2
    desk.run("close")
    desk.until(lambda: not desk.layout.controller_socket.exists(), "it leaves no socket")
