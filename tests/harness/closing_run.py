"""One closing of a desk of fakes (`tests/procedures/conftest.py`), from its first step to its statement."""

from __future__ import annotations

from typing import Any

from openbell.procedures.closing import closing_steps
from openbell.procedures.closing.statement import Statement, closing_statement
from openbell.procedures.run import Runner

STEPS = (
    "lock",
    "halt_strategies",
    "cancel_orders",
    "flatten",
    "wait_for_orders",
    "reconcile",
    "checkpoint",
    "stop_market_data",
    "disconnect",
    "stop_services",
    "stop_venues",
    "verify",
    "afterwards",
)
"""Of the desk of fakes, in their order."""


async def close(desk: Any, journal: Any, **wishes: Any) -> Statement:
    closing = desk.closing(**wishes)
    for step in (steps := closing_steps(closing)):
        if step.name in ("cancel_orders", "flatten"):
            step.timeout_s = 0.3  # type: ignore[misc]
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
    return await closing_statement(closing, await runner.run(steps))


def outcomes(statement: Statement) -> dict[str, str]:
    return {step["name"]: step["outcome"] for step in statement.document["steps"]}
