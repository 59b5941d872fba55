"""Before a desk trades, each thing that trading takes is looked at, and unreachable venues are
waited for once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openbell.config.kill_rules import ExecutionsRule, KillRules, KillSwitch
from openbell.config.loader import parse_desk
from openbell.domain.desk_state import DeskTarget
from openbell.domain.service_state import ServiceState
from openbell.procedures.begin_trading import (
    REFUSED_PATIENCE_S,
    VENUE_PATIENCE_S,
    Opened,
    TradingFacts,
    VenuePatience,
    judge,
    plan_trading,
)
from openbell.procedures.checklists import Check, Found
from openbell.procedures.desk_voices import DeskVoices, EngineSays, Roles, StrategySays
from openbell.procedures.readiness import NAMES, TradingSight, looks
from openbell.procedures.readiness_checks import (
    ReadinessFacts,
    RiskSays,
    holds_trading,
    judge_market_data,
    judge_readiness,
    judge_system,
    judge_venues,
)
from openbell.procedures.run import Runner
from openbell.procedures.step import Outcome
from openbell.service_client import Answer

DESK = parse_desk(
    b"""
[desk]
name = "x"
[risk]
max_open_positions = 5
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
[services.feed]
command = ["true"]
port = 2
role = "market-data"
[services.clients]
command = ["true"]
port = 3
role = "strategies"
""",
    Path("desk.toml"),
)
WITH_RULES = parse_desk(
    b"""
