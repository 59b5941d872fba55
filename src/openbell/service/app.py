"""`ServiceApp`: the life of a service process.

    bind the port → serve → on_start → tasks → ready …
    … SIGTERM → on_stop → tasks cancelled → on_exit → exit

The port is served from the first moment on, so a slow start is seen as "not ready" and not as
silence. After SIGTERM the open endpoints still answer while `on_stop` ends the service's work;
requests under `/v1` are refused with 503.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import inspect
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from openbell.errors import ConflictError, OpenbellError
from openbell.service import health
from openbell.service.health import Check, HealthStatus
from openbell.service.http import Handler, HostGuard, TokenFile, endpoint, json_response
from openbell.service.logging import WRITER, alert, configure, get_logger
from openbell.service.server import QuietServer
from openbell.service.tasks import TaskBody, Tasks

Hook = Callable[[], Awaitable[None]]
Reload = Callable[[], Awaitable[None] | None]

STOP_TIMEOUT_S = 8.0
"""Of all `on_stop` hooks together: below the runtime's default 10 s, after which it sends SIGKILL."""

_STANDARD_ERROR = 2

_READY = Gauge("openbell_service_ready", "1 while the service is ready", ["service"])
_LOST_LINES = Gauge("openbell_log_lines_lost", "Log lines that could not be written")
_LOST_LINES.set_function(lambda: WRITER.lost)


