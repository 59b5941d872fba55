"""`openbell reconcile` of a whole desk, by the command line, judged by the venue and the journal."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.harness.paper_desk import PaperDesk

from openbell.domain.external import PositionAdopted
from openbell.state.journal_reader import JournalReader

ALONE = "adopt_alone = true"
"""As the paper desk says it; another person approves where nothing is said."""


def by_hand(desk: PaperDesk, **order: str) -> dict[str, Any]:
    """Somebody trades on the account at the venue itself."""
    url = desk.status()["venues"][0]["sim_url"]
    request = urllib.request.Request(
        f"{url}/sim/v1/orders",
        json.dumps(order).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        placed: dict[str, Any] = json.load(answer)["order"]
    return placed


def adoptions(desk: PaperDesk) -> list[PositionAdopted]:
    reader = JournalReader.open(desk.folder / "state" / "desk.db")
    try:
        return [e.event for e in reader.read() if isinstance(e.event, PositionAdopted)]
    finally:
        reader.close()


def as_person(desk: PaperDesk, name: str) -> PaperDesk:
    return replace(desk, environ={**desk.environ, "OPENBELL_ACTOR": name})


def scope(desk: PaperDesk) -> str:
    permit = desk.status()["permit"]
    return str(permit["scope"]) if permit["granted"] else "none"


def result(desk: PaperDesk) -> str:
    return str(desk.run("reconcile", expect=None).document["result"])


def test_a_manual_trade_stops_the_desk_until_two_people_adopt_it_and_then_it_trades_on(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    desk = as_person(paper_desk, "alice")
    file = desk.folder / "desk.toml"
    assert ALONE in file.read_text()
    file.write_text(file.read_text().replace(ALONE, ""))
    desk.run("up")
    # A trading desk moves; between two moves books and venue agree.
    await_that(lambda: result(desk) == "clean", "books and venue agree")
    assert desk.run("reconcile", "--adopt", "--reason", "none", "--yes", expect=None).status in (
        0,
        7,
    )

    placed = by_hand(desk, symbol="LTCUSDT", side="BUY", quantity="1.5", type="MARKET")
    # Each comparison is a look of the engine's as well: three in a row stop it.
    await_that(lambda: result(desk) == "differs" and scope(desk) != "trade", "it stops trading")
    shown = desk.run("reconcile", expect=1).document
    (difference,) = [d for d in shown["differences"] if d["status"] != "ok"]
    assert (difference["kind"], difference["symbol"]) == ("external_trade", "LTC/USDT")
    assert [e["venue_order_id"] for e in difference["executions"]] == [placed["order_id"]]
    stopped_ns = max(o["received_ns"] for o in desk.venue_truth("orders"))

    # One person asks; it takes another one; and only while it is what was shown.
    asked = desk.run("reconcile", "--adopt", "--reason", "hedge by phone", "--yes", expect=6)
    request = asked.document["request"]["id"]
    (waiting,) = desk.look("approvals")["requests"]
    assert (waiting["kind"], waiting["id"], waiting["by"]) == ("reconcile", request, ["alice"])
    assert "the books hold" in waiting["bound_to"]["differences"][0]
    unsaid = desk.run("reconcile", "--approve", request, "--yes", expect=2)
    assert "needs a reason" in unsaid.text
    own = desk.run("reconcile", "--approve", request, "--reason", "seen", "--yes", expect=6)
    assert "another person" in own.text
    by_hand(desk, symbol="LTCUSDT", side="BUY", quantity="0.5", type="MARKET")
    bob = as_person(desk, "bob")
    changed = bob.run("reconcile", "--approve", request, "--reason", "seen", "--yes", expect=5)
    assert "changed" in changed.text
    assert adoptions(desk) == []

    again = desk.run("reconcile", "--adopt", "--reason", "hedge by phone", "--yes", expect=6)
    assert (
        max(o["received_ns"] for o in desk.venue_truth("orders") if o["origin"] != "manual")
        <= stopped_ns
    )
    request = again.document["request"]["id"]
    done = bob.run("reconcile", "--approve", request, "--reason", "seen", "--yes").document
    assert (done["result"], done["approved_by"]) == ("clean", "bob")
    (event,) = adoptions(desk)
    assert (event.by, event.approved_by, event.reason) == ("alice", "bob", "hedge by phone")
    assert (len(event.trades), event.rest) == (2, 0)
    assert (
        bob.run(
            "reconcile", "--approve", request, "--reason", "seen", "--yes", expect=6
        ).text.count("once")
        == 1
    )

    # It trades on, in the same processes; more comparisons adopt nothing.
    await_that(lambda: scope(desk) == "trade", "the desk trades again")
    assert desk.service("execution-engine")["restarts"] == 0
    for _ in range(3):
        desk.run("reconcile", expect=None)
    assert adoptions(desk) == [event]
    audit = (desk.folder / "state" / "audit.jsonl").read_text()
    for action in ("reconcile.adoption_asked", "reconcile.adopt", "reconcile.adopted"):
        assert f'"{action}"' in audit

    # What was adopted is flattened with the rest, and a closing proves it.
    closed = desk.run("down", "--yes").document
    assert (closed["remaining_orders"], closed["remaining_positions"]) == ([], [])


def test_without_an_engine_the_journal_is_compared_and_nothing_is_booked(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    desk = paper_desk
    desk.run("reconcile", expect=3)
    desk.run("up")
    await_that(lambda: result(desk) == "clean", "books and venue agree")
    desk.run("halt")
    desk.run("stop", "execution-engine", "--force")
    by_hand(desk, symbol="LTCUSDT", side="SELL", quantity="2", type="MARKET")

    shown = desk.run("reconcile", expect=1).document
    assert shown["source"] == "journal"
    kinds = {d["kind"] for d in shown["differences"] if d["symbol"] == "LTC/USDT"}
    assert "external_trade" in kinds
    refused = desk.run("reconcile", "--adopt", "--reason", "mine", "--yes", expect=6)
    assert f"openbell --desk {desk.folder} up --safe" in refused.text
    assert adoptions(desk) == []

    # No controller either: the command compares by itself.
    desk.run("start", "execution-engine")
    await_that(lambda: result(desk) == "differs", "the engine sees it")
    desk.run("reconcile", "--adopt", "--reason", "mine", "--yes")
    desk.run("down", "--yes")
    gone = desk.run("reconcile", expect=7).document
    assert (gone["result"], gone["source"]) == ("unknown", "journal")
    assert all(row["venue_says"] is None for row in gone["positions"])
    assert desk.run("reconcile", "--venues", "krakn", expect=2).document["error"] == "usage"
