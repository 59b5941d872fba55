"""Opening, before anything else: is there a reason not to?"""

from __future__ import annotations

from dataclasses import dataclass

from openbell.procedures.checklists import (
    STANDS_IN_THE_WAY,
    Check,
    Found,
    counts,
    summary,
)
from openbell.procedures.declared import StepSpec
from openbell.procedures.preflight_checks import judge
from openbell.procedures.preflight_facts import GREETER_START_S, PreflightFacts, Surroundings, look
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification

SPEC = StepSpec(
    name="preflight",
    title="Look before anything is started",
    does="Looks at market hours, backups, disk, memory, credentials, the network to the venues, their "
    "clocks, and what the desk depends on. Changes nothing.",
    verified_by="Each thing is looked at: ok, warn, failed, refused (--force insists), unknown, or not "
    "configured. Failed, refused and unknown stand in the way.",
    timeout_s=0.0,
    timeout_note="the longest time that one of its questions may take, and five seconds",
    on_failure=OnFailure.ABORT,
    needed_because="nobody else looks before the desk can trade",
    evidence="each check: what was found, the numbers behind it, what would mend it",
)


@dataclass
class TakePreflight:
    """Step: nothing speaks against opening."""

    around: Surroundings
    checks: tuple[Check, ...] = ()
    """Of the last look."""
    name: str = SPEC.name
    title: str = SPEC.title
    on_failure: OnFailure = SPEC.on_failure

    @property
    def timeout_s(self) -> float:
        desk = self.around.desk.file
        asked = [each.timeout for each in desk.dependencies.values()]
        # The folder is asked first, and then what lies in it.
        asked += [2 * each.timeout for each in desk.backups.values()]
        return max((desk.preflight.timeout + GREETER_START_S, *asked)) + 5.0

    async def observe(self) -> PreflightFacts:
        facts = await look(self.around)
        self.checks = judge(facts, self.around.desk.file)
        return facts

    def plan(self, facts: PreflightFacts) -> Plan[str]:
        """There is nothing to do but to look, and what is seen is the plan."""
        checks = judge(facts, self.around.desk.file)
        return Plan(reason="; ".join([summary(checks), *(each.told() for each in _noted(checks))]))

    async def act(self, plan: Plan[str], say: Say) -> None:
        raise AssertionError("looking has no actions")

    async def verify(self, say: Say) -> Verification:
        """What was seen a moment ago: nothing was done since."""
        if not self.checks:
            return Verification(Outcome.UNKNOWN, "it was not looked to the end")
        return preflight_verdict(self.checks)


def preflight_verdict(checks: tuple[Check, ...]) -> Verification:
    in_the_way = [each for each in checks if each.found in STANDS_IN_THE_WAY]
    unknown = [each for each in checks if each.found is Found.UNKNOWN]
    noted = in_the_way + unknown or [each for each in checks if each.found is Found.WARN]
    told = "; ".join([summary(checks), *(each.told() for each in noted)])
    evidence = {"checks": [each.as_dict() for each in checks], "counts": counts(checks)}
    if in_the_way:
        return Verification(Outcome.FAILED, told, evidence)
    return Verification(Outcome.UNKNOWN if unknown else Outcome.DONE, told, evidence)


def _noted(checks: tuple[Check, ...]) -> list[Check]:
    well = (Found.OK, Found.NOT_CONFIGURED)
    return [each for each in checks if each.found not in well]
