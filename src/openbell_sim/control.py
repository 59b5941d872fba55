"""What the venue tells beside its face: its own truth, and how it is.

`GET /sim/v1/{orders,arrivals,fills,positions,market,health}`, `/health`, `/ready`, `/metrics`,
`/shutdown-status`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import msgspec
from aiohttp import web

from openbell_sim import truth
from openbell_sim.arrivals import Arrivals
from openbell_sim.exchange import Exchange
from openbell_sim.wire import json_reply

S = TypeVar("S", bound=msgspec.Struct)


class Phase(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass
class Status:
    """How the process is; `market_lag_s` asks the driver."""

    market_lag_s: Callable[[], float]
    phase: Phase = Phase.STARTING
    started: float = field(default_factory=time.monotonic)
    stopping_since: float | None = None


class Control:
    def __init__(
        self,
        exchange: Exchange,
        status: Status,
        *,
        arrivals: Arrivals,
        metrics: Callable[[], str],
    ) -> None:
        self._exchange = exchange
        self._status = status
        self._arrivals = arrivals
        self._metrics = metrics

    def add_routes(self, app: web.Application) -> None:
        for path in ("/health", "/ready", "/sim/v1/health"):
            app.router.add_get(path, self._health)
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/shutdown-status", self._shutdown_status)
        app.router.add_get("/sim/v1/orders", self._orders)
        app.router.add_get("/sim/v1/arrivals", self._arrived)
        app.router.add_get("/sim/v1/fills", self._fills)
        app.router.add_get("/sim/v1/positions", self._positions)
        app.router.add_get("/sim/v1/market", self._market)

    async def _health(self, _: web.Request) -> web.Response:
        lag_s = self._status.market_lag_s()
        empty = [
            name
            for name, market in self._exchange.markets.items()
            if market.book.bids.best is None or market.book.asks.best is None
        ]
        checks = {
            "market": f"no quotes in {', '.join(empty)}" if empty else "ok",
            "replay": "ok" if lag_s < 1 else f"{lag_s:.1f} s behind",
        }
        running = self._status.phase is Phase.RUNNING
        sound = all(text == "ok" for text in checks.values())
        body = {
            "status": ("ok" if sound else "degraded") if running else "failing",
            "checks": checks,
            "phase": self._status.phase.value,
            "uptime_s": round(time.monotonic() - self._status.started, 3),
        }
        return json_reply(body, 200 if running else 503)

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            text=self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    async def _shutdown_status(self, _: web.Request) -> web.Response:
        since = self._status.stopping_since
        return json_reply(
            {
                "phase": self._status.phase.value,
                "stopping_s": None if since is None else round(time.monotonic() - since, 3),
                "open_orders": sum(len(o) for o in self._exchange.ledger.open.values()),
            }
        )

    async def _orders(self, request: web.Request) -> web.Response:
        rows = truth.orders(self._exchange)
        wanted = {k: v for k, v in request.query.items() if k in ("account", "symbol", "status")}
        rows = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
        return json_reply({"orders": rows})

    async def _arrived(self, request: web.Request) -> web.Response:
        wanted = request.query.get("cl_ord_id")
        return json_reply({"arrivals": self._arrivals.rows(wanted)})

    async def _fills(self, _: web.Request) -> web.Response:
        return json_reply({"fills": truth.fills(self._exchange)})

    async def _positions(self, _: web.Request) -> web.Response:
        return json_reply(truth.positions(self._exchange))

    async def _market(self, _: web.Request) -> web.Response:
        return json_reply({"market": truth.market(self._exchange)})
