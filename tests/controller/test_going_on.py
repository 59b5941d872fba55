"""A closing that was cut off is gone on with as it was asked for, however often, and by which command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from tests.harness.controller_process import TWO

from openbell.cli.command import Terminal
from openbell.cli.main import openbell
from openbell.config.layout import DeskLayout
from openbell.controller.close_desk import CloseWishes
from openbell.controller.desk import Interrupted
from openbell.controller.going_on import GoingOn
from openbell.errors import ConflictError, RefusedError
from openbell.procedures.by_itself import BY_ITSELF

HELD = """
[[procedures.close.extra]]
name = "hold"
before = "cancel_orders"
command = ["sh", "-c", "until test -e go; do sleep 0.05; done; touch held-done"]
verify = ["test", "-e", "held-done"]
timeout = "300s"
repeat = true
"""
PEOPLE = """
[approvals.people]
ann = ["operator"]
joe = ["operator"]
[procedures.open.steps.start_services]
approvals = ["operator"]
"""


def by(who: str) -> dict[str, str]:
    return {"X-Openbell-Actor": who}


def cli(desk: Any, *arguments: str, who: str = "ann") -> tuple[int, str]:
    """The command in this process: exit status and whatever it wrote."""
    environ = {"OPENBELL_ACTOR": who, "OPENBELL_STATE": None}
    runner = CliRunner(env=environ)
    done = runner.invoke(openbell, ["--desk", str(desk.folder), *arguments])
    return done.exit_code, done.output


def is_held(desk: Any) -> None:
    desk.until(lambda: (desk.status()["run"] or {}).get("step") == "hold", "it is in that step")


def asked_for(desk: Any, run: str) -> dict[str, Any]:
    """What the run under way goes by."""
    told = desk.get(f"runs/{run}")[1]["parameters"]
    return {key: told[key] for key in ("flatten", "orders", "timeout_s", "force")}


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person is asked before a command does something; they say no."""
    asked: list[str] = []

    def confirm(_terminal: Terminal, question: str, *, yes: bool) -> None:
        if not yes:
            asked.append(question)
            raise click.Abort

    monkeypatch.setattr(Terminal, "confirm", confirm)
    return asked


def test_a_closing_keeps_its_wishes_until_somebody_says_something_else(
    make_desk: Any, questions: list[str]
) -> None:
    """desk.toml says nothing, so a closing without wishes would sell what is held."""
    desk = make_desk(TWO + HELD)
    desk.start()
    assert desk.run("open")[-1]["outcome"] == "trading"
    kept = {"flatten": "keep", "orders": "keep", "timeout_s": 3600.0, "force": True}
    run = desk.post("close", {**kept, "reason": "a leak"}, headers=by("ann"))[1]["run"]
    is_held(desk)
    desk.kill()

    desk.start()
    seen = desk.status()
    assert seen["interrupted_run"]["parameters"] == kept
    (row,) = [each for each in seen["recommendations"] if each["subject"] == run]
    assert row["action"] == f"openbell procedure resume {run}"
    assert "flatten keep, orders keep, force" in row["text"]
    told = desk.get("plan/close")[1]["goes_on_with"]
    goes_on = {**kept, "force": False}
    assert (told["run"], told["had"], told["now"], told["changes"]) == (run, kept, goes_on, [])
    force_again = "say it again with `openbell down --force`"
    assert "as it was asked for: flatten keep, orders keep, force; --force" in told["told"]
    assert told["told"].endswith(force_again)
    assert desk.get(f"runs/{run}/resume/plan")[1]["goes_on_with"] == told
    status, out = cli(desk, "down", "--plan", "--flatten", "aggressive")
    assert status == 0 and "CHANGED: flatten keep -> aggressive, orders keep -> cancel" in out, out
    assert desk.status()["interrupted_run"]["parameters"] == kept, "a plan changes nothing"
    assert cli(desk, "down")[0] != 0
    assert cli(desk, "down", "--orders", "cancel")[0] != 0
    plain, changing = questions
    assert plain.endswith(f"{force_again}.") and "CHANGED" not in plain
    assert "; CHANGED: orders keep -> cancel; --force was said before" in changing

    status, again = desk.post("close", headers=by("joe"))
    assert (status, again["run"], again["resumed"]) == (202, run, True), again
    assert asked_for(desk, run) == goes_on, "force is to be said by whoever goes on"
    status, refused = desk.get(f"runs/{run}/resume/plan")
    assert (status, refused["error"]) == (409, "conflict"), "it is under way"
    is_held(desk)
    desk.kill()

    desk.start()
    assert desk.post("close", {"orders": "cancel"})[1]["run"] == run
    changed = {**kept, "orders": "cancel", "force": False}
    assert asked_for(desk, run) == changed
    is_held(desk)
    desk.kill()

    desk.start()
    assert desk.post("close", {"force": True})[1]["run"] == run
    insisted = {**changed, "force": True}
    assert asked_for(desk, run) == insisted, "said again"
    is_held(desk)
    desk.kill()

    desk.start()
    assert desk.status()["interrupted_run"]["parameters"] == insisted
    status, again = desk.post(f"runs/{run}/resume")
    assert (status, again["run"]) == (202, run), again
    assert asked_for(desk, run) == changed, "not what it was begun with"
    is_held(desk)
    told = desk.get(f"runs/{run}/report")[1]
    assert told["why"] == "a leak" and told["chain"]["whole"] is True
    asked = [
        each["detail"]["parameters"]
        for each in told["events"]
        if each["action"] == "run.resumed"
    ]  # fmt: skip
    assert asked == [goes_on, changed, insisted, changed]
    (desk.folder / "go").touch()
    told = desk.get(f"runs/{run}/events")[1]
    assert told[-1]["outcome"] == "verified"
    assert told[0]["event"] == "resumed" and told[0]["message"].endswith(force_again), told[0]


