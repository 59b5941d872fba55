"""A step of the desk's own: verified before and after, run once, and in doubt where a crash hid it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from openbell.config.layout import DeskLayout
from openbell.config.procedures import ExtraStep
from openbell.errors import FailedError
from openbell.kill.ending import kill_frozen
from openbell.kill.freezing import freeze
from openbell.kill.own_processes import OwnProcesses
from openbell.procedures.command_step import CommandFacts, CommandStep, environment_of, plan_command
from openbell.procedures.ports import EarlierEffect, NoEffects
from openbell.procedures.run import Runner
from openbell.procedures.step import Outcome
from openbell.runtime.left_commands import noted
from openbell.runtime.processes import MARK_VARIABLE
from openbell.state.nothing_sent import keep_nothing_sent, read_nothing_sent


@dataclass
class Kept:
    """`procedures.ports.Effects`, of a run that may have been cut off."""

    known: dict[str, EarlierEffect] = field(default_factory=dict)
    whats: dict[str, str] = field(default_factory=dict)

    async def intend(self, effect: str, what: str) -> bool:
        self.known[effect] = EarlierEffect.IN_DOUBT
        self.whats[effect] = what
        return True

    async def settle(self, effect: str, outcome: EarlierEffect) -> None:
        self.known[effect] = outcome

    async def earlier(self, effect: str) -> EarlierEffect:
        return self.known.get(effect, EarlierEffect.NONE)

    async def intended(self, effect: str) -> str:
        return self.whats.get(effect, "")


def step(
    folder: Path, command: str, verify: str, kept: Kept | None = None, **more: Any
) -> CommandStep:
    extra = ExtraStep(
        name="own",
        command=("sh", "-c", command),
        verify=("sh", "-c", verify),
        before="verify",
        **more,
    )
    layout = DeskLayout(desk=folder, state=folder / "state")
    environment = environment_of(extra, layout, os.environ, {"KEY": "s3cret"}, "close-7", "why not")
    return CommandStep(
        extra, layout, environment, kept or Kept(), lambda text: text.replace("s3cret", "***")
    )


async def carry_out(journal: Any, made: CommandStep) -> Any:
    (report,) = await Runner(journal, lambda _: None).run([made])
    return report


async def test_a_command_is_run_once_and_verified(journal: Any, tmp_path: Path) -> None:
    kept = Kept()
    made = step(tmp_path, 'echo "$OPENBELL_RUN $OPENBELL_REASON" >> done', "test -e done", kept)
    report = await carry_out(journal, made)
    assert report.outcome is Outcome.DONE
    assert (tmp_path / "done").read_text() == "close-7 why not\n"
    assert kept.known == {"own": EarlierEffect.DONE}


async def test_what_is_so_already_is_not_done_again(journal: Any, tmp_path: Path) -> None:
    (tmp_path / "done").touch()
    report = await carry_out(journal, step(tmp_path, "echo again >> done", "test -e done"))
    assert report.outcome is Outcome.DONE
    assert (tmp_path / "done").read_text() == ""


async def test_a_command_that_succeeds_and_changes_nothing_has_failed(
    journal: Any, tmp_path: Path
) -> None:
    report = await carry_out(journal, step(tmp_path, "true", "echo nothing there; false"))
    assert report.outcome is Outcome.FAILED and "nothing there" in report.detail


async def test_a_command_that_fails_is_told_with_its_last_words(
    journal: Any, tmp_path: Path
) -> None:
    report = await carry_out(journal, step(tmp_path, "echo no right; exit 3", "false"))
    assert report.outcome is Outcome.FAILED and "no right" in report.detail


async def test_a_verification_that_cannot_be_run_is_unknown(journal: Any, tmp_path: Path) -> None:
    made = step(tmp_path, "true", "true")
    object.__setattr__(made.extra, "verify", ("./not-there",))
    report = await carry_out(journal, made)
    assert report.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("earlier", "repeat", "runs", "outcome"),
    [
        (EarlierEffect.NONE, False, 1, Outcome.FAILED),
        (EarlierEffect.IN_DOUBT, False, 0, Outcome.UNKNOWN),
        (EarlierEffect.IN_DOUBT, True, 1, Outcome.FAILED),
        (EarlierEffect.DONE, False, 0, Outcome.FAILED),
        (EarlierEffect.FAILED, False, 1, Outcome.FAILED),
    ],
)
async def test_what_may_have_been_done_before_a_crash_is_not_done_blindly_again(
    journal: Any,
    tmp_path: Path,
    earlier: EarlierEffect,
    repeat: bool,
    runs: int,
    outcome: Outcome,
) -> None:
    kept = Kept({"own": earlier})
    made = step(tmp_path, "echo ran >> runs", "false", kept, repeat=repeat)
    report = await carry_out(journal, made)
    ran = (tmp_path / "runs").read_text().splitlines() if (tmp_path / "runs").exists() else []
    assert (len(ran), report.outcome) == (runs, outcome)


@pytest.mark.parametrize("earlier", list(EarlierEffect))
def test_a_verified_effect_is_never_brought_about(earlier: EarlierEffect) -> None:
    for repeat in (True, False):
        plan = plan_command(CommandFacts(True, earlier, ""), ("x",), repeat=repeat)
        assert plan.actions == ()


@pytest.mark.parametrize("earlier", [EarlierEffect.IN_DOUBT, EarlierEffect.DONE])
async def test_a_command_that_was_changed_meanwhile_is_not_taken_for_the_one_that_was_run(
    journal: Any, tmp_path: Path, earlier: EarlierEffect
) -> None:
    """desk.toml was edited between the crash and the resume: the new command had the old one's past, and
    nobody was told that it was another."""
    kept = Kept()
    await carry_out(journal, step(tmp_path, "echo old >> runs", "false", kept))
    kept.known["own"] = earlier
    same = step(tmp_path, "echo old >> runs", "false", kept)
    assert "another command" not in same.plan(await same.observe()).reason
    changed = step(tmp_path, "echo new >> runs", "false", kept)
    reason = changed.plan(await changed.observe()).reason
    assert reason.endswith("it was another command then: run sh -c echo old >> runs")
    await carry_out(journal, changed)
    assert (tmp_path / "runs").read_text() == "old\n"


@pytest.mark.parametrize("earlier", list(EarlierEffect))
def test_planning_keeps_nothing(tmp_path: Path, earlier: EarlierEffect) -> None:
    """The same facts, however often they are planned: what the step is to know it observes."""
    made = step(tmp_path, "true", "false")
    before = dict(vars(made))
    assert made.plan(CommandFacts(False, earlier, "")) == made.plan(
        CommandFacts(False, earlier, "")
    )
    assert vars(made) == before


async def test_a_command_that_does_not_end_is_killed_with_what_it_started(
    journal: Any, tmp_path: Path
) -> None:
    kept = Kept()
    made = step(tmp_path, "sleep 600 & echo $! > pid; wait", "false", kept, timeout=3.0)
    report = await carry_out(journal, made)
    assert report.outcome is Outcome.FAILED and "was killed" in report.detail
    child = int((tmp_path / "pid").read_text())
    deadline = asyncio.get_running_loop().time() + 60
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert asyncio.get_running_loop().time() < deadline, "its child lives"
        await asyncio.sleep(0.01)
    assert kept.known == {"own": EarlierEffect.IN_DOUBT}, "nobody knows what it did"


async def test_it_is_not_run_beside_an_earlier_attempt_that_is_still_at_work(
    journal: Any, tmp_path: Path
) -> None:
    """Though it may be repeated: two at once is not a repetition."""
    made = step(tmp_path, "echo ran >> runs", "test -e runs", repeat=True)
    earlier = subprocess.Popen(["sleep", "600"], start_new_session=True)
    folder = made.layout.commands
    try:
        with noted(folder, "own", "close-7") as spawned:
            spawned(earlier.pid)
            (note,) = folder.glob("own-*.json")
            note.rename(folder / "kept.json")  # as its controller left it
        report = await carry_out(journal, made)
        assert report.outcome is Outcome.FAILED
        assert f"close-7 is still there: pid {earlier.pid}" in report.detail
        assert not (tmp_path / "runs").exists()
    finally:
        earlier.kill()
        earlier.wait()
    assert (await carry_out(journal, made)).outcome is Outcome.DONE


async def test_only_secrets_that_are_named_are_seen_and_none_is_told(
    journal: Any, tmp_path: Path
) -> None:
    made = step(tmp_path, "true", "echo key=$KEY; false")
    assert "s3cret" not in (await carry_out(journal, made)).detail
    made = step(tmp_path, "true", "echo key=$KEY; false", secrets=("KEY",))
    report = await carry_out(journal, made)
    assert "key=***" in report.detail and "s3cret" not in str(report.evidence)
    assert "s3cret" not in repr(made)


async def test_one_that_is_given_a_secret_is_frozen_and_killed_by_an_emergency_stop(
    tmp_path: Path,
) -> None:
    """It has a session of its own, and nothing said whose it is: where the controller had been killed it
    went on, and could send after the venues were verified."""
    started = tmp_path / "started"
    made = step(tmp_path, f"touch {started}; exec sleep 600", "false", secrets=("KEY",))
    made.layout.make()
    own = OwnProcesses(made.layout)
    running = asyncio.create_task(made.act(made.plan(await made.observe()), lambda *_: None))
    try:
        async with asyncio.timeout(60):
            while not started.exists():
                await asyncio.sleep(0.02)
        (frozen,) = await asyncio.to_thread(freeze, own, 30.0)
        assert (frozen.service, frozen.result) == ("step own", "frozen")
        (ended,) = await kill_frozen(own, ["step own"])
        assert (ended.result, ended.pids) == ("killed", frozen.pids)
        with pytest.raises(FailedError):
            await running
    finally:
        running.cancel()
        await asyncio.wait([running])


def test_one_without_a_secret_carries_no_mark(tmp_path: Path) -> None:
    assert MARK_VARIABLE not in step(tmp_path, "true", "true").environment


async def test_a_plan_that_looks_meanwhile_keeps_no_command_from_being_run(
    journal: Any, tmp_path: Path
) -> None:
    """Its verification was taken for an earlier attempt, and the run's step failed."""
    planned = step(tmp_path, "true", "touch looks; until test -e done; do sleep 0.05; done")
    planned.effects = NoEffects()
    looking = asyncio.create_task(planned.observe())
    try:
        async with asyncio.timeout(60):
            while not (tmp_path / "looks").exists():
                await asyncio.sleep(0.02)
        report = await carry_out(journal, step(tmp_path, "touch done", "test -e done"))
        assert report.outcome is Outcome.DONE, report.detail
    finally:
        (tmp_path / "done").touch()
        await asyncio.wait([looking])


