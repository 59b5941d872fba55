"""execution-engine: the one process of the desk that sends orders; and its standby.

Ready as soon as it holds its epoch and serves: a venue that is down is waited for, in a phase that
says so, without any order. SIGTERM ends intake, waits for answers to what was sent and keeps a
snapshot; orders at the venue stay. Exit status 5: another engine took over.

On a desk that declares a standby the engine is two such processes. Each begins by standing by, and
trades from the moment at which the controller promotes it: a process that was started anew takes
nothing from one that trades.
"""

from __future__ import annotations

import asyncio
from typing import Any

from openbell import __version__
from openbell.config.live import live_notice
from openbell.errors import ConfigError, ConflictError, OpenbellError
from openbell.service import CheckResult, ServiceApp, degraded, failing, ok
from openbell.service.context import ServiceContext
from openbell.service.http import Handler, deadline_mono_ns
from openbell.service.launch import collect_garbage, is_trial
from openbell.service.logging import alert, get_logger
from openbell.state.last_word import a_sender_starts
from openbell.trading.engine.api import EngineApi
from openbell.trading.engine.engine import Engine, Setup
from openbell.trading.engine.likeness import Likeness
from openbell.venues.credentials import Credentials
from openbell.venues.port import Venue
from openbell.venues.registry import open_venue

_OF_THE_PRIMARY = (
    "orders", "halt", "resume", "cancel", "flatten", "flatten-plan", "reconcile", "adopt",
)  # fmt: skip
"""What only an engine that trades can do. To tell of `orders` is to ask for those that a venue does not
list, and to book what it says of them."""


