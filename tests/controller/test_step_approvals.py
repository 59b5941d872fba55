"""Who has approved a step of a run, whichever controller heard it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from openbell.config.approvals import Approvals
from openbell.controller.approving import as_stored
from openbell.controller.run_board import LiveRun
from openbell.controller.step_approvals import StepApprovals
from openbell.domain.approvals import GO_ON_ACT, STEP_ACT, ActRequest
from openbell.state.requests import Approval, StoredRequest


def asked(number: int, act: str, run: str, step: str, *roles: str) -> ActRequest:
    now = datetime.now(UTC)
    return ActRequest(
        id=f"r{number}",
        act=act,
        parameters={
            "run": (run,), "step": (step,), "what": ("x",), "roles": roles, "requesters": ("ann",),
        },
        reason="",
        asked_by="ann",
        asked_at=now,
        expires_at=now + timedelta(hours=1),
        expires_mono_ns=time.monotonic_ns() + 3_600_000_000_000,
    )  # fmt: skip


class Store:
    def __init__(self, *rows: tuple[ActRequest, tuple[str, ...]]) -> None:
        self.rows = rows

    def newest(self, _count: int) -> list[StoredRequest]:
        given = [
            tuple(Approval(each, "", datetime.now(UTC)) for each in people)
            for _, people in self.rows
        ]
        stored = [as_stored(request) for request, _ in self.rows]
        return [replace(each, approvals=by) for each, by in zip(stored, given, strict=True)]


async def test_what_was_approved_under_an_earlier_controller_was_given(tmp_path: Any) -> None:
    """Two had approved a flatten; the controller that went on with the closing found it done, and its
    statement said that no approval was needed."""
    store = Store(
        (asked(1, STEP_ACT, "close-1", "flatten", "operator", "risk"), ("bob", "eve")),
        (asked(2, STEP_ACT, "close-1", "disconnect", "operator", "risk"), ("bob",)),
        (asked(3, STEP_ACT, "close-0", "checkpoint", "risk"), ("bob",)),
        (asked(4, GO_ON_ACT, "close-1", "reconcile", "operator"), ("bob",)),
    )

    async def requests() -> Store:
        return store

    desk = SimpleNamespace(
        database=SimpleNamespace(requests=requests),
        desk=SimpleNamespace(file=SimpleNamespace(approvals=Approvals())),
    )
    approvals = StepApprovals(cast(Any, desk))
    await approvals.restore()
    run = LiveRun("close-1", "close", "ann", {}, 1)
    assert approvals.given(run) == {"flatten": ("bob", "eve")}
    run.approved["digest"] = "afterwards", ("joe",)
    assert approvals.given(run) == {"flatten": ("bob", "eve"), "afterwards": ("joe",)}
    approvals.forget("close-1")
    assert approvals.given(run) == {"afterwards": ("joe",)}
