"""OANDA's transaction stream: our orders' events, pushed.

A reply that does not end, with a JSON object in each line: transactions, and a heartbeat every
5 s. It counts as up when the first of either came, and not when the reply's head is there: behind a
proxy that holds lines back, that says nothing. More than 15 s without a line count as down.

Transactions are numbered without gaps, and heartbeats tell the last number. So a transaction that
the stream left out, or brought twice or late, is noticed: what is missing is asked for, and each is
told once, in order.

ccxt knows no such venue, and both Python clients of OANDA read streams in blocking calls, without
noticing silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass

from openbell.http_library import aiohttp
from openbell.venues.oanda import wire
from openbell.venues.oanda.reader import Reader
from openbell.venues.port import OrderReport, StreamEvent, StreamUp, VenueError
from openbell.venues.pushing import Backoff, Connection, LostError, pushed_stream, read
from openbell.venues.transport import NoReplyError, NotSentError, Request, Transport

SILENCE_MAX_S = 15.0
"""Three heartbeats."""
BACKOFF = Backoff(first_s=0.5, max_s=15.0)
"""OANDA allows two new connections in a second, to all that ask from this address."""


@dataclass(frozen=True)
class TransactionStream:
    """Opens the stream, again and again."""

    transport: Transport
    request: Callable[[], Awaitable[Request]]
    """Raises VenueError."""
    reader_from: Callable[[int], Reader]
    """A history of its own that begins after a transaction."""
    symbols: frozenset[str]
    """Reports of others are not told."""
    timeout_s: float
    clean: Callable[[str], str]

    def events(self) -> AsyncIterator[StreamEvent]:
        """For ever: see `pushed_stream`."""
        return pushed_stream(self._connected, BACKOFF)

    async def _connected(self) -> Connection:
        try:
            with closing(await self._open()) as response:
                lines = _lines(response)
                first = await anext(lines)
                yield StreamUp()
                async with aclosing(self._reports(first, lines)) as reports:
                    async for report in reports:
                        yield report
        except VenueError as error:
            raise LostError(self.clean(error.message)) from error

    async def _open(self) -> aiohttp.ClientResponse:
        try:
            response = await self.transport.open_stream(
                await self.request(), timeout_s=self.timeout_s
            )
        except (NotSentError, NoReplyError) as error:
            raise LostError(str(error)) from error
        if response.status == 200:
            return response
        try:
            async with asyncio.timeout(self.timeout_s):
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError):
            body = b""
        finally:
            response.close()
        problem = wire.problem_in(response.status, body)
        said = "" if problem is None else f": {problem.code} {problem.text}"
        raise LostError(self.clean(f"refused with HTTP {response.status}{said}"))

    async def _reports(
        self, first: bytes, lines: AsyncIterator[bytes]
    ) -> AsyncGenerator[OrderReport, None]:
        reader = self.reader_from(_number_before(first))
        due, line = 0, first
        while True:
            new: list[wire.Transaction] = []
            head = read(line, wire.StreamLine)
            if head.type != "HEARTBEAT":
                new = await _in_order(reader, read(line, wire.Transaction))
            else:
                # A transaction may be a moment behind a heartbeat that knows of it, but not two.
                if reader.history.top < due:
                    new = await reader.catch_up()
                due = int(head.last_transaction_id or 0)
            for transaction in new:
                report = await self._report(reader, transaction)
                if report is not None:
                    yield report
            line = await anext(lines)

    async def _report(self, reader: Reader, transaction: wire.Transaction) -> OrderReport | None:
        """An order that is older than the stream is looked up first."""
        if transaction.order_id or transaction.trade_id:
            await reader.know(int(transaction.order_id or transaction.id))
        report = reader.history.report(transaction)
        return report if report is not None and report.order.symbol in self.symbols else None


async def _in_order(reader: Reader, transaction: wire.Transaction) -> list[wire.Transaction]:
    """What is new with this one: nothing where it came twice, more where others did not come."""
    history = reader.history
    if transaction.number <= history.top:
        return []
    if transaction.number > history.top + 1:
        return await reader.catch_up()
    history.extend([transaction])
    return [transaction]


def _number_before(line: bytes) -> int:
    """The last transaction that the stream will not bring."""
    head = read(line, wire.StreamLine)
    if head.type == "HEARTBEAT":
        if not head.last_transaction_id:
            raise LostError("a heartbeat without the last transaction's id")
        return int(head.last_transaction_id)
    return read(line, wire.Transaction).number - 1


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Raises LostError at the end, and after too much silence."""
    while True:
        try:
            async with asyncio.timeout(SILENCE_MAX_S):
                line = await response.content.readline()
        except TimeoutError:
            raise LostError(f"nothing was heard for {SILENCE_MAX_S:g} s") from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise LostError(f"connection lost ({type(error).__name__})") from error
        if not line:
            raise LostError("ended by the venue")
        if line.strip():
            yield line
