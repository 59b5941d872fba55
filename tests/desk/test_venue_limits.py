"""A market maker that re-quotes often at a venue with its documented limits on.

Kraken lets an account ask about every other second, and counts the cancel of a young order
eightfold: nothing storms, books and venue agree all the while, the desk says that it is held back,
and its closing is proven in seconds.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.harness.paper_desk import PaperDesk, end_everything
from tests.harness.venue_desk import make_desk
from tests.venues.subjects import Subject, kraken

pytestmark = [pytest.mark.desk, pytest.mark.timeout(400)]

QUOTING_S = 30.0
CLOSED_WITHIN_S = 60.0


def quoting_desk(folder: Path, subject: Subject, sim: tuple[str, ...] = ()) -> PaperDesk:
    desk = make_desk(folder, replace(subject, config={}, sim=sim), tick="0.1")
    file = desk.folder / "desk.toml"
    before, _, rest = file.read_text().partition("[strategies.buy_and_rest]")
    _, _, after = rest.partition("[services.venue-sim]")
    strategy = f"""\
[strategies.market_making]
type = "openbell.trading.strategies.market_making:MarketMaking"
venue = "the-venue"
symbols = ["{subject.symbols[0]}"]
[strategies.market_making.params]
quantity = "{subject.quantity}"
max_position = "{10 * subject.quantity}"
half_spread_bps = "1"
requote_bps = "0.1"
[services.venue-sim]"""
    file.write_text(before + strategy + after)
    return desk


def count(desk: PaperDesk, metric: str) -> float:
    """From the engine's /metrics; 0 where it was never counted."""
    port = desk.service("execution-engine")["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{metric}{{"))


def quote_and_close(desk: PaperDesk, await_that: Callable[..., None]) -> dict[str, Any]:
    assert desk.run("up").document["opened"]
    time.sleep(QUOTING_S)  # what is tried is what comes together in a while
    told: dict[str, Any] = {
        "cancels": count(desk, "openbell_cancels_sent_total"),
        "sent": count(desk, "openbell_orders_sent_total"),
        "held_back": count(desk, "openbell_venue_throttled_total"),
        "accepted": len(desk.venue_truth("orders")),
    }
    (told["strategy"],) = desk.run("strategies").document["strategies"]
    (told["connection"],) = desk.run("connections", expect=None).document["connections"]

    def agreed() -> bool:
        rows = desk.look("positions")["positions"]
        return all(
            Decimal(row["quantity"]) == Decimal(row["venue_quantity"] or "NaN") for row in rows
        )

    await_that(agreed, "books and venue tell the same position")
    begun = time.monotonic()
    closed = desk.run("down", "--yes", expect=None).document
    told["outcome"], told["closed"] = closed["outcome"], closed
    told["closed_in_s"] = time.monotonic() - begun
    return told


def test_a_desk_that_requotes_faster_than_kraken_allows_neither_storms_nor_locks_itself_up(
    tmp_path: Path, await_that: Callable[..., None]
) -> None:
    desk = quoting_desk(tmp_path / "desk", kraken.SUBJECT, ("--deposit", "XBT=5"))
    file = desk.folder / "desk.toml"
    file.write_text(
        file.read_text().replace(
            "[venues.the-venue]", '[venues.the-venue]\nholdings = { BTC = "5" }'
        )
    )
    try:
        told = quote_and_close(desk, await_that)
    finally:
        end_everything(desk)
    assert told["accepted"] > 10
    assert told["cancels"] <= 2 * told["accepted"], told
    assert told["held_back"] > 0, told
    assert told["connection"]["order_entry"] == "held back", told
    assert "throttled" in told["strategy"]["why"], told
    assert told["outcome"] == "verified", told["closed"].get("steps")
    assert told["closed_in_s"] < CLOSED_WITHIN_S, told
