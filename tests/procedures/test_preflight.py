"""Before anything is started: what speaks against it is found, named, and stands in the way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from openbell.config.loader import parse_desk
from openbell.config.models import DeskFile
from openbell.procedures.checklists import Check, Found
from openbell.procedures.dependencies import DependencyFact
from openbell.procedures.preflight_checks import judge
from openbell.procedures.preflight_facts import PreflightFacts, Reached, venues_outside
from openbell.procedures.preflighting import preflight_verdict
from openbell.procedures.step import Outcome
from openbell.venues.greeter import Greeting

MONDAY_NOON = int(datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp() * 1e9)
MONDAY_NIGHT = int(datetime(2026, 11, 30, 22, tzinfo=UTC).timestamp() * 1e9)
DESK = """
[desk]
name = "x"
[venues.nyse]
environment = "practice"
secret_env = "NYSE_SECRET"
symbols = ["BTC/USD"]
sessions = ["mon-fri 14:30-21:00", "mon 11:30-12:30"]
[venues.sim]
url = "http://127.0.0.1:7001"
symbols = ["BTC/USD"]
[services.a]
command = ["true"]
port = 7002
"""


def desk(more: str = "") -> DeskFile:
    from pathlib import Path

    return parse_desk((DESK + more).encode(), Path("desk.toml"))


def facts(**given: Any) -> PreflightFacts:
    known: dict[str, Any] = {
        "wall_ns": MONDAY_NIGHT,
        "engine_runs": False,
        "force": False,
        "disk_free": 1 << 40,
        "memory_free": 1 << 34,
        "missing": (),
        "hosts": (Reached("sim", "127.0.0.1", True),),
        "greetings": (Greeting(name="nyse", reached=True, skew_ms=3.0),),
        "dependencies": (),
        "backups": (),
    }
    return PreflightFacts(**(known | given))


def checks(more: str = "", **given: Any) -> dict[str, Check]:
    return {each.name: each for each in judge(facts(**given), desk(more))}


def outcome(more: str = "", **given: Any) -> Outcome:
    return preflight_verdict(tuple(checks(more, **given).values())).outcome


def test_nothing_speaks_against_a_desk_that_is_well() -> None:
    found = checks()
    assert outcome() is Outcome.DONE
    assert found.pop("backups").found is Found.NOT_CONFIGURED, "what is not there is not well"
    assert {each.found for each in found.values()} == {Found.OK}


def test_a_session_under_way_refuses_unless_a_person_insists() -> None:
    refused = checks(wall_ns=MONDAY_NOON)["market_hours"]
    assert refused.found is Found.REFUSED and "nyse" in refused.detail
    assert "--force" in refused.remedy
    assert outcome(wall_ns=MONDAY_NOON) is Outcome.FAILED
    insisted = checks(wall_ns=MONDAY_NOON, force=True)["market_hours"]
    assert insisted.found is Found.WARN and "opened all the same" in insisted.detail
    assert outcome(wall_ns=MONDAY_NOON, force=True) is Outcome.DONE


def test_a_desk_whose_engine_runs_may_be_opened_again_in_a_session() -> None:
    """After a crash of the controller, say: what runs is taken over, and nothing is begun."""
    assert checks(wall_ns=MONDAY_NOON, engine_runs=True)["market_hours"].found is Found.OK


@pytest.mark.parametrize(("during", "found"), [("warn", Found.WARN), ("allow", Found.OK)])
def test_a_desk_file_may_open_in_a_session(during: str, found: Found) -> None:
    more = f'[preflight]\nduring_session = "{during}"\n'
    assert checks(more, wall_ns=MONDAY_NOON)["market_hours"].found is found


def test_venues_without_sessions_never_refuse() -> None:
    text = DESK.replace('sessions = ["mon-fri 14:30-21:00", "mon 11:30-12:30"]\n', "")
    from pathlib import Path

    without = parse_desk(text.encode(), Path("desk.toml"))
    found = {each.name: each for each in judge(facts(wall_ns=MONDAY_NOON), without)}
    assert found["market_hours"].found is Found.NOT_CONFIGURED


def test_a_holiday_is_no_session_and_a_list_that_is_over_is_told() -> None:
    from pathlib import Path

    sessions = 'sessions = ["mon-fri 14:30-21:00", "mon 11:30-12:30"]\n'

    def found(*holidays: str) -> Check:
        more = f"[calendars.nyse]\n{sessions}holidays = {list(holidays)}\n"
        text = DESK.replace(sessions, 'calendar = "nyse"\n') + more
        file = parse_desk(text.encode(), Path("desk.toml"))
        return {each.name: each for each in judge(facts(wall_ns=MONDAY_NOON), file)}["market_hours"]

    assert found("2026-12-25").found is Found.REFUSED
    holiday = found("2026-11-30", "2026-12-25")
    assert holiday.found is Found.OK and "holidays: nyse (2026-11-30)" in holiday.detail
    short = found("2026-11-30 11:45-12:15", "2026-12-25")
    assert short.found is Found.REFUSED and "2026-11-30 11:45-12:15" in short.detail
    over = found("2026-11-27", "2026-11-30 09:00-10:00")
    assert over.found is Found.OK, "today is listed"


def test_a_list_of_holidays_that_is_over_is_a_warning() -> None:
    from pathlib import Path

    sessions = 'sessions = ["mon-fri 14:30-21:00", "mon 11:30-12:30"]\n'
    more = f"[calendars.nyse]\n{sessions}holidays = ['2026-11-26']\n"
    file = parse_desk(
        (DESK.replace(sessions, 'calendar = "nyse"\n') + more).encode(), Path("desk.toml")
    )
    told = {each.name: each for each in judge(facts(wall_ns=MONDAY_NIGHT), file)}["market_hours"]
    assert told.found is Found.WARN and "nyse's end with 2026-11-26" in told.detail


@pytest.mark.parametrize("what", ["disk", "memory"])
def test_room_is_told_when_it_gets_short_and_refused_when_there_is_none(what: str) -> None:
    key = f"{what}_free"
    for free, found in ((1 << 40, Found.OK), (300 << 20, Found.WARN), (1 << 20, Found.FAILED)):
        assert checks(**{key: free})[what].found is found
    assert checks(**{key: None})[what].found is Found.UNKNOWN
    assert outcome(**{key: None}) is Outcome.UNKNOWN
    assert outcome(**{key: 1 << 20}) is Outcome.FAILED


def test_force_does_not_make_room_nor_set_a_clock() -> None:
    late = (Greeting(name="nyse", reached=True, skew_ms=-1500.0),)
    assert outcome(force=True, disk_free=1) is Outcome.FAILED
    assert outcome(force=True, greetings=late) is Outcome.FAILED


@pytest.mark.parametrize(
    ("greeting", "network", "clock"),
    [
        (Greeting(name="nyse", reached=True, skew_ms=-999.0), Found.OK, Found.OK),
        (Greeting(name="nyse", reached=True, skew_ms=1001.0), Found.OK, Found.FAILED),
        (Greeting(name="nyse", reached=True, skew_why="503"), Found.OK, Found.UNKNOWN),
        (Greeting(name="nyse", reached=True, tells_time=False), Found.OK, Found.NOT_CONFIGURED),
        (Greeting(name="nyse", reached=False, why="refused"), Found.FAILED, Found.UNKNOWN),
        (Greeting(name="nyse", reached=None, why="silent"), Found.UNKNOWN, Found.UNKNOWN),
    ],
)
def test_a_venue_of_consequence_must_be_there_and_have_our_time(
    greeting: Greeting, network: Found, clock: Found
) -> None:
    found = checks(greetings=(greeting,))
    assert (found["network_nyse"].found, found["clock_nyse"].found) == (network, clock)


def test_a_simulated_venue_that_is_not_there_is_told_and_waited_for() -> None:
    gone = (Reached("sim", "127.0.0.1", False, "no connection: refused"),)
    assert checks(hosts=gone)["network_sim"].found is Found.WARN
    assert outcome(hosts=gone) is Outcome.DONE


def test_a_name_that_does_not_resolve_is_told_before_what_the_adapter_says() -> None:
    lost = (Reached("nyse", "api.example", False, "the name does not resolve"),)
    silent = (Greeting(name="nyse", reached=None, why="silent"),)
    found = checks(hosts=lost, greetings=silent)["network_nyse"]
    assert found.found is Found.FAILED and "does not resolve" in found.detail


@pytest.mark.parametrize(
    ("required", "serves", "found"),
    [
        (True, True, Found.OK),
        (True, False, Found.FAILED),
        (True, None, Found.UNKNOWN),
        (False, False, Found.WARN),
        (False, None, Found.WARN),
    ],
)
def test_what_the_desk_depends_on_stands_in_the_way_where_it_is_required(
    required: bool, serves: bool | None, found: Found
) -> None:
    fact = DependencyFact("ledger", "postgres", required, serves, "said so")
    assert checks(dependencies=(fact,))["dependency_ledger"].found is found


def test_a_variable_that_is_not_set_is_named() -> None:
    found = checks(missing=("the variable NYSE_SECRET is not set",))["credentials"]
    assert found.found is Found.FAILED and "NYSE_SECRET" in found.detail


def test_a_venue_that_the_desk_runs_itself_is_not_outside() -> None:
    assert venues_outside(desk()) == ["nyse", "sim"]
    text = DESK.replace("port = 7002", "port = 7001")
    from pathlib import Path

    assert venues_outside(parse_desk(text.encode(), Path("desk.toml"))) == ["nyse"]


@pytest.mark.parametrize(
    "more",
    [
        '[preflight]\ndisk_free = "2G"\n',
        '[dependencies.db]\nkind = "postgres"\nurl = "postgres://me:secret@db/x"\n',
        '[dependencies.db]\nkind = "redis"\nurl = "http://db"\n',
        '[dependencies.db]\nkind = "tcp"\nurl = "tcp://db"\n',
        '[dependencies.db]\nkind = "command"\n',
        '[dependencies.db]\nkind = "command"\ncommand = ["true"]\nurl = "tcp://db:1"\n',
        '[venues.b]\nurl = "http://h:1"\nsymbols = ["BTC/USD"]\nsessions = ["9 to 5"]\n',
    ],
)
def test_settings_that_make_no_sense_are_refused(more: str) -> None:
    from openbell.errors import ConfigError

    with pytest.raises(ConfigError):
        desk(more)


def test_a_desk_is_not_opened_with_values_that_it_is_looked_after_with() -> None:
    more = '[risk]\nprice_collar = "500%"\n[risk.max_position]\n"BTC/UZD" = "1"\n'
    assert "settings" not in checks()
    check = checks(more)["settings"]
    assert check.found is Found.FAILED and outcome(more) is Outcome.FAILED
    assert "risk.price_collar: 500% is no limit" in check.detail
    assert "risk.max_position.BTC/UZD" in check.detail and "did you mean BTC/USD?" in check.detail
