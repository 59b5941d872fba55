"""How calls of ccxt reach the network: once each, and known to have been sent or not.

ccxt opens a session of aiohttp and asks nothing of it. This one

- tells when a request's first byte is about to be written (`Sending`);
- lets a request that could have an effect through one time: aiohttp by itself repeats a DELETE
  whose kept-alive connection was closed under it, and follows a redirect with a second POST;
- holds back an order that does not carry its ClOrdID: of some exchanges ccxt drops it silently.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import SimpleNamespace

import certifi

from openbell.http_library import aiohttp


class NotCarriedError(aiohttp.ClientError):
    """The request would have been sent without the ClOrdID it must carry; it was not."""


class RepeatedError(aiohttp.ClientConnectionError):
    """The request was about to be sent a second time; it was not."""


@dataclass
class Sending:
    """One call that may have an effect."""

    on_sent: Callable[[], None] | None = None
    must_carry: str = ""
    """A text that every such request must contain."""
    sent: bool = False
    """Something of the call was written, or was about to be."""
    withheld: bool = False
    """A request was held back for want of `must_carry`."""
    _requests: set[tuple[str, str, bytes]] = field(default_factory=set)

    def pass_once(self, method: str, url: str, body: bytes) -> None:
        """Raises NotCarriedError or RepeatedError."""
        if self.must_carry and self.must_carry not in url and self.must_carry.encode() not in body:
            self.withheld = True
            raise NotCarriedError("the ClOrdID is not in the request")
        if (method, url, body) in self._requests:
            raise RepeatedError("not repeated")
        self._requests.add((method, url, body))


_sending: ContextVar[Sending | None] = ContextVar("sending", default=None)


@contextmanager
def sending(call: Sending) -> Iterator[Sending]:
    """Requests of the enclosed call are `call`'s."""
    token = _sending.set(call)
    try:
        yield call
    finally:
        _sending.reset(token)


def open_session() -> aiohttp.ClientSession:
    """To be called in the event loop that uses it."""
    context = ssl.create_default_context(cafile=certifi.where())
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context),
        trace_configs=[_sent_trace()],
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_once,),
    )


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    call = _sending.get()
    if call is None or request.method == "GET":
        return await handler(request)
    body = request.body
    data = body if isinstance(body, bytes) else await body.as_bytes()
    call.pass_once(request.method, str(request.url), data)
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise RepeatedError("a redirect is not followed")
    return response


def _sent_trace() -> aiohttp.TraceConfig:
    async def headers_sent(
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        _params: aiohttp.TraceRequestHeadersSentParams,
    ) -> None:
        call = _sending.get()
        if call is None or call.sent:
            return
        if call.on_sent is not None:
            call.on_sent()  # may raise, and then no byte is written
        call.sent = True

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(headers_sent)
    return trace
