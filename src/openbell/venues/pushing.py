"""Order events of a venue that pushes them: a connection that is made again whenever it ends.

An adapter says in an async generator what one connection is: it begins with StreamUp, once the
venue has confirmed what it will send, goes on with reports, and ends in LostError. Whatever ends a
connection, or makes what came over it unreadable, is told as StreamDown before the next one is
tried, because events may be missing from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from openbell.http_library import aiohttp
from openbell.venues.port import OrderReport, StreamDown, StreamEvent, StreamUp
from openbell.venues.problem import NONSENSE
from openbell.venues.transport import NotSentError, Transport, WebSocket

SETTLED_AFTER_S = 30.0
"""A connection that lived so long starts the back-off anew; one that flaps does not. Ours."""

T = TypeVar("T")

Connection = AsyncGenerator[StreamUp | OrderReport, None]


class LostError(Exception):
    """The stream cannot go on; the text says why, without secrets."""


@dataclass(frozen=True)
class Backoff:
    """Waits between connections, each twice as long as the one before."""

    first_s: float
    max_s: float

    def waits_s(self) -> Iterator[float]:
        wait_s = self.first_s
        while True:
            yield wait_s
            wait_s = min(wait_s * 2, self.max_s)


async def pushed_stream(
    connect: Callable[[], Connection], backoff: Backoff
) -> AsyncIterator[StreamEvent]:
    """`Venue.stream` of an adapter with order events. For ever. StreamDown is repeated while
    connecting fails for another reason than before."""
    loop = asyncio.get_running_loop()
    waits_s = backoff.waits_s()
    told = ""
    while True:
        up_since_s: float | None = None
        why = "ended"
        try:
            async with aclosing(connect()) as events:
                async for event in events:
                    if isinstance(event, StreamUp):
                        up_since_s, told = loop.time(), ""
                    yield event
        except LostError as lost:
            why = str(lost)
        except (aiohttp.ClientError, OSError) as error:
            # A pong that aiohttp writes by itself may find the socket gone in the middle of a read.
            why = f"connection lost ({type(error).__name__})"
        except NONSENSE as error:
            # A word or a number that the adapter has no place for: a gap like any other.
            why = f"a message that makes no sense ({type(error).__name__})"
        if why != told:
            told = why
            yield StreamDown(why=why)
        if up_since_s is not None and loop.time() - up_since_s >= SETTLED_AFTER_S:
            waits_s = backoff.waits_s()
        await asyncio.sleep(next(waits_s))


@asynccontextmanager
async def subscribed(
    transport: Transport,
    url: str,
    subscribe: Callable[[WebSocket], Awaitable[T]],
    *,
    heartbeat_s: float,
    timeout_s: float,
) -> AsyncIterator[tuple[WebSocket, T]]:
    """A WebSocket for which `subscribe` has seen the venue's confirmation, and what it returned.
    Raises LostError where either is not done within `timeout_s`."""
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(timeout_s):
                socket = await transport.open_websocket(url, heartbeat_s=heartbeat_s)
                stack.push_async_callback(socket.close)
                confirmed = await subscribe(socket)
        except NotSentError as error:
            raise LostError(str(error)) from error
        except TimeoutError:
            raise LostError(f"not subscribed within {timeout_s:g} s") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise LostError(f"connection lost ({type(error).__name__})") from error
        yield socket, confirmed


def content(message: aiohttp.WSMessage) -> str | bytes:
    """What a message says; some venues put their JSON into binary frames. Raises LostError at the
    end of the connection."""
    if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
        reason = f"code {message.data}" if message.type is aiohttp.WSMsgType.CLOSE else "no close"
        raise LostError(f"connection closed ({reason})")
    said: str | bytes = message.data
    return said


def read(data: str | bytes | msgspec.Raw, shape: type[T]) -> T:
    """Raises LostError for what cannot be read: what it said is lost, so it is a gap like any
    other."""
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LostError(f"an unreadable message: {error}") from error
