"""The service SDK, tried on real processes."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from typing import Any

Start = Callable[[str], Any]


def test_a_service_without_any_declaration_is_ready_and_healthy(start_service: Start) -> None:
    service = start_service("")
    service.until_ready()
    status, health = service.ask("GET", "/health", token=None)
    assert (status, health["status"]) == (200, "ok")
    assert health["service"] == "sample"
    assert health["pid"] == service.process.pid
    assert health["mark"] == "desk:sample:1"
    assert health["uptime_s"] >= 0
    status, metrics = service.ask("GET", "/metrics", token=None)
    assert status == 200
    assert 'openbell_service_ready{service="sample"} 1.0' in metrics
    assert service.stop() == 0


def test_a_failing_check_makes_health_answer_503(start_service: Start) -> None:
    service = start_service(
        """
        app.check("feed", lambda: degraded("stale"))
        async def broken():
            raise OSError("no disk")
        app.check("disk", broken)
        """
    )
    service.until_ready()
    status, health = service.ask("GET", "/health")
    assert (status, health["status"]) == (503, "failing")
    assert health["checks"]["feed"] == {"status": "degraded", "detail": "stale"}
    assert "OSError: no disk" in health["checks"]["disk"]["detail"]


def test_a_degraded_check_is_told_with_200(start_service: Start) -> None:
    service = start_service("app.check('feed', lambda: degraded('stale'))")
    status, health = service.ask("GET", "/health")
    assert (status, health["status"]) == (200, "degraded")


def test_a_check_that_hangs_is_failing_within_its_time_out(start_service: Start) -> None:
    service = start_service("app.check('slow', lambda: asyncio.sleep(3600))")
    status, health = service.ask("GET", "/health")
    assert status == 503
    assert "no answer within" in health["checks"]["slow"]["detail"]


def test_v1_wants_the_service_token(start_service: Start) -> None:
    service = start_service("app.route('GET', '/v1/secret', lambda request: {'open': True})")
    assert service.ask("GET", "/v1/secret", token=None)[0] == 401
    assert service.ask("GET", "/v1/secret", token="wrong")[0] == 401
    assert service.ask("GET", "/v1/secret", token="")[0] == 401
    assert service.ask("GET", "/v1/secret") == (200, {"open": True})


def test_without_a_token_file_nobody_gets_in(start_service: Start, tmp_path: Any) -> None:
    service = start_service("app.route('GET', '/v1/secret', lambda request: {'open': True})")
    (tmp_path / "service.token").unlink()
    assert service.ask("GET", "/v1/secret")[0] == 401
    (tmp_path / "service.token").write_text("")
    assert service.ask("GET", "/v1/secret", token="")[0] == 401
    (tmp_path / "service.token").write_text("a-new-token")
    assert service.ask("GET", "/v1/secret", token="a-new-token")[0] == 200


def test_a_foreign_host_is_refused_on_every_path(start_service: Start) -> None:
    service = start_service("app.route('GET', '/v1/x', lambda request: {})")
    for path in ("/health", "/ready", "/metrics", "/v1/x"):
        assert service.ask("GET", path, host="evil.example")[0] == 421
        assert service.ask("GET", path, host="127.0.0.1.evil.example:80")[0] == 421
    for host in ("localhost", "[::1]:8004", "127.0.0.1"):
        assert service.ask("GET", "/health", host=host)[0] == 200


def test_what_a_page_of_another_site_sends_is_not_handled(start_service: Start) -> None:
    service = start_service(
        """
        acts = []
        app.route("POST", "/v1/act", lambda request: acts.append(1))
        app.route("GET", "/v1/acts", lambda request: {"acts": len(acts)})
        """
    )
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        assert service.ask("POST", "/v1/act", {}, origin=origin)[0] == 403
        assert service.ask("GET", "/v1/acts", origin=origin) == (200, {"acts": 0})
    assert service.ask("POST", "/v1/act", {}, origin=f"http://127.0.0.1:{service.port}")[0] == 200
    assert service.ask("GET", "/v1/acts")[1] == {"acts": 1}


def test_a_handler_gets_query_path_and_body_and_gives_json(start_service: Start) -> None:
    service = start_service(
        """
        async def echo(request):
            return {"got": request, "price": Decimal("1.10")}
        app.route("POST", "/v1/echo/{name}", echo)
        """
    )
    status, answer = service.ask("POST", "/v1/echo/a?b=c", {"reason": "r", "n": [1]})
    assert status == 200
    assert answer == {"got": {"name": "a", "b": "c", "reason": "r", "n": [1]}, "price": "1.10"}
    assert service.ask("POST", "/v1/echo/a", b"{not json")[0] == 400
    assert service.ask("POST", "/v1/echo/a", [1, 2])[0] == 400
    assert service.ask("GET", "/v1/echo/a")[0] == 405
    assert service.ask("POST", "/v1/echo/a", b"[" + b"1" * (2 << 20))[0] == 400


def test_our_errors_become_answers_and_defects_do_not_end_the_service(start_service: Start) -> None:
    service = start_service(
        """
        def refuse(request):
            raise RefusedError("not now", hint="later", gate="clock")
        def defect(request):
            return 1 / 0
        app.route("POST", "/v1/refuse", refuse)
        app.route("POST", "/v1/defect", defect)
        """
    )
    status, answer = service.ask("POST", "/v1/refuse", {})
    assert status == 409
    assert answer == {"error": "refused", "message": "not now", "hint": "later", "gate": "clock"}
    assert service.ask("POST", "/v1/defect", {})[0] == 500
    line = service.line("request failed")
    assert line["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert service.ask("GET", "/health")[0] == 200


def test_a_background_task_that_dies_makes_health_failing_and_raises_an_alert(
    start_service: Start,
) -> None:
    service = start_service(
        """
        async def pump():
            raise ValueError("the pipe burst")
        app.task(pump, "pump")
        """
    )
    line = service.line("background task died")
    assert line["alert"] is True
    assert line["level"] == "error"
    status, health = service.ask("GET", "/health")
    assert status == 503
    assert "pump: ValueError: the pipe burst" in health["checks"]["tasks"]["detail"]


def test_sigterm_ends_the_work_first_and_answers_probes_meanwhile(start_service: Start) -> None:
    service = start_service(
        """
        gate = asyncio.Event()
        log = app.log
        async def worker():
            try:
                await asyncio.Event().wait()
            finally:
                log.info("task cancelled")
        async def finish():
            app.set_pending("1 order")
            log.info("finishing")
            await gate.wait()
            log.info("finished")
        app.task(worker, "worker")
        app.on_stop(finish)
        app.route("GET", "/v1/x", lambda request: {})
        app.route("GET", "/open-the-gate", lambda request: gate.set())
        import signal
        async def on_usr1():
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, gate.set)
        app.on_start(on_usr1)
        """
    )
    service.until_ready()
    service.process.send_signal(signal.SIGTERM)
    service.line("finishing")
    assert service.ask("GET", "/ready") == (
        503,
        {
            "ready": False,
            "why": "stopping",
            "service": "sample",
            "pid": service.process.pid,
            "mark": "desk:sample:1",
        },
    )
    status, shutdown = service.ask("GET", "/shutdown-status")
    assert (status, shutdown["stopping"], shutdown["reason"]) == (200, True, "SIGTERM")
    assert shutdown["pending"] == "1 order"
    assert service.ask("GET", "/v1/x")[0] == 503
    service.process.send_signal(signal.SIGUSR1)
    assert service.process.wait(20) == 0
    events = [line["event"] for line in service.lines()]
    assert events.index("finished") < events.index("task cancelled")


def test_a_stop_hook_that_hangs_is_given_up_and_the_exit_status_says_so(
    start_service: Start,
) -> None:
    service = start_service(
        """
        app._stop_timeout_s = 0.2
        async def hang():
            await asyncio.Event().wait()
        app.on_stop(hang)
        """
    )
    service.until_ready()
    assert service.stop() == 1
    assert service.line("stop timed out")["alert"] is True


def test_a_start_that_fails_exits_1_with_an_alert(start_service: Start) -> None:
    service = start_service(
        """
        async def fail():
            raise RefusedError("no venue", hint="start it")
        app.on_start(fail)
        """
    )
    assert service.process.wait(20) == 1
    line = service.line("start failed")
    assert (line["alert"], line["level"], line["why"]) == (True, "critical", "no venue (start it)")


def test_a_stop_during_a_slow_start_is_clean(start_service: Start) -> None:
    service = start_service(
        """
        async def slow():
            await asyncio.Event().wait()
        app.on_start(slow)
        """
    )
    status, ready = service.ask("GET", "/ready")
    assert (status, ready["why"]) == (503, "starting")
    assert service.stop() == 0


def test_readiness_follows_what_the_service_says(start_service: Start) -> None:
    service = start_service(
        """
        app.set_ready(False, "waiting for the venue")
        app.route("POST", "/v1/ready", lambda request: app.set_ready(True))
        """
    )
    service.line("started")
    status, ready = service.ask("GET", "/ready")
    assert (status, ready["why"]) == (503, "waiting for the venue")
    service.ask("POST", "/v1/ready", {})
    assert service.ask("GET", "/ready")[0] == 200


def test_sighup_reloads_and_a_reload_that_raises_changes_nothing(start_service: Start) -> None:
    service = start_service(
        """
        count = 0
        def reload():
            global count
            count += 1
            if count == 2:
                raise ValueError("bad file")
        app.on_reload(reload)
        """
    )
    service.until_ready()
    service.process.send_signal(signal.SIGHUP)
    service.line("reloaded")
    service.process.send_signal(signal.SIGHUP)
    assert service.line("reload failed")["alert"] is True
    assert service.ask("GET", "/health")[0] == 200


def test_a_taken_port_is_named_and_exits_5(start_service: Start) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        service = start_service(f"app.log.info('listening', port=1)\napp.port = {port}")
        assert service.process.wait(20) == 5
    line = next(line for line in service.lines() if line.get("alert"))
    assert str(port) in line["event"]


def test_a_service_whose_server_ends_knows_that_nobody_asked_it_to_stop(
    start_service: Start,
) -> None:
    """An engine told the guard that it ends on purpose: its orders rested, with nobody to cancel them."""
    body = """
        async def told():
            app.log.info("told", asked=app.was_asked_to_stop)
        app.on_stop(told)
        """
    service = start_service(body)
    service.until_ready()
    assert service.stop() == 0
    assert service.line("told")["asked"] is True
    service = start_service(
        body
        + """
        import openbell.service.app as module
        async def serve(self, sockets):
            "As one that has died."
        module.QuietServer.serve = serve
        """
    )
    assert service.process.wait(20) == 1
    assert service.line("told")["asked"] is False
