"""The HTTP API: what docs/reference/api.md lists, as one application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import ExceptionHandler

import openbell
from openbell.config.nearest import nearest
from openbell.config.unit_texts import parse_duration
from openbell.console.files import ADDRESS, page_files
from openbell.controller import asking, documents
from openbell.controller.acts import Verb
from openbell.controller.approvals_overview import ApprovalsOverview, add_approvals_route
from openbell.controller.bodies import (
    CallOffBody,
    CheckpointBody,
    CloseBody,
    CloseLaterBody,
    ExitBody,
    HaltBody,
    LockBody,
    OpenBody,
    PermitBody,
    RestartBody,
    ResumeBody,
    RollingRestartBody,
    ServicesBody,
    StrategyBody,
    UnlockBody,
)
from openbell.controller.close_desk import CloseWishes
from openbell.controller.connections import connections_document
from openbell.controller.console_routes import add_console_routes
from openbell.controller.desk import ControlledDesk
from openbell.controller.gate import Gate
from openbell.controller.limits_routes import add_limits_routes
from openbell.controller.opening_parts import OpenWishes
from openbell.controller.parts import Parts
from openbell.controller.permits import PermitRequest
from openbell.controller.procedure_routes import add_procedure_routes
from openbell.controller.reconcile_routes import add_reconcile_routes
from openbell.controller.restarting import RestartWishes
from openbell.controller.rolling import RollingWishes
from openbell.controller.routes import V1, Actor, Routes
from openbell.controller.run_board import run_number
from openbell.controller.stop_routes import add_stop_routes
from openbell.errors import (
    ConfigError,
    ConflictError,
    CorruptError,
    NotRunningError,
    OpenbellError,
    RefusedError,
    StorageError,
    UnverifiedError,
    UsageError,
)
from openbell.procedures.report import run_state
from openbell.service.logging import get_logger
from openbell.watch.log_line import parse_level
from openbell.watch.logs import CONTROLLER, GUARD, LogQuery, log_paths, read_logs

log = get_logger()

LOG_LINES_MAX = 10_000
LOG_LINES_DEFAULT = 1_000

_STATUS: tuple[tuple[type[OpenbellError], int], ...] = (
    (UsageError, 422),
    (NotRunningError, 409),
    (ConfigError, 422),
    (ConflictError, 409),
    (RefusedError, 403),
    (UnverifiedError, 502),
    (CorruptError, 422),
    (StorageError, 507),
)


TITLE = "Openbell controller"
DESCRIBED = "Opens, watches and closes one trading desk. docs/reference/api.md tells more."


def build_app(parts: Parts, api_token: str, service_token: str) -> Starlette:
    desk = parts.desk
    page = page_files()
    gate = Middleware(
        Gate,
        allowed_hosts=desk.desk.file.controller.allowed_hosts,
        api_token=api_token,
        service_token=service_token,
        page_paths=(*page, f"{ADDRESS}/"),
    )
    routes = Routes()

    def answer(body: object, status: int) -> Response:
        return _json(desk, body, status)

    add_console_routes(routes, page)
    _describe(routes, desk)
    _look(routes, parts)
    _procedures(routes, parts)
    _act(routes, parts)
    add_procedure_routes(routes, V1, parts.procedures, answer, desk.redactor.redact)
    overview = ApprovalsOverview(
        desk,
        parts.procedures.conductor.approvals,
        {
            "kill_switch": parts.kill_switch.approving,
            "limits": parts.limits.approving,
            "reconcile": parts.reconciling.approving,
        },
    )
    add_approvals_route(routes, V1, overview, answer)
    add_limits_routes(routes, V1, parts.limits, answer)
    add_reconcile_routes(routes, V1, parts.reconciling, answer)
    add_stop_routes(
        routes, V1, parts.kill_switch, parts.emergency, answer, lambda event: _line(desk, event)
    )
    return Starlette(routes=routes.all, middleware=[gate], exception_handlers=_error_handlers(desk))


def _json(desk: ControlledDesk, body: object, status: int = 200) -> Response:
    """An answer with every known secret taken out."""
    text = orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return Response(desk.redactor.redact(text), status, media_type="application/json")


def _error(desk: ControlledDesk, error: OpenbellError) -> Response:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    if isinstance(error, UsageError) and "nearest" in error.facts:
        status = 404
    return _json(desk, error.as_dict(), status)


def _error_handlers(desk: ControlledDesk) -> dict[Any, ExceptionHandler]:
    async def openbell_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, OpenbellError)
        return _error(desk, error)

    async def no_such_route(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        body = {"error": "usage", "message": str(error.detail), "hint": f"see {V1}/docs"}
        return _json(desk, body, error.status_code)

    async def defect(request: Request, error: Exception) -> Response:
        log.error("defect in a request", path=request.url.path, exc_info=error, alert=True)
        body = {"error": "defect", "message": type(error).__name__, "hint": "see controller.log"}
        return _json(desk, body, 500)

    return {OpenbellError: openbell_error, HTTPException: no_such_route, Exception: defect}


def _describe(routes: Routes, desk: ControlledDesk) -> None:
    # Once, and on a thread: they are open to whoever reaches the port, and take a good part of a second.
    @cache
    def document() -> dict[str, Any]:
        # Only here: nothing else of a desk's life takes it.
        from openbell.controller.description import description

        return description(routes.all, title=TITLE, version=openbell.__version__, text=DESCRIBED)

    @cache
    def page() -> str:
        from openbell.controller.docs_page import docs_page

        return docs_page(document())

    @routes.get(f"{V1}/openapi.json", is_described=False)
    async def openapi() -> Response:
        return _json(desk, await asyncio.to_thread(document))

    @routes.get(f"{V1}/docs", is_described=False)
    async def docs() -> Response:
        return HTMLResponse(await asyncio.to_thread(page))


def _look(routes: Routes, parts: Parts) -> None:
    desk = parts.desk

    @routes.get(f"{V1}/ping", summary="Whether the controller answers")
    async def ping() -> Response:
        newest = desk.board.newest
        return _json(
            desk,
            {
                "desk": desk.desk.file.desk.name,
                "version": openbell.__version__,
                "newest_run": None if newest is None else newest.id,
                "live": desk.desk.file.live_venues(),
            },
        )

    @routes.get(f"{V1}/status", summary="The desk at a glance")
    async def status() -> Response:
        return _json(desk, await documents.status_document(desk, parts.observer))

    @routes.get(f"{V1}/health", summary="Probes every service now and gives a verdict")
    async def health() -> Response:
        return _json(desk, await documents.health_document(desk, parts.observer))

    @routes.get(f"{V1}/orders", summary="Open orders, as the venues say")
    async def orders(past_engine: bool = True) -> Response:
        return _json(desk, await asking.orders(desk, past_engine=past_engine))

    @routes.get(f"{V1}/positions", summary="Positions and P&L")
    async def positions(past_engine: bool = True) -> Response:
        return _json(desk, await asking.positions(desk, past_engine=past_engine))

    @routes.get(f"{V1}/connections", summary="Market data and order entry of each venue")
    async def connections() -> Response:
        return _json(desk, await connections_document(desk))

    @routes.get(f"{V1}/strategies", summary="What strategies says, and who is disabled")
    async def strategies() -> Response:
        return _json(desk, await asking.strategies(desk))

    for name, role, path in (
        ("risk", "risk", "/v1/risk"),
        ("feeds", "market-data", "/v1/feeds"),
    ):
        _passed_on(routes, desk, name, role, path)

    @routes.get(f"{V1}/logs", summary="Lines of the services' logs, oldest first")
    async def logs(
        service: tuple[str, ...] = (),
        since: str | None = None,
        tail: Annotated[int | None, Field(ge=1, le=LOG_LINES_MAX)] = None,
        level: str | None = None,
    ) -> Response:
        names = service or [*desk.desk.file.services, CONTROLLER, GUARD]
        desk.require_known([name for name in names if name not in (CONTROLLER, GUARD)])
        query = LogQuery(
            since_ns=None if since is None else _since_ns(since),
            tail=tail or (LOG_LINES_DEFAULT if since is None else LOG_LINES_MAX),
            level=None if level is None else _level(level),
        )
        lines = await asyncio.to_thread(read_logs, log_paths(desk.layout, names), query)
        return _json(desk, {"lines": [line.as_dict() for line in lines]})


def _passed_on(routes: Routes, desk: ControlledDesk, name: str, role: str, path: str) -> None:
    @routes.get(f"{V1}/{name}", summary=f"What {role} says", name=name)
    async def ask() -> Response:
        service = desk.desk.file.service_with_role(role)
        return _json(desk, await asking.passed_on(desk, name, service, path))


def _procedures(routes: Routes, parts: Parts) -> None:
    desk = parts.desk

    @routes.get(f"{V1}/plan/open", summary="What opening would do now")
    async def plan_open(
        safe_mode: bool = False,
        only: tuple[str, ...] = (),
        force: bool = False,
    ) -> Response:
        wishes = OpenWishes(safe_mode, only, force)
        return _json(desk, await parts.openings.plan_open(wishes))

    @routes.get(f"{V1}/plan/close", summary="What closing would do now")
    async def plan_close(
        flatten: Literal["aggressive", "conservative", "keep"] | None = None,
        orders: Literal["cancel", "keep", "keep-passive"] | None = None,
        reason: str = "",
        timeout_s: Annotated[float | None, Field(gt=0)] = None,
        force: bool | None = None,
    ) -> Response:
        wishes = CloseWishes(flatten, orders, reason, timeout_s, force)
        return _json(desk, await parts.closings.plan_close(wishes))

    @routes.get(f"{V1}/plan/close/later", summary="When a closing that is announced would begin")
    async def plan_close_later(at: str) -> Response:
        return _json(desk, parts.planned.would_begin(at))

    @routes.post(f"{V1}/open", status=202, summary="Open the desk")
    async def open_desk(body: OpenBody | None = None, actor: Actor = "api") -> Response:
        asked = body or OpenBody()
        wishes = OpenWishes(asked.safe_mode, asked.only, asked.force, asked.reason)
        return _json(desk, await parts.openings.open(wishes, actor), 202)

    @routes.post(f"{V1}/close", status=202, summary="Close the desk, or go on closing it")
    async def close_desk(body: CloseBody | None = None, actor: Actor = "api") -> Response:
        asked = body or CloseBody()
        wishes = CloseWishes(
            asked.flatten, asked.orders, asked.reason, asked.timeout_s, asked.force
        )
        return _json(desk, await parts.closings.close(wishes, actor), 202)

    @routes.post(f"{V1}/close/later", summary="Announce a closing that begins later; lock the desk")
    async def close_later(body: CloseLaterBody, actor: Actor = "api") -> Response:
        wishes = CloseWishes(body.flatten, body.orders, body.reason, body.timeout_s, body.force)
        return _json(desk, await parts.planned.announce(wishes, body.at, actor))

    @routes.post(f"{V1}/close/call-off", summary="Take the announced closing back")
    async def call_off(body: CallOffBody | None = None, actor: Actor = "api") -> Response:
        return _json(desk, await parts.planned.call_off((body or CallOffBody()).reason, actor))

    @routes.get(f"{V1}/plan/restart", summary="What a restart of the whole desk would do now")
    async def plan_restart(
        quick: bool = False,
        orders: Literal["cancel", "keep", "keep-passive"] | None = None,
        force: bool = False,
    ) -> Response:
        wishes = RestartWishes(quick, orders, force)
        return _json(desk, await parts.restarts.plan(wishes))

    @routes.post(f"{V1}/restart", status=202, summary="Close the desk and open it again")
    async def restart(body: RestartBody | None = None, actor: Actor = "api") -> Response:
        asked = body or RestartBody()
        wishes = RestartWishes(asked.quick, asked.orders, asked.force, asked.reason)
        return _json(desk, await parts.restarts.begin(wishes, actor), 202)

    @routes.get(
        f"{V1}/restart/{{closing}}", summary="The opening that followed a restart's closing"
    )
    async def restarted(closing: str) -> Response:
        return _json(desk, await parts.restarts.view(closing))

    @routes.get(f"{V1}/plan/rolling-restart", summary="What a rolling restart would do now")
    async def plan_rolling_restart(
        services: tuple[str, ...] = (),
        hand_back: bool = False,
    ) -> Response:
        wishes = RollingWishes(services, hand_back)
        return _json(desk, await parts.rolling.plan(wishes))

    @routes.post(f"{V1}/rolling-restart", status=202, summary="Restart services one by one")
    async def rolling_restart(
        body: RollingRestartBody | None = None, actor: Actor = "api"
    ) -> Response:
        asked = body or RollingRestartBody()
        wishes = RollingWishes(asked.services, asked.hand_back, asked.reason)
        return _json(desk, await parts.rolling.begin(wishes, actor), 202)

    @routes.get(f"{V1}/runs/{{run}}", summary="A run and how its steps went")
    async def run_document(run: str) -> Response:
        live = desk.board.find(run)
        if live is not None:
            return _json(desk, live.as_dict())
        return _json(desk, _recorded_run(run, await desk.database.get(run_number(run))))

    @routes.get(f"{V1}/runs/{{run}}/events", summary="A run's events as lines of JSON, to the last")
    async def run_events(
        run: str, after: Annotated[int, Field(ge=0)] = 0, follow: bool = True
    ) -> Response:
        live = desk.board.find(run)
        if live is None:
            raise UsageError(f'there is no run "{run}" of this controller', run=run, nearest=[])

        if not follow:
            so_far = "".join(_line(desk, event) for event in live.events[after:])
            return Response(so_far, media_type="application/x-ndjson")

        async def lines() -> AsyncIterator[str]:
            async for event in live.follow(after):
                yield _line(desk, event)

        return StreamingResponse(lines(), media_type="application/x-ndjson")


def _act(routes: Routes, parts: Parts) -> None:
    desk = parts.desk
    acts = parts.acts

    @routes.post(f"{V1}/halt", summary="No new orders; services stay up")
    async def halt(body: HaltBody | None = None, actor: Actor = "api") -> Response:
        return _json(desk, await acts.halt((body or HaltBody()).reason, actor))

    @routes.post(f"{V1}/resume", summary="New orders go on, if nothing speaks against it")
    async def resume(body: ResumeBody | None = None, actor: Actor = "api") -> Response:
        return _json(desk, await acts.resume(actor))

    @routes.post(f"{V1}/strategies/{{name}}/disable", summary="No new orders of one strategy")
    async def disable(
        name: str, body: StrategyBody | None = None, actor: Actor = "api"
    ) -> Response:
        reason = (body or StrategyBody()).reason
        return _json(desk, await acts.disable_strategy(name, reason, actor))

    @routes.post(f"{V1}/strategies/{{name}}/enable", summary="Its orders are sent again")
    async def enable(name: str, body: StrategyBody | None = None, actor: Actor = "api") -> Response:
        reason = (body or StrategyBody()).reason
        return _json(desk, await acts.enable_strategy(name, reason, actor))

    @routes.post(f"{V1}/lock", summary="No opening, reload or rolling restart until it is released")
    async def lock(body: LockBody, actor: Actor = "api") -> Response:
        return _json(desk, await acts.lock(body.reason, actor))

    @routes.post(f"{V1}/unlock", summary="Release that lock, whoever set it")
    async def unlock(body: UnlockBody | None = None, actor: Actor = "api") -> Response:
        return _json(desk, await acts.unlock((body or UnlockBody()).reason, actor))

    verbs: tuple[Verb, ...] = ("start", "stop", "restart", "reload")
    for verb in verbs:
        _verb(routes, parts, verb)

    @routes.post(f"{V1}/checkpoints", summary="Save a checkpoint")
    async def save(body: CheckpointBody | None = None, actor: Actor = "api") -> Response:
        asked = body or CheckpointBody()
        saved = await acts.save_checkpoint(asked.level, asked.verify, asked.path, actor)
        return _json(desk, saved)

    @routes.get(f"{V1}/checkpoints", summary="Every checkpoint, newest first, each checked")
    async def checkpoints() -> Response:
        return _json(desk, await acts.checkpoints())

    @routes.post(f"{V1}/exit", summary="End the controller")
    async def leave(body: ExitBody | None = None, actor: Actor = "api") -> Response:
        detach = (body or ExitBody()).detach
        acts.refuse_exit(detach)
        if detach:
            await parts.guard.detach()
        parts.exit_controller(f"asked by {actor}")
        return _json(desk, {"exiting": True})

    @routes.post(f"{V1}/permit", summary="For the engine: leave to trade")
    async def permit(body: PermitBody) -> Response:
        request = PermitRequest(
            body.service, body.epoch, body.reconciled, body.phase, body.books_known
        )
        return _json(desk, desk.permits.ask(request))


def _line(desk: ControlledDesk, event: object) -> str:
    return desk.redactor.redact(orjson.dumps(event, default=str).decode()) + "\n"


def _verb(routes: Routes, parts: Parts, verb: Verb) -> None:
    @routes.post(f"{V1}/services/{verb}", summary=f"{verb.capitalize()} services", name=verb)
    async def carry_out(body: ServicesBody, actor: Actor = "api") -> Response:
        done = await parts.acts.services(verb, body.services, actor, force=body.force)
        return _json(parts.desk, done)


def _recorded_run(run: str, record: Any) -> dict[str, object]:
    """A run of an earlier controller, from the desk database."""
    if run != f"{record.kind}-{record.run}":
        near = nearest(run, [f"{record.kind}-{record.run}"])
        raise UsageError(f'there is no run "{run}"', run=run, nearest=near)
    return {
        "id": run,
        "procedure": record.kind,
        "actor": record.who,
        "state": run_state(record),
        "parameters": record.params,
        "started": record.begun_at.isoformat(),
        "finished": None if record.finished_at is None else record.finished_at.isoformat(),
        "outcome": record.outcome,
        "steps": [
            {
                "name": step.name,
                "outcome": step.outcome,
                "seconds": (step.done_at - step.started_at).total_seconds()
                if step.done_at is not None
                else None,
                "detail": step.facts.get("detail", ""),
            }
            for step in record.steps
        ],
    }


def _since_ns(text: str) -> int:
    """A moment: a duration back from now (`5m`), or a time in ISO 8601. Raises UsageError."""
    try:
        return time.time_ns() - int(parse_duration(text) * 1e9)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f'since "{text}" is no duration and no time',
            hint="for example 5m, or 2024-11-25T15:45:00Z",
        ) from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1e9)


def _level(text: str) -> str:
    try:
        return parse_level(text)
    except ValueError as error:
        raise UsageError(str(error)) from None
