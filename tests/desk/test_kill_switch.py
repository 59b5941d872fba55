"""The kill switch of a whole desk, by the command line, judged by the venue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.harness.paper_desk import PaperDesk


def test_it_stops_a_trading_desk_outlives_it_and_is_released_to_a_halt(
    paper_desk: PaperDesk, await_that: Callable[..., None]
) -> None:
    desk = paper_desk
    desk.run("up")
    await_that(lambda: _is_positioned(desk), "strategies hold something")

    done = desk.run("kill-switch", "activate", "--reason", "prices look wrong").document
    assert (done["engine"], done["recorded"], done["durable"]) == ("confirmed", True, True)
    latched_ns = max(order["received_ns"] for order in desk.venue_truth("orders"))
    seen = desk.status()
    assert (seen["state"], seen["permit"]["granted"]) == ("emergency", False)
    assert desk.run("orders").document["known"] is True, "questions stay open"

    # Whatever restarts finds it.
    desk.run("restart", "execution-engine", "market-analysis")
    assert desk.status()["state"] == "emergency"

    # A closing cancels what rests. It cannot flatten, and says so; unless what rested has filled
    # meanwhile and left nothing to flatten.
    closed = desk.run("down", "--yes", expect=None)
    if closed.status != 0:
        assert closed.status == 7
        assert "latched" in closed.text + str(closed.document)
        closed = desk.run("down", "--yes", "--flatten", "keep")
    assert closed.document["remaining_orders"] == [], closed.text

    opened = desk.run("up").document
    assert opened["outcome"] == "safe"
    assert "prices look wrong" in opened["message"]
    assert max(order["received_ns"] for order in _orders(desk)) == latched_ns

    desk.run("kill-switch", "deactivate", "--reason", "feed was restarted", "--yes")
    assert desk.status()["state"] == "halted"
    desk.run("resume")
    await_that(lambda: desk.status()["state"] == "trading", "it trades again")
    desk.run("down", "--yes")


def _is_positioned(desk: PaperDesk) -> bool:
    rows = desk.run("positions").document["positions"]
    return any(not row["dust"] and float(row["quantity"]) != 0 for row in rows)


def _orders(desk: PaperDesk) -> list[dict[str, Any]]:
    return desk.venue_truth("orders")
