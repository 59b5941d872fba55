"""How a plan reads: each step with what it would do."""

from __future__ import annotations

from typing import Any

DETAILS_SHOWN = 20


def _approvals_told(roles: list[str], step: dict[str, Any], procedure: str) -> str:
    """A closing asks nobody for a step that has nothing to do."""
    count = f"{len(roles)} approvals" if len(roles) > 1 else "an approval"
    told = f"waits for {count} ({', '.join(roles)}) before it does anything"
    if procedure != "open" and not step.get("actions"):
        told += ", and so for none as things are"
    return told


def plan_text(plan: dict[str, Any]) -> str:
    """The plan of a procedure, as the API gives it, for people."""
    lines = [f"plan: {plan['procedure']} (nothing was done)"]
    if cut_off := plan.get("goes_on_with"):
        lines.append(cut_off["told"])
    for number, step in enumerate(plan["steps"], start=1):
        lines.append(f"{number:>3}. {step['title']}")
        if roles := step.get("approvals"):
            lines.append(f"       {_approvals_told(roles, step, plan['procedure'])}")
        actions = step.get("actions") or [
            f"nothing to do: {step.get('reason') or 'it is so already'}"
        ]
        lines += [f"       {action}" for action in actions]
        details = [str(each["told"]) for each in step.get("details", ()) if each.get("told")]
        lines += [f"         {each}" for each in details[:DETAILS_SHOWN]]
        if len(details) > DETAILS_SHOWN:
            lines.append(f"         and {len(details) - DETAILS_SHOWN} more, all of them in --json")
    if plan["procedure"] == "open":
        lines += [f"REFUSED as things are: {each}" for each in plan.get("refused", ())]
    return "\n".join(lines)
