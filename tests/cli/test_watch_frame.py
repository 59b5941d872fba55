"""A frame of `openbell watch`: what the sources said, as a document and as lines in a window."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.cli.commands.watch import steady
from openbell.cli.watch.document import Heard, Look, frame_document
from openbell.cli.watch.frame import frame_lines, width_of
from openbell.cli.watch.screen import changes
from openbell.domain.alerts import Thresholds

THRESHOLDS = Thresholds(
    order_open_s=60.0, loss=None, reject_share=Decimal("0.05"), rejects_at_least=20, zombie_s=2.0
)
STATUS: dict[str, Any] = {
    "desk": "paper", "live": [], "state": "trading", "why": "",
    "latch": {"active": False, "scopes": []}, "halt": {"active": False}, "emergency": None,
    "permit": {"granted": True, "scope": "trade", "why_not": ""}, "guard": None,
    "order_outcomes": {"within_s": 60.0, "accepted": 0, "rejected": 0},
    "run": None, "interrupted_run": None,
    "services": [{"name": "engine", "state": "ready"},
                 {"name": "feeds", "state": "backoff", "critical": True, "reason": "exit 1"}],
    "venues": [{"name": "binance"}, {"name": "kraken"}],
}  # fmt: skip
WHOLE = {"binance": {"ok": True, "complete": True}, "kraken": {"ok": True, "complete": True}}


def order(number: int, venue: str = "binance", **more: Any) -> dict[str, Any]:
    return {"venue": venue, "symbol": "BTC/USDT", "cl_ord_id": f"ob{number}", "own": True,
            "age_s": 100.0, **more}  # fmt: skip


def heard(**body: Any) -> Heard:
    return Heard({"known": True, "why": "", "source": "engine", **body}, 1.0)


ORDERS = heard(venues=WHOLE, orders=[order(1), order(2), order(3, own=False), order(4, "kraken")])
POSITIONS = heard(
    positions=[
        {"venue": "binance", "symbol": "BTC/USDT", "venue_quantity": "0.5"},
        {"venue": "binance", "symbol": "ETH/USDT", "venue_quantity": "0.00001", "dust": True},
        {"venue": "kraken", "symbol": "BTC/USDT", "venue_quantity": "0"},
    ]
)
LOOK = Look(
    at="2024-11-25T15:45:03+00:00", status=STATUS, controller_why="", controller_gone_s=None,
    run=None, run_elapsed_s=None, events=(), events_why="",
    strategies=heard(strategies=[
        {"name": "maker", "state": "RUNNING", "last_signal_ns": 90 * 10**9, "why": ""},
        {"name": "arb", "state": "WAITING", "last_signal_ns": None, "why": "no quotes"}]),
    feeds=heard(feeds=[{"venue": "binance", "symbol": "BTC/USDT", "connected": True,
                        "last_quote_age_s": 0.2, "why": ""}]),
    orders=ORDERS, positions=POSITIONS,
    connections=heard(connections=[{"venue": "binance", "market_data": "connected",
        "order_entry": "connected", "order_events": "down", "why": "cut"}]),
    risk=heard(daily_pnl="-1"),
    actions=[{"at": "2024-11-25T15:40:00+00:00", "actor": "alice", "action": "desk.open",
              "subject": "paper", "hash": "x"}],
    zombies=(), started_with={}, least={}, now_ns=100 * 10**9,
)  # fmt: skip
RUN = {"id": "close-12", "procedure": "close", "actor": "alice",
       "started": "2024-11-25T15:44:00+00:00",
       "parameters": {"orders": "cancel", "flatten": "aggressive"}}  # fmt: skip
EVENTS = (
    {"event": "step_started", "step": "halt_strategies", "title": "Halt strategies",
     "index": 1, "of": 9},
    {"event": "step_done", "step": "halt_strategies", "outcome": "done", "seconds": 0.2,
     "message": "3 strategies are halted"},
    {"event": "step_started", "step": "cancel_orders", "title": "Cancel open orders",
     "index": 2, "of": 9},
    {"event": "progress", "step": "cancel_orders", "message": "open orders", "count": 14, "target": 0},
    {"event": "progress", "step": "cancel_orders", "message": "open orders", "count": 3, "target": 0},
)  # fmt: skip
CLOSING = replace(
    LOOK, run=RUN, run_elapsed_s=63.0, events=EVENTS, started_with={"orders": 14, "positions": 2},
    status={**STATUS, "state": "closing", "run": RUN},
)  # fmt: skip


def document(look: Look) -> dict[str, Any]:
    return frame_document(look, THRESHOLDS)


def text(look: Look) -> str:
    return "\n".join(frame_lines(document(look), 160))


def test_own_orders_and_real_positions_are_counted_by_venue() -> None:
    told = document(LOOK)
    assert told["orders"]["by_venue"] == {"binance": 2, "kraken": 1}
    assert (told["orders"]["total"], told["orders"]["foreign"]) == (3, 1)
    assert told["positions"]["by_venue"] == {"binance": 1, "kraken": 0}


@pytest.mark.parametrize(
    "orders",
    [
        Heard(),
        Heard({"known": False, "source": "unknown", "why": "engine is stopped"}, 1.0),
        Heard(ORDERS.body, 60.0),
    ],
)
def test_what_is_not_known_is_unknown_and_never_none(orders: Heard) -> None:
    told = document(replace(LOOK, orders=orders))["orders"]
    assert told["total"] is None
    assert told["by_venue"] == {"binance": None, "kraken": None}
    assert told["why"]
    assert "open orders unknown" in text(replace(LOOK, orders=orders))


def test_of_a_venue_that_did_not_say_all_nothing_is_counted() -> None:
    part = heard(
        known=False, why="kraken: timed out", orders=[order(1)],
        venues={**WHOLE, "kraken": {"ok": False, "complete": False}},
    )  # fmt: skip
    told = document(replace(LOOK, orders=part))["orders"]
    assert told["by_venue"] == {"binance": 1, "kraken": None}
    assert told["total"] is None


def test_an_idle_desk_shows_its_state_and_its_parts() -> None:
    shown = text(LOOK)
    for part in (
        "paper: TRADING", "granted, scope trade", "latch       clear", "1 of 2 ready", "exit 1",
        "10s ago", "never", "no quotes", "<1s ago", "cut", "alice", "desk.open",
        "3 open orders, 1 positions",
    ):  # fmt: skip
        assert part in shown, part


def test_a_run_stands_on_top_with_its_progress_towards_the_target() -> None:
    lines = frame_lines(document(CLOSING), 160)
    assert lines[2] == "close-12 by alice, running, 1m03s"
    assert lines[3].split() == ["open", "orders", "14", "->", "0:", "3", "left"]
    assert lines[4].split() == ["positions", "2", "->", "0:", "1", "left"]
    assert "[2/9] > Cancel open orders: open orders 14 -> 0: 3 left" in lines[5]


def test_orders_that_stay_open_in_a_closing_are_alerted_of_others_orders_are_not() -> None:
    alerts = document(CLOSING)["alerts"]
    assert {each["subject"] for each in alerts} == {"binance ob1", "binance ob2", "kraken ob4"}
    assert "ALERT order_open" in text(CLOSING)
    assert document(LOOK)["alerts"] == []


def test_a_run_whose_end_was_not_seen_is_not_called_running() -> None:
    gone = replace(CLOSING, controller_why="no controller answers", controller_gone_s=12.0)
    assert document(gone)["run"]["state"] == "unknown"
    assert "NO CONTROLLER for 12s" in text(gone)
    left = replace(CLOSING, status={**STATUS, "interrupted_run": RUN})
    assert document(left)["run"]["state"] == "interrupted"


def test_an_ended_run_tells_its_outcome() -> None:
    end = {"event": "done", "outcome": "verified", "message": "flat", "seconds": 9.0}
    run = document(replace(CLOSING, events=(*EVENTS, end)))["run"]
    assert (run["state"], run["outcome"], run["elapsed_s"]) == ("done", "verified", 9.0)


def test_kept_orders_have_no_target() -> None:
    kept = {**RUN, "parameters": {"orders": "keep", "flatten": "keep"}}
    told = document(replace(CLOSING, run=kept))
    assert {each["target"] for each in told["run"]["towards"]} == {None}
    assert told["alerts"] == []


def test_time_alone_changes_no_page() -> None:
    later = replace(
        LOOK, at="2024-11-25T15:46:03+00:00", now_ns=200 * 10**9,
        orders=replace(ORDERS, age_s=3.0),
    )  # fmt: skip
    pages = [steady(frame_lines(document(each), 160, ages=False)) for each in (LOOK, later)]
    assert pages[0] == pages[1]
    other = replace(LOOK, orders=heard(venues=WHOLE, orders=[]))
    assert steady(frame_lines(document(other), 160, ages=False)) != pages[0]


def test_a_low_window_keeps_the_run_and_says_what_it_leaves_out() -> None:
    many = heard(strategies=[{"name": f"s{n}", "state": "RUNNING"} for n in range(50)])
    lines = frame_lines(document(replace(CLOSING, strategies=many)), 100, 40)
    assert len(lines) <= 40
    assert any("more" in line for line in lines)
    assert any(line.startswith("close-12") for line in lines)
    assert any("desk.open" in line for line in lines), "the longest list gives way first"


@given(
    st.integers(0, 200), st.integers(0, 80), st.text(max_size=80), st.integers(0, 60),
    st.booleans(),
)  # fmt: skip
def test_no_frame_is_wider_or_higher_than_the_window_or_acts_on_the_terminal(
    width: int, height: int, said: str, strategies: int, closing: bool
) -> None:
    look = replace(
        CLOSING if closing else LOOK,
        strategies=heard(strategies=[{"name": said, "state": said, "why": said}] * strategies),
        actions=[{"at": "", "actor": said, "action": said, "subject": said}] * 10,
        status={**STATUS, "why": said, "live": [said]},
        events_why=said,
    )
    lines = frame_lines(document(look), width, height)
    assert len(lines) <= height
    for line in lines:
        assert width_of(line) <= width
        assert not any(unicodedata.category(each) in ("Cc", "Cf", "Zl") for each in line)


@given(
    st.lists(st.text("ab", max_size=3), max_size=6), st.lists(st.text("ab", max_size=3), max_size=6)
)
def test_writing_the_changes_makes_the_screen_show_the_new_frame(
    before: list[str], after: list[str]
) -> None:
    screen = dict(enumerate(before))
    written = changes(before, after)
    for part in written.split("\x1b[K")[:-1]:
        place, _, row = part.removeprefix("\x1b[").partition("H")
        screen[int(place.partition(";")[0]) - 1] = row
    rows = max(len(before), len(after))
    shown = [screen.get(row, "") for row in range(rows)]
    assert shown == [*after, *[""] * (rows - len(after))]
    if before == after:
        assert written == ""


def test_what_people_have_to_do_with_a_run_is_drawn_and_the_newest_stay() -> None:
    told = [
        {"event": "resumed", "message": "going on with open-3, begun by ann"},
        {"event": "step_started", "step": "first", "title": "First", "index": 1, "of": 2},
        {
            "event": "waiting",
            "step": "second",
            "message": "second waits for the approval of a risk",
        },
        {"event": "approved", "step": "second", "message": "second was approved by bob"},
        {"event": "cancelling", "message": "cancelled by joe: enough; ends after second"},
    ]
    run = {"id": "open-3", "procedure": "open", "actor": "ann", "started": None, "parameters": {}}
    look = replace(LOOK, run=run, events=tuple(told), status={**STATUS, "run": run})
    document = frame_document(look, THRESHOLDS)
    texts = [str(each["message"]) for each in told if each["event"] != "step_started"]
    assert [each["text"] for each in document["run"]["notes"]] == texts
    lines = frame_lines(document, 120)
    assert [line.removeprefix("  >> ") for line in lines if line.startswith("  >> ")] == texts
    later = replace(look, events=(*told, {"event": "waiting", "message": "and again"}))
    lines = frame_lines(frame_document(later, THRESHOLDS), 120)
    drawn = [line for line in lines if line.startswith("  >> ")]
    assert len(drawn) == 4 and drawn[-1] == "  >> and again", "a low window is not filled by them"


def test_a_closing_that_is_announced_counts_down_in_the_head() -> None:
    soon = {"at": "2024-11-25T15:45:00+00:00", "in_s": 754.2, "by": "ann", "reason": ""}
    look = replace(LOOK, status={**STATUS, "shutting_down_soon": soon})
    lines = frame_lines(frame_document(look, THRESHOLDS), 120)
    assert "SHUTTING_DOWN_SOON at 2024-11-25 15:45 UTC, in 12m34s, by ann" in lines
    assert not any(
        "SHUTTING" in each for each in frame_lines(frame_document(LOOK, THRESHOLDS), 120)
    )


def test_what_a_closing_s_steps_found_is_shown_beside_what_is_so_now() -> None:
    signals = [{"strategy": "maker", "state": "HALTED", "last_signal": "3s ago", "age_s": 3.0}]
    ended = {"event": "step_done", "step": "halt_strategies", "outcome": "done", "seconds": 0.2,
             "message": "halted", "table": {"name": "strategies", "rows": signals, "more": 0}}  # fmt: skip
    look = replace(LOOK, run=RUN, run_elapsed_s=2.0, events=(ended,))
    document = frame_document(look, THRESHOLDS)
    assert document["tables"] == [ended["table"]]
    lines = frame_lines(document, 100)
    at = lines.index("strategies, as this closing left them")
    assert "maker" in lines[at + 2] and "3s ago" in lines[at + 2]
    assert not any(
        "as this closing" in line for line in frame_lines(frame_document(LOOK, THRESHOLDS), 100)
    )
