"""A step of the desk's own: a command, and another one that says whether it is so.

The verification is asked first: where it is so already, the command is not run. Before the command is
run its intent is journaled, and afterwards how it ended. A crash in between leaves the intent without
an outcome: the command may have taken effect. Neither such a command nor one that has succeeded in this
run is run again, unless the desk file says that it may be (`repeat`). Where the intent cannot be written,
because the disk is full, it is not run at all: a crash would hide that it ever was.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from openbell.config.layout import DeskLayout
from openbell.config.procedures import ExtraStep
from openbell.errors import FailedError, StorageError
from openbell.kill.aside import aside
from openbell.procedures.ports import EarlierEffect, Effects, NoEffects
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.runtime.commands import Ran, run_command
from openbell.runtime.left_commands import left_commands, noted
from openbell.runtime.members import Mark
from openbell.runtime.plan import BASE_VARIABLES
from openbell.runtime.processes import MARK_VARIABLE
from openbell.state.last_word import a_sender_starts

VERIFY_TIMEOUT_S = 20.0
"""Of one verification; below what the runner gives a step for it, so that its own word is told."""
LOOK_S = 10.0
"""For the disk to say what was left at work."""
_PLACEHOLDER = re.compile(r"\{(python|desk|state)\}")


@dataclass(frozen=True)
class CommandFacts:
    """What is so before the command."""

    verified: bool
    earlier: EarlierEffect
    """What is known of it from before a crash."""
    told: str
    """What the verification printed last."""
    was: str = ""
    """The command that this run had intended under the same name, where that was another one."""


@dataclass(frozen=True)
class RunCommand:
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"run {' '.join(self.argv)}"


def plan_command(facts: CommandFacts, argv: tuple[str, ...], *, repeat: bool) -> Plan[RunCommand]:
    if facts.verified:
        return Plan(reason="it is verified to be so already")
    if repeat:
        return Plan((RunCommand(argv),))
    was = f"; it was another command then: {facts.was}" if facts.was else ""
    if facts.earlier is EarlierEffect.IN_DOUBT:
        return Plan(
            reason="not run again: it may have been run before the controller was cut off, and what "
            f"became of it is not known{was}"
        )
    if facts.earlier is EarlierEffect.DONE:
        return Plan(reason=f"not run again: it has succeeded in this run{was}")
    return Plan((RunCommand(argv),))


def environment_of(
    extra: ExtraStep,
    layout: DeskLayout,
    environ: Mapping[str, str],
    secrets: Mapping[str, str],
    run: str,
    reason: str,
) -> dict[str, str]:
    """What its commands see: the base variables, what they are told, and the secrets they name.

    One that is given a secret may send an order. It carries a mark, of no service: an emergency stop
    freezes and kills it as it does whatever it does not know, also where no controller is left to break
    it off; so does a controller that finds it left over."""
    known = {**secrets, **environ}
    mark = Mark.of_step(layout.desk_id, extra.name)
    return {
        **({MARK_VARIABLE: str(mark)} if extra.secrets else {}),
        **{name: environ[name] for name in BASE_VARIABLES if name in environ},
        "OPENBELL_DESK": str(layout.desk),
        "OPENBELL_STATE": str(layout.state),
        "OPENBELL_RUN": run,
        "OPENBELL_STEP": extra.name,
        "OPENBELL_REASON": reason,
        **{name: known[name] for name in extra.secrets if name in known},
    }


@dataclass
class CommandStep:
    """Step: the verification says that it is so."""

    extra: ExtraStep
    layout: DeskLayout
    environment: Mapping[str, str] = field(repr=False)
    effects: Effects
    redact: Callable[[str], str] = str
    """Takes known secrets out of what was printed."""
    may_send: Callable[[], None] = lambda: None
    """Told directly before a command that is given a secret is run."""
    _ran: Ran | None = None
    _seen: CommandFacts | None = None

    @property
    def name(self) -> str:
        return self.extra.name

    @property
    def title(self) -> str:
        return self.extra.title or self.extra.name

    @property
    def timeout_s(self) -> float:
        """Of the command; the look before it has its own time."""
        return self.extra.timeout + VERIFY_TIMEOUT_S + 5.0

    @property
    def on_failure(self) -> OnFailure:
        return OnFailure(self.extra.on_failure)

    async def observe(self) -> CommandFacts:
        looked = await self._look()
        earlier = await self.effects.earlier(self.name)
        then, now = await self.effects.intended(self.name), str(self._action())
        was = "" if then == now else then
        self._seen = CommandFacts(looked.status == 0, earlier, looked.told, was)
        return self._seen

    def plan(self, facts: CommandFacts) -> Plan[RunCommand]:
        return plan_command(facts, self._action().argv, repeat=self.extra.repeat)

    def _action(self) -> RunCommand:
        return RunCommand(self._filled(self.extra.command))

    async def act(self, plan: Plan[RunCommand], say: Say) -> None:
        for action in plan.actions:
            if left := await self._left():
                raise FailedError(f"not run: {left}")
            if self.extra.secrets:
                # It may be able to send an order. Not before the verification, which changes nothing.
                a_sender_starts(self.layout)
            written = await self.effects.intend(self.name, str(action))
            if not written and not self.extra.repeat:
                raise StorageError(
                    "not run: it cannot be written down that it is about to be run, and it must not be "
                    "run twice",
                    hint="make room on the disk, or say `repeat = true` of a command that may be",
                )
            if self.extra.secrets:
                self.may_send()
            self._ran = await self._run(action.argv, self.extra.timeout)
            if self._ran.status is not None:
                # Cut off, or never started in time: what it did is for the verification to say.
                done = EarlierEffect.DONE if self._ran.status == 0 else EarlierEffect.FAILED
                await self.effects.settle(self.name, done)
            if self._ran.status != 0:
                raise FailedError(f"{action.argv[0]}: {self._ran.told}")

    async def verify(self, say: Say) -> Verification:
        looked = await self._look()
        evidence: dict[str, object] = {"verification": looked.as_dict()}
        if self._ran is not None:
            evidence["command"] = self._ran.as_dict()
        if looked.status == 0:
            return Verification(Outcome.DONE, looked.told, evidence)
        if looked.status is None:
            return Verification(Outcome.UNKNOWN, f"cannot be verified: {looked.told}", evidence)
        seen = self._seen
        in_doubt = seen is not None and seen.earlier is EarlierEffect.IN_DOUBT
        if in_doubt and not self.extra.repeat:
            told = "whether it took effect before the controller was cut off is not known"
            return Verification(Outcome.UNKNOWN, f"{told}: {looked.told}", evidence)
        return Verification(Outcome.FAILED, f"not so: {looked.told}", evidence)

    def _filled(self, argv: Sequence[str]) -> tuple[str, ...]:
        return filled(argv, self.layout)

    async def _look(self) -> Ran:
        return await self._run(self._filled(self.extra.verify), VERIFY_TIMEOUT_S)

    async def _run(self, argv: Sequence[str], timeout_s: float) -> Ran:
        run, plan = self.environment["OPENBELL_RUN"], isinstance(self.effects, NoEffects)
        with noted(self.layout.commands, self.name, run, plan=plan) as spawned:
            return await run_command(
                argv,
                cwd=self.layout.desk,
                environment=self.environment,
                timeout_s=timeout_s,
                redact=self.redact,
                spawned=spawned,
            )

    async def _left(self) -> str:
        """That an earlier attempt at it is at work still, though its controller is gone; or that this is
        not known, and it must not be run twice."""
        try:
            found = await aside(lambda: left_commands(self.layout.commands), LOOK_S)
        except OSError as error:
            why = str(error) or type(error).__name__
            return "" if self.extra.repeat else f"whether it is at work still is not known: {why}"
        there = [(note, living) for note, living in found.items() if note.step == self.name]
        return "; ".join(
            f"{note.told()} is still there: pid {', '.join(str(each.pid) for each in living)}"
            for note, living in there
        )


def filled(argv: Sequence[str], layout: DeskLayout) -> tuple[str, ...]:
    """With what `{python}`, `{desk}` and `{state}` stand for."""
    values = {"python": sys.executable, "desk": str(layout.desk), "state": str(layout.state)}
    return tuple(_PLACEHOLDER.sub(lambda m: values[m[1]], part) for part in argv)
