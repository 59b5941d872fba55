"""What a procedure would do, for `--plan`: the same steps, observed and planned, never acted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openbell.errors import OpenbellError
from openbell.procedures.step import Step


async def plan_document(procedure: str, steps: Sequence[Step[Any, Any]]) -> dict[str, object]:
    """`{"procedure", "steps": [{"name", "title", "skipped", "reason", "actions": [...]}]}`

    Later steps are planned from what is so now, before the earlier ones would have acted.
    """
    return {"procedure": procedure, "steps": [await _planned(step) for step in steps]}


async def _planned(step: Step[Any, Any]) -> dict[str, object]:
    told: dict[str, object] = {"name": step.name, "title": step.title}
    try:
        plan = step.plan(await step.observe())
    except OpenbellError as error:
        return {
            **told,
            "skipped": False,
            "reason": f"cannot be planned: {error.message}",
            "actions": [],
        }
    return {
        **told,
        "skipped": plan.skipped,
        "reason": plan.reason,
        "actions": list(plan.lines()),
    }
