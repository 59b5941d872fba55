"""Moon over HTTP, with what goes wrong at real venues: replies lost, lists cut, limits reached.

`python -m tests.examples.moon_server --port N` serves it as a process. Then it tells, besides its
protocol, what the conformance suite asks of a venue: tests/venues/subjects/port.py.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import orjson
from aiohttp import web
from tests.examples.moon import Moon, Order, RefusedError, now_ms

KEY = "canary-moon-key-3f81"
SECRET = "canary-moon-secret-90ac"
PAGE = 100
PUBLIC = ("/v1/time", "/v1/markets", "/v1/quote")
EXPIRY_MAX_MS = 60_000
REQUESTS_PER_MINUTE = 600

FaultKind = Literal[
    "lose", "hang", "503", "502 html", "404 html", "429", "nonsense", "new code", "cut"
]
"""lose, hang, 503, 502 html, nonsense, new code: it is done and told as that. 404 html: a proxy's,
not done. 429: not done. cut: the last row of the list is missing."""

_CUT = ContextVar("cut", default=False)
"""Whether the request that is being answered is struck by that fault."""
_HTML = {"502 html": 502, "404 html": 404}


@dataclass
class Fault:
    """Strikes the next `times` requests that begin so: `POST /v1/orders`."""

    kind: FaultKind
    of: str
    times: int = 1


class MoonServer:
    def __init__(self, *, key: str = KEY, secret: str = SECRET, limit: bool = True) -> None:
        self.moon = Moon()
        self.requests: Counter[str] = Counter()
        """By method and path, without the query."""
        self.url = ""
        self.clock_ahead_ms = 0
        self.can_trade = True
        self.page = PAGE
        self.before_page: Callable[[int], object] = lambda after: None
        """Called with the number behind the cursor before a page of open orders is made."""
        self.ignores_cursors = False
        self._key, self._secret, self._limit = key, secret, limit
        self._used: Counter[int] = Counter()
        self._faults: list[Fault] = []
        self._closing = asyncio.Event()

    def fault(self, kind: FaultKind, of: str, times: int = 1) -> Fault:
        made = Fault(kind, of, times)
        self._faults.append(made)
        return made

    def spend(self, requests: int) -> None:
        """Of this minute's budget and the next one's, as another process with the key would."""
        minute = self._now_ms() // 60_000
        self._used.update({minute: requests, minute + 1: requests})

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._serve])
        public = [("time", self._time), ("markets", self._markets), ("quote", self._quote)]
        app.router.add_routes([web.get(f"/v1/{name}", handler) for name, handler in public])
        app.router.add_routes(
            [
                web.get("/v1/account", self._account),
                web.post("/v1/orders", self._place),
                web.get("/v1/orders", self._open_orders),
                web.get("/v1/orders/by-client-id/{client_id}", self._order),
                web.delete("/v1/orders/by-client-id/{client_id}", self._cancel),
                web.get("/v1/orders/{order_id}", self._order),
                web.delete("/v1/orders/{order_id}", self._cancel),
                web.get("/v1/fills", self._fills),
                web.get("/ready", self._ready),
                web.get("/sim/v1/orders", self._truth),
                web.get("/sim/v1/market", self._names),
                web.post("/sim/v1/orders", self._by_hand),
            ]
        )
        return app

    def close(self) -> None:
        """Lets go of the requests that hang."""
        self._closing.set()

    # Every request.

    @web.middleware
    async def _serve(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        name = f"{request.method} {request.path}"
        self.requests[name] += 1
        fault = self._struck(name)
        if fault == "404 html":
            return _page(404)
        try:
            headers = await self._admit(request, refuse=fault == "429")
            _CUT.set(fault == "cut")
            response = await handler(request)
        except RefusedError as error:
            headers = {"Retry-After": "1"} if error.status == 429 else {}
            response = _json({"error": error.code, "message": str(error)}, error.status)
        response.headers.update(headers)
        if fault in (None, "cut", "429"):
            return response
        if fault == "lose":
            if request.transport is not None:
                request.transport.abort()
        elif fault == "hang":
            await self._closing.wait()
        elif fault == "503":
            return _json({"error": "too_many_requests", "message": "perhaps it is done"}, 503)
        elif fault == "new code":
            return _json({"error": "eclipse", "message": "in no version of the protocol"}, 400)
        elif fault == "nonsense":
            return _json({"order": {"id": 7}})
        return _page(_HTML.get(fault, 500))

    def _struck(self, name: str) -> FaultKind | None:
        for fault in self._faults:
            if fault.times and name.startswith(fault.of):
                fault.times -= 1
                return fault.kind
        return None

    async def _admit(self, request: web.Request, *, refuse: bool) -> dict[str, str]:
        """Headers of the answer. Raises RefusedError for a key, signature or expiry that is not
        right, and beyond the limit."""
        if refuse:
            raise RefusedError(429, "too_many_requests", "slower")
        if request.path in PUBLIC or not request.path.startswith("/v1/"):
            return {}
        if request.headers.get("Moon-Key") != self._key:
            raise RefusedError(401, "bad_key", "no such key")
        expires = request.headers.get("Moon-Expires", "")
        text = f"{request.method}\n{request.raw_path}\n{expires}\n".encode() + await request.read()
        signature = hmac.new(self._secret.encode(), text, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(request.headers.get("Moon-Signature", ""), signature):
            raise RefusedError(401, "bad_signature", f"not by the secret of {self._key}")
        ahead_ms = int(expires) - self._now_ms() if expires.isdecimal() else -1
        if not 0 <= ahead_ms <= EXPIRY_MAX_MS:
            raise RefusedError(401, "bad_expiry", f"{ahead_ms} ms from now")
        minute = self._now_ms() // 60_000
        self._used[minute] += 1
        if self._limit and self._used[minute] > REQUESTS_PER_MINUTE:
            raise RefusedError(429, "too_many_requests", "slower")
        return {"Moon-Used": str(self._used[minute])} if self._limit else {}

    def _now_ms(self) -> int:
        return now_ms() + self.clock_ahead_ms

    # The protocol.

    async def _time(self, _: web.Request) -> web.Response:
        return _json({"time": self._now_ms()})

    async def _markets(self, _: web.Request) -> web.Response:
        keys = ("name", "tick", "step", "min_size", "max_size", "min_value")
        rows = [{key: str(getattr(m, key)) for key in keys} for m in self.moon.markets.values()]
        return _json({"markets": rows})

    async def _quote(self, request: web.Request) -> web.Response:
        return _json(self.moon.ticker(request.query.get("market")))

    async def _account(self, request: web.Request) -> web.Response:
        balances = self.moon.balances()
        return _json(
            {
                "id": "luna-1",
                "can_trade": self.can_trade,
                "can_withdraw": False,
                "balances": balances[1:] if _CUT.get() else balances,
            }
        )

    async def _place(self, request: web.Request) -> web.Response:
        if not self.can_trade:
            raise RefusedError(403, "not_permitted", "this key may only look")
        return _json({"order": self.moon.place(orjson.loads(await request.read())).told()}, 201)

    async def _order(self, request: web.Request) -> web.Response:
        return _json({"order": self._meant(request).told()})

    async def _cancel(self, request: web.Request) -> web.Response:
        return _json({"order": self.moon.cancel(self._meant(request)).told()})

    def _meant(self, request: web.Request) -> Order:
        return self.moon.found(
            order_id=request.match_info.get("order_id", ""),
            client_id=request.match_info.get("client_id", ""),
        )

    async def _open_orders(self, request: web.Request) -> web.Response:
        after = self._cursor(request)
        self.before_page(after)
        opened = self.moon.open_orders
        rows = [order for order in opened if order.number > after]
        page = rows[: self.page]
        return _json(
            {
                "orders": [order.told() for order in (page[:-1] if _CUT.get() else page)],
                "total": len(opened),
                "next": page[-1].id if len(rows) > len(page) else None,
            }
        )

    async def _fills(self, request: web.Request) -> web.Response:
        after, wanted = self._cursor(request), request.query.get("order")
        rows = [
            fill
            for number, fill in enumerate(self.moon.fills, 1)
            if number > after
            and fill["market"] == request.query.get("market")
            and int(str(fill["time"])) >= int(request.query.get("since", "0"))
            and wanted in (None, fill["order"])
        ]
        page = rows[: self.page]
        following = page[-1]["id"] if len(rows) > len(page) else None
        return _json({"fills": [] if _CUT.get() else page, "next": following})

    def _cursor(self, request: web.Request) -> int:
        """Ids are a letter and a number that grows."""
        return 0 if self.ignores_cursors else int(request.query.get("after", "")[1:] or 0)

    # What the conformance suite asks.

    async def _ready(self, _: web.Request) -> web.Response:
        return _json({})

    async def _truth(self, _: web.Request) -> web.Response:
        rows = [
            {
                "order_id": order.id,
                "cl_ord_id": order.client_id,
                "side": order.side.upper(),
                "order_qty": str(order.size),
                "cum_qty": str(order.filled),
                "leaves_qty": str(order.left if order.status == "open" else 0),
                "status": _fix_status(order),
            }
            for order in self.moon.orders
        ]
        return _json({"orders": rows})

    async def _names(self, _: web.Request) -> web.Response:
        return _json({"market": [{"symbol": name} for name in self.moon.markets]})

    async def _by_hand(self, request: web.Request) -> web.Response:
        asked: dict[str, str] = orjson.loads(await request.read())
        order = self.moon.by_hand(
            asked["symbol"],
            asked["side"].lower(),
            Decimal(asked["quantity"]),
            Decimal(asked["stop_price"]),
        )
        return _json({"order": {"order_id": order.id}})


@asynccontextmanager
async def running_moon(server: MoonServer, port: int = 0) -> AsyncIterator[MoonServer]:
    """Listens on loopback until left."""
    runner = web.AppRunner(server.app(), shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.close()
        await runner.cleanup()


def _fix_status(order: Order) -> str:
    """The venue's own word in FIX's, as the suite reads it."""
    if order.status == "open":
        return "PARTIALLY_FILLED" if order.filled else "NEW"
    return {"cancelled": "CANCELED"}.get(order.status, order.status.upper())


def _json(document: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


def _page(status: int) -> web.Response:
    return web.Response(text="<html>a proxy's page</html>", status=status, content_type="text/html")


async def _main(port: int) -> None:
    key, secret = os.environ["CONFORMANCE_KEY"], os.environ["CONFORMANCE_SECRET"]
    async with running_moon(MoonServer(key=key, secret=secret, limit=False), port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(_main(parser.parse_args().port))