class ServiceApp:
    """One service. Declare checks, routes, hooks and tasks, then `run()`.

    `name` is what the code calls itself; where the desk gave the service another name
    (`OPENBELL_SERVICE`), that one is used.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str,
        stop_timeout_s: float = STOP_TIMEOUT_S,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        self.name = self._environment.get("OPENBELL_SERVICE") or name
        self.version = version
        self.port = int(self._environment.get("OPENBELL_PORT") or 0)
        """Port 0: the system chooses; the line `listening` of the log tells which."""
        self._stop_timeout_s = stop_timeout_s
        self._tasks = Tasks()
        self._checks: dict[str, Check] = {}
        self._routes: list[tuple[str, str, Handler, bool]] = []
        self._on_start: list[Hook] = []
        self._on_stop: list[Hook] = []
        self._on_exit: list[Hook] = []
        self._on_trial: list[Hook] = []
        self._on_reload: list[Reload] = []
        self._ready: bool | None = None
        self._why_not_ready = "starting"
        self._pending = ""
        self._stop_reason = ""
        self._asked_to_stop = False
        self._stopping_since: float | None = None
        self._started = time.monotonic()
        self._stop_requested = asyncio.Event()
        self._reloads: set[asyncio.Future[None]] = set()
        state = self._environment.get("OPENBELL_STATE") or "state"
        self._token = TokenFile(Path(state) / "service.token")
        configure(self.name, environment=self._environment)
        self.log = get_logger()

    # --- declaring ---------------------------------------------------------------------------

    def check(self, name: str, fn: Check) -> None:
        """A part of `/health`: sync or async, gives `ok()`, `degraded(why)` or `failing(why)`."""
        self._checks[name] = fn

    def route(self, method: str, path: str, handler: Handler, *, acts_late: bool = False) -> None:
        """Serve `method path` (`{name}` marks a path parameter). Under `/v1` the token is asked for.

        `acts_late`: carried out though its asker has given up; for what is harmless at any time.
        """
        self._routes.append((method.upper(), path, handler, acts_late))

    def on_start(self, hook: Hook) -> None:
        """Runs, in order, while the service is served but not ready. If it raises, the service exits 1."""
        self._on_start.append(hook)

    def on_stop(self, hook: Hook) -> None:
        """Runs on SIGTERM, last declared first, while tasks still run and `/health` is still served."""
        self._on_stop.append(hook)

    def on_exit(self, hook: Hook) -> None:
        """Runs after the tasks have ended, last declared first: close what they used."""
        self._on_exit.append(hook)

    def on_trial(self, hook: Hook) -> None:
        """Runs, in order, in a trial and only there: loads what `on_start` would load, beside the process
        that runs. It takes and sends nothing. If it raises, the trial has failed."""
        self._on_trial.append(hook)

    def on_reload(self, fn: Reload) -> None:
        """Runs on SIGHUP. What it raises is an alert line; the service goes on as it was."""
        self._on_reload.append(fn)

    def task(self, body: TaskBody, name: str) -> None:
        """Run in the background from the start on. If it ends, health is failing and says why."""
        self._tasks.add(body, name)

    # --- while it runs -----------------------------------------------------------------------

    def set_ready(self, ready: bool, why: str = "") -> None:
        """Tell dependents. Without any call the service is ready once `on_start` has ended."""
        self._ready = ready
        self._why_not_ready = "" if ready else why or "not ready"
        _READY.labels(self.name).set(ready)

    def set_pending(self, what: str) -> None:
        """What is left to do before the service can exit, for `/shutdown-status`."""
        self._pending = what

    @property
    def is_stopping(self) -> bool:
        return self._stopping_since is not None

    @property
    def was_asked_to_stop(self) -> bool:
        """By a signal, or by its own code; not where its start failed or its server ended."""
        return self._asked_to_stop

    def stop(self, reason: str) -> None:
        """Ask the service to end, as SIGTERM does. May be called more than once."""
        self._asked_to_stop = True
        self._begin_to_stop(reason)

    def _begin_to_stop(self, reason: str) -> None:
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            self._stop_reason = reason
            self.log.info("stopping", reason=reason)
        self._stop_requested.set()

    def run(self) -> int:
        """Serve until stopped. Exit status: 0 after a clean stop, 1 after a failed start or stop,
        5 where the port is taken."""
        try:
            listener = self._bind()
        except OpenbellError as error:
            alert(error.message, critical=True, hint=error.hint)
            return error.exit_code
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(self._live(listener))

    def try_out(self) -> int:
        """Instead of `run`: nothing is bound, served or started. Exit status 0 where nothing speaks
        against a start, else 1, and a line that says what."""
        return asyncio.run(self._try_out())

    # --- its life ----------------------------------------------------------------------------

    async def _try_out(self) -> int:
        for hook in self._on_trial:
            try:
                await hook()
            except Exception as error:  # noqa: BLE001 - whatever it is, a start would meet it too
                alert("trial failed", critical=True, why=_sentence(error), exc_info=error)
                return 1
        self.log.info("trial passed", seconds=round(time.monotonic() - self._started, 3))
        return 0

    def _bind(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self.port))
        except OSError as error:
            listener.close()
            raise ConflictError(
                f"cannot listen on 127.0.0.1:{self.port}: {error.strerror}",
                hint="`openbell check` says which process holds the port",
                port=self.port,
            ) from error
        listener.listen(512)
        self.port = listener.getsockname()[1]
        return listener

    async def _live(self, listener: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number.name)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        # Printed by the handler itself, so by a loop that is blocked too. By its number: what stands
        # for standard error in Python may be no file.
        faulthandler.register(signal.SIGQUIT, file=_STANDARD_ERROR, all_threads=True)
        server = QuietServer(self._asgi(), graceful_s=1)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        self.log.info("listening", port=self.port, pid=os.getpid(), version=self.version)
        stop_requested = asyncio.create_task(self._wait_for_stop())
        clean = False
        try:
            if await self._start(stop_requested):
                # What was made during the start lives for good: spare the collector walking it.
                gc.collect()
                gc.freeze()
                await asyncio.wait({serving, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
                clean = stop_requested.done()
            clean = await self._stop() and clean
        finally:
            stop_requested.cancel()
            await self._tasks.cancel()
            clean = await self._run_hooks(self._on_exit) and clean
            server.stop()
            await serving
        self.log.info("stopped", clean=clean)
        return 0 if clean else 1

    async def _start(self, stop_requested: asyncio.Task[None]) -> bool:
        """False where a hook raised. A stop in the middle of the start ends the start."""
        starting = asyncio.create_task(self._run_start_hooks())
        await asyncio.wait({starting, stop_requested}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        (error,) = await asyncio.gather(starting, return_exceptions=True)
        if isinstance(error, Exception):
            alert("start failed", critical=True, why=_sentence(error), exc_info=error)
            return False
        if error is None and not self.is_stopping:
            self._tasks.start()
            if self._ready is None:
                self.set_ready(True)
            self.log.info("started", seconds=round(time.monotonic() - self._started, 3))
        return True

    async def _wait_for_stop(self) -> None:
        await self._stop_requested.wait()

    async def _run_start_hooks(self) -> None:
        for hook in self._on_start:
            await hook()

    async def _stop(self) -> bool:
        """Run the stop hooks within their time-out; whether all of them ended well."""
        self._begin_to_stop("the start failed or the server ended")
        _READY.labels(self.name).set(0)
        return await self._run_hooks(self._on_stop)

    async def _run_hooks(self, hooks: list[Hook]) -> bool:
        """Last declared first, all of them within the time-out; whether all ended well."""
        clean = True
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                for hook in reversed(hooks):
                    try:
                        await hook()
                    except Exception as error:  # noqa: BLE001 - the other hooks must run as well
                        alert("stop hook failed", why=_sentence(error), exc_info=error)
                        clean = False
        except TimeoutError:
            alert("stop timed out", seconds=self._stop_timeout_s, pending=self._pending)
            return False
        return clean

    def _reload(self) -> None:
        self.log.info("reloading")
        reload = asyncio.ensure_future(self._run_reloads())
        self._reloads.add(reload)
        reload.add_done_callback(self._reloads.discard)

    async def _run_reloads(self) -> None:
        for fn in self._on_reload:
            try:
                result = fn()
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001 - the service goes on as it was
                alert("reload failed", why=_sentence(error), exc_info=error)
                return
        self.log.info("reloaded")

    # --- what it serves ----------------------------------------------------------------------

    def _asgi(self) -> Starlette:
        routes = [
            Route("/health", self._serve_health),
            Route("/ready", self._serve_ready),
            Route("/metrics", self._serve_metrics),
            Route("/shutdown-status", self._serve_shutdown_status),
        ]
        for method, path, handler, acts_late in self._routes:
            answer = endpoint(handler, self._admit, acts_late=acts_late)
            routes.append(Route(path, answer, methods=[method]))
        return Starlette(routes=routes, middleware=[Middleware(HostGuard)])

    def _admit(self, request: Request) -> Response | None:
        """The refusal of this request, where there is one."""
        path = request.url.path
        if (path == "/v1" or path.startswith("/v1/")) and not self._token.admits(
            request.headers.get("authorization", "")
        ):
            body = {
                "error": "unauthorized",
                "message": "send Authorization: Bearer <the token in state/service.token>",
            }
            return json_response(body, 401)
        if self.is_stopping:
            return json_response({"error": "stopping", "message": "the service is stopping"}, 503)
        return None

    def _identity(self) -> dict[str, Any]:
        """Lets a probe tell this process from a stranger on the same port."""
        return {
            "service": self.name,
            "pid": os.getpid(),
            "mark": self._environment.get("OPENBELL_MARK", ""),
        }

    async def _serve_health(self, _request: Request) -> Response:
        results = await health.perform(self._checks | {"tasks": self._tasks.check})
        status = health.verdict(results)
        body = {
            "status": status,
            "checks": results,
            "uptime_s": round(time.monotonic() - self._started, 3),
            "version": self.version,
            **self._identity(),
        }
        return json_response(body, 503 if status is HealthStatus.FAILING else 200)

    async def _serve_ready(self, _request: Request) -> Response:
        ready = bool(self._ready) and not self.is_stopping
        why = "" if ready else "stopping" if self.is_stopping else self._why_not_ready
        return json_response(
            {"ready": ready, "why": why, **self._identity()}, 200 if ready else 503
        )

    async def _serve_metrics(self, _request: Request) -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    async def _serve_shutdown_status(self, _request: Request) -> Response:
        since = self._stopping_since
        return json_response(
            {
                "stopping": self.is_stopping,
                "reason": self._stop_reason,
                "pending": self._pending,
                "seconds": None if since is None else round(time.monotonic() - since, 3),
                **self._identity(),
            }
        )


def _sentence(error: BaseException) -> str:
    if isinstance(error, OpenbellError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return f"{type(error).__name__}: {error}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed; it answers a probe in half the time."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