[desk]
name = "x"
[kill_switch.rules.heartbeat_lost]
after = "10s"
[venues.v]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[services.engine]
command = ["true"]
port = 1
role = "engine"
""",
    Path("desk.toml"),
)
NAMED = tuple(DESK.services)
GUARD = {"state": "running", "venues": [{"name": "v", "warm": True}]}
QUOTED = {"venue": "v", "symbol": "BTC/USDT", "connected": True, "last_quote_age_s": 0.2}
RUNNING = (StrategySays("mm", "WAITING", "no permit"),)


@pytest.fixture
def views(make_view: Any) -> dict[str, Any]:
    return {name: make_view(name) for name in NAMED}


def venue(**more: Any) -> dict[str, Any]:
    known = {"name": "v", "connected": True, "open_orders": 0, "positions": 0, "clock_skew_ms": 3}
    return {**known, **more}


def engine(phase: str = "ready", **more: Any) -> dict[str, Any]:
    return {"phase": phase, "in_doubt": 0, "why_not": "", "venues": [venue()], **more}


def facts(said: dict[str, Any] | None, views: Mapping[str, Any], **more: Any) -> ReadinessFacts:
    known: dict[str, Any] = {
        "engine": said,
        "engine_why": "" if said else "it is silent",
        "views": views,
        "wanted": tuple(views),
        "feeds": (QUOTED,),
        "strategies": RUNNING,
        "guard": GUARD,
    }
    return ReadinessFacts(**(known | more))


def judged(found: ReadinessFacts) -> dict[str, Check]:
    judges = (judge_venues, judge_market_data, judge_system, judge_readiness)
    return {each.name: each for by in judges for each in by(found, DESK)}


def holding(found: ReadinessFacts) -> set[str]:
    return {name for name, each in judged(found).items() if holds_trading(each, found)}


def test_a_desk_that_can_trade_has_nothing_against_it(views: Any) -> None:
    found = facts(engine(), views)
    by_name = {name: each.found for name, each in judged(found).items()}
    assert {name for name, each in by_name.items() if each is Found.NOT_CONFIGURED} == {"rules"}
    assert set(by_name.values()) == {Found.OK, Found.NOT_CONFIGURED}
    assert holding(found) == set()


@pytest.mark.parametrize(
    ("said", "check", "result", "holds"),
    [
        (engine(venues=[venue(connected=False)]), "venue_v", Found.FAILED, set()),
        (engine(venues=[venue(positions=None)]), "account_v", Found.UNKNOWN, {"account_v"}),
        (engine(venues=[venue(clock_skew_ms=-1200)]), "clock_v", Found.FAILED, {"clock_v"}),
        (engine(venues=[venue(clock_skew_ms=None)]), "clock_v", Found.UNKNOWN, set()),
        (
            engine(venues=[venue(clock_skew_ms=None, tells_time=False)]),
            "clock_v",
            Found.NOT_CONFIGURED,
            set(),
        ),
        (engine("reconciling", why_not="one is cut"), "reconciliation", Found.FAILED, set()),
        (engine(in_doubt=2), "reconciliation", Found.FAILED, {"reconciliation"}),
        (engine(storage="the disk is full"), "journal", Found.FAILED, {"journal"}),
        (None, "reconciliation", Found.UNKNOWN, set()),
        (None, "journal", Found.UNKNOWN, set()),
        (None, "venues", Found.UNKNOWN, set()),
    ],
)
def test_what_trading_lacks_is_named_and_holds_it_where_nobody_else_would_wait_for_it(
    views: Any, said: Any, check: str, result: Found, holds: set[str]
) -> None:
    """An engine that is still about it begins to trade by itself: nothing more is to hold it."""
    found = facts(said, views)
    assert judged(found)[check].found is result and judged(found)[check].detail
    assert holding(found) == holds


@pytest.mark.parametrize(
    ("state", "result", "holds"),
    [
        (ServiceState.DEGRADED, Found.WARN, False),
        (ServiceState.FAILED, Found.FAILED, True),
        (ServiceState.STOPPED, Found.FAILED, True),
    ],
)
def test_limits_count_where_the_service_that_has_them_is_up(
    views: Any, make_view: Any, state: ServiceState, result: Found, holds: bool
) -> None:
    found = facts(engine(), views | {"limits": make_view("limits", state, "no fresh quotes")})
    assert judged(found)["risk"].found is result
    assert ("risk" in holding(found)) is holds


@pytest.mark.parametrize(
    ("said", "more", "held"),
    [
        (engine(venues=[venue(connected=False)]), {}, {"venue_v", "account_v"}),
        (engine("reconciling"), {}, {"reconciliation"}),
        (None, {}, {"venues", "journal", "reconciliation"}),
        (engine(), {"strategies": None}, {"strategies"}),
        (engine(), {"guard": {"state": "failed"}}, {"guard"}),
        (engine(venues=[venue(clock_skew_ms=9000)]), {}, {"clock_v"}),
        (engine(venues=[venue(clock_skew_ms=None)]), {}, set()),  # OANDA tells no time
        (engine(), {}, set()),
    ],
)
def test_after_a_restart_everything_that_is_not_so_or_not_known_holds_trading(
    views: Any, said: Any, more: dict[str, Any], held: set[str]
) -> None:
    found = facts(said, views, **more)
    strict = {
        name for name, each in judged(found).items() if holds_trading(each, found, strict=True)
    }
    assert strict == held


def test_a_rule_that_nobody_judges_by_holds_trading(views: Any) -> None:
    off = facts(engine(), views, guard={"state": "failed"})
    (rules,) = (each for each in judge_readiness(off, WITH_RULES) if each.name == "rules")
    assert rules.found is Found.FAILED and "the guard" in rules.detail and holds_trading(rules, off)
    there = facts(engine(), views)
    (rules,) = (each for each in judge_readiness(there, WITH_RULES) if each.name == "rules")
    assert rules.found is Found.OK


def test_a_judge_that_is_not_well_is_told_and_holds_nothing(views: Any) -> None:
    """It counted as judging by every rule, though it says itself that it lacks what it judges by."""
    rules_of_risk = KillRules(repeated_executions=ExecutionsRule(at_most=5))
    desk = DESK.model_copy(update={"kill_switch": KillSwitch(rules=rules_of_risk)})
    for state, found in (
        (ServiceState.READY, Found.OK),
        (ServiceState.DEGRADED, Found.WARN),
        (ServiceState.FAILED, Found.FAILED),
    ):
        views["limits"] = replace(views["limits"], state=state)
        there = facts(engine(), views)
        (rules,) = (each for each in judge_readiness(there, desk) if each.name == "rules")
        assert rules.found is found, rules
        assert (f"limits is {state}" in rules.detail) is (found is Found.WARN)
        assert holds_trading(rules, there) is (found is Found.FAILED)


@pytest.mark.parametrize(
    ("row", "result"),
    [
        ({**QUOTED, "connected": False, "why": "refused"}, Found.FAILED),
        ({**QUOTED, "last_quote_age_s": None}, Found.WARN),
    ],
)
def test_a_feed_that_gives_nothing_is_named_and_holds_nothing(
    views: Any, row: dict[str, Any], result: Found
) -> None:
    """Strategies wait for quotes themselves, and a market may be closed when its desk is opened."""
    found = facts(engine(), views, feeds=(row,))
    assert judged(found)["feed_v"].found is result and "BTC/USDT" in judged(found)["feed_v"].detail
    assert holding(found) == set()


def test_feeds_that_nobody_tells_of_are_unknown_unless_the_service_is_none_that_tells(
    views: Any,
) -> None:
    assert judged(facts(engine(), views, feeds=None))["feeds"].found is Found.UNKNOWN
    foreign = judged(facts(engine(), views, feeds=None, has_feeds=False))
    assert "feeds" not in foreign and foreign["market_data"].found is Found.OK


def test_the_desk_as_a_whole_names_who_is_not_well(views: Any, make_view: Any) -> None:
    down = {"limits": make_view("limits", ServiceState.FAILED)}
    assert "limits is failed" in judged(facts(engine(), views | down))["services"].detail
    ill = {"feed": make_view("feed", ServiceState.DEGRADED, "slow")}
    assert judged(facts(engine(), views | ill))["services"].found is Found.WARN
    old = {"feed": replace(make_view("feed"), drifted=True, drift=("code",))}
    assert "feed (older code)" in judged(facts(engine(), views | old))["as_declared"].detail
    failed = judged(facts(engine(), views, strategies=(StrategySays("mm", "FAILED", "a typo"),)))
    assert failed["strategies"].found is Found.WARN and "a typo" in failed["strategies"].detail
    assert judged(facts(engine(), views, guard=None))["guard"].found is Found.UNKNOWN


JUDGED = parse_desk(
    b"""
