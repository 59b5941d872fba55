"""One HTTP request, sent once.

Every adapter's REST calls go through here, so that the one question that matters afterwards has
an answer: did the request leave? Three ends are told apart:

    Reply           the venue answered; status, headers and body as they came
    NotSentError    no connection could be opened, so not a byte of the request left
    NoReplyError    it left, at least perhaps, and no whole answer came back

Nothing here repeats a request that could have an effect, and redirects are not followed: a
repeated POST is a second order. (aiohttp by itself repeats a DELETE whose kept-alive connection
was closed under it; `_Once` stops that.)

Error texts name neither URL nor body: both carry signatures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

from yarl import URL

from openbell.http_library import aiohttp
from openbell.venues.lanes import Lanes
from openbell.venues.original import original
from openbell.venues.turnstile import Turnstile

DNS_CACHE_S = 300
"""How long an address is kept: a short outage of the name service must not cut a desk off from
its orders."""

CONNECT_WINDOW_S = 1.1
"""A venue's second, and what ours may come in late by."""
CONNECTIONS_MAX = 8
"""Open at once, where a venue limits new ones: enough that one which hangs holds up little."""

WebSocket = aiohttp.ClientWebSocketResponse


class NotSentError(Exception):
    """Proven never to have arrived: no connection could be opened, or `on_sent` said no."""


class NoReplyError(Exception):
    """May have arrived, may have had its effect."""


@dataclass(frozen=True, slots=True)
class Request:
    """A signed request. Hidden in representations: the URL and body carry the signature."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None

    def __repr__(self) -> str:
        return f"Request({self.method} {URL(self.url).path})"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes


class Transport:
    """A connection pool of one venue. Made outside of any event loop, opened on first use."""

    def __init__(self, *, connects_per_s: int | None = None, shared_as: str = "") -> None:
        """`connects_per_s`: new connections that the venue allows in a second. None: any number.
        `shared_as`: what the venue counts them by, for all processes of this machine."""
        self._session: aiohttp.ClientSession | None = None
        self._lanes = (
            Lanes(connects_per_s, CONNECT_WINDOW_S, CONNECTIONS_MAX)
            if connects_per_s is not None
            else None
        )
        self._turnstile = (
            Turnstile(shared_as, connects_per_s, CONNECT_WINDOW_S)
            if connects_per_s is not None
            else None
        )

    async def send(
        self, request: Request, *, timeout_s: float, on_sent: Callable[[], None] | None = None
    ) -> Reply:
        """Sends once. `on_sent` is called directly before the first byte is written.

        Raises NotSentError or NoReplyError; after `timeout_s` it is NoReplyError, for by then
        nobody can tell how far the request came. A cancellation of the calling task passes
        through and leaves the outcome as open as a lost reply does.
        """
        if self._lanes is None:
            return await self._send(request, timeout_s, on_sent)
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + timeout_s
        try:
            async with asyncio.timeout_at(give_up_at_s):
                await self._lanes.take()
        except TimeoutError:
            raise NotSentError(f"no connection became free within {timeout_s:g} s") from None
        try:
            return await self._send(request, round(give_up_at_s - loop.time(), 3), on_sent)
        finally:
            self._lanes.release()

    async def _send(
        self, request: Request, timeout_s: float, on_sent: Callable[[], None] | None
    ) -> Reply:
        session = self._open()
        # aiohttp's own retry is wanted for reads only: it saves a query from a stale connection.
        once = () if request.method == "GET" else (_Once(),)
        try:
            async with asyncio.timeout(timeout_s):
                async with session.request(
                    request.method,
                    URL(request.url, encoded=True),
                    data=request.body,
                    headers=request.headers,
                    allow_redirects=False,
                    middlewares=once,
                    trace_request_ctx=on_sent,
                ) as response:
                    body = await response.read()
                    return Reply(response.status, response.headers, body)
        except aiohttp.ClientConnectorError as error:
            raise NotSentError(f"no connection ({_reason(error)})") from original(error)
        except TimeoutError:
            raise NoReplyError(f"no answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoReplyError(f"connection lost ({type(error).__name__})") from original(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise NoReplyError("the request was given up inside the client") from None

    async def open_stream(self, request: Request, *, timeout_s: float) -> aiohttp.ClientResponse:
        """A reply whose body comes for as long as the connection lives; its head is there. Whoever
        opened it closes it. Raises NotSentError or NoReplyError."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._open().request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=request.headers,
                    allow_redirects=False,
                )
        except aiohttp.ClientConnectorError as error:
            raise NotSentError(f"no connection ({_reason(error)})") from original(error)
        except TimeoutError:
            raise NoReplyError(f"no answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoReplyError(f"connection lost ({type(error).__name__})") from original(error)

    async def open_websocket(self, url: str, *, heartbeat_s: float) -> WebSocket:
        """A connected WebSocket that pings every `heartbeat_s` and closes itself where no pong
        comes back, so that a dead peer is noticed. Raises NotSentError."""
        try:
            return await self._open().ws_connect(URL(url), heartbeat=heartbeat_s, max_msg_size=0)
        except (aiohttp.ClientError, OSError) as error:
            raise NotSentError(f"no connection ({type(error).__name__})") from original(error)

    async def close(self) -> None:
        """Requests still under way end in NoReplyError. The transport may be used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ttl_dns_cache=DNS_CACHE_S),
                timeout=aiohttp.ClientTimeout(total=None),  # `send` bounds each request itself
                trace_configs=self._traces(),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _traces(self) -> list[aiohttp.TraceConfig]:
        traces = [_sent_trace()]
        if self._turnstile is not None:
            traces.append(self._turnstile.trace())
        return traces


class _Once:
    """Lets a request through one time: where aiohttp comes back to repeat it, it has failed."""

    def __init__(self) -> None:
        self._passed = False

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self._passed:
            raise NoReplyError("connection lost before an answer; not repeated")
        self._passed = True
        return await handler(request)


def _sent_trace() -> aiohttp.TraceConfig:
    async def headers_sent(
        _session: aiohttp.ClientSession,
        context: SimpleNamespace,
        _params: aiohttp.TraceRequestHeadersSentParams,
    ) -> None:
        on_sent = getattr(context, "trace_request_ctx", None)
        if on_sent is not None:
            on_sent()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(headers_sent)
    return trace


def _reason(error: aiohttp.ClientConnectorError) -> str:
    cause: OSError | None = getattr(error, "os_error", None)  # a refused certificate has none
    return (cause.strerror if cause is not None else None) or type(error).__name__
