"""The start-up log: how long each component took, what memory it then had, how fast it was reached.

Told from the evidence that the steps of an opening leave in its record, and from nothing else. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CONNECTION_MS = ("connect_ms", "took_ms")
"""Under which of a check's facts the time of a connection stands."""


def startup_log(steps: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """`{"components": [{"component", "phase", "outcome", "seconds", "memory_bytes", "reason"}],
    "connections": [{"connection", "found", "milliseconds", "detail"}]}`, the last word on each.
    A component that ran already took no time: `seconds` is then None."""
    components: dict[str, dict[str, Any]] = {}
    connections: dict[str, dict[str, Any]] = {}
    for step in steps:
        after = step.get("after") or {}
        for row in _rows(after.get("services")):
            started = row.get("outcome") in ("ready", "failed")
            components[str(row["name"])] = {
                "component": row["name"],
                "phase": after.get("phase"),
                "outcome": row.get("outcome"),
                "seconds": row.get("seconds") if started else None,
                "memory_bytes": row.get("memory_bytes"),
                "reason": row.get("reason") or "",
            }
        for check in _rows(after.get("checks")):
            facts = check.get("facts") or {}
            took = next((facts[key] for key in _CONNECTION_MS if key in facts), None)
            if any(key in facts for key in _CONNECTION_MS):
                connections[str(check["name"])] = {
                    "connection": check["title"],
                    "found": check["found"],
                    "milliseconds": took,
                    "detail": check["detail"],
                }
    return {"components": [*components.values()], "connections": [*connections.values()]}


def _rows(found: object) -> list[Mapping[str, Any]]:
    """Records of earlier versions have the services in another form: they make no row."""
    if not isinstance(found, Sequence):
        return []
    return [row for row in found if isinstance(row, Mapping) and "name" in row]


def log_rows(log: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, ...]]:
    """`(component or connection, phase, what became of it, took, memory)`, for people."""
    rows: list[tuple[str, ...]] = [
        (
            str(each["component"]),
            str(each["phase"] or ""),
            str(each["outcome"]).replace("_", " "),
            "" if each["seconds"] is None else f"{each['seconds']:.3f} s",
            "" if each["memory_bytes"] is None else f"{each['memory_bytes'] / (1 << 20):.1f} MiB",
        )
        for each in log["components"]
    ]
    rows += [
        (
            str(each["connection"]),
            "connection",
            str(each["found"]).replace("_", " "),
            "" if each["milliseconds"] is None else f"{each['milliseconds'] / 1000:.3f} s",
            "",
        )
        for each in log["connections"]
    ]
    return rows
