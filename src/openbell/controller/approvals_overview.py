"""Everything of the desk that waits for people, of every kind, in one list.

Each kind keeps its own requests and decides over its own approvals; this only reads them. For whoever
looks it says too why their approval would not count, by the very rule that would refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from openbell.controller.approving import Approving
from openbell.controller.desk import ControlledDesk
from openbell.controller.routes import Actor, Routes
from openbell.controller.step_approvals import StepApprovals
from openbell.domain.approvals import UNNAMED

_OF_ACT = ("id", "act", "reason", "by", "asked", "expires", "digest")
"""Keys of a request that every act has; the others are what it is bound to."""


@dataclass(frozen=True)
class ApprovalsOverview:
    desk: ControlledDesk
    steps: StepApprovals
    acts: Mapping[str, Approving]
    """By kind, which is also the path under which it is approved, `_` for `-`."""

    def document(self, actor: str) -> dict[str, Any]:
        """`GET /api/v1/approvals`, as docs/reference/api.md shows it."""
        rules = self.desk.desk.file.approvals
        return {
            "needed_for": list(rules.acts),
            "expire_after_s": rules.expire_after,
            "people": {name: list(roles) for name, roles in rules.people.items()},
            "requests": sorted(
                [*self._steps(actor), *self._acts(actor)], key=lambda row: str(row["asked"])
            ),
        }

    def _steps(self, actor: str) -> Iterator[dict[str, Any]]:
        """Of the run under way, and of one that was cut off and may be gone on with."""
        board, cut_off = self.desk.board, self.desk.interrupted
        live = board.current
        for run in dict.fromkeys(each.id for each in (live, cut_off) if each is not None):
            for row in self.steps.waiting_for(run):
                asked = str(row["id"])
                yield {
                    "kind": "step" if row["kind"] == "approval" else "go_on",
                    "id": asked,
                    "run": run,
                    "step": row["step"],
                    "question": "" if live is None else _question(live.events, asked),
                    "by": row["requesters"],
                    "reason": row["reason"],
                    "roles": row["roles"],
                    "approved_by": row["approved_by"],
                    "bound_to": {} if row["parameters"] is None else row["parameters"],
                    **self._times(row),
                    "digest": row["digest"],
                    "path": f"/api/v1/runs/{run}/approve",
                    "why_not": self.steps.why_not(asked, actor),
                }

    def _acts(self, actor: str) -> Iterator[dict[str, Any]]:
        for kind, approving in self.acts.items():
            for request in approving.waiting():
                row = request.as_dict()
                yield {
                    "kind": kind,
                    "id": request.id,
                    "run": None,
                    "step": None,
                    "question": "",
                    "by": [request.asked_by],
                    "reason": request.reason,
                    "roles": [],
                    "approved_by": [],
                    "bound_to": {key: row[key] for key in row if key not in _OF_ACT},
                    **self._times(row),
                    "digest": request.digest,
                    "path": f"/api/v1/{kind.replace('_', '-')}/approve",
                    "why_not": approving.why_not(request, actor),
                }

    @staticmethod
    def _times(row: Mapping[str, object]) -> dict[str, object]:
        left = datetime.fromisoformat(str(row["expires"])) - datetime.now(UTC)
        return {
            "asked": row["asked"],
            "expires": row["expires"],
            "expires_in_s": round(max(0.0, left.total_seconds()), 1),
        }


def _question(events: list[dict[str, object]], request: str) -> str:
    """What the run itself said when it began to wait."""
    for event in reversed(events):
        asked = event.get("request")
        if event.get("event") == "waiting" and isinstance(asked, dict) and asked["id"] == request:
            return str(event.get("message") or "")
    return ""


def add_approvals_route(
    routes: Routes,
    prefix: str,
    overview: ApprovalsOverview,
    answer: Callable[[object, int], Response],
) -> None:
    @routes.get(f"{prefix}/approvals", summary="Everything that waits for people")
    async def approvals(actor: Actor = UNNAMED) -> Response:
        return answer(overview.document(actor), 200)