def test_runs_are_told_approved_gone_on_with_and_cancelled_by_the_command_line(
    make_desk: Any,
) -> None:
    desk = make_desk(TWO + HELD + PEOPLE)
    desk.start()
    status, out = cli(desk, "procedure", "list")
    assert status == 0 and "rolling-restart" in out
    status, out = cli(desk, "procedure", "plan", "open", "--json")
    assert status == 0
    assert [each["name"] for each in json.loads(out)["steps"]] == [
        "preflight", "start_services", "begin_trading",
    ]  # fmt: skip

    opening = desk.post("open", headers=by("ann"))[1]["run"]
    desk.until(lambda: bool(desk.get(f"runs/{opening}/requests")[1]["requests"]), "it is asked")
    status, out = cli(desk, "procedure", "status")
    assert status == 0 and f"openbell --desk {desk.folder} procedure approve {opening}" in out, out
    approve = ("procedure", "approve", opening, "start_services", "--reason", "seen", "--yes")
    assert cli(desk, *approve, who="ann")[0] == RefusedError.exit_code, "one's own request"
    status, out = cli(desk, *approve, who="joe")
    assert status == 0 and f"approved start_services of {opening}" in out, out
    assert desk.get(f"runs/{opening}/events")[1][-1]["outcome"] == "trading"

    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    status, out = cli(desk, "down", "--at", at, "--yes")
    assert status == 0 and "announced: the desk closes at" in out, out
    assert desk.status()["shutting_down_soon"]["by"] == "ann"
    status, out = cli(desk, "down", "--call-off")
    assert status == 0 and "called off" in out, out
    assert desk.status()["shutting_down_soon"] is None

    closing = desk.post("close", {"flatten": "keep"}, headers=by("ann"))[1]["run"]
    is_held(desk)
    desk.kill()
    status, out = cli(desk, "procedure", "status", closing)
    assert status == 0 and f" procedure resume {closing}` goes on with it" in out, out
    (desk.folder / "go").touch()
    status, out = cli(desk, "procedure", "resume", closing)
    assert status == 0 and "CLOSING STATEMENT: verified" in out, out
    desk.until(lambda: not desk.running("openbell.controller"), "it has left a closed desk")

    status, out = cli(desk, "procedure", "cancel", closing, "--yes")
    assert status == ConflictError.exit_code and "is over: done" in out, out
    assert not desk.running("openbell.controller"), "none is started for a run that is over"
    desk.start()
    opening = desk.post("open", headers=by("ann"))[1]["run"]
    desk.until(lambda: bool(desk.get(f"runs/{opening}/requests")[1]["requests"]), "it is asked")
    desk.kill()
    status, out = cli(desk, "procedure", "cancel", opening, "--yes", "--reason", "not today")
    assert status == 0 and f"{opening} ends here" in out, out
    desk.until(lambda: not desk.running("openbell.controller"), "nothing of the desk runs")
    status, out = cli(desk, "procedure", "status", opening)
    assert status == 0 and f"{opening}: cancelled" in out, out


