"""Services start when their own dependencies are ready, and a failure takes only its dependents."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openbell.config.loader import parse_desk
from openbell.config.phases import phases_of, waits_for
from openbell.domain.desk_state import DeskTarget
from openbell.domain.graph import start_order, with_dependents
from openbell.domain.service_state import ServiceState
from openbell.procedures.begin_trading import Opened, TradingFacts, judge, plan_trading
from openbell.procedures.desk_voices import EngineSays, StrategySays
from openbell.procedures.opening import (
    Started,
    Starting,
    StartServices,
    let_run_ahead,
    phase_steps,
    sending_nothing,
    services_to_open,
    start_budget_s,
    trouble,
)
from openbell.procedures.run import Runner
from openbell.procedures.starting_guard import StartGuard
from openbell.procedures.step import Outcome


def opening(services: Any, deps: dict[str, tuple[str, ...]]) -> StartServices:
    wanted = tuple(name for wave in start_order(deps) for name in wave)
    return StartServices(Starting(services, deps, lambda _: None), wanted, timeout_s=10)


async def carry_out(step: StartServices, journal: Any) -> Any:
    (report,) = await Runner(journal, lambda _: None).run((step,))
    return report


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    names = [f"s{n}" for n in range(draw(st.integers(1, 9)))]
    return {
        name: tuple(draw(st.sets(st.sampled_from(names[:n]), max_size=3)) if n else ())
        for n, name in enumerate(names)
    }


@given(graphs(), st.data())
def test_no_service_starts_before_its_dependencies_are_ready(
    make_services: Any, make_journal: Any, deps: dict[str, tuple[str, ...]], data: st.DataObject
) -> None:
    failing = data.draw(st.sets(st.sampled_from(sorted(deps))))
    services = make_services(
        dict.fromkeys(deps, ServiceState.STOPPED), fails=dict.fromkeys(failing, "exited")
    )
    step = opening(services, deps)
    report = asyncio.run(carry_out(step, make_journal()))
    for name, ready in services.ready_when_started.items():
        assert set(deps[name]) <= ready
    held_back = with_dependents(deps, failing) - failing
    for name, outcome in step.starting.outcomes.items():
        if name in held_back:
            assert outcome.outcome is Started.NOT_STARTED
        elif name in failing:
            # One that depends on another failing one was not even tried.
            assert outcome.outcome in (Started.FAILED, Started.NOT_STARTED)
        else:
            assert outcome.outcome is Started.READY
    assert (report.outcome is Outcome.DONE) is (not failing)


async def test_a_start_does_not_wait_for_a_slower_branch(make_services: Any, journal: Any) -> None:
    """`c` needs only `a`; while `b` takes its time, `c` is started, not in the next wave."""
    deps: dict[str, tuple[str, ...]] = {"a": (), "b": (), "c": ("a",)}
    services = make_services(dict.fromkeys(deps, ServiceState.STOPPED))
    slow = asyncio.Event()
    begin = services.start

    async def start(name: str) -> Any:
        result = await begin(name)
        if name == "b":
            await slow.wait()
        if name == "c":
            slow.set()
        return result

    services.start = start
    report = await asyncio.wait_for(carry_out(opening(services, deps), journal), 10)
    assert report.outcome is Outcome.DONE


async def test_what_runs_is_left_as_it_is(make_services: Any, journal: Any) -> None:
    deps: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",)}
    services = make_services({"a": ServiceState.READY, "b": ServiceState.DEGRADED})
    step = opening(services, deps)
    report = await carry_out(step, journal)
    assert services.calls == []
    assert report.outcome is Outcome.DONE
    assert {each.outcome for each in step.starting.outcomes.values()} == {Started.ALREADY_RUNNING}


async def test_what_a_service_event_tells_is_not_said_again(
    make_services: Any, journal: Any
) -> None:
    services = make_services({"a": ServiceState.STOPPED})
    events: list[Any] = []
    (report,) = await Runner(journal, events.append).run((opening(services, {"a": ()}),))
    assert report.detail == "1 service is ready"
    assert "progress" not in [event["event"] for event in events]


async def test_a_failed_service_is_told_with_its_last_words(
    make_services: Any, journal: Any
) -> None:
    services = make_services({"a": ServiceState.STOPPED}, fails={"a": "exited with status 1"})
    told: list[Any] = []
    step = StartServices(Starting(services, {"a": ()}, told.append), ("a",), timeout_s=5)
    report = await carry_out(step, journal)
    assert report.detail == "a: exited with status 1"
    assert told[0].log_tail == ("last words",)


def test_the_budget_is_the_longest_chain() -> None:
    deps: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",), "c": ()}
    assert start_budget_s(("a", "c", "b"), deps, {"a": 5, "b": 7, "c": 11}) == 12 + 10


def facts(**given: Any) -> TradingFacts:
    known: dict[str, Any] = {
        "target": DeskTarget.TRADING,
        "latched": False,
        "engine": EngineSays("ready", True, "", "trade", 0, (), 1),
        "engine_why": "",
        "strategies": (StrategySays("mm", "RUNNING", ""),),
        "strategies_why": "",
        "has_engine": True,
    }
    return TradingFacts(**(known | given))


def test_a_desk_trades_when_engine_and_strategies_do() -> None:
    assert judge(facts()).opened is Opened.TRADING


def test_an_unreachable_venue_is_named() -> None:
    waiting = EngineSays("waiting_for_venue", False, "", "none", 0, ("binance",), 0)
    verdict = judge(facts(engine=waiting))
    assert (verdict.opened, verdict.waiting_for) == (Opened.WAITING, "venue binance")
    refused = judge(facts(engine=replace(waiting, refused=True)))
    assert refused.waiting_for == "venue binance: credentials refused"


def test_a_halt_from_before_and_a_latch_stand() -> None:
    assert judge(facts(target=DeskTarget.HALTED)).opened is Opened.HALTED
    assert judge(facts(latched=True)).opened is Opened.SAFE
    assert judge(facts(target=DeskTarget.SAFE)).opened is Opened.SAFE


def test_a_disabled_strategy_is_told_and_not_waited_for() -> None:
    mixed = (StrategySays("mm", "RUNNING", ""), StrategySays("arb", "DISABLED", "by ann"))
    verdict = judge(facts(strategies=mixed))
    assert (verdict.opened, verdict.note) == (Opened.TRADING, "disabled strategies: arb")


def test_halted_strategies_of_a_desk_that_shall_trade_are_resumed() -> None:
    plan = plan_trading(facts(strategies=(StrategySays("mm", "HALTED", "closing"),)))
    assert "resume strategies mm" in plan.lines()


def test_what_is_not_known_is_waited_for() -> None:
    assert judge(facts(engine=None, engine_why="no answer")).opened is Opened.WAITING
    assert judge(facts(strategies=None, strategies_why="no answer")).opened is Opened.WAITING


def test_it_is_no_use_to_wait_while_a_critical_service_is_down() -> None:
    assert plan_trading(facts(blocked="engine is not up")).skipped


# --- phases ----------------------------------------------------------------------------------------


def two_phases(services: Any) -> tuple[Starting, list[StartServices]]:
    """`db` is infrastructure; `risk`, which needs nothing, and `engine`, which needs it, are core."""
    deps: dict[str, tuple[str, ...]] = {"db": (), "risk": (), "engine": ("db",)}
    starting = Starting(services, deps, lambda _: None)
    phases = {"db": "infrastructure", "risk": "core", "engine": "core"}
    return starting, phase_steps(starting, ("db", "risk", "engine"), phases, dict.fromkeys(deps, 5))  # type: ignore[arg-type]


def ahead_of(services: Any, *between: tuple[bool, bool]) -> list[str]:
    """What the first phase may begin of the second, with `(gated, can_end)` of each."""
    _, steps = two_phases(services)
    let_run_ahead([(step, *said) for step, said in zip(steps, between, strict=True)])
    return list(steps[0].ahead)


def test_a_phase_begins_the_next_one_unless_something_is_to_be_seen_in_between(
    make_services: Any,
) -> None:
    services = make_services(dict.fromkeys(("db", "risk", "engine"), ServiceState.STOPPED))
    free, gated, ends = (False, False), (True, False), (False, True)
    assert ahead_of(services, free, free) == ["risk", "engine"]
    assert ahead_of(services, free, gated) == []
    assert ahead_of(services, ends, free) == []
    _, (first, second) = two_phases(services)
    let_run_ahead([(first, *free), (None, *free), (second, *free)])
    assert first.ahead == (), "a step of the desk's own stands between them"


async def test_what_needs_nothing_of_a_phase_does_not_wait_for_it(
    make_services: Any, journal: Any
) -> None:
    services = make_services(dict.fromkeys(("db", "risk", "engine"), ServiceState.STOPPED))
    risk_came = asyncio.Event()
    begin = services.start

    async def start(name: str) -> Any:
        if name == "db":
            await risk_came.wait()
        result = await begin(name)
        if name == "risk":
            risk_came.set()
        return result

    services.start = start
    _, steps = two_phases(services)
    let_run_ahead([(step, False, False) for step in steps])
    reports = await asyncio.wait_for(Runner(journal, lambda _: None).run(steps), 20)
    assert [each.outcome for each in reports] == [Outcome.DONE, Outcome.DONE]
    assert services.ready_when_started["engine"] >= {"db"}
    rows = reports[1].evidence["services"]
    assert isinstance(rows, list) and [row["name"] for row in rows] == ["risk", "engine"]


async def test_a_phase_that_failed_is_named_and_the_next_one_says_what_it_lacks(
    make_services: Any, journal: Any
) -> None:
    services = make_services(
        dict.fromkeys(("db", "risk", "engine"), ServiceState.STOPPED), fails={"db": "exited with 1"}
    )
    starting, steps = two_phases(services)
    reports = await Runner(journal, lambda _: None).run(steps)
    assert [(each.name, each.outcome) for each in reports] == [
        ("start_infrastructure", Outcome.FAILED),
        ("start_core", Outcome.FAILED),
    ]
    assert "engine: not started because db is not ready" in reports[1].detail
    assert starting.outcomes["risk"].outcome is Started.READY
    assert trouble(starting.outcomes.values()) == "db: exited with 1"


async def test_opening_again_goes_on_at_the_phase_that_failed(
    make_services: Any, journal: Any
) -> None:
    services = make_services(
        {"db": ServiceState.READY, "risk": ServiceState.READY, "engine": ServiceState.FAILED}
    )
    _, steps = two_phases(services)
    reports = await Runner(journal, lambda _: None).run(steps)
    assert services.calls == [("start", "engine")]
    assert [each.outcome for each in reports] == [Outcome.DONE, Outcome.DONE]


async def test_what_nobody_waits_for_any_more_is_not_brought_up(make_services: Any) -> None:
    """A run that ends after its first phase, with a service of the next one waiting for its turn."""
    services = make_services(dict.fromkeys(("db", "risk", "engine"), ServiceState.STOPPED))
    never = asyncio.Event()
    begin = services.start

    async def start(name: str) -> Any:
        if name == "db":
            await never.wait()
        return await begin(name)

    services.start = start
    starting, _ = two_phases(services)
    starting.begin(("db", "risk", "engine"))
    await asyncio.wait_for(starting.ended(("risk",)), 10)
    await asyncio.wait_for(starting.end(), 10)
    assert [name for _, name in services.calls] == ["risk"]


# --- while the guard comes up ----------------------------------------------------------------------


def quiet_ones(text: str) -> set[str]:
    """Of a desk of these services, each a table's name and its lines."""
    tables = "".join(
        f'[services.{line.split(":")[0]}]\ncommand = ["true"]\n'
        + "".join(f"{part.strip()}\n" for part in line.split(":", 1)[1].split(";"))
        for line in text.strip().splitlines()
    )
    file = parse_desk(
        b'[desk]\nname = "x"\n[venues.v]\nurl = "http://127.0.0.1:1"\nsymbols = ["BTC/USDT"]\n'
        + tables.encode(),
        Path("desk.toml"),
    )
    wanted = services_to_open({n: s.depends_on for n, s in file.services.items()}, ())
    phases, wait_for = phases_of(file.services), waits_for(file.services)
    return set(sending_nothing(file.services, phases, wait_for, wanted))


