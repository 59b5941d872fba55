"""One frame as a document: everything the sources said, and what of it is not known.

Pure. An answer that is too old, or that did not come, makes its part unknown; a number that is not
known is null, and never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from openbell.domain.alerts import (
    AlertFacts,
    ClosingFacts,
    Judged,
    OpenOrder,
    Outcomes,
    PositionKey,
    Thresholds,
    Zombie,
    judge,
)

OLD_AFTER_S = 10.0
"""An answer older than this says nothing of now; of a source that is asked seldom, three times its
interval."""
CLOSE = "close"


@dataclass(frozen=True)
class Heard:
    """The newest answer of one source."""

    body: Mapping[str, Any] | None = None
    """None: none came."""
    age_s: float | None = None
    why: str = ""
    """Why the newest question has no answer; empty where it has."""
    old_after_s: float = OLD_AFTER_S

    @property
    def says(self) -> bool:
        """Something of now was said, though perhaps not all."""
        return (
            self.body is not None
            and self.age_s is not None
            and self.age_s <= self.old_after_s
            and self.body.get("source") != "unknown"
        )

    @property
    def known(self) -> bool:
        return self.says and self.body is not None and self.body.get("known", True) is not False

    @property
    def why_not(self) -> str:
        """Empty where it is known."""
        if self.known:
            return ""
        if self.body is None or self.age_s is None:
            return self.why or "not asked yet"
        if self.age_s > self.old_after_s:
            return f"no answer any more{f': {self.why}' if self.why else ''}"
        return str(self.body.get("why") or "not known")


@dataclass(frozen=True)
class Look:
    """All that one frame is made of."""

    at: str
    """UTC, ISO 8601, to the second."""
    status: Mapping[str, Any]
    """As the controller says, or, without it, from the desk's files."""
    controller_why: str
    """Why the controller does not answer; empty where it does."""
    controller_gone_s: float | None
    """Since it last answered; None: it does, or never did while this view ran."""
    run: Mapping[str, Any] | None
    """The run under way, or the last one this view saw."""
    run_elapsed_s: float | None
    events: Sequence[Mapping[str, Any]]
    events_why: str
    strategies: Heard
    feeds: Heard
    orders: Heard
    positions: Heard
    connections: Heard
    risk: Heard
    actions: Sequence[Mapping[str, Any]] | None
    """None: the audit log cannot be read."""
    zombies: tuple[Zombie, ...] | None
    started_with: Mapping[str, int]
    """Open orders and positions when this view first saw the run: `{"orders", "positions"}`."""
    least: Mapping[PositionKey, Decimal]
    now_ns: int


def frame_document(look: Look, thresholds: Thresholds) -> dict[str, Any]:
    """The document of `openbell watch --json`, as docs/reference/commands.md shows it."""
    status = look.status
    orders = counts(look.orders, "orders", status)
    positions = counts(look.positions, "positions", status)
    run = run_document(look, orders["total"], positions["total"])
    judged = judged_of(look, thresholds)
    return {
        "at": look.at,
        "desk": status["desk"],
        "live": status.get("live") or [],
        "state": status["state"],
        "why": status.get("why") or "",
        "controller": {
            "answers": not look.controller_why,
            "why": look.controller_why,
            "gone_for_s": look.controller_gone_s,
        },
        "run": run,
        "interrupted_run": status.get("interrupted_run"),
        "shutting_down_soon": status.get("shutting_down_soon"),
        "alerts": [
            {"rule": each.rule, "subject": each.subject, "text": each.text}
            for each in judged.alerts
        ],
        "not_judged": list(judged.not_judged),
        "permit": status.get("permit"),
        "latch": status.get("latch"),
        "halt": status.get("halt"),
        "emergency": status.get("emergency"),
        "guard": status.get("guard"),
        "services": services_document(status),
        "strategies": rows_document(
            look.strategies, "strategies", lambda row: _strategy(row, look.now_ns)
        ),
        "orders": orders,
        "positions": positions,
        "feeds": rows_document(look.feeds, "feeds", _feed),
        "connections": rows_document(look.connections, "connections", dict),
        "tables": tables_document(look.events),
        "actions": None if look.actions is None else [_action(row) for row in look.actions],
    }


