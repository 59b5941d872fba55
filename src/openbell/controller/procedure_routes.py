"""The routes of `controller.procedures`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field
from starlette.responses import Response

from openbell.controller.bodies import ApproveStepBody, CancelBody, PlanBody, RunBody
from openbell.controller.procedures import HISTORY_MAX, Procedures
from openbell.controller.routes import Actor, Routes
from openbell.domain.approvals import UNNAMED
from openbell.procedures.report import report_html, report_markdown
from openbell.procedures.runbook import runbook

Answer = Callable[[object, int], Response]
Redact = Callable[[str], str]


def add_procedure_routes(
    routes: Routes, prefix: str, procedures: Procedures, answer: Answer, redact: Redact
) -> None:
    _by_name(routes, prefix, procedures, answer)
    _runs(routes, prefix, procedures, answer, redact)


def _by_name(routes: Routes, prefix: str, procedures: Procedures, answer: Answer) -> None:
    @routes.get(f"{prefix}/procedures", summary="Every procedure")
    async def list_procedures() -> Response:
        return answer(procedures.list(), 200)

    @routes.get(f"{prefix}/procedures/{{name}}", summary="A procedure, as this desk wants it")
    async def show(name: str, format: Literal["json", "md"] = "json") -> Response:
        document = procedures.show(name)
        if format == "md":
            return Response(runbook(document), media_type="text/markdown")
        return answer(document, 200)

    @routes.post(f"{prefix}/procedures/{{name}}/plan", summary="What it would do now")
    async def plan(name: str, body: PlanBody | None = None) -> Response:
        return answer(await procedures.plan(name, (body or PlanBody()).parameters), 200)

    @routes.post(f"{prefix}/procedures/{{name}}/run", status=202, summary="Begin it")
    async def run(name: str, body: RunBody | None = None, actor: Actor = "api") -> Response:
        asked = body or RunBody()
        return answer(await procedures.run(name, asked.parameters, asked.reason, actor), 202)


def _runs(
    routes: Routes, prefix: str, procedures: Procedures, answer: Answer, redact: Redact
) -> None:
    @routes.get(f"{prefix}/runs", summary="Runs, newest first")
    async def history(
        procedure: str | None = None,
        limit: Annotated[int, Field(ge=1, le=HISTORY_MAX)] = 20,
    ) -> Response:
        return answer(await procedures.history(procedure, limit), 200)

    @routes.get(f"{prefix}/runs/{{run}}/report", summary="A run's record, its chain checked")
    async def report(run: str, format: Literal["json", "md", "html"] = "json") -> Response:
        document = await procedures.report(run)
        if format == "md":
            return Response(redact(report_markdown(document)), media_type="text/markdown")
        if format == "html":
            return Response(redact(report_html(document)), media_type="text/html")
        return answer(document, 200)

    @routes.get(f"{prefix}/runs/{{run}}/resume/plan", summary="What going on with a run would do")
    async def resume_plan(run: str) -> Response:
        return answer(await procedures.resume_plan(run), 200)

    @routes.post(f"{prefix}/runs/{{run}}/resume", status=202, summary="Go on with a run")
    async def resume(run: str, actor: Actor = "api") -> Response:
        return answer(await procedures.resume(run, actor), 202)

    @routes.get(f"{prefix}/runs/{{run}}/requests", summary="What of a run waits for people")
    async def requests(run: str) -> Response:
        return answer(procedures.requests(run), 200)

    @routes.post(f"{prefix}/runs/{{run}}/approve", summary="Approve a step that waits for it")
    async def approve(run: str, body: ApproveStepBody, actor: Actor = UNNAMED) -> Response:
        done = await procedures.approve(run, body.step, body.digest, body.reason, actor)
        return answer(done, 200)

    @routes.post(f"{prefix}/runs/{{run}}/cancel", summary="End a run after its step under way")
    async def cancel(run: str, body: CancelBody | None = None, actor: Actor = "api") -> Response:
        return answer(await procedures.cancel(run, (body or CancelBody()).reason, actor), 200)
