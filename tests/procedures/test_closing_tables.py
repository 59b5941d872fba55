"""The tables of a closing are the same wherever they are shown, and whole where they are kept."""

from __future__ import annotations

import json
from typing import Any

from tests.procedures.test_closing import close

from openbell.cli.commands.down import closing_statement_text
from openbell.cli.progress import event_line
from openbell.cli.watch.document import tables_document
from openbell.procedures.closing_tables import ROWS_SHOWN, in_event, table_of, tables_of_steps


def compared(symbol: str, status: str = "ok", says: str | None = "0") -> dict[str, Any]:
    return {
        "venue": "binance", "symbol": symbol, "books": "0", "venue_says": says,
        "status": status, "why": "" if status == "ok" else "a fill is missing",
    }  # fmt: skip


SIGNALS = [{"strategy": "arb", "state": "HALTED", "last_signal": "5s ago", "age_s": 5.0}]
LINKS = [{"venue": "binance", "market_data": "CLOSED", "order_entry": "OPEN: engine", "other": ""}]


def test_each_step_leaves_its_table_with_its_end() -> None:
    told = in_event("halt_strategies", {"last_signals": SIGNALS})
    line = event_line(
        {"event": "step_done", "outcome": "done", "message": "halted", "seconds": 0.1, **told}
    )
    assert "arb       HALTED  5s ago" in line and "last signal" in line
    (links,) = (in_event(step, {"connections": LINKS}) for step in ("disconnect",))
    assert "OPEN: engine" in event_line(
        {"event": "step_done", "outcome": "failed", "message": "up", "seconds": 1, **links}
    )
    assert in_event("flatten", {"positions": [compared("BTC/USDT")]}) == {}, "it leaves none"
    assert in_event("reconcile", {}) == {}, "nor does a comparison that was not made"
    shown = table_of("reconciliation", [compared("BTC/USDT", "unknown", None)])
    assert shown.headings == ("symbol", "books", "binance", "status", "why")
    assert shown.rows == (("BTC/USDT", "0", "unknown", "UNKNOWN", "binance: a fill is missing"),)


def test_what_differs_is_shown_first_where_not_all_is() -> None:
    rows = [compared(f"S{n}/USDT") for n in range(ROWS_SHOWN)] + [compared("X/USDT", "mismatch")]
    told: Any = in_event("reconcile", {"positions": rows})["table"]
    assert told["rows"][0]["symbol"] == "X/USDT" and told["more"] == 1
    line = event_line({"event": "step_done", "outcome": "failed", "seconds": 1, "table": told})
    assert "DIFFERS" in line and line.endswith("and 1 more")


def test_the_newest_of_each_is_shown() -> None:
    closed = [{**LINKS[0], "order_entry": "CLOSED"}]
    events: list[dict[str, Any]] = [
        {"event": "step_done", **in_event("stop_market_data", {"connections": LINKS})},
        {"event": "progress", "step": "disconnect"},
        {"event": "step_done", **in_event("disconnect", {"connections": closed})},
    ]
    (told,) = tables_document(events)
    assert told["rows"] == closed
    steps = [
        {"name": "stop_market_data", "after": {"connections": LINKS}},
        {"name": "disconnect", "after": {"connections": closed}},
        {"name": "stop_services", "after": None},
    ]
    assert tables_of_steps(steps) == {"connections": closed}


async def test_a_closing_keeps_the_reconciliation_as_evidence_and_states_its_strategies(
    fake_desk: Any, journal: Any
) -> None:
    statement = await close(fake_desk, journal)
    path = fake_desk.layout.statements / "close-1-reconciliation.json"
    kept = json.loads(path.read_text())
    assert kept["run"] == "close-1" and kept["positions"] == statement.document["reconciliation"]
    (file,) = journal.ended["reconcile"].evidence["files"]
    assert file["path"] == str(path) and len(file["sha256"]) == 64
    assert [row["strategy"] for row in statement.document["strategies"]] == ["mm"]
    text = closing_statement_text(dict(statement.document), {})
    assert "last signal" in text and "mm " in text
