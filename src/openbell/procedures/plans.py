"""What a procedure would do, for `--plan`: the same steps, observed and planned, never acted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openbell.errors import OpenbellError
from openbell.procedures.settings import approvals_of
from openbell.procedures.step import Plan, Step


async def plan_document(procedure: str, steps: Sequence[Step[Any, Any]]) -> dict[str, object]:
    """`{"procedure", "steps": [{"name", "title", "skipped", "reason", "actions": [...], "details": [...]}]}`

    A step whose part depends on earlier ones has to be made so that it observes what those lead to;
    the others are planned from what is so now.
    """
    return {"procedure": procedure, "steps": [await _planned(step) for step in steps]}


async def _planned(step: Step[Any, Any]) -> dict[str, object]:
    try:
        plan = step.plan(await step.observe())
    except OpenbellError as error:
        plan = Plan(reason=f"cannot be planned: {error.message}")
    return planned_row(step.name, step.title, plan, approvals_of(step))


def planned_row(
    name: str, title: str, plan: Plan[Any], approvals: Sequence[str] = ()
) -> dict[str, object]:
    """`{"name", "title", "skipped", "reason", "actions", "details", "approvals"}`; `approvals`: roles of
    those who must approve before it does anything."""
    return {
        "name": name,
        "title": title,
        "skipped": plan.skipped,
        "reason": plan.reason,
        "actions": list(plan.lines()),
        "details": [dict(each) for each in plan.details],
        "approvals": list(approvals),
    }
