"""A checklist says what is seen, of a desk that is well, one that is not, and one that is silent."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from openbell.config.loader import parse_desk
from openbell.procedures.checklists import Check, Found
from openbell.procedures.daily.lists import NAMES, fill
from openbell.procedures.daily.of_desk import alerts
from openbell.procedures.daily.seen import Machine, Seen
from openbell.procedures.dependencies import DependencyFact
from openbell.procedures.readiness_checks import RiskSays
from openbell.procedures.registry import PROCEDURES

DESK = b"""
[desk]
name = "x"
[risk]
max_open_orders = 5
[kill_switch.rules.heartbeat_lost]
after = "10s"
[venues.v]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[services.engine]
command = ["true"]
port = 1
role = "engine"
[services.limits]
command = ["true"]
role = "risk"
[services.web]
command = ["true"]
phase = "console"
"""
SERVICES = ("engine", "limits", "web")


def service(name: str, state: str = "ready", **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "pid": 7 if state == "ready" else None, **more}


def status(**changes: Any) -> dict[str, Any]:
    return {
        "state": "trading",
        "why": "",
        "latch": {"active": False, "scopes": []},
        "halt": {"active": False},
        "emergency": None,
        "interrupted_run": None,
        "guard": {"state": "running", "pid": 9, "venues": [{"name": "v", "warm": True}]},
        "services": [service(name) for name in SERVICES],
        "venues": [{"name": "v", "open_orders": 1, "positions": 0, "clock_skew_ms": 5}],
        "recommendations": [{"severity": "note", "subject": "a", "text": "b", "action": "c"}],
        **changes,
    }


def record(kind: str, begun: str, outcome: str = "done") -> dict[str, Any]:
    names = [spec.name for spec in PROCEDURES[kind].steps if not spec.is_family]
    return {
        "run": f"{kind}-1",
        "who": "ann",
        "begun": begun,
        "state": "done" if outcome == "done" else "failed",
        "planned_steps": names,
        "steps": [{"name": n, "outcome": outcome, "detail": "", "after": {}} for n in names],
        "chain": {"whole": True, "records": 9, "problem": "", "head_is_in_audit_log": True},
        "evidence_files": [{"path": "statement.json", "now": "unchanged"}],
    }


def closed(begun: str) -> dict[str, Any]:
    told = record("close", begun)
    told["steps"][-1]["after"] = {"pnl": {"net": "12.5", "currency": "USDT", "unpriced": []}}
    return told


NOON_NS = int(datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()) * 1_000_000_000
"""A Monday."""


WELL = Seen(
    desk=parse_desk(DESK, Path("desk.toml")),
    status=status(),
    controller=True,
    health={"verdict": "healthy", "reasons": []},
    connections={
        "connections": [
            {"venue": "v", "market_data": "connected", "order_entry": "connected", "why": ""}
        ]
    },
    positions={
        "known": True,
        "positions": [
            {"venue": "v", "symbol": "BTC/USDT", "quantity": "0.1", "venue_quantity": "0.1"}
        ],
    },
    opening=record("open", "2026-11-30T08:00:00"),
    closing=record("close", "2026-11-29T21:00:00"),
    checkpoints=[{"path": "c", "valid": True}],
    disk_free=1 << 40,
    memory_free=1 << 36,
    dependencies=(DependencyFact("ledger", "postgres", True, True, "serves"),),
    backups=(),
    wall_ns=NOON_NS,
    machine=Machine(cores=2, load=0.5, up_s=90_000.0),
    leftovers=(),
)
CLOSED = dataclasses.replace(
    WELL,
    status=status(
        state="offline",
        guard={"state": "off", "pid": None},
        services=[service(name, "stopped") for name in SERVICES],
    ),
    controller=False,
    health=None,
    positions=None,
    closing=closed("2026-11-30T21:00:00"),
)


def found(name: Any, seen: Seen) -> dict[str, Check]:
    return {each.name: each for each in fill(name, seen).checks}


@pytest.mark.parametrize(
    ("name", "seen"),
    [("morning", WELL), ("startup", WELL), ("shutdown", CLOSED), ("eod", CLOSED)],
)
def test_a_desk_that_is_well_ends_well(name: Any, seen: Seen) -> None:
    filled = fill(name, seen)
    bad = [each for each in filled.checks if each.found not in (Found.OK, Found.NOT_CONFIGURED)]
    assert (filled.exit_code, bad) == (0, [])


@pytest.mark.parametrize("name", NAMES)
def test_names_are_told_apart_and_every_bad_line_has_a_word_on_it(name: Any) -> None:
    for seen in (WELL, CLOSED):
        checks = fill(name, seen).checks
        assert len({each.name for each in checks}) == len(checks)
        assert all(each.detail for each in checks if each.found not in (Found.OK,))


@pytest.mark.parametrize(
    ("change", "check", "result"),
    [
        ({"health": None}, "health", Found.UNKNOWN),
        ({"health": {"verdict": "degraded", "reasons": ["x"]}}, "health", Found.WARN),
        ({"health": {"verdict": "unhealthy", "reasons": ["x"]}}, "health", Found.FAILED),
        ({"positions": None}, "positions", Found.UNKNOWN),
        ({"positions": {"known": False, "why": "silent"}}, "positions", Found.UNKNOWN),
        ({"disk_free": None}, "disk", Found.UNKNOWN),
        ({"disk_free": 1}, "disk", Found.FAILED),
        ({"status": status(state="safe")}, "trading", Found.WARN),
        ({"status": status(state="starting", why="a venue")}, "trading", Found.FAILED),
        ({"status": status(halt={"active": True})}, "latch", Found.FAILED),
        ({"status": status(latch={"active": False, "scopes": ["venue:v"]})}, "latch", Found.FAILED),
        ({"status": status(guard={"state": "off", "pid": None})}, "guard", Found.FAILED),
        (
            {"status": status(interrupted_run={"id": "open-3", "step": "start_core"})},
            "cut_off",
            Found.FAILED,
        ),
        (
            {"status": status(services=[service("limits", "backoff")])},
            "risk",
            Found.FAILED,
        ),
        ({"status": status(services=[service("limits", "degraded")])}, "risk", Found.WARN),
        (
            {"status": status(services=[service("limits", drifted=True)])},
            "risk",
            Found.WARN,
        ),
        (
            {"closing": record("close", "2026-11-29T21:00:00", "failed")},
            "last_closing",
            Found.FAILED,
        ),
        ({"closing": None}, "last_closing", Found.NOT_CONFIGURED),
        (
            {
                "status": status(
                    recommendations=[
                        {"severity": "critical", "subject": "a", "text": "b", "action": "c"}
                    ]
                )
            },
            "alerts",
            Found.FAILED,
        ),
        ({"dependencies": ()}, "dependencies", Found.NOT_CONFIGURED),
        ({"machine": None}, "machine", Found.UNKNOWN),
        ({"machine": Machine(cores=2, load=4.5, up_s=60.0)}, "machine", Found.WARN),
    ],
)
def test_the_morning_finds_what_is_not_as_it_should_be(
    change: dict[str, Any], check: str, result: Found
) -> None:
    assert found("morning", dataclasses.replace(WELL, **change))[check].found is result


@pytest.mark.parametrize(
    ("link", "result"),
    [
        ("connected", Found.OK),
        ("held back", Found.WARN),
        ("down", Found.FAILED),
        ("closed", Found.FAILED),
        ("unknown", Found.UNKNOWN),
        ("none", Found.NOT_CONFIGURED),
    ],
)
def test_a_connection_is_what_its_worst_venue_is(link: str, result: Found) -> None:
    rows = [
        {"venue": "v", "market_data": "connected" if link != "none" else link, "why": ""},
        {"venue": "w", "market_data": link, "why": "x"},
    ]
    for row in rows:
        row["order_entry"] = "connected"
    seen = dataclasses.replace(WELL, connections={"connections": rows})
    assert found("morning", seen)["market_data"].found is result


@pytest.mark.parametrize("skew_ms", [-1001, None])
def test_a_clock_that_is_off_or_unheard_is_found_in_the_morning(skew_ms: int | None) -> None:
    rows = [{"name": "v", "open_orders": 0, "positions": 0, "clock_skew_ms": skew_ms}]
    seen = dataclasses.replace(WELL, status=status(venues=rows))
    wanted = Found.UNKNOWN if skew_ms is None else Found.FAILED
    assert found("morning", seen)["clock_v"].found is wanted


def test_a_step_that_was_not_reached_is_unknown_and_a_failed_one_failed() -> None:
    opening = record("open", "2026-11-30T08:00:00")
    opening["steps"] = opening["steps"][:3]
    opening["steps"][-1]["outcome"] = "failed"
    checks = found("startup", dataclasses.replace(WELL, opening=opening))
    assert checks["step_preflight"].found is Found.OK
    assert checks["step_start_infrastructure"].found is Found.FAILED
    assert checks["step_start_core"].found is Found.UNKNOWN


def test_the_last_attempt_of_a_step_counts() -> None:
    opening = record("open", "2026-11-30T08:00:00")
    opening["steps"].insert(0, {**opening["steps"][0], "outcome": None})
    checks = found("startup", dataclasses.replace(WELL, opening=opening))
    assert checks["step_preflight"].found is Found.OK


def test_without_a_record_nothing_is_known_of_a_closing() -> None:
    checks = found("shutdown", dataclasses.replace(CLOSED, closing=None))
    assert checks["run"].found is checks["record"].found is Found.UNKNOWN


def test_what_still_runs_was_not_shut_down() -> None:
    left = status(state="offline", services=[service("engine")], guard={"pid": None})
    checks = found("shutdown", dataclasses.replace(CLOSED, status=left))
    assert checks["processes"].found is Found.FAILED and "engine" in checks["processes"].detail


def test_a_closing_proves_nothing_of_what_was_opened_after_it() -> None:
    for name in ("shutdown", "eod"):
        assert found(name, WELL)["opened_since"].found is Found.FAILED
        assert "opened_since" not in found(name, CLOSED)


def test_a_record_that_was_changed_is_no_documentation() -> None:
    broken = record("close", "2026-11-30T21:00:00")
    broken["evidence_files"][0]["now"] = "changed"
    assert found("eod", dataclasses.replace(CLOSED, closing=broken))["record"].found is Found.FAILED
    broken = record("close", "2026-11-30T21:00:00")
    broken["chain"] = {"whole": False, "problem": "a line is missing", "records": 3}
    assert found("eod", dataclasses.replace(CLOSED, closing=broken))["record"].found is Found.FAILED
    broken = record("close", "2026-11-30T21:00:00")
    broken["chain"]["head_is_in_audit_log"] = False
    assert (
        found("eod", dataclasses.replace(CLOSED, closing=broken))["record"].found is Found.UNKNOWN
    )


def test_positions_of_a_closed_desk_are_those_its_closing_proved() -> None:
    closing = record("close", "2026-11-30T21:00:00")
    for outcome, result in (("unknown", Found.UNKNOWN), ("skipped", Found.WARN)):
        for step in closing["steps"]:
            step["outcome"] = outcome if step["name"] == "flatten" else "done"
        seen = dataclasses.replace(CLOSED, closing=closing)
        assert found("eod", seen)["positions"].found is result


def test_positions_of_an_open_desk_that_does_not_say_are_not_those_of_an_earlier_closing() -> None:
    assert (
        found("eod", dataclasses.replace(WELL, positions=None))["positions"].found is Found.UNKNOWN
    )
    unwatched = dataclasses.replace(CLOSED, status={**CLOSED.status, "state": "unwatched"})
    assert found("eod", unwatched)["positions"].found is Found.UNKNOWN


def test_a_portfolio_is_what_the_venue_holds_and_books_that_differ_are_named() -> None:
    row = {"venue": "v", "symbol": "BTC/USDT", "quantity": "0.1", "venue_quantity": "0.2"}
    seen = dataclasses.replace(WELL, positions={"known": True, "positions": [row]})
    check = found("morning", seen)["positions"]
    assert (
        check.found is Found.WARN and "BTC/USDT 0.2; v BTC/USDT: the books hold 0.1" in check.detail
    )
    row["differs"] = "the books hold 0.1, the venue 0.2"
    check = found("morning", seen)["positions"]
    assert (check.found, check.remedy) == (Found.FAILED, "`openbell reconcile`")
    row["differs"] = ""
    row["quantity"] = "0.20"
    assert found("morning", seen)["positions"].found is Found.OK


def test_backups_and_reports_are_never_ticked() -> None:
    checks = found("eod", CLOSED)
    for name in ("backups", "daily_report", "risk_report"):
        assert checks[name].found is Found.NOT_CONFIGURED


def with_file(more: bytes, **changes: Any) -> Seen:
    return dataclasses.replace(WELL, desk=parse_desk(DESK + more, Path("desk.toml")), **changes)


def test_the_morning_says_how_long_it_is_to_the_open() -> None:
    assert found("morning", WELL)["market_hours"].found is Found.NOT_CONFIGURED
    new_york = b"""
        [calendars.ny]
        timezone = "America/New_York"
        sessions = ["mon-fri 09:30-16:00"]
        [venues.w]
        url = "http://127.0.0.1:2"
        symbols = ["BTC/USDT"]
        calendar = "ny"
    """
    seen = with_file(new_york)
    check = found("morning", seen)["market_hours"]
    assert check.found is Found.OK and "w opens in 2h30m" in check.detail
    during = dataclasses.replace(seen, wall_ns=NOON_NS + 3 * 3600 * 10**9)
    assert "w is in session" in found("morning", during)["market_hours"].detail


def test_degraded_services_warn_and_only_those_that_are_down_fail() -> None:
    """As an opening judges them, which lets such a desk trade."""
    for state, result in (("degraded", Found.WARN), ("backoff", Found.FAILED)):
        services = [service("engine"), service("limits", state), service("web")]
        seen = dataclasses.replace(WELL, status=status(services=services))
        assert found("startup", seen)["core"].found is result
    rule = b"[kill_switch.rules.max_daily_loss]\namount = '50'\n"
    for state, result in (("degraded", Found.OK), ("backoff", Found.FAILED)):
        services = [service("engine"), service("limits", state), service("web")]
        seen = with_file(rule, status=status(services=services))
        assert found("startup", seen)["rules"].found is result


RISK_SAYS = RiskSays(limits="a1" * 32, engine_limits="a1" * 32, rules=frozenset({"max_daily_loss"}))


@pytest.mark.parametrize(
    ("says", "risk", "rules", "told"),
    [
        ({}, Found.OK, Found.OK, "it applies a1a1"),
        ({"limits": "b2" * 32}, Found.FAILED, Found.OK, "other limits than the engine"),
        ({"limits_problem": "limits unreadable"}, Found.FAILED, Found.OK, "limits unreadable"),
        ({"limits": None, "why": "no answer"}, Found.UNKNOWN, Found.OK, "no answer"),
        ({"rules": frozenset()}, Found.OK, Found.FAILED, "does not judge max_daily_loss"),
        (
            {"rules": None, "why": "no answer"},
            Found.OK,
            Found.UNKNOWN,
            "does not say what it judges",
        ),
        # A program of the desk's own, which has no such pages: its state is all there is to see.
        ({"tells": False, "limits": None, "rules": None}, Found.OK, Found.OK, "limits is ready"),
    ],
)
def test_risk_and_rules_are_judged_by_what_risk_management_says(
    says: dict[str, Any], risk: Found, rules: Found, told: str
) -> None:
    """Before, a risk service that was up counted as applying desk.toml's limits and judging its rules, where
    an opening asked it."""
    rule = b"[kill_switch.rules.max_daily_loss]\namount = '50'\n"
    said = dataclasses.replace(RISK_SAYS, **says)
    assert RiskSays.from_dict(said.as_dict()) == said
    checks = found("startup", with_file(rule, risk=said))
    assert (checks["risk"].found, checks["rules"].found) == (risk, rules)
    assert told in checks["risk"].detail + checks["rules"].detail


def test_an_end_to_end_test_is_a_step_of_the_desk_s_own_and_never_ticked() -> None:
    assert found("startup", WELL)["end_to_end_test"].found is Found.NOT_CONFIGURED
    own = b"""
        [[procedures.open.extra]]
        name = "round_trip"
        title = "Send one order and take it back"
        after = "begin_trading"
        command = ["true"]
        verify = ["true"]
    """
    assert found("startup", with_file(own))["end_to_end_test"].found is Found.UNKNOWN
    for outcome, result in (("done", Found.OK), ("failed", Found.FAILED), (None, Found.UNKNOWN)):
        opening = record("open", "2026-11-30T08:00:00")
        opening["steps"].append(
            {"name": "round_trip", "outcome": outcome, "detail": "", "after": {}}
        )
        seen = with_file(own, opening=opening)
        assert found("startup", seen)["end_to_end_test"].found is result


def test_the_end_of_the_day_has_its_result_and_what_was_left_lying_about() -> None:
    assert "12.50 USDT" in found("eod", CLOSED)["performance"].detail
    untold = record("close", "2026-11-30T21:00:00")
    seen = dataclasses.replace(CLOSED, closing=untold, leftovers=("/s/.openbell-x-1.tmp",))
    assert found("eod", seen)["performance"].found is Found.UNKNOWN
    assert found("eod", seen)["cleaned"].found is Found.WARN
    assert found("eod", CLOSED)["cleaned"].found is Found.OK


def test_figures_are_those_of_people_and_every_bad_line_has_a_remedy() -> None:
    row = {
        "venue": "v", "symbol": "BTC/USDT", "quantity": "0.00216000", "venue_quantity": "0.00216000",
    }  # fmt: skip
    pnl = {"net": "-0.6284366830999999999999999960", "currency": "USDT"}
    seen = dataclasses.replace(WELL, positions={"known": True, "positions": [row], "pnl": pnl})
    assert found("morning", seen)["positions"].detail == "BTC/USDT 0.00216; net P&L -0.63 USDT"
    closing = closed("2026-11-30T21:00:00")
    closing["steps"][-1]["after"] = {"pnl": {**pnl, "unpriced": []}}
    told = found("eod", dataclasses.replace(CLOSED, closing=closing))["performance"].detail
    assert told == "net -0.63 USDT"
    untold = dataclasses.replace(CLOSED, closing=record("close", "2026-11-30T21:00:00"))
    assert "openbell down" in found("eod", untold)["performance"].remedy
    alert = {"severity": "critical", "subject": "desk", "text": "x is failed", "action": ""}
    alarmed = dataclasses.replace(WELL, status={**WELL.status, "recommendations": [alert]})
    assert alerts(alarmed).remedy == "`openbell health`"


def test_a_step_that_kept_what_it_was_asked_to_keep_did_its_part() -> None:
    closing = closed("2026-11-30T21:00:00")
    for step in closing["steps"]:
        if step["name"] == "flatten":
            step.update(outcome="skipped", detail="3 positions are kept as asked")
    checks = found("shutdown", dataclasses.replace(CLOSED, closing=closing))
    assert checks["step_flatten"].found is Found.OK