def test_an_opening_that_takes_the_place_of_another_says_which_it_gives_up(make_desk: Any) -> None:
    """Before, `openbell up` after a cut-off `up --safe-mode` ended that run, and said nothing of it."""
    held = HELD.replace("procedures.close", "procedures.open").replace(
        'before = "cancel_orders"', 'before = "begin_trading"'
    )
    desk = make_desk(TWO + held)
    desk.start()
    first = desk.post("open", {"safe_mode": True}, headers=by("ann"))[1]["run"]
    is_held(desk)
    desk.kill()
    desk.start()
    (desk.folder / "go").touch()
    status, out = cli(desk, "up")
    assert status == 0, out
    told = (
        f">> {first} (safe mode), begun by ann and cut off at hold, is given up: the desk is opened in"
        " another way"
    )
    assert told in out, out
    newest = desk.get("runs")[1]["runs"][0]["run"]
    result = desk.get(f"runs/{newest}/events")[1][-1]["result"]
    given_up = result["abandoned"]
    assert (given_up["run"], given_up["procedure"], given_up["step"]) == (first, "open", "hold")
    assert given_up["asked_for"]["safe_mode"] is True
    assert "abandoned: " in desk.get(f"runs/{first}/report")[1]["outcome"]
    # Of one that gives up none there is nothing to tell.
    again = desk.run("open")
    assert "abandoned" not in again[-1]["result"]
    assert not any(each["event"] == "abandoned" for each in again)


@pytest.mark.parametrize("ended", [True, False])
async def test_a_run_that_a_stop_has_ended_as_it_went_on_is_nobodys_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """It was put back as cut off, so that the next `openbell down` went on with a run that had its end,
    and broke off as a defect."""
    cut_off = Interrupted(7, "close-7", "close", "ann", "then", "cancel_orders", "why", {})
    desk = SimpleNamespace(layout=DeskLayout.for_desk(tmp_path, {}), interrupted=cut_off)

    async def nothing_against(_self: GoingOn, _cut_off: Interrupted) -> str:
        return ""

    class Refusing:
        async def close(self, _asked: CloseWishes, actor: str) -> None:
            assert actor == BY_ITSELF
            desk.interrupted = None if ended else cut_off
            raise ConflictError("an emergency stop is under way")

    monkeypatch.setattr(GoingOn, "_why_it_waits", nothing_against)
    parts: Any = (desk, None, Refusing())
    await GoingOn(*parts).begin()
    if ended:
        assert desk.interrupted is None
    else:
        waits: Any = desk.interrupted
        assert (waits.id, waits.waits_because) == ("close-7", "an emergency stop is under way")


def test_what_a_closing_does_that_nobody_described_is_in_its_question(
    make_desk: Any, questions: list[str]
) -> None:
    """After one that ended unproven too: its wishes end with it."""
    unproven = """
[[procedures.close.extra]]
name = "never"
before = "stop_services"
command = ["true"]
verify = ["false"]
on_failure = "abort"
[closing]
flatten = "conservative"
"""
    desk = make_desk(TWO + unproven)
    desk.start()
    assert desk.run("open")[-1]["outcome"] == "trading"
    cli(desk, "down", "--flatten", "keep")
    by_file = "what you do not say by [closing] as the controller has loaded it"
    assert f"flatten keep, orders cancel, {by_file}?" in questions[-1]
    assert "before" not in questions[-1]
    # The controller goes by what it has loaded, whatever became of the file since.
    file = desk.folder / "desk.toml"
    file.write_text(file.read_text().replace('"conservative"', '"keep"'))
    cli(desk, "down")
    as_loaded = f"flatten conservative, orders cancel, {by_file}, before desk.toml was changed?"
    assert as_loaded in questions[-1]
    file.write_text("[desk")
    for how in ((), ("--at", "23:59")):
        cli(desk, "down", *how)
        assert as_loaded in questions.pop()
    last = desk.run("close", {"flatten": "keep", "orders": "keep"})[-1]
    assert last["outcome"] == "not_verified"
    hint = last["error"]["hint"]
    assert "--flatten keep --orders keep` does what is left" in hint and "[closing]" in hint
    cli(desk, "down")
    assert as_loaded in questions[-1]
    assert questions[-1].endswith("what it was asked for is not taken over.")
    cli(desk, "down", "--flatten", "keep", "--orders", "keep")
    assert by_file not in questions[-1] and "[closing]" not in questions[-1]
