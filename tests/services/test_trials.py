"""A service told to try itself out: what a start would load is loaded, and nothing else happens."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from openbell.state.journal import Journal
from openbell.state.journal_reader import JournalReader

from .conftest import KEY_ENV, SECRET_ENV

_GOOD = "from openbell.trading.strategy import Strategy\nclass Mine(Strategy): ...\n"
_RAISES_WHEN_MADE = """
from openbell.trading.strategy import Strategy
class Mine(Strategy):
    def __init__(self, *given):
        super().__init__(*given)
        raise ValueError("half made")
"""


def try_out(desk: Any, service: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit status, and what it logged. The port is one that nobody could have."""
    module = f"openbell.services.{service.replace('-', '_')}"
    environment = os.environ | {
        "OPENBELL_DESK": str(desk.folder),
        "OPENBELL_STATE": str(desk.layout.state),
        "OPENBELL_SERVICE": service,
        "OPENBELL_PORT": str(desk.venue_port),
        KEY_ENV: "a-key-for-tests",
        SECRET_ENV: "a-secret-for-tests",
    }
    ended = subprocess.run(
        [sys.executable, "-m", module, "--trial"],
        env=environment, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    lines = (ended.stdout + ended.stderr).splitlines()
    return ended.returncode, [json.loads(line) for line in lines if line.startswith(b"{")]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_strategies_are_made_and_each_that_cannot_be_is_named(desk: Any) -> None:
    mine = desk.folder / "mine.py"
    desk.edit('type = "openbell.trading.strategies.momentum:Momentum"', 'type = "mine:Mine"')
    text = (desk.folder / "desk.toml").read_text()
    start = text.index("[strategies.momentum_ltc.params]")
    (desk.folder / "desk.toml").write_text(text[:start] + text[text.index("# --- the services") :])
    mine.write_text(_GOOD)
    before = files(desk.layout.state)
    status, said = try_out(desk, "market-analysis")
    assert (status, said[-1]["event"]) == (0, "trial passed"), said
    assert files(desk.layout.state) == before
    assert not any(line["event"] == "listening" for line in said)

    for code, word in ((_RAISES_WHEN_MADE, "half made"), ("import no_such_module\n", "no_such")):
        mine.write_text(code)
        status, said = try_out(desk, "market-analysis")
        assert status == 1
        assert said[-1]["event"] == "trial failed" and said[-1]["alert"], said
        assert "momentum_ltc" in said[-1]["why"] and word in said[-1]["why"]


async def test_an_engine_is_made_over_the_journal_and_leaves_it_as_it_is(desk: Any) -> None:
    """Its venue is not there and its port is another's: it needs neither."""
    journal = await Journal.take_over(desk.layout.database, "execution-engine@1")
    epoch = journal.epoch
    status, said = try_out(desk, "execution-engine")
    assert (status, said[-1]["event"]) == (0, "trial passed"), said
    reader = JournalReader.open(desk.layout.database)
    assert reader.current_epoch() == epoch, "the engine that trades was not fenced"
    reader.close()
    await journal.close()

    with sqlite3.connect(desk.layout.database) as database:
        database.execute("INSERT INTO journal VALUES (1, ?, 1, ?, 1)", (epoch, b"torn"))
    status, said = try_out(desk, "execution-engine")
    assert (status, said[-1]["event"]) == (1, "trial failed"), said
    assert "damaged" in said[-1]["why"]
