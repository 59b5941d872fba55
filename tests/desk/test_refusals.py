"""A strategy that quotes post-only where the venue has no such order: no storm, and the reason told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.desk.test_venue_limits import quoting_desk
from tests.harness.paper_desk import end_everything
from tests.venues.subjects import oanda

pytestmark = [pytest.mark.desk, pytest.mark.timeout(400)]

WATCHED_S = 15.0


def test_a_market_maker_at_oanda_asks_less_and_less_often_and_says_why(
    tmp_path: Path, await_that: Callable[..., None]
) -> None:
    desk = quoting_desk(tmp_path / "desk", oanda.SUBJECT)
    file = desk.folder / "desk.toml"
    account = "\n".join(
        f'{key} = "{value}"' for key, value in oanda.SUBJECT.config.items() if key == "account"
    )
    file.write_text(
        file.read_text().replace("[venues.the-venue]", f"[venues.the-venue]\n{account}", 1)
    )

    def strategy() -> dict[str, Any]:
        (row,) = desk.look("strategies")["strategies"]
        return dict(row)

    try:
        assert desk.run("up").document["opened"]
        await_that(lambda: any(r["in_a_row"] >= 3 for r in strategy()["refusals"]), "refusals")
        before = strategy()["intents"]
        time.sleep(WATCHED_S)  # what is tried is how often it asks meanwhile
        told = strategy()
        assert told["state"] == "RUNNING"
        assert told["intents"] - before <= 2 * 4, told
        assert "asks less often for" in told["why"] and "post-only" in told["why"], told
        lines = desk.run("logs", "market-analysis", "--tail", "1000").document["lines"]
        warned = [line for line in lines if "orders are refused" in str(line)]
        assert 1 <= len(warned) <= 2, warned  # once for each side
        assert desk.venue_truth("orders") == []
        assert desk.status()["venues"][0]["held_back"] == ""
        assert desk.run("down", "--yes").document["outcome"] == "verified"
    finally:
        end_everything(desk)