class ExecutionEngine:
    """The service's parts, wired together on `start`."""

    def __init__(self, app: ServiceApp, context: ServiceContext) -> None:
        self.fenced = False
        self._app = app
        self._context = context
        self._venues = _open_venues(context)
        self._engine: Engine | None = None
        self._api: EngineApi | None = None
        self._likeness: Likeness | None = None
        app.on_start(self._start)
        app.on_trial(self._try_out)
        app.on_stop(self._stop)
        app.on_exit(self._close)
        for check in (self._check_venues, self._check_storage):
            app.check(check.__name__.removeprefix("_check_"), check)
        for method, name in (
            ("GET", "state"),
            ("GET", "limits"),
            ("GET", "orders"),
            ("GET", "positions"),
            ("GET", "snapshot"),
            ("POST", "halt"),
            ("POST", "resume"),
            ("POST", "cancel"),
            ("POST", "flatten"),
            ("GET", "flatten-plan"),
            ("POST", "reconcile"),
            ("POST", "hand-over"),
            ("POST", "promote"),
            ("POST", "adopt"),
        ):
            # A halt or a cancel that is read late can only reduce risk; all else is for whoever
            # waits for it.
            acts_late = name in ("halt", "cancel")
            app.route(method, f"/v1/{name}", self._handler(name), acts_late=acts_late)

    async def _start(self) -> None:
        if live := self._context.file.live_venues():
            get_logger().warning(live_notice(live), venues=live)
        layout = self._context.layout
        layout.make()
        # Whoever started it: the controller has done so, a hand or an older controller has not.
        await asyncio.to_thread(a_sender_starts, layout)
        setup = self._setup()
        self._likeness = await asyncio.to_thread(self._make_likeness)
        is_paired = self._app.name in (self._context.file.engine_pair() or ())
        begin = Engine.stand_by if is_paired else Engine.start
        self._engine = await begin(setup)
        self._api = EngineApi(self._engine, self._likeness)
        for name, body in self._engine.tasks():
            self._app.task(body, name)
        self._app.task(self._end_when_fenced, "epoch")

    def _setup(self) -> Setup:
        layout = self._context.layout
        return Setup(
            service=self._app.name,
            file=self._context.file,
            layout=layout,
            token=layout.state / "service.token",
            venues=self._venues,
        )

    def _make_likeness(self) -> Likeness:
        context = self._context
        return Likeness.of(context.desk, context.layout.desk_id, context.credentials)

    async def _try_out(self) -> None:
        """Makes the whole engine over the journal that there is, read only, and ends it again. It connects
        to no venue, asks for no permit and no epoch, and binds nothing."""
        await asyncio.to_thread(self._make_likeness)
        try:
            engine = await Engine.try_out(self._setup())
        except ConfigError as error:
            version, known = error.facts.get("schema_version"), error.facts.get("known_version")
            if not (isinstance(version, int) and isinstance(known, int) and version < known):
                raise
            # A start migrates it; a trial must not, while the old code works on it.
            get_logger().warning("the journal was not read", why=error.message)
            return
        await engine.close()

    async def _end_when_fenced(self) -> None:
        assert self._engine is not None
        await self._engine.ledger.fenced.wait()
        self.fenced = True
        alert("another engine took over: this one ends", critical=True)
        self._app.stop("fenced")
        await asyncio.Event().wait()

    async def _stop(self) -> None:
        if self._engine is not None:
            self._app.set_pending(f"{self._engine.desk.under_way} orders without an answer")
            await self._engine.stop(on_purpose=self._app.was_asked_to_stop)
            self._app.set_pending("")

    async def _close(self) -> None:
        if self._engine is not None:
            await self._engine.close()

    def _handler(self, name: str) -> Handler:
        def handle(fields: dict[str, Any]) -> object:
            if self._api is None:
                raise ConflictError("the engine is starting", hint="ask again in a moment")
            phase = self._engine.phase if self._engine is not None else "starting"
            if phase in ("standby", "retired") and name in _OF_THE_PRIMARY:
                raise ConflictError(
                    f"this engine is {phase}: it acts on nothing",
                    hint="ask the engine that trades; `openbell status` names it",
                )
            until_ns = deadline_mono_ns.get()
            if name in ("flatten", "promote") and until_ns is not None:
                fields = {"valid_until_mono_ns": until_ns, **fields}
            answer: object = getattr(self._api, name.replace("-", "_"))(fields)
            return answer

        return handle

    def _check_venues(self) -> CheckResult:
        if self._engine is None:
            return degraded("starting")
        if self._engine.phase in ("standby", "retired"):
            lost = [
                f"{name}: {link.why_not}"
                for name, link in self._engine.links.items()
                if not link.connected
            ]
            return degraded("; ".join(lost)) if lost else ok(self._engine.phase)
        wrong = [
            f"{name}: {link.why_not}"
            for name, link in self._engine.links.items()
            if not (link.connected and link.reconciled)
        ]
        silent = [name for name, link in self._engine.links.items() if not link.streaming]
        wrong += [f"{name}: no order stream, polled" for name in silent if not wrong]
        return degraded("; ".join(wrong)) if wrong else ok(self._engine.phase)

    def _check_storage(self) -> CheckResult:
        if self._engine is None or self._engine.ledger.retired:
            return ok()
        if self._engine.follow_problem:
            return failing(f"the journal cannot be followed: {self._engine.follow_problem}")
        problem = self._engine.ledger.storage_problem
        return failing(f"no order is sent: {problem}") if problem else ok()


def _open_venues(context: ServiceContext) -> dict[str, Venue]:
    """ConfigError where a venue's credentials were not handed to this service."""
    venues: dict[str, Venue] = {}
    for name, config in context.file.venues.items():
        if name not in context.credentials:
            raise ConfigError(
                f"the credentials of venue {name} were not handed to this service",
                hint=f'name the venue in [services.{context.name}]: venues = ["{name}"]',
            )
        key, secret = context.credentials[name]
        venues[name] = open_venue(name, config, Credentials(key, secret))
    return venues


def main() -> int:
    collect_garbage()
    app = ServiceApp("execution-engine", version=__version__)
    try:
        engine = ExecutionEngine(app, ServiceContext.from_environment())
    except OpenbellError as error:
        alert(error.message, critical=True, hint=error.hint)
        return error.exit_code
    if is_trial():
        return app.try_out()
    status = app.run()
    return ConflictError.exit_code if engine.fenced else status


if __name__ == "__main__":
    raise SystemExit(main())