async def test_only_a_command_that_is_run_says_that_something_may_have_been_sent(
    journal: Any, tmp_path: Path
) -> None:
    """Its verification did too, in a plan as well: a closing of a simulated desk that was cut off had no
    last word any more, and no `down` could prove it."""
    told: list[str] = []
    made = step(tmp_path, "touch done", "test -e done", secrets=("KEY",))
    made.may_send = lambda: told.append("may send")
    made.layout.make()
    kept, stops = made.layout.nothing_sent, made.layout.emergency
    keep_nothing_sent(kept, "close-6", "then")
    await made.observe()
    await made.verify(lambda *_: None)
    assert read_nothing_sent(kept, stops) is not None and told == []
    await carry_out(journal, made)
    assert read_nothing_sent(kept, stops) is None and told == ["may send"]
    keep_nothing_sent(kept, "close-7", "then")
    await carry_out(journal, made)
    assert read_nothing_sent(kept, stops) is not None and len(told) == 1, "it was so already"


async def test_where_it_is_not_known_what_was_left_it_is_run_if_it_may_be_repeated(
    journal: Any, tmp_path: Path
) -> None:
    once = step(tmp_path, "echo once >> runs", "false")
    once.layout.run.mkdir(parents=True)
    once.layout.commands.write_text("no folder")
    report = await carry_out(journal, once)
    assert report.outcome is Outcome.FAILED and "is not known" in report.detail
    await carry_out(journal, step(tmp_path, "echo again >> runs", "false", repeat=True))
    assert (tmp_path / "runs").read_text() == "again\n"
