"""Real service processes, and an HTTP client for them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TOKEN = "a-service-token-for-tests"
SECRET = "hush-hush-this-is-a-venue-secret"


class RunningService:
    """A service process with its log in a file."""

    def __init__(self, script: Path, state: Path) -> None:
        self.log_path = state / "log.jsonl"
        environment = os.environ | {
            "OPENBELL_STATE": str(state),
            "OPENBELL_SERVICE": "sample",
            "OPENBELL_PORT": "0",
            "OPENBELL_MARK": "desk:sample:1",
            "OPENBELL_VENUE_SIM_SECRET": SECRET,
        }
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script)], env=environment, stdout=log, stderr=log
            )
        self.port = int(self.line("listening")["port"])

    def lines(self) -> list[dict[str, Any]]:
        complete = self.log_path.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in complete.splitlines() if line.startswith(b"{")]

    def line(self, event: str) -> dict[str, Any]:
        """The first line of this event, awaited."""

        def find() -> dict[str, Any] | None:
            return next((line for line in self.lines() if line["event"] == event), None)

        return self.until(find, f"no line {event!r}")

    def until(self, condition: Callable[[], Any], failure: str) -> Any:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError(f"{failure}:\n{self.log_path.read_text()}")

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        host: str | None = None,
        origin: str | None = None,
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Host": host or f"127.0.0.1:{self.port}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if origin is not None:
            headers["Origin"] = origin
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(text) if is_json else text.decode()

    def until_ready(self) -> None:
        self.until(lambda: self.ask("GET", "/ready")[0] == 200, "never ready")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[[str], RunningService]]:
    """Starts a service from the body of a script in which `app` is a ServiceApp."""
    started: list[RunningService] = []
    (tmp_path / "service.token").write_text(TOKEN + "\n")

    def start(body: str) -> RunningService:
        script = tmp_path / "sample_service.py"
        script.write_text(
            "import asyncio\n"
            "from decimal import Decimal\n"
            "from openbell.errors import RefusedError\n"
            "from openbell.service import ServiceApp, degraded, failing, ok\n"
            "app = ServiceApp('code-name', version='1.2')\n"
            + textwrap.dedent(body)
            + "\nraise SystemExit(app.run())\n"
        )
        service = RunningService(script, tmp_path)
        started.append(service)
        return service

    yield start
    for service in started:
        if service.process.poll() is None:
            service.process.kill()
        service.process.wait(20)


@pytest.fixture
def secret() -> str:
    return SECRET
