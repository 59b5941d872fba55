"""The tables of a closing: strategies with the age of their last signal, books against each venue by symbol,
connections. Found in what a step left in the record, and shown alike while it runs (`openbell down`,
`openbell watch`), in the closing statement and in the report. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from openbell.domain.comparison import by_symbol

ROWS_SHOWN = 200
"""Of each table in an event; the record, the statement and the evidence file have them all."""

_KEYS = {
    "halt_strategies": ("strategies", "last_signals"),
    "reconcile": ("reconciliation", "positions"),
    "stop_market_data": ("connections", "connections"),
    "disconnect": ("connections", "connections"),
    "stop_services": ("connections", "connections"),
}
"""By step: which table it leaves, and under which key of its evidence."""
_WORDS = {"ok": "agrees", "mismatch": "DIFFERS", "unknown": "UNKNOWN"}


@dataclass(frozen=True)
class Table:
    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def found_in(step: str, evidence: Mapping[str, object]) -> tuple[str, list[Mapping[str, Any]]]:
    """Name and rows of the table that this step left; no name where it left none."""
    name, key = _KEYS.get(step, ("", ""))
    rows = evidence.get(key)
    if not name or not isinstance(rows, list | tuple):
        return "", []
    return name, [row for row in rows if isinstance(row, Mapping)]


def in_event(step: str, evidence: Mapping[str, object]) -> dict[str, object]:
    """What an event of the step's end has of it: `{"table": {"name", "rows", "more"}}`, or nothing. Of a
    comparison the rows that do not agree come first."""
    name, rows = found_in(step, evidence)
    if not name:
        return {}
    if name == "reconciliation":
        rows = sorted(rows, key=lambda row: row.get("status") == "ok")
    shown = [dict(row) for row in rows[:ROWS_SHOWN]]
    return {"table": {"name": name, "rows": shown, "more": len(rows) - len(shown)}}


def table_of(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """For people."""
    match name:
        case "strategies":
            return Table(
                "Strategies",
                ("strategy", "state", "last signal"),
                tuple(
                    (_text(row, "strategy"), _text(row, "state"), _text(row, "last_signal"))
                    for row in rows
                ),
            )
        case "reconciliation":
            return _reconciliation(rows)
        case _:
            keys = ("venue", "market_data", "order_entry", "other", "left")
            return Table(
                "Connections",
                ("venue", "market data", "order entry", "other", "left with"),
                tuple(tuple(_text(row, key) for key in keys) for row in rows),
            )


def _reconciliation(rows: Sequence[Mapping[str, Any]]) -> Table:
    venues = list(dict.fromkeys(str(row["venue"]) for row in rows))
    return Table(
        "Reconciliation",
        ("symbol", "books", *venues, "status", "why"),
        tuple(
            (
                row["symbol"],
                _number(row["books"]),
                *(_cell(row["venues"], venue) for venue in venues),
                _WORDS[row["status"]],
                row["why"] or "",
            )
            for row in by_symbol(rows)
        ),
    )


def tables_of_steps(steps: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The newest of each, whole, from the steps of a report (`name`, `after`)."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for step in steps:
        after = step.get("after")
        name, rows = found_in(str(step["name"]), after if isinstance(after, Mapping) else {})
        if name:
            found[name] = rows
    return found


def _text(row: Mapping[str, Any], key: str) -> str:
    return str(row.get(key) or "")


def _number(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def _cell(venues: Mapping[str, Decimal | None], venue: str) -> str:
    if venue not in venues:
        return ""
    says = venues[venue]
    return "unknown" if says is None else _number(says)