[desk]
name = "x"
[risk]
max_open_positions = 5
[kill_switch.rules.max_daily_loss]
amount = "50"
[venues.v]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
[services.engine]
command = ["true"]
port = 1
role = "engine"
[services.limits]
command = ["true"]
port = 2
role = "risk"
""",
    Path("desk.toml"),
)
WORD = RiskSays(limits="ab", engine_limits="ab", rules=frozenset({"max_daily_loss"}))


@pytest.mark.parametrize(
    ("said", "risk", "rules"),
    [
        (WORD, Found.OK, Found.OK),
        (RiskSays(tells=False), Found.OK, Found.OK),
        (replace(WORD, limits_problem="the file is torn"), Found.FAILED, Found.OK),
        (replace(WORD, engine_limits="cd"), Found.FAILED, Found.OK),
        (replace(WORD, limits=None, why="it is silent"), Found.UNKNOWN, Found.OK),
        (replace(WORD, rules=None, why="it is silent"), Found.OK, Found.UNKNOWN),
        (replace(WORD, rules=frozenset()), Found.OK, Found.FAILED),
    ],
)
def test_risk_management_is_taken_at_its_own_word(
    said: RiskSays, risk: Found, rules: Found, make_view: Any
) -> None:
    """That it is up says neither which limits it has read nor that it judges any rule."""
    views = {"engine": make_view("engine"), "limits": make_view("limits")}
    seen = facts(engine(), views, risk=said)
    found = {each.name: each for each in judge_readiness(seen, JUDGED)}
    assert (found["risk"].found, found["rules"].found) == (risk, rules)
    held = [each.name for each in found.values() if holds_trading(each, seen)]
    bad = (Found.FAILED, Found.UNKNOWN)
    assert held == [name for name, each in (("risk", risk), ("rules", rules)) if each in bad]


# --- the steps -------------------------------------------------------------------------------------


class Says:
    """`Asks`: each page says these one after another, the last one for ever."""

    def __init__(self, **pages: list[dict[str, Any] | None]) -> None:
        self._pages = pages

    async def get(self, service: str, path: str, *, timeout_s: float = 5.0) -> Answer:
        said = self._pages[path.rpartition("/")[2]]
        body = said.pop(0) if len(said) > 1 else said[0]
        return Answer(None, why="it is silent") if body is None else Answer(body, 200)

    async def post(self, *_: Any, **__: Any) -> Answer:
        raise AssertionError("looking changes nothing")


def sight(views: Any, state: Sequence[dict[str, Any] | None], **pages: Any) -> TradingSight:
    told: dict[str, Any] = {
        "state": list(state),
        "feeds": [{"feeds": [QUOTED]}],
        "strategies": [{"strategies": [{"name": "mm", "state": "WAITING"}]}],
    }
    return TradingSight(
        desk=DESK,
        voices=DeskVoices(Says(**(told | pages)), Roles.of(DESK)),
        views=lambda: views,
        wanted=NAMED,
        guard=lambda: GUARD,
        patience=VenuePatience(),
    )


async def carried_out(sight: TradingSight, journal: Any) -> dict[str, Any]:
    runner = Runner(journal, lambda _: None)
    reports = await asyncio.wait_for(runner.run(looks(sight)), 60)
    assert {each.name for each in reports} == NAMES
    return {each.name: each for each in reports}


def rows(report: Any) -> dict[str, Any]:
    return {row["name"]: row for row in report.evidence["checks"]}


async def test_what_is_still_to_come_is_waited_for_each_thing_by_its_own_step(
    views: Any, journal: Any
) -> None:
    away = engine("waiting_for_venue", venues=[venue(connected=False)])
    silent = {"feeds": [{**QUOTED, "last_quote_age_s": None}]}
    seen = sight(
        views, [away, away, engine("reconciling")] + [engine("reconciling")] * 9 + [engine()],
        feeds=[silent, silent, {"feeds": [QUOTED]}],
    )  # fmt: skip
    reports = await carried_out(seen, journal)
    assert {each.outcome for each in reports.values()} == {Outcome.DONE}
    assert rows(reports["check_venues"])["venue_v"]["facts"]["connect_ms"] > 0
    assert rows(reports["check_market_data"])["feed_v"]["facts"] == {"symbols": 1, "quoted": 1}
    assert set(rows(reports["validate"])) == {
        "services", "as_declared", "journal", "strategies", "guard"
    }  # fmt: skip
    assert set(rows(reports["check_readiness"])) == {"account_v", "risk", "rules", "reconciliation"}
    assert seen.why_held() == ""


async def test_orders_in_doubt_are_waited_for_before_they_hold_trading(
    views: Any, journal: Any
) -> None:
    """The engine asks the venue for each: after a crash there are some for a moment."""
    doubtful = engine(in_doubt=1)
    seen = sight(views, [*[doubtful] * 12, engine()])
    reports = await carried_out(seen, journal)
    assert reports["check_readiness"].outcome is Outcome.DONE and seen.why_held() == ""


async def test_rules_that_are_to_be_judged_for_the_first_time_are_waited_for(
    make_view: Any, journal: Any
) -> None:
    """Risk-management is up before its first look."""
    judged = {"rules": [{"rule": "max_daily_loss", "state": "armed"}]}
    seen = sight(
        {"engine": make_view("engine"), "limits": make_view("limits")}, [engine()],
        limits=[{"hash": "ab", "version": 0, "problem": ""}],
        **{"kill-rules": [{"rules": []}, {"rules": []}, judged]},
    )  # fmt: skip
    seen.desk = JUDGED
    seen.voices = DeskVoices(seen.voices._asks, Roles.of(JUDGED))
    seen.wanted = ("engine", "limits")
    report = (await carried_out(seen, journal))["check_readiness"]
    assert rows(report)["rules"]["found"] == "ok" and "ab" in rows(report)["risk"]["detail"]


async def test_an_engine_that_says_nothing_is_not_waited_for(views: Any, journal: Any) -> None:
    reports = await carried_out(sight(views, [None]), journal)
    assert reports["check_venues"].outcome is Outcome.UNKNOWN
    assert "it is silent" in reports["check_readiness"].detail


async def test_what_holds_trading_is_told_with_its_remedy(views: Any, journal: Any) -> None:
    seen = sight(views, [engine(venues=[venue(clock_skew_ms=5000)])])
    reports = await carried_out(seen, journal)
    assert reports["check_venues"].evidence["holds_trading"] == ["clock_v"]
    assert "+5000 ms" in seen.why_held() and "chrony" in seen.why_held()


def test_a_desk_that_is_held_is_safe_and_says_why() -> None:
    told = TradingFacts(
        target=DeskTarget.SAFE, latched=False, engine=None, engine_why="", strategies=None,
        strategies_why="", has_engine=True, held="the clock is wrong",
    )  # fmt: skip
    assert (judge(told).opened, judge(told).note) == (Opened.HELD, "the clock is wrong")
    assert plan_trading(told).actions == ()
    assert judge(replace(told, latched=True)).opened is Opened.SAFE
    assert judge(replace(told, target=DeskTarget.HALTED)).opened is Opened.HALTED


def test_venues_are_waited_for_once_in_an_opening() -> None:
    patience = VenuePatience()
    assert not patience.is_over(True, 100.0)
    assert not patience.is_over(True, 100.0 + VENUE_PATIENCE_S)
    assert patience.is_over(True, 100.1 + VENUE_PATIENCE_S)
    assert patience.is_over(True, 101.0 + VENUE_PATIENCE_S), "the next step does not wait anew"
    assert not patience.is_over(False, 200.0)
    assert not patience.is_over(True, 201.0), "one that came and went again is waited for again"


def test_a_venue_that_refuses_the_credentials_is_asked_again_and_not_waited_for() -> None:
    refused = {"name": "a", "connected": False, "refused": True}
    away = {"name": "b", "connected": False, "refused": False}
    there = {"name": "c", "connected": True, "refused": False}
    for venues, expected in (
        ([refused, there], True), ([refused, away], False), ([there], False), ([], False),
    ):  # fmt: skip
        body = {"phase": "waiting_for_venue", "venues": venues}
        assert EngineSays.of(body).refused is expected
        assert ReadinessFacts(
            engine=body, engine_why="", views={}, wanted=(), connected_ms={}
        ).is_refused is expected  # fmt: skip
    patience = VenuePatience()
    assert not patience.is_over(True, 100.0, refused=True)
    assert not patience.is_over(True, 100.0 + REFUSED_PATIENCE_S, refused=True)
    assert not patience.is_over(True, 100.1 + REFUSED_PATIENCE_S)
    assert patience.is_over(True, 100.1 + REFUSED_PATIENCE_S, refused=True)
