"""`openbell health` of a desk without a controller: nobody probes its services, and what is known otherwise
is told as `status` does."""

from __future__ import annotations

from typing import Any

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.domain.health import NOT_RUNNING_REASON, Verdict
from openbell.procedures.advice import is_unproven
from openbell.procedures.uncontrolled import status_without_controller
from openbell.state.asked import read_asked

_SHARED = (
    "desk", "live", "state", "why", "guard", "venues", "permit", "latch", "halt", "emergency",
    "not_proven", "recommendations",
)  # fmt: skip


def health_without_controller(desk: LoadedDesk, layout: DeskLayout) -> dict[str, Any]:
    """The shape of `GET /api/v1/health`. Not running is said of a desk that was closed and proven so;
    any other that nobody watches is unhealthy."""
    asked = read_asked(layout.target)
    status = status_without_controller(desk, layout, asked)
    runs = any(row["pid"] is not None for row in status["services"])
    stop = status["emergency"]
    reasons = []
    if stop is not None and is_unproven(stop):
        reasons += [row["text"] for row in status["recommendations"] if row["subject"] == "desk"]
    if runs or not asked.is_closed:
        reasons.append(status["why"])
    verdict = Verdict.UNHEALTHY if reasons else Verdict.NOT_RUNNING
    return {
        "verdict": str(verdict),
        "exit_code": verdict.exit_code,
        "reasons": list(dict.fromkeys(reasons)) or [NOT_RUNNING_REASON],
        **{key: status[key] for key in _SHARED},
        "services": [{**row, "checks": None} for row in status["services"]],
    }
