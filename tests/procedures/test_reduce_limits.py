"""Closing, the reduction of limits: stage by stage, proven by the gates, and the same after a kill."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from openbell.config.closing import Closing as ClosingSettings
from openbell.config.loader import parse_desk
from openbell.config.models import LoadedDesk
from openbell.domain.service_state import ServiceState
from openbell.procedures.closing import closing_steps, reduce_limits
from openbell.procedures.closing.reduce_limits import ReduceFacts, plan_reduction
from openbell.procedures.closing.statement import Statement, closing_statement
from openbell.procedures.plans import plan_document
from openbell.procedures.run import Runner
from openbell.state.risk_limits import LimitsChange, change_limits, read_changes
from openbell.trading.limits_in_force import LimitsInForce

D = Decimal
RISK = """
[risk]
max_total_exposure = "1000"
max_open_positions = 3
max_daily_loss = "50"
[closing.reduce_limits]
by = "50%"
stages = 2
every = "{every}"
"""
HALF = {"max_total_exposure": "500", "max_open_positions": "1"}
QUARTER = {"max_total_exposure": "750", "max_open_positions": "2"}


class Gates:
    """Engine and risk-management: the fakes' answers, and what real ones say of limits."""

    def __init__(self, desk: Any) -> None:
        self.used: str | None = "100"
        self.unpriced: list[str] = []
        self.says_limits = True
        self._answer = desk.asks._body
        self._limits = LimitsInForce(desk.desk.file.risk, desk.layout.risk_limits)

    def __call__(self, path: str, body: Any) -> dict[str, Any]:
        match path:
            case "/v1/limits":
                return dict(self._limits.now().document()) if self.says_limits else {}
            case "/v1/risk":
                row = {"limit": "max_total_exposure", "used": self.used}
                return {"known": True, "utilisation": [row]}
            case "/v1/state":
                pnl = {"realized": "12.5", "unrealized": "-3", "unpriced": self.unpriced}
                return {**self._answer(path, body), "pnl": {**pnl, "currency": "USDT"}}
        return dict(self._answer(path, body))


@pytest.fixture
def reduced_desk(fake_desk: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(reduce_limits, "_LOOK_S", 0.01)
    return with_reduction(fake_desk, "300ms")


def with_reduction(desk: Any, every: str) -> Any:
    text = desk.desk.path.read_text() + RISK.format(every=every)
    file, path = parse_desk(text.encode(), desk.desk.path), desk.desk.path
    desk.desk = LoadedDesk(file=file, path=path, digest=desk.desk.digest)
    # Its risk-management has a port, so that it can be asked.
    desk.gates = desk.asks._body = Gates(desk)
    return desk


async def close(desk: Any, journal: Any, **more: Any) -> tuple[Statement, dict[str, Any]]:
    closing = desk.closing()
    for name, value in more.items():
        setattr(closing, name, value)
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=20)
    reports = await runner.run(closing_steps(closing))
    report = next(each for each in reports if each.name == "reduce_limits")
    told = {"outcome": str(report.outcome), "detail": report.detail, **report.evidence}
    return await closing_statement(closing, reports), told


def in_force(desk: Any, run: str = "close-1") -> dict[str, str]:
    own = read_changes(desk.layout.risk_limits).of(run)
    return {} if own is None else {name: f"{value:f}" for name, value in own.limits.items()}


async def test_limits_go_down_in_stages_and_each_tells_its_profit_and_loss(
    reduced_desk: Any, journal: Any
) -> None:
    acts: list[Any] = []

    async def record(action: str, detail: Any) -> None:
        acts.append((action, detail["stage"], detail["is"]))

    statement, told = await close(reduced_desk, journal, record_act=record)
    assert statement.verified, statement.summary
    assert (told["outcome"], in_force(reduced_desk)) == ("done", HALF)
    assert told["limits"] == [
        {"limit": "max_daily_loss", "before": "50", "after": "50"},
        {"limit": "max_open_orders", "before": "200", "after": "200"},
        {"limit": "max_open_positions", "before": "3", "after": "1"},
        {"limit": "max_orders_per_second", "before": "50", "after": "50"},
        {"limit": "max_total_exposure", "before": "1000", "after": "500"},
        {"limit": "price_collar", "before": "0.05", "after": "0.05"},
    ]
    rows = told["stages"]
    assert [(row["stage"], row["percent"], row["limits"]) for row in rows] == [
        (1, "25", QUARTER), (2, "50", HALF),
    ]  # fmt: skip
    assert {(row["realized_pnl"], row["unrealized_pnl"]) for row in rows} == {("12.5", "-3")}
    assert all(row["within"] and row["confirmed"] for row in rows)
    assert acts == [("limits.tightened", 1, QUARTER), ("limits.tightened", 2, HALF)]
    table = reduced_desk.layout.statements / "close-1-limits.json"
    assert json.loads(table.read_text()) == rows
    lines = [line for line in journal.lines if line.startswith("started")][:3]
    assert lines == ["started lock", "started reduce_limits", "started halt_strategies"]


