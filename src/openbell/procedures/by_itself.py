"""Whether a run that was cut off goes on by itself, without a person's word. Pure.

Invariants
- Only a procedure that says so does, from the step on which it names, and only where desk.toml does not
  take it back.
- Only under a controller that the guard started in place of one that was killed: whoever starts one by hand,
  or by a command, has come to say something, and is waited for.
- Whatever speaks against it leaves the run to a person: an emergency stop, a kill switch, an approval that is
  waited for, another procedure or desk file than it was begun with, and a run that was cut off again after it
  had gone on by itself, as it may be what ends controllers.
"""

from __future__ import annotations

from dataclasses import dataclass

from openbell.procedures.declared import Procedure, Resumes

BY_ITSELF = "by-itself"
"""Who goes on with such a run, in its record and in the audit log."""


@dataclass(frozen=True, kw_only=True)
class CutOff:
    """What is known of a run that was cut off, and of the controller that found it."""

    resumes: Resumes
    """As the desk file says, or else the procedure."""
    steps_begun: frozenset[str]
    started_by_guard: bool
    went_on_by_itself: bool
    """The last who went on with it was nobody."""
    half_of_restart: bool
    still_meant: bool
    """The desk is meant to be what the run leads to."""
    emergency: bool
    """A stop of the whole desk was begun, and nobody has opened it since."""
    latched: bool
    waits_for_people: bool
    changed: str
    """What is different of the procedure since it was begun; empty where nothing is."""
    same_code: bool | None
    """Openbell and desk.toml are those of the controller before; None where nobody can tell."""


def why_it_waits(procedure: Procedure, run: CutOff) -> str:
    """Why a person is waited for; empty where it goes on by itself."""
    if not procedure.by_itself_from:
        return procedure.not_by_itself
    if run.resumes is not Resumes.BY_ITSELF:
        return f"desk.toml says that {procedure.name} resumes by command"
    reasons = (
        (run.half_of_restart, "it is half of a restart, which opens the desk again"),
        (
            procedure.by_itself_from not in run.steps_begun,
            f"it had not come to {procedure.by_itself_from}",
        ),
        (not run.started_by_guard, "this controller was not started by the guard"),
        (run.emergency, "an emergency stop was begun"),
        (run.latched, "the kill switch is set"),
        (not run.still_meant, "the desk is not meant to be closed any more"),
        (run.waits_for_people, "it waits for an approval"),
        (run.went_on_by_itself, "it went on by itself before, and was cut off again"),
        (bool(run.changed), f"its procedure has changed since: {run.changed}"),
        (
            run.same_code is not True,
            "Openbell or desk.toml has changed since, or nobody can tell",
        ),
    )
    return next((told for holds, told in reasons if holds), "")
