"""The routes of the limits: what is in force, changes, and approvals of those that raise."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from openbell.controller.bodies import ApproveBody, LimitsBody, RestoreLimitsBody
from openbell.controller.limits import LimitChanges
from openbell.controller.routes import Actor, Routes
from openbell.domain.approvals import UNNAMED


def add_limits_routes(
    routes: Routes, prefix: str, limits: LimitChanges, answer: Callable[[object, int], Response]
) -> None:
    """`answer` makes an answer of a document and a status."""

    @routes.get(f"{prefix}/limits", summary="The limits in force, and which gates apply them")
    async def in_force() -> Response:
        return answer(await limits.document(), 200)

    @routes.get(
        f"{prefix}/risk/applied", summary="What risk-management says that it applies and judges"
    )
    async def risk() -> Response:
        said = await limits.risk_says()
        return answer({"asked": said is not None, **(said.as_dict() if said else {})}, 200)

    @routes.post(
        f"{prefix}/limits", summary="Tighten limits; what raises them may need an approval"
    )
    async def change(body: LimitsBody, actor: Actor = UNNAMED) -> Response:
        done = await limits.set(body.limits, body.reduce_by_percent, body.reason, actor)
        return answer(done, 202 if done.get("request") and not done["changed"] else 200)

    @routes.post(f"{prefix}/limits/restore", summary="Take back what was tightened")
    async def restore(body: RestoreLimitsBody, actor: Actor = UNNAMED) -> Response:
        done = await limits.restore(body.limits, body.reason, actor)
        return answer(done, 202 if done.get("request") and not done["changed"] else 200)

    @routes.post(f"{prefix}/limits/approve", summary="Approve another person's raise: it is done")
    async def approve(body: ApproveBody, actor: Actor = UNNAMED) -> Response:
        return answer(await limits.approve(body.request, body.digest, body.reason, actor), 200)