async def test_a_stage_waits_for_positions_to_wind_down_and_no_longer_than_it_may(
    reduced_desk: Any, journal: Any
) -> None:
    """What is not known is waited for as well, and told as not known."""
    reduced_desk.gates.used = "900"
    reduced_desk.gates.unpriced = ["sim BTC/USDT"]
    _, told = await close(reduced_desk, journal)
    assert told["outcome"] == "done" and "positions over them" in told["detail"]
    assert [row["within"] for row in told["stages"]] == [False, False]
    assert [row["unrealized_pnl"] for row in told["stages"]] == [None, None]
    assert all("no price" in row["why_unknown"] for row in told["stages"])
    assert told["stages"][0]["realized_pnl"] == "12.5"


async def test_a_use_that_is_not_known_is_told_as_such(reduced_desk: Any, journal: Any) -> None:
    reduced_desk.gates.used = None
    _, told = await close(reduced_desk, journal)
    assert [row["within"] for row in told["stages"]] == [None, None]
    assert "use not known" in told["detail"]


async def test_gates_that_do_not_say_what_they_apply_are_unknown_and_the_closing_goes_on(
    reduced_desk: Any, journal: Any
) -> None:
    reduced_desk.asks.deaf = frozenset({"risk"})
    statement, told = await close(reduced_desk, journal)
    assert told["outcome"] == "unknown" and "risk" in told["detail"]
    assert not statement.verified
    assert reduced_desk.venue.position == 0, "it is closed all the same"


async def test_gates_that_apply_others_have_failed(reduced_desk: Any, journal: Any) -> None:
    reduced_desk.gates.says_limits = False
    _, told = await close(reduced_desk, journal)
    assert told["outcome"] == "failed"


@pytest.mark.parametrize("moment", ["planned", "stage 1", "stage 2", "started", "done"])
async def test_killed_inside_it_ends_the_same(
    reduced_desk: Any, journal: Any, make_journal: Any, killed: Any, moment: str
) -> None:
    async def die_at_stage(_action: str, detail: Any) -> None:
        if moment == f"stage {detail['stage']}":
            raise killed(moment)

    journal.dies_after = f"{moment} reduce_limits"
    with pytest.raises(killed):
        await close(reduced_desk, journal, record_act=die_at_stage)
    statement, told = await close(reduced_desk, make_journal())
    assert statement.verified, statement.summary
    assert (told["outcome"], in_force(reduced_desk)) == ("done", HALF)
    assert [(row["stage"], row["limits"]) for row in told["stages"]] == [(1, QUARTER), (2, HALF)]
    assert read_changes(reduced_desk.layout.risk_limits).version == 2, "no stage is written twice"
    before = {row["limit"]: row["before"] for row in told["limits"]}
    assert before["max_total_exposure"] == "1000"


async def test_what_people_tightened_is_what_is_reduced_and_stays_theirs(
    reduced_desk: Any, journal: Any
) -> None:
    theirs = LimitsChange(
        limits={"max_total_exposure": D(400)}, reason="storm", who="ann", at=datetime.now(UTC)
    )
    earlier = LimitsChange(
        limits={"max_total_exposure": D(150)}, reason="", who="ann", at=datetime.now(UTC),
        run="close-0",
    )  # fmt: skip
    change_limits(reduced_desk.layout.risk_limits, lambda _: (theirs, earlier))
    _, told = await close(reduced_desk, journal)
    changes = read_changes(reduced_desk.layout.risk_limits)
    assert (changes.of(""), changes.of("close-0")) == (theirs, earlier)
    assert in_force(reduced_desk)["max_total_exposure"] == "200", "half of what people allow"
    after = {row["limit"]: row["after"] for row in told["limits"]}
    assert after["max_total_exposure"] == "150", "of all changes the tightest"


async def test_the_plan_shows_the_limits_before_and_after_and_changes_nothing(
    reduced_desk: Any,
) -> None:
    plan = await plan_document("close", closing_steps(reduced_desk.closing()))
    step = plan["steps"][1]
    assert step["name"] == "reduce_limits"
    assert "max_total_exposure 1000 -> 750" in str(step)
    assert "max_total_exposure 1000 -> 500" in str(step)
    assert not reduced_desk.layout.risk_limits.exists()


async def test_without_an_engine_there_is_nothing_to_wind_down(
    reduced_desk: Any, journal: Any
) -> None:
    reduced_desk.services.states["engine"] = ServiceState.STOPPED
    _, told = await close(reduced_desk, journal)
    assert told["outcome"] == "skipped"
    assert in_force(reduced_desk) == {}


async def test_it_is_no_step_of_a_desk_that_does_not_ask_for_it(fake_desk: Any) -> None:
    assert "reduce_limits" not in [each.name for each in closing_steps(fake_desk.closing())]


def test_what_is_in_force_and_not_known_is_not_built_upon() -> None:
    facts = ReduceFacts({}, ({"max_total_exposure": "1"},), ("50",), None, (), "torn", True)
    plan = plan_reduction(facts)
    assert not plan.actions and "torn" in plan.reason
    found = reduce_limits.judge_reduction(facts, {}, (), ())
    assert str(found.outcome) == "unknown"


@pytest.mark.parametrize(
    "settings", [{"by": "0%"}, {"by": "101%"}, {"by": "50%", "stages": 4, "every": "1m"}]
)
def test_settings_that_make_no_reduction_or_leave_no_time_are_refused(settings: Any) -> None:
    with pytest.raises(ValidationError):
        ClosingSettings.model_validate({"reduce_limits": settings})
