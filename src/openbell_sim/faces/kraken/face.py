"""REST and WebSocket handlers: from HTTP to calls and back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping

import msgspec
from aiohttp import WSMsgType, web

from openbell_sim.exchange import Exchange
from openbell_sim.faces.kraken import accounts, errors, market_data, parameters, socket_calls
from openbell_sim.faces.kraken.accounts import PRIVATE, Tokens
from openbell_sim.faces.kraken.errors import KrakenError
from openbell_sim.faces.kraken.hub import Client, Hub
from openbell_sim.faces.kraken.limits import Limits
from openbell_sim.faces.kraken.orders import Call, Desk
from openbell_sim.faces.kraken.pairs import Pairs
from openbell_sim.faces.kraken.parameters import Parameters
from openbell_sim.faces.kraken.render import Json
from openbell_sim.faces.kraken.security import Doorman
from openbell_sim.faces.kraken.socket_calls import Said, SocketCalls
from openbell_sim.faces.port import (
    ON_SOCKET,
    Answer,
    Asked,
    FaceOptions,
    RequestKind,
    Trouble,
)
from openbell_sim.keys import KeyRing

_PUBLIC: dict[str, Callable[[Exchange, Pairs, Parameters], Json]] = {
    "Time": market_data.server_time,
    "SystemStatus": market_data.system_status,
    "Assets": market_data.assets,
    "AssetPairs": market_data.asset_pairs,
    "Ticker": market_data.ticker,
    "Depth": market_data.depth,
    "OHLC": market_data.ohlc,
    "Trades": market_data.trades,
}
_KINDS = {
    "AddOrder": RequestKind.SUBMIT,
    "AddOrderBatch": RequestKind.SUBMIT,
    "AmendOrder": RequestKind.AMEND,
    "EditOrder": RequestKind.AMEND,
    "CancelOrder": RequestKind.CANCEL,
    "CancelOrderBatch": RequestKind.CANCEL,
    "CancelAll": RequestKind.MASS_CANCEL,
    "CancelAllOrdersAfter": RequestKind.DEAD_MAN,
    "OpenOrders": RequestKind.OPEN_ORDERS,
    "ClosedOrders": RequestKind.ORDER,
    "QueryOrders": RequestKind.ORDER,
    "TradesHistory": RequestKind.FILLS,
    "QueryTrades": RequestKind.FILLS,
    "OpenPositions": RequestKind.POSITIONS,
    "GetWebSocketsToken": RequestKind.STREAM,
}
_COSTS = {
    "AddOrder": 0,
    "AddOrderBatch": 0,
    "AmendOrder": 0,
    "EditOrder": 0,
    "CancelOrder": 0,
    "CancelOrderBatch": 0,
    "TradesHistory": 2,
    "QueryTrades": 2,
    "ClosedOrders": 2,
}
"""Of the call counter; 1 for all others."""
_PUBLIC_PATH, _PRIVATE_PATH, _SOCKET_PATH = "/0/public/", "/0/private/", "/v2"
_PING_S = 20.0

_encode = msgspec.json.Encoder(decimal_format="number").encode


class KrakenFace:
    name = "kraken"

    def __init__(self, exchange: Exchange, keys: KeyRing, options: FaceOptions) -> None:
        pairs = Pairs(exchange.instruments.values())
        self.exchange = exchange
        self.desk = Desk(exchange, pairs, Limits(options.limit_scale))
        self.hub = Hub(exchange, pairs)
        self.replies: Counter[tuple[str, str, int]] = Counter()
        self._options = options
        self._doorman = Doorman(keys)
        self._tokens = Tokens()
        self._socket_calls = SocketCalls(self.desk, self.hub, keys, self._tokens)
        self._under_way: set[asyncio.Task[None]] = set()
        self._private = {
            **PRIVATE,
            "GetWebSocketsToken": self._tokens.make,
            "GetApiKeyInfo": self._api_key_info,
        }
        exchange.listeners.append(self.hub)

    def _api_key_info(self, call: Call) -> Json:
        return accounts.api_key_info(call, self._doorman.last_nonce(call.credentials))

    def add_routes(self, app: web.Application) -> None:
        for method in ("GET", "POST"):
            app.router.add_route(method, _PUBLIC_PATH + "{call}", self._public_call)
        app.router.add_post(_PRIVATE_PATH + "{call}", self._private_call)
        app.router.add_get(_SOCKET_PATH, self._serve_socket)

    # REST

    async def _public_call(self, request: web.Request) -> web.Response:
        name = request.match_info["call"]
        body = await request.read()

        def run() -> Json:
            call = _PUBLIC.get(name)
            if call is None:
                raise KrakenError(errors.UNKNOWN_METHOD)
            given = Parameters(dict(request.query)) if not body else _read(request, body)
            return call(self.exchange, self.desk.pairs, given)

        return self._reply(request, name, run)

    async def _private_call(self, request: web.Request) -> web.Response:
        name = request.match_info["call"]
        body = await request.read()
        received_ns = self.exchange.now_ns()

        def run() -> Json:
            given = _read(request, body)
            credentials = self._doorman.admit(
                request.headers.get("API-Key"),
                request.headers.get("API-Sign"),
                request.path,
                given.text_or_none("nonce") or "",
                body,
            )
            call = self._private.get(name)
            if call is None:
                raise KrakenError(errors.UNKNOWN_METHOD)
            if not self.desk.limits.call(credentials.key, _COSTS.get(name, 1), time.monotonic()):
                raise KrakenError(errors.CALL_RATE)
            return call(Call(self.desk, credentials, given, received_ns))

        return self._reply(request, name, run)

    def _reply(self, request: web.Request, name: str, run: Callable[[], Json]) -> web.Response:
        """Kraken answers 200 whatever it thinks of a call."""
        try:
            body: Json = {"error": [], "result": run()}
        except KrakenError as error:
            body = {"error": [error.message]}
        self.replies[request.method, request.path.removesuffix(name) + name, 200] += 1
        return web.Response(body=_encode(body), content_type="application/json")

    # WebSocket v2

    async def _serve_socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=_PING_S, compress=False)
        client = Client(socket, self._options.gate)
        await socket.prepare(request)
        self.hub.clients.add(client)
        client.put(_encode(self._status()))
        pump = asyncio.create_task(client.pump())
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    # A task of its own: a call that a fault holds up holds up no other, and is
                    # carried out though its client has gone.
                    task = asyncio.create_task(self._hear(client, message.data.encode()))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
        finally:
            self.hub.clients.discard(client)
            pump.cancel()
        return socket

    def _status(self) -> Json:
        return {
            "channel": "status",
            "type": "update",
            "data": [
                {
                    "version": "2.0.10",
                    "system": "online",
                    "api_version": "v2",
                    "connection_id": self.exchange.now_ns(),
                }
            ],
        }

    async def _hear(self, client: Client, text: bytes) -> None:
        received_ns = self.exchange.now_ns()
        try:
            message = parameters.from_json(text)
            method = message.text_or_none("method") or ""
            given = message.inner("params")
        except KrakenError:
            client.put(_encode({"error": "Malformed request", "success": False}))
            return
        number = message.integer("req_id") if message.has("req_id") else None

        def answer(body: Mapping[str, object]) -> None:
            full = {"method": method, **({} if number is None else {"req_id": number}), **body}
            full |= socket_calls.times(received_ns, self.exchange.now_ns())
            client.put(_encode(full))

        async def carry_out() -> bool:
            try:
                self._socket_calls.run(Said(client, method, given, received_ns, answer))
            except KrakenError as error:
                answer({"success": False, "error": error.message})
            return True

        asked = Asked(
            kind=self.kind_of(ON_SOCKET, method),
            method=ON_SOCKET,
            path=method,
            account=self._socket_calls.account_of(given),
            said=(text,),
        )
        outcome = await self._options.meet(asked, carry_out)
        if outcome is None:
            await client.socket.close()
        elif isinstance(outcome, Answer):
            answer({"success": False, "error": socket_calls.error_of(outcome.body)})

    # For faults and metrics

    def kind_of(self, method: str, path: str) -> RequestKind:
        if method == ON_SOCKET:
            return socket_calls.KINDS.get(path, RequestKind.OTHER)
        if path.startswith(_PUBLIC_PATH):
            return RequestKind.MARKET_DATA
        if path.startswith(_PRIVATE_PATH):
            return _KINDS.get(path.removeprefix(_PRIVATE_PATH), RequestKind.ACCOUNT)
        return RequestKind.STREAM

    def trouble(self, trouble: Trouble, status: int) -> Answer:
        match trouble:
            case Trouble.CANCEL_REFUSED:
                message = errors.UNKNOWN_ORDER
            case Trouble.BAD_NONCE:
                message = errors.INVALID_NONCE
            case Trouble.KEY_REVOKED:
                message = errors.INVALID_KEY
            case Trouble.THROTTLED:
                message = errors.CALL_RATE
            case Trouble.UNAVAILABLE:
                # What stands before Kraken has HTTP statuses, Kraken itself has none.
                return Answer(status, {"error": [errors.UNAVAILABLE]})
        return Answer(200, {"error": [message]})

    async def run(self) -> None:
        await self.hub.run()

    def stream_counts(self) -> tuple[int, int]:
        return len(self.hub.clients), self.hub.sent

    async def disconnect(self) -> int:
        return await self.hub.disconnect()


def _read(request: web.Request, body: bytes) -> Parameters:
    """Raises KrakenError."""
    if request.content_type == "application/json":
        return parameters.from_json(body)
    return parameters.from_form(body.decode(errors="replace"))
