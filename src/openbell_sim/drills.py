"""`/sim/v1/control/...`: latency and faults are set, read and cleared here."""

from __future__ import annotations

import msgspec
from aiohttp import web

from openbell.errors import ConfigError
from openbell_sim.faults.document import decode
from openbell_sim.faults.latency import Latency
from openbell_sim.faults.plan import Armed, FaultPlan
from openbell_sim.wire import Admit, json_reply, read, refused


class Drills:
    def __init__(self, plan: FaultPlan, admit: Admit) -> None:
        self._plan = plan
        self._admit = admit

    def add_routes(self, app: web.Application) -> None:
        route = app.router.add_route
        route("GET", "/sim/v1/control/latency", self._get_latency)
        route("POST", "/sim/v1/control/latency", self._set_latency)
        route("DELETE", "/sim/v1/control/latency", self._clear_latency)
        route("GET", "/sim/v1/control/faults", self._get_faults)
        route("POST", "/sim/v1/control/faults", self._add_faults)
        route("DELETE", "/sim/v1/control/faults", self._clear_faults)

    async def _get_latency(self, request: web.Request) -> web.Response:
        self._admit(request)
        return json_reply(msgspec.to_builtins(self._plan.latency))

    async def _set_latency(self, request: web.Request) -> web.Response:
        self._admit(request)
        self._plan.set_latency(await read(request, Latency))
        return json_reply(msgspec.to_builtins(self._plan.latency))

    async def _clear_latency(self, request: web.Request) -> web.Response:
        self._admit(request)
        self._plan.set_latency(Latency())
        return json_reply(msgspec.to_builtins(self._plan.latency))

    async def _get_faults(self, request: web.Request) -> web.Response:
        self._admit(request)
        return json_reply(
            {
                "seed": self._plan.seed,
                "latency": msgspec.to_builtins(self._plan.latency),
                "faults": [_armed(armed) for armed in self._plan.armed],
            }
        )

    async def _add_faults(self, request: web.Request) -> web.Response:
        """A body of one fault, or a whole plan: `{"faults": [...], "seed": 1, "latency": {...}}`."""
        self._admit(request)
        try:
            added = await self._plan.load(decode(await request.read()))
        except (msgspec.MsgspecError, ConfigError) as error:
            raise refused(400, "malformed", str(error)) from None
        return json_reply({"faults": [_armed(armed) for armed in added]}, 201)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._admit(request)
        self._plan.clear()
        return json_reply({"faults": []})


def _armed(armed: Armed) -> dict[str, object]:
    fault: dict[str, object] = msgspec.to_builtins(armed.fault)
    return {
        "id": armed.number,
        "hits": armed.hits,
        "holds": armed.holds,
        "spent": armed.spent,
        "refused": armed.refused,
        **fault,
    }
