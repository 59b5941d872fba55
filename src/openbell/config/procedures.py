"""`[procedures.NAME]` of desk.toml: what a desk changes about a procedure's steps, and adds to them.

Which procedures and steps there are is not known here: `openbell.procedures.settings` checks names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from openbell.config.base import Model
from openbell.config.soundness import Lasting

StepName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]
FailurePolicy = Literal["abort", "warn", "ask", "force"]
ApproverRole = Literal["operator", "risk"]
Approvals = Annotated[tuple[ApproverRole, ...], Field(max_length=2)]


class StepSettings(Model):
    """`[procedures.NAME.steps.STEP]`: one step, as this desk wants it."""

    enabled: bool = True
    """False leaves the step out; refused for one that safety needs."""
    timeout: Lasting | None = None
    """Of the step's own work; its verification has its own time."""
    on_failure: FailurePolicy | None = None
    """Failed or unknown: abort ends the run, warn and force go on and tell, ask waits for a person
    (`openbell procedure approve`) and without an answer ends it. Of a closing's `cancel_orders`,
    `flatten` and `wait_for_orders`, force and a person's word stop the services over what was found;
    warn leaves them up."""
    approvals: Approvals = ()
    """Who must approve before the step begins, by role: one or two persons, none of them the one
    who asked for the run. Where nobody is named in `[approvals] people`, any other person."""


class ExtraStep(Model):
    """`[[procedures.NAME.extra]]`: a step of the desk's own, a command with its verification."""

    name: StepName
    """Told apart from the procedure's own steps by it."""
    title: str = ""
    """For people; unset: the name."""
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """Program and arguments, no shell, run in the desk's folder. `{python}`, `{desk}` and `{state}`
    are replaced; `OPENBELL_RUN`, `OPENBELL_STEP` and `OPENBELL_REASON` are in its environment."""
    verify: Annotated[tuple[str, ...], Field(min_length=1)]
    """Exit status 0: it is so. Asked before, when the command is then not needed, and after it; must
    change nothing, as a plan runs it too."""
    before: StepName | None = None
    """The step before which it is taken."""
    after: StepName | None = None
    """The step after which it is taken; one of the two is given."""
    timeout: Lasting = 30.0
    """Of the command; it is then killed, with whatever it started."""
    on_failure: FailurePolicy = "warn"
    """As of any step."""
    repeat: bool = False
    """True: the command may be run again where a crash hid whether it took effect. False: it is
    verified, and where that says no its outcome is unknown; where it cannot be written down that it is
    about to be run (a full disk), it is not run."""
    secrets: tuple[EnvironmentName, ...] = ()
    """Variables passed on from the environment or `.env`."""
    approvals: Approvals = ()
    """As of any step."""

    @model_validator(mode="after")
    def _has_one_place(self) -> ExtraStep:
        if (self.before is None) == (self.after is None):
            raise ValueError("an extra step needs before or after, one of the two")
        return self


class ProcedureSettings(Model):
    """`[procedures.NAME]`"""

    resumes: Literal["by_command", "by_itself"] | None = None
    """How a run that was cut off is gone on with; by_itself only for a procedure that can. Unset: as the
    procedure says (`openbell procedure show NAME`)."""

    steps: dict[StepName, StepSettings] = {}
    """By the step's name, as `openbell procedure show NAME` lists them."""
    extra: tuple[ExtraStep, ...] = ()
    """Steps of the desk's own; several at one place are taken in the order of the file."""