def tables_document(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The newest of each table that a step of a closing has left: `[{"name", "rows", "more"}]`."""
    found = {each["table"]["name"]: each["table"] for each in events if each.get("table")}
    return list(found.values())


# --- parts ---------------------------------------------------------------------------------------


def services_document(status: Mapping[str, Any]) -> dict[str, Any]:
    rows = status.get("services") or ()
    return {
        "total": len(rows),
        "ready": sum(row.get("state") == "ready" for row in rows),
        "not_ready": [
            {
                "name": row["name"],
                "state": row["state"],
                "critical": row.get("critical"),
                "reason": row.get("reason") or "",
            }
            for row in rows
            if row.get("state") != "ready"
        ],
    }


def counts(heard: Heard, what: str, status: Mapping[str, Any]) -> dict[str, Any]:
    """Own open orders, or positions that are held, per venue and in all. `total` is null unless
    every venue said."""
    venues = [str(row["name"]) for row in status.get("venues") or ()]
    by_venue: dict[str, int | None] = dict.fromkeys(venues)
    rows: Iterable[Mapping[str, Any]] = ()
    if heard.says and heard.body is not None:
        rows = heard.body.get(what) or ()
        silent = _silent(heard.body, what)
        for venue in venues:
            by_venue[venue] = (
                None if venue in silent else sum(_counts(row, what, venue) for row in rows)
            )
    values = list(by_venue.values())
    total = None if None in values else sum(value for value in values if value is not None)
    why = heard.why_not
    if not venues:
        total, why = 0, ""
    return {
        "known": total is not None,
        "why": "" if total is not None else why or "a venue did not say",
        "age_s": None if heard.age_s is None else round(heard.age_s, 3),
        "total": total,
        "by_venue": by_venue,
        "foreign": sum(row.get("own", True) is False for row in rows) if what == "orders" else None,
    }


def _silent(body: Mapping[str, Any], what: str) -> set[str]:
    """Venues whose part of the answer is not whole."""
    silent = {
        str(name)
        for name, venue in (body.get("venues") or {}).items()
        if not (venue.get("ok") and venue.get("complete"))
    }
    if what == "positions":
        silent |= {
            str(row.get("venue"))
            for row in body.get("positions") or ()
            if row.get("venue_quantity") is None
        }
    return silent


def _counts(row: Mapping[str, Any], what: str, venue: str) -> bool:
    if str(row.get("venue")) != venue:
        return False
    if what == "orders":
        return row.get("own", True) is not False
    quantity = decimal(row.get("venue_quantity"))
    return not row.get("dust") and quantity is not None and quantity != 0


def rows_document(heard: Heard, key: str, make: Any) -> dict[str, Any]:
    """`{"known", "why", key: [...] or null}`; a part of an answer is shown though not all is known."""
    rows = heard.body.get(key) if heard.says and heard.body is not None else None
    return {
        "known": heard.known and rows is not None,
        "why": heard.why_not,
        key: None if rows is None else [make(row) for row in rows],
    }


def _strategy(row: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
    last = row.get("last_signal_ns")
    return {
        "name": row.get("name"),
        "state": row.get("state"),
        "why": row.get("why") or "",
        "last_signal_age_s": None if not last else round(max(0, now_ns - last) / 1e9, 3),
    }


def _feed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: row.get(key) for key in ("venue", "symbol", "connected", "last_quote_age_s", "why")
    }


def _action(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row.get(key) for key in ("at", "actor", "action", "subject")}


# --- the run -------------------------------------------------------------------------------------

NOTES = ("resumed", "waiting", "approved", "cancelling")
"""Events of a run as a whole, with what people have to do with it."""


def run_document(
    look: Look, open_orders: int | None, open_positions: int | None
) -> dict[str, Any] | None:
    if look.run is None:
        return None
    steps = steps_of(look.events)
    last = look.events[-1] if look.events else {}
    over = last.get("event") in ("done", "failed")
    state = str(last["event"]) if over else run_state(look)
    return {
        "id": look.run["id"],
        "procedure": look.run["procedure"],
        "actor": look.run.get("actor"),
        "started": look.run.get("started"),
        "state": state,
        "outcome": last.get("outcome") if over else None,
        "message": last.get("message") if over else None,
        "elapsed_s": last.get("seconds") if over else look.run_elapsed_s,
        "known": not look.events_why,
        "why": look.events_why,
        "towards": _towards(look, open_orders, open_positions),
        "steps": steps,
        "notes": [
            {"event": event["event"], "text": str(event.get("message") or "")}
            for event in look.events
            if event.get("event") in NOTES
        ],
        "alerts": [
            {"rule": event.get("rule"), "subject": event.get("subject"), "text": event["message"]}
            for event in look.events
            if event.get("event") == "alert"
        ],
    }


def run_state(look: Look) -> str:
    """Of a run whose end was not seen."""
    if look.run is None or look.controller_why:
        return "unknown"
    for key, state in (("run", "running"), ("interrupted_run", "interrupted")):
        if (look.status.get(key) or {}).get("id") == look.run["id"]:
            return state
    return "unknown"


def steps_of(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The steps that began, in their order, each with its progress: `from` is the first count that
    was told of what is counted now, `count` the newest."""
    steps: dict[str, dict[str, Any]] = {}
    for event in events:
        name = str(event.get("step") or "")
        match event.get("event"):
            case "step_started":
                steps[name] = {
                    "name": name, "title": event.get("title"), "index": event.get("index"),
                    "of": event.get("of"), "state": "running", "seconds": None,
                    "message": "", "from": None, "count": None, "target": None,
                }  # fmt: skip
            case "progress" if name in steps:
                step = steps[name]
                if step["from"] is None or step["message"] != event.get("message"):
                    step["from"] = event.get("count")
                step["message"] = str(event.get("message") or "")
                step["count"], step["target"] = event.get("count"), event.get("target")
            case "step_done" if name in steps:
                steps[name].update(
                    state=event.get("outcome"),
                    seconds=event.get("seconds"),
                    message=str(event.get("message") or ""),
                )
    return list(steps.values())


def _towards(
    look: Look, open_orders: int | None, open_positions: int | None
) -> list[dict[str, Any]]:
    """Of a closing: orders and positions towards 0, unless they are meant to stay."""
    if look.run is None or look.run["procedure"] != CLOSE:
        return []
    parameters = look.run.get("parameters") or {}
    return [
        {
            "what": what,
            "from": look.started_with.get(key),
            "now": now,
            "target": None if parameters.get(wish) in ("keep", "keep-passive") else 0,
        }
        for what, key, now, wish in (
            ("open orders", "orders", open_orders, "orders"),
            ("positions", "positions", open_positions, "flatten"),
        )
    ]


# --- alerts --------------------------------------------------------------------------------------


def judged_of(look: Look, thresholds: Thresholds) -> Judged:
    return judge(
        AlertFacts(
            closing=_closing(look),
            pnl_today=_pnl_today(look.risk),
            outcomes=_outcomes(look.status, answers=not look.controller_why),
            zombies=look.zombies,
        ),
        thresholds,
    )


def _closing(look: Look) -> ClosingFacts | None:
    run = look.run
    over = bool(look.events) and look.events[-1].get("event") in ("done", "failed")
    if run is None or run["procedure"] != CLOSE or over:
        return None
    orders = positions = None
    unknown = []
    # What is listed is open, and what is told is held, though a venue may not have said all.
    wanted = (run.get("parameters") or {}).get("orders")
    if look.orders.says and look.orders.body is not None:
        unknown += [f"orders: {look.orders.why_not}"] if look.orders.why_not else []
        orders = tuple(
            OpenOrder(
                str(row.get("venue")), str(row.get("symbol")), str(row.get("cl_ord_id")),
                row.get("age_s"),
            )
            for row in look.orders.body.get("orders") or ()
            if row.get("own", True) is not False
            and not (wanted == "keep-passive" and row.get("passive") is True)
        )  # fmt: skip
    if look.positions.says and look.positions.body is not None:
        unknown += [f"positions: {look.positions.why_not}"] if look.positions.why_not else []
        positions = held(look.positions.body)
    return ClosingFacts(
        elapsed_s=look.run_elapsed_s or 0.0,
        keeps_orders=wanted == "keep",
        orders=orders,
        positions=positions,
        least=look.least,
        unknown=tuple(unknown),
    )


def held(body: Mapping[str, Any]) -> dict[PositionKey, Decimal]:
    """Positions as the venues said; of a venue that did not say, nothing."""
    found: dict[PositionKey, Decimal] = {}
    for row in body.get("positions") or ():
        quantity = decimal(row.get("venue_quantity"))
        if quantity is not None:
            found[str(row.get("venue")), str(row.get("symbol"))] = quantity
    return found


def _pnl_today(risk: Heard) -> Decimal | None:
    return decimal(risk.body.get("daily_pnl")) if risk.known and risk.body is not None else None


def _outcomes(status: Mapping[str, Any], *, answers: bool) -> Outcomes | None:
    said = status.get("order_outcomes")
    if not answers or not isinstance(said, Mapping):
        return None
    return Outcomes(int(said["accepted"]), int(said["rejected"]))


def decimal(value: object) -> Decimal | None:
    """None where it is no finite number."""
    if value is None:
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