def test_what_could_send_an_order_waits_for_the_guard_and_so_does_what_needs_it() -> None:
    """A gateway of the desk's own is infrastructure by what needs it, and is given an account."""
    assert quiet_ones(
        """
        sim: role = "venue"
        store: port = 1
        gateway: venues = ["v"]
        signer: secrets = ["KEY"]
        engine: port = 2; role = "engine"; depends_on = ["sim", "store", "gateway", "signer"]
        feed: role = "market-data"; depends_on = ["sim"]
        limits: role = "risk"; depends_on = ["engine"]
        board: role = "monitoring"
        clients: port = 3; role = "strategies"
        helper: role = "agent"
        """
    ) == {"sim", "store", "feed", "board"}


class Guard:
    """`GuardPort`, up when it is let."""

    def __init__(self) -> None:
        self.may_come = asyncio.Event()
        self.is_up = False

    def view(self) -> dict[str, Any]:
        return {"state": "running", "pid": 1} if self.is_up else {"state": "off"}

    async def opened(self) -> str:
        await self.may_come.wait()
        self.is_up = True
        return ""

    async def hold(self) -> None:
        raise NotImplementedError

    async def disarm(self, but: Any = ()) -> Any:
        raise NotImplementedError


async def test_what_sends_nothing_is_begun_while_the_guard_comes_up(
    make_services: Any, journal: Any
) -> None:
    """The guard comes once `risk` runs; `engine` is not begun before there is one."""
    states = dict.fromkeys(("db", "risk", "engine"), ServiceState.STOPPED)
    services, guard = make_services(states | {"db": ServiceState.READY}), Guard()
    up_at: dict[str, bool] = {}
    begin = services.start

    async def start(name: str) -> Any:
        up_at[name] = guard.is_up
        if name == "risk":
            guard.may_come.set()
        return await begin(name)

    services.start = start
    starting, phases = two_phases(services)
    first = StartGuard(guard, starting, frozenset({"db", "risk"}))
    let_run_ahead([(step, False, False) for step in (first, *phases)])
    reports = await asyncio.wait_for(Runner(journal, lambda _: None).run((first, *phases)), 20)
    assert [each.outcome for each in reports] == [Outcome.DONE] * 3
    assert up_at == {"risk": False, "engine": True}
    assert starting.outcomes["db"].outcome is Started.ALREADY_RUNNING


def test_nothing_is_begun_beside_a_guard_that_may_end_the_run(make_services: Any) -> None:
    services = make_services(dict.fromkeys(("db", "risk", "engine"), ServiceState.STOPPED))
    starting, phases = two_phases(services)
    first = StartGuard(Guard(), starting, frozenset({"db"}))
    let_run_ahead([(first, False, True), *((step, False, False) for step in phases)])
    assert first.ahead == ()
