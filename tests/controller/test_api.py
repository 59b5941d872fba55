"""Who may ask the controller, and what it answers to good and bad questions."""

from __future__ import annotations

import stat
from typing import Any

import pytest


def test_both_doors_want_the_token(quiet_desk: Any) -> None:
    for tcp in (False, True):
        assert quiet_desk.get("status", tcp=tcp)[0] == 200
        status, body = quiet_desk.get("status", tcp=tcp, token="x" * 43)
        assert (status, body["error"]) == (401, "unauthorized")
        assert quiet_desk.get("status", tcp=tcp, headers={"Authorization": ""})[0] == 401


def test_token_and_socket_are_for_the_owner_alone(quiet_desk: Any) -> None:
    for path in (quiet_desk.layout.api_token, quiet_desk.layout.controller_socket):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", ""])
def test_a_foreign_host_is_refused_before_the_token_is_looked_at(
    quiet_desk: Any, host: str
) -> None:
    for tcp in (False, True):
        status, body = quiet_desk.get("status", tcp=tcp, headers={"Host": host})
        assert (status, body["error"]) == (421, "misdirected")


def test_what_a_page_of_another_site_sends_changes_nothing_though_it_has_the_token(
    desk: Any,
) -> None:
    foreign = (
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1:1",
    )
    for origin in foreign:
        for path in ("kill-switch/activate", "halt", "open", "exit"):
            answers = (
                desk.post(path, tcp=tcp, headers={"Origin": origin}) for tcp in (False, True)
            )
            assert [(status, body["error"]) for status, body in answers] == [
                (403, "foreign_origin")
            ] * 2
    status = desk.status()
    assert (status["state"], status["latch"]["active"]) == ("offline", False)
    assert not status["halt"]["active"]
    own = {"Origin": f"http://127.0.0.1:{desk.port}", "Host": f"127.0.0.1:{desk.port}"}
    assert desk.post("kill-switch/activate", tcp=True, headers=own)[0] == 200
    assert desk.status()["latch"]["active"]


def test_the_services_token_opens_what_services_ask_and_nothing_else(desk: Any) -> None:
    service = desk.layout.service_token.read_text().strip()
    question = {"service": "e", "epoch": 1, "reconciled": True, "phase": "ready"}
    assert desk.get("status", token=service)[0] == 401
    assert desk.post("permit", question)[0] == 401
    status, answer = desk.post("permit", question, token=service)
    assert (status, answer["granted"], answer["scope"]) == (200, False, "none")
    found = {"rule": "max_drawdown", "scopes": ["desk"], "reason": "lost it", "latches": []}
    assert desk.post("kill-switch/triggered", found)[0] == 401
    assert desk.post("kill-switch/activate", {}, token=service)[0] == 401
    status, answer = desk.post("kill-switch/triggered", found, token=service)
    assert (status, answer["activated"]) == (200, True)
    (latch,) = desk.get("kill-switch")[1]["latches"]
    assert (latch["by"], latch["reason"]) == ("rule:max_drawdown", "lost it")


def test_the_description_is_open_and_loads_nothing_from_elsewhere(quiet_desk: Any) -> None:
    status, document = quiet_desk.get("openapi.json", token="none")
    assert status == 200
    assert {"/api/v1/open", "/api/v1/close", "/api/v1/halt"} <= set(document["paths"])
    status, page = quiet_desk.get("docs", token="none")
    assert status == 200 and "/api/v1/close" in page
    assert "//" not in page.replace("http://127.0.0.1", "")
    assert "<script" not in page


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("open", {"safemode": True}, 422, "safemode"),
        ("open", {"only": ["tpo"]}, 404, "top"),
        ("close", {"flatten": "gently"}, 422, "flatten"),
        ("close", {"flatten": "aggressive", "orders": "keep"}, 422, "kept"),
        ("close", {"timeout_s": -1}, 422, "timeout_s"),
        ("services/start", {"services": []}, 422, "services"),
        ("services/start", {"services": ["bas"]}, 404, "base"),
        ("checkpoints", {"level": "half"}, 422, "level"),
    ],
)
def test_bad_bodies_are_refused_with_the_key_named(
    quiet_desk: Any, path: str, body: object, status: int, word: str
) -> None:
    got, answer = quiet_desk.post(path, body)
    assert (got, answer["error"]) == (status, "usage")
    assert word in answer["message"] + answer["hint"]
    assert quiet_desk.status()["state"] == "offline"


def test_no_get_changes_anything(quiet_desk: Any) -> None:
    for path in ("open", "close", "halt", "resume", "services/stop", "exit", "permit"):
        status, _ = quiet_desk.get(path)
        assert status in (401, 404, 405)


def test_what_does_not_exist_is_said_so(quiet_desk: Any) -> None:
    assert quiet_desk.get("nothing")[0] == 404
    assert quiet_desk.get("runs/open-99")[0] in (404, 422)
    assert quiet_desk.get("logs?service=bsae")[0] == 404
    assert quiet_desk.get("logs?since=yesterday")[0] == 422
    assert quiet_desk.get("logs?level=loud")[0] == 422


def test_a_desk_without_an_engine_says_that_nothing_is_known_of_orders(quiet_desk: Any) -> None:
    for path in ("orders", "positions", "strategies", "risk", "feeds"):
        status, answer = quiet_desk.get(path)
        assert (status, answer["known"], answer["source"]) == (200, False, "unknown")
        assert answer["why"]


def test_logs_of_services_and_controller_come_as_one(desk: Any) -> None:
    desk.run("open")
    _, answer = desk.get("logs?tail=500")
    services = {line["service"] for line in answer["lines"]}
    assert {"base", "controller"} <= services
    listening = [line for line in answer["lines"] if line["text"] == "listening"]
    assert [line["level"] for line in listening] == ["unknown"]
    assert desk.get("logs?level=CRITICAL")[1]["lines"] == []


def test_no_answer_holds_a_secret(make_desk: Any) -> None:
    desk = make_desk(
        '[services.leaky]\ncommand = ["sh", "-c", "echo key is $API_KEY; exec sleep 86400"]\n'
        'secrets = ["API_KEY"]\n'
    )
    desk.environ["API_KEY"] = "canary-5f0d1c"
    desk.start()
    desk.run("open")
    desk.until(lambda: bool(desk.get("logs?service=leaky")[1]["lines"]), "the service has logged")
    told = [desk.get(path)[1] for path in ("status", "health", "logs", "plan/open", "openapi.json")]
    assert "canary" not in str(told)
    assert "[redacted]" in str(told)
    assert "canary" not in desk.layout.controller_log.read_text()
    assert "canary" not in desk.layout.audit_log.read_text()
    assert desk.layout.api_token.read_text().strip() not in str(told)
