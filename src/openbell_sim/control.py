"""What the venue serves beside its faces: its own truth, health, and a person's hands.

`GET /sim/v1/{orders,fills,positions,market,health}`, `POST /sim/v1/orders`,
`DELETE /sim/v1/orders/{order_id}`, `POST /sim/v1/deposits`, `/health`, `/ready`, `/metrics`,
`/shutdown-status`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

import msgspec
import orjson
from aiohttp import web

from openbell.domain.orders import OrdType, Side, TimeInForce
from openbell_sim import truth
from openbell_sim.checks import OrderRequest
from openbell_sim.exchange import Exchange
from openbell_sim.refusals import RefusedError

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


class ManualOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order that a person gives at the venue itself, past every desk."""

    account: str = ""
    """Empty: the first account."""
    symbol: str
    side: Side
    type: OrdType = OrdType.MARKET
    time_in_force: TimeInForce = TimeInForce.GTC
    quantity: Decimal
    price: Decimal | None = None
    client_order_id: str = ""


class ManualDeposit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: str = ""
    currency: str
    amount: Decimal


class Control:
    def __init__(
        self,
        exchange: Exchange,
        status: Status,
        *,
        first_account: str,
        metrics: Callable[[], str],
    ) -> None:
        self._exchange = exchange
        self._status = status
        self._first_account = first_account
        self._metrics = metrics

    def add_routes(self, app: web.Application) -> None:
        for path in ("/health", "/ready", "/sim/v1/health"):
            app.router.add_get(path, self._health)
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/shutdown-status", self._shutdown_status)
        app.router.add_get("/sim/v1/orders", self._orders)
        app.router.add_get("/sim/v1/fills", self._fills)
        app.router.add_get("/sim/v1/positions", self._positions)
        app.router.add_get("/sim/v1/market", self._market)
        app.router.add_post("/sim/v1/orders", self._manual_order)
        app.router.add_delete("/sim/v1/orders/{order_id}", self._manual_cancel)
        app.router.add_post("/sim/v1/deposits", self._manual_deposit)

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

    async def _fills(self, _: web.Request) -> web.Response:
        return json_reply({"fills": truth.fills(self._exchange)})

    async def _positions(self, _: web.Request) -> web.Response:
        return json_reply(truth.positions(self._exchange))

    async def _market(self, _: web.Request) -> web.Response:
        return json_reply({"market": truth.market(self._exchange)})

    async def _manual_order(self, request: web.Request) -> web.Response:
        given = await read(request, ManualOrder)
        try:
            order = self._exchange.submit(
                OrderRequest(
                    account=given.account or self._first_account,
                    cl_ord_id=given.client_order_id or f"web_{secrets.token_hex(9)}",
                    symbol=given.symbol,
                    side=given.side,
                    ord_type=given.type,
                    time_in_force=given.time_in_force,
                    qty=given.quantity,
                    price=given.price,
                    origin="manual",
                    received_ns=self._exchange.now_ns(),
                )
            )
        except RefusedError as error:
            raise refused(409, error.reason.value, error.text) from None
        return json_reply({"order": truth.order(order)}, 201)

    async def _manual_cancel(self, request: web.Request) -> web.Response:
        text = request.match_info["order_id"]
        order = self._exchange.ledger.orders.get(int(text)) if text.isdigit() else None
        if order is None:
            raise refused(404, "unknown_order", text)
        try:
            self._exchange.cancel(order, f"web_{secrets.token_hex(9)}")
        except RefusedError as error:
            raise refused(409, error.reason.value, f"it is {order.status.value}") from None
        return json_reply({"order": truth.order(order)})

    async def _manual_deposit(self, request: web.Request) -> web.Response:
        given = await read(request, ManualDeposit)
        if given.amount <= 0:
            raise refused(400, "malformed", "amount must be positive")
        account = given.account or self._first_account
        self._exchange.deposit(account, given.currency, given.amount)
        return json_reply(truth.positions(self._exchange), 201)


async def read(request: web.Request, kind: type[S]) -> S:
    """The request's body as a struct. Raises HTTPBadRequest, saying what is wrong with it."""
    try:
        return msgspec.json.decode(await request.read(), type=kind, strict=False)
    except msgspec.MsgspecError as error:
        raise refused(400, "malformed", str(error)) from None


def refused(status: int, code: str, text: str) -> web.HTTPException:
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        404: web.HTTPNotFound,
        409: web.HTTPConflict,
    }
    body = orjson.dumps({"error": code, "message": text}).decode()
    return kinds[status](text=body, content_type="application/json")


def json_reply(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
