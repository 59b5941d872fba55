"""`openbell dead-man status` where no guard answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from openbell.config.layout import DeskLayout

DESK = """
[desk]
name = "unguarded"
[guard]
dead_man_timeout = "45s"
[venues.binance]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[venues.kraken]
adapter = "kraken"
url = "http://127.0.0.1:1"
symbols = ["BTC/USD"]
[venues.mine]
adapter = "kraken"
url = "http://127.0.0.1:1"
symbols = ["BTC/USD"]
dead_man = "off"
[services.base]
command = ["sleep", "1"]
"""


def _call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENBELL_")}
    command = [sys.executable, "-m", "openbell", "--desk", str(folder), *arguments]
    return subprocess.run(
        [*command, "dead-man", "status"],
        env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip


def test_without_a_guard_it_says_what_applies_where_and_that_nothing_is_known(
    tmp_path: Path,
) -> None:
    (tmp_path / "desk.toml").write_text(DESK)
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    assert _call(tmp_path, "--json").returncode == 3, "a desk that is closed"
    layout.target.write_text('{"target": "trading"}')
    asked = _call(tmp_path, "--json")
    assert asked.returncode == 7, asked
    document = json.loads(asked.stdout)
    assert [
        (row["venue"], row["applies"], row["state"], row["open_orders"], row["timeout_s"])
        for row in document["venues"]
    ] == [
        ("binance", "guard", "unknown", None, 45.0),
        ("kraken", "venue", "unknown", None, 45.0),
        ("mine", "none", "off", None, 45.0),
    ]
    assert all(row["not_covered"][0].startswith("everything") for row in document["venues"])
    assert "nobody refreshes" in document["why"]
    told = _call(tmp_path)
    assert told.returncode == 7
    assert "mode unknown" in told.stdout and "NOT covered: everything" in told.stdout
    assert "no guard answers" in told.stderr
