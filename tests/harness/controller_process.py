"""A real controller process over a desk of small real services, for tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from openbell.config.layout import DeskLayout

TIMEOUT_S = 60.0
LOOK_EVERY_S = 0.1
"""A look costs the desk's processes more than it costs the test."""

WEB = """
import http.server, os, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"status":"ok"}')
    def log_message(self, *_): pass
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["OPENBELL_PORT"])), Page).serve_forever()
"""

ONE_WEB = """
[services.base]
command = {web}
port = {p1}
ready = { kind = "http", path = "/" }
critical = true
"""
TWO_WEB = f"""{ONE_WEB}[services.top]
command = ["sleep", "86400"]
depends_on = ["base"]
"""
TWO = """
[services.base]
command = ["sleep", "86400"]
critical = true
[services.top]
command = ["sleep", "86400"]
depends_on = ["base"]
"""
"""Services of a small desk: one that stands on the other."""


@dataclass
class ControllerProcess:
    """One desk with its controller; ends everything it started."""

    folder: Path
    port: int
    environ: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def layout(self) -> DeskLayout:
        return DeskLayout.for_desk(self.folder, {})

    def launch(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "openbell.controller", "--desk", str(self.folder)],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def start(self) -> subprocess.Popen[bytes]:
        process = self.launch()
        self.until(self.answers, "the controller answers")
        return process

    def answers(self) -> bool:
        try:
            return self.get("ping")[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL to the newest controller."""
        self.processes[-1].send_signal(signal.SIGKILL)
        self.processes[-1].wait(TIMEOUT_S)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        tcp: bool = False,
    ) -> tuple[int, Any]:
        """Status and decoded body of a request under /api/v1."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        if not tcp:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(TIMEOUT_S)
            connection.sock.connect(str(self.layout.controller_socket))
        if token is None:
            token = self.layout.api_token.read_text().strip()
        sent = {"Authorization": f"Bearer {token}", "Host": "localhost", **(headers or {})}
        payload = None if body is None else json.dumps(body)
        if payload is not None:
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, f"/api/v1/{path}", payload, sent)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        kind = response.headers.get("content-type", "")
        if "ndjson" in kind:
            return response.status, [json.loads(line) for line in text.splitlines()]
        return response.status, json.loads(text) if "json" in kind else text

    def get(self, path: str, **more: Any) -> tuple[int, Any]:
        return self.ask("GET", path, **more)

    def post(self, path: str, body: object = None, **more: Any) -> tuple[int, Any]:
        return self.ask("POST", path, body if body is not None else {}, **more)

    def run(self, procedure: str, body: object = None) -> list[dict[str, Any]]:
        """Begins a procedure and gives its events from the first to the last."""
        status, answer = self.post(procedure, body)
        assert status == 202, answer
        status, events = self.get(f"runs/{answer['run']}/events")
        assert status == 200, events
        return list(events)

    def status(self) -> dict[str, Any]:
        status, document = self.get("status")
        assert status == 200, document
        return dict(document)

    def pids(self) -> dict[str, int]:
        return {row["name"]: row["pid"] for row in self.status()["services"]}

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.layout.audit_log.read_text().splitlines()]

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not true():
            assert time.monotonic() < deadline, f"not within {TIMEOUT_S}s: {what}"
            time.sleep(LOOK_EVERY_S)

    def until_within(self, seconds: float, true: Callable[[], bool]) -> None:
        """Raises TimeoutError where it does not become so: for what must not happen."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(LOOK_EVERY_S)

    def end(self) -> None:
        # The guard first: it would start a controller. Again until there is none: each starts the
        # other, and one may have done so behind our back.
        while self._kill_guards_and_controllers():
            pass
        mark = f"{self.layout.desk_id}:"
        for process in psutil.process_iter():
            try:
                if process.environ().get("OPENBELL_MARK", "").startswith(mark):
                    process.kill()
            except psutil.Error:
                continue
        for started in self.processes:
            if started.poll() is None:
                started.kill()
            started.wait()
            if started.stderr is not None:
                started.stderr.close()

    def running(self, module: str) -> list[int]:
        """Pids of this desk's processes of that module, zombies aside."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                if module in command and str(self.folder) in command:
                    found.append(process.pid)
        return found

    def nobody_watches(self) -> bool:
        """Neither guard nor controller is there, so neither will be unless somebody starts one."""
        return not self.running("openbell.guard") and not self.running("openbell.controller")

    def _kill_guards_and_controllers(self) -> bool:
        """Whether there was any."""
        found = [
            pid
            for module in ("openbell.guard", "openbell.controller")
            for pid in self.running(module)
        ]
        killed = []
        for pid in found:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                process.kill()
                killed.append(process)
        psutil.wait_procs(killed, timeout=TIMEOUT_S)
        return bool(found)
