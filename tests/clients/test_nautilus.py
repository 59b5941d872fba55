"""A nautilus_trader node, unmodified, on the Binance faces: connects, gets quotes, has a limit order
accepted, a market order filled and a cancel confirmed, and stops. Judged from both sides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.harness.clients import client_program

from openbell_sim.testing import KEY, SECRET, venue_process

NODE = Path(__file__).with_name("nautilus_node.py")
WAIT_S = 120

pytestmark = pytest.mark.timeout(300)


class Node:
    """The process and what it has told so far."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.told: list[dict[str, Any]] = []
        self._log = log.open("wb")
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [client_program("nautilus"), str(NODE), *arguments],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={"PATH": os.environ["PATH"], "SIM_KEY": KEY, "SIM_SECRET": SECRET},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b"{"):
                with self._changed:
                    self.told.append(json.loads(line))
                    self._changed.notify_all()
            else:
                self._log.write(line)

    def until(self, event: str, **facts: object) -> dict[str, Any]:
        wanted = {"event": event, **facts}

        def seen() -> dict[str, Any] | None:
            return next((told for told in self.told if wanted.items() <= told.items()), None)

        with self._changed:
            assert self._changed.wait_for(lambda: seen() is not None, WAIT_S), (wanted, self.told)
            found = seen()
        assert found is not None
        return found

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(WAIT_S)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()


@pytest.mark.parametrize(
    ("face", "kind", "quantity"),
    [("binance", "SPOT", "0.001"), ("binance-usdm", "USDT_FUTURES", "0.01")],
)
def test_a_node_trades_and_stops(face: str, kind: str, quantity: str, tmp_path: Path) -> None:
    orders = tmp_path / "orders.jsonl"
    with venue_process("--face", face, "--log", str(orders)) as sim:
        node = Node([kind, "BTCUSDT", quantity, sim.url], tmp_path / "node.log")
        try:
            node.until("quote")
            node.until("accepted", limit=True)
            node.until("filled", limit=False)
            node.until("canceled", limit=True)
            assert node.stop() == 0
            node.until("stopped")
            node.until("ended")
        finally:
            node.kill()
    assert not {"rejected", "denied", "cancel_rejected"} & {told["event"] for told in node.told}
    events = [json.loads(line) for line in orders.read_text().splitlines()]
    sent = [event for event in events if event["event"] == "accept"]
    assert sorted(event["ord_type"] for event in sent) == ["LIMIT", "MARKET"]
    (limit,) = (event for event in sent if event["ord_type"] == "LIMIT")
    cancelled = [event["order_id"] for event in events if event["event"] == "cancel"]
    assert cancelled == [limit["order_id"]]
