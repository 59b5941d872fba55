"""The routes of `controller.reconciling`."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from openbell.controller.bodies import AdoptBody, ApproveBody, ReconcileBody
from openbell.controller.reconciling import Reconciling
from openbell.controller.routes import Actor, Routes
from openbell.domain.approvals import UNNAMED


def add_reconcile_routes(
    routes: Routes,
    prefix: str,
    reconciling: Reconciling,
    answer: Callable[[object, int], Response],
) -> None:
    @routes.post(f"{prefix}/reconcile", summary="The books against the venues, explained")
    async def reconcile(body: ReconcileBody | None = None) -> Response:
        return answer(await reconciling.compare((body or ReconcileBody()).venues), 200)

    @routes.post(f"{prefix}/reconcile/adopt", summary="Book what a venue says, as it was shown")
    async def adopt(body: AdoptBody, actor: Actor = UNNAMED) -> Response:
        done = await reconciling.adopt(body.venues, body.reason, body.digest, actor)
        return answer(done, 202 if "request" in done else 200)

    @routes.post(
        f"{prefix}/reconcile/approve", summary="Approve another person's adoption: it is done"
    )
    async def approve(body: ApproveBody, actor: Actor = UNNAMED) -> Response:
        return answer(await reconciling.approve(body.request, body.digest, body.reason, actor), 200)
