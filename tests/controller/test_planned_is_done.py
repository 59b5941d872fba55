"""A plan is what is then done: of each procedure that is made of others, or takes services in turn, over real
services that write down themselves when they came and went.

Of an opening and a closing with orders and positions: tests/procedures/test_closing_plan.py, and with a
venue's own log tests/trading/engine/test_against_the_simulated_venue.py.
"""

from __future__ import annotations

from typing import Any

import pytest

CHAIN = ("base", "middle", "top")
SERVICE = """
[services.{name}]
command = ["sh", "-c", '''
trap "echo stop {name} >> acts; exit 0" TERM
echo start {name} >> acts
touch {name}.up
while :; do sleep 0.05; done
''']
ready = {{ kind = "exec", command = ["test", "-e", "{{desk}}/{name}.up"], every = "20ms", timeout = "60s" }}
{more}
"""
OWN = """
[rolling]
watch_for = "100ms"
[[procedures.close.extra]]
name = "put_away"
before = "stop_services"
command = ["touch", "{desk}/away"]
verify = ["test", "-e", "{desk}/away"]
"""


@pytest.fixture
def chained(make_desk: Any) -> Any:
    """A desk that trades, each of whose services stands on the one before."""
    text = OWN
    for before, name in zip(("", *CHAIN), CHAIN, strict=False):
        more = f'depends_on = ["{before}"]' if before else ""
        text += SERVICE.format(name=name, more=more)
    desk = make_desk(text)
    desk.start()
    assert desk.run("open")[-1]["event"] == "done"
    return desk


def acts(desk: Any) -> list[str]:
    path = desk.folder / "acts"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def planned(desk: Any, procedure: str) -> list[tuple[str, list[str]]]:
    status, plan = desk.post(f"procedures/{procedure}/plan")
    assert status == 200 and not plan.get("refused"), plan
    assert desk.post(f"procedures/{procedure}/plan")[1] == plan, "asked twice it is the same"
    return [(row["name"], row["actions"]) for row in plan["steps"]]


def done(desk: Any, *runs: str) -> list[tuple[str, list[str]]]:
    """With the run's own name, which a plan has not yet, as the plan says it."""
    return [
        (each["step"], [action.replace(run, "plan") for action in each["plan"]])
        for run in runs
        for each in desk.get(f"runs/{run}/events")[1]
        if each["event"] == "step_planned"
    ]


def of_services(steps: list[tuple[str, list[str]]]) -> list[str]:
    """`stop top`, `start base`: of what they say, what the services could write down."""
    told = [action.split() for _, actions in steps for action in actions]
    return [f"{verb} {name.strip(':,')}" for verb, name, *_ in told
            if verb in ("stop", "start") and name.strip(":,") in CHAIN]  # fmt: skip


def test_restarts_do_what_their_plans_say(chained: Any) -> None:
    desk = chained
    for procedure in ("restart", "quick-restart"):
        before = len(acts(desk))
        plan = planned(desk, procedure)
        assert len(acts(desk)) == before, "a plan does nothing"
        status, begun = desk.post(f"procedures/{procedure}/run", {"parameters": {}, "reason": "r"})
        assert status == 202, begun
        closed = desk.get(f"runs/{begun['run']}/events")[1][-1]
        assert closed["outcome"] == "verified", closed
        desk.until(
            lambda run=begun["run"]: desk.get(f"restart/{run}")[1]["opening"], "it is opened"
        )
        opening = desk.get(f"restart/{begun['run']}")[1]["opening"]
        assert desk.get(f"runs/{opening}/events")[1][-1]["outcome"] == "trading"
        # A step that a restart has no use for (it flattens nothing) is not in its plan, and does nothing.
        shown = {name for name, _ in plan}
        did = done(desk, begun["run"], opening)
        assert [row for row in did if row[0] in shown] == plan
        assert [row for row in did if row[0] not in shown and row[1]] == []
        stops, starts = [f"stop {name}" for name in reversed(CHAIN)], [f"start {n}" for n in CHAIN]
        assert of_services(plan) == [*stops, *starts] == acts(desk)[before:]
        (desk.folder / "away").unlink()

    before = len(acts(desk))
    plan = planned(desk, "rolling-restart")
    status, begun = desk.post("procedures/rolling-restart/run", {"parameters": {}, "reason": "r"})
    assert status == 202, begun
    assert desk.get(f"runs/{begun['run']}/events")[1][-1]["outcome"] == "restarted"
    assert done(desk, begun["run"]) == plan
    turns = [name.removeprefix("restart_") for name, _ in plan]
    assert sorted(turns) == sorted(CHAIN)
    expected = [f"{verb} {name}" for name in turns for verb in ("stop", "start")]
    assert acts(desk)[before:] == expected
