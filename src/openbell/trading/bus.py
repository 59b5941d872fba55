"""The bus: ZeroMQ over ipc sockets in the desk's run folder, with no broker in between.

    Publisher ──topics──▶ Subscriber          loss is counted, never hidden
    Requester ──one──▶ Responder              resent after a lost reply, never acted on too late

Each side may start first, stop and come back: ZeroMQ connects again by itself. What that does not
cover is covered here:

- A published message can be lost (a slow or late subscriber). Every topic carries a sequence per
  producer; what must not be lost is replayed from its owner (`event_feed`).
- A request can be answered and the answer lost. The requester sends the same body again, and the
  responder's owner makes it take effect at most once, by an identifier in the body.
- A responder can be replaced: it died, or it hands its work to another process, which binds under
  the same name. What it had not answered is sent again at once, to whoever is bound by then.
- A request can lie in a queue while its sender gives up. It carries the moment at which its sender
  stops waiting, on the machine's monotonic clock, and is dropped unread after that: an order must
  never reach an engine minutes after the strategy gave it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import msgspec
import zmq
import zmq.asyncio

from openbell.errors import OpenbellError, UnverifiedError
from openbell.service.logging import get_logger
from openbell.trading.messages import Envelope

log = get_logger()

Req = TypeVar("Req")
Rep = TypeVar("Rep")

PUBLISH_HWM = 20_000
"""Messages held per slow subscriber before its newest are dropped: about 20 s of a busy desk."""
REQUEST_HWM = 1_000
"""Requests held per peer. Small on purpose: what waits longer than its sender is dropped anyway."""
DRAIN_MAX = 1_000
"""Most messages taken at once while conflating, so that other tasks get their turn."""

RECONNECT_MS = (10, 100)
"""First and longest wait before connecting again. Short, because a desk waits for it: an engine that
was replaced is bound again within less."""
UNSENT_AGAIN_S = (0.001, 0.002, 0.005, 0.01)
"""When a request is tried again that found nobody connected, the last one for as long as it is waited for.
A connection takes a part of the first; during a hand-over orders wait for it."""
MOVED = b""
"""The answer of a responder that has handed its work over: ask again, somebody else is there."""
_LAST_WORDS_MS = 200
"""How long a responder's last answers may take to leave after it was closed."""

_EXPIRY = struct.Struct("!Q")
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises: a text that is none, and a nesting without end, are no MsgspecError."""
_bound = itertools.count(1)


class BadMessageError(OpenbellError):
    """A message that its type does not describe: another version runs on the other side."""

    code = "bad_message"


class MovedError(OpenbellError):
    """Raised by a responder's handler whose work was handed over: the asker asks the successor."""

    code = "moved"


class NoReplyError(UnverifiedError):
    """No answer in time. Whether the request took effect is unknown."""

    code = "no_reply"


@dataclass
class Counters:
    """What one socket has seen since it was opened; rates are for whoever scrapes them."""

    sent: int = 0
    received: int = 0
    lost: int = 0
    """Published, but never arrived here."""
    conflated: int = 0
    """Arrived, but a newer one of the topic was there already."""
    expired: int = 0
    """Arrived after its sender had stopped waiting."""
    malformed: int = 0
    resent: int = 0


def producer_name(service: str) -> str:
    """`execution-engine/1732147200000000000`: a restarted producer has another name."""
    return f"{service}/{time.time_ns()}"


_context: zmq.asyncio.Context | None = None


def context() -> zmq.asyncio.Context:
    """This process's ZeroMQ context; made at first use, so that a fork before it is harmless."""
    global _context
    if _context is None or _context.closed:
        _context = zmq.asyncio.Context()
    return _context


class _BoundSocket:
    """A socket bound under a name of its own, then moved to the endpoint's name.

    ZeroMQ removes an ipc endpoint's file when its socket closes. An old process that ends after
    its successor has bound would remove the successor's file, and no one could connect to it. So
    the file is renamed into place, which is atomic, and removed only while it is still ours.
    """

    def __init__(self, path: Path, kind: int, *, hwm: int) -> None:
        self._path = path
        self.socket = context().socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, hwm)
        self.socket.setsockopt(zmq.RCVHWM, hwm)
        self._bind().rename(path)
        self._inode = path.stat().st_ino

    def _bind(self) -> Path:
        name = f".{self._path.stem[:8]}.{os.getpid():x}.{next(_bound):x}"
        private = self._path.with_name(name)
        self.socket.bind(f"ipc://{private}")
        return private

    @property
    def is_gone(self) -> bool:
        """Nobody is bound under the name: somebody cleaned it away, or its folder. One that was closed is
        meant to be."""
        if self.socket.closed:
            return False
        try:
            self._path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False

    def reopen(self) -> bool:
        """Bound under the name again, beside whoever is connected. False: another process is by now, which
        is left there. Raises OSError."""
        try:
            private = self._bind()
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"{self._path.name}: {error}") from error
        try:
            inode = private.stat().st_ino
            os.link(private, self._path)  # unlike a renaming it takes nobody's place
        except OSError as error:
            # Nobody is connected by it. The listener of before stays where this succeeds: to unbind it would
            # cut off all who are, and what is published meanwhile would be lost to them.
            with contextlib.suppress(zmq.ZMQError):
                self.socket.unbind(f"ipc://{private}")
            if isinstance(error, FileExistsError):
                return False
            raise
        finally:
            private.unlink(missing_ok=True)
        self._inode = inode
        return True

    @property
    def is_replaced(self) -> bool:
        """Another process is bound under the name."""
        try:
            return self._path.stat().st_ino != self._inode
        except OSError:
            return False

    def close(self, *, linger_ms: int = 0) -> None:
        self.socket.close(linger=linger_ms)
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


class Publisher:
    """Sends to whoever listens, and never waits for a slow one: what it cannot take is dropped
    for it alone, and it sees the gap."""

    def __init__(self, path: Path, *, producer: str, hwm: int = PUBLISH_HWM) -> None:
        self.producer = producer
        self.counters = Counters()
        self._bound = _BoundSocket(path, zmq.PUB, hwm=hwm)
        # The plain socket: a PUB send never blocks, so a future per message would be waste.
        self._socket: zmq.Socket[bytes] = zmq.Socket.shadow(self._bound.socket.underlying)
        self._seq: dict[str, int] = {}
        self._encode = msgspec.msgpack.Encoder().encode

    def publish(self, topic: str, body: msgspec.Struct) -> None:
        seq = self._seq.get(topic, 0) + 1
        self._seq[topic] = seq
        envelope = Envelope(producer=self.producer, seq=seq, sent_ns=time.time_ns(), body=body)
        self._socket.send_multipart([topic.encode(), self._encode(envelope)], zmq.NOBLOCK)
        self.counters.sent += 1

    @property
    def is_gone(self) -> bool:
        """Its path was cleaned away: nobody can subscribe any more."""
        return self._bound.is_gone

    def reopen(self) -> bool:
        """Found under its path again; whoever subscribed stays so. False: another one took it. Raises
        OSError."""
        return self._bound.reopen()

    def close(self) -> None:
        self._bound.close()


@dataclass(frozen=True)
class Received:
    topic: str
    envelope: Envelope[Any]
    gap: bool
    """True where it does not follow directly on the last one of its topic: something was lost,
    the producer started again, or it is the first one seen."""

    @property
    def body(self) -> Any:
        return self.envelope.body


@dataclass
class _Position:
    """Where a topic's sequence stands."""

    producer: str
    seq: int
    skipped: int = field(default=0)
    """Conflated since."""


class Subscriber:
    """Hears the topics with the given prefixes; each prefix names the type of its bodies.

    `conflate`: prefixes of which only the newest message of each topic matters.
    """

    def __init__(
        self,
        path: Path,
        topics: Mapping[str, Any],
        *,
        conflate: tuple[str, ...] = (),
        hwm: int = PUBLISH_HWM,
    ) -> None:
        self.counters = Counters()
        envelope: Any = Envelope
        self._decoders: dict[str, msgspec.msgpack.Decoder[Envelope[Any]]] = {
            prefix: msgspec.msgpack.Decoder(envelope[body]) for prefix, body in topics.items()
        }
        self._conflate = tuple(prefix.encode() for prefix in conflate)
        self._ready: deque[tuple[bytes, bytes]] = deque()
        self._positions: dict[str, _Position] = {}
        self._skipped: dict[bytes, int] = {}
        self._socket = context().socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, hwm)
        _reconnect_soon(self._socket)
        for prefix in topics:
            self._socket.subscribe(prefix)
        self._socket.connect(f"ipc://{path}")

    async def receive(self) -> Received:
        """The next message. Raises BadMessageError for one that is not of its topic's type."""
        if not self._ready:
            topic, payload = await self._socket.recv_multipart()
            self._ready.append((topic, payload))
            self.counters.received += 1
            if self._conflate:
                self._drain()
        topic, payload = self._ready.popleft()
        return self._decode(topic, payload)

    def __aiter__(self) -> Subscriber:
        return self

    async def __anext__(self) -> Received:
        return await self.receive()

    def close(self) -> None:
        self._socket.close(linger=0)

    def _drain(self) -> None:
        taken = list(self._ready)
        with contextlib.suppress(zmq.Again):
            while len(taken) < DRAIN_MAX:
                # With NOBLOCK the future is already done, with a message or with Again.
                now = cast("asyncio.Future[list[bytes]]", self._socket.recv_multipart(zmq.NOBLOCK))
                topic, payload = now.result()
                taken.append((topic, payload))
                self.counters.received += 1
        newest: set[bytes] = set()
        self._ready.clear()
        for topic, payload in reversed(taken):
            if topic.startswith(self._conflate):
                if topic in newest:
                    self._skipped[topic] = self._skipped.get(topic, 0) + 1
                    self.counters.conflated += 1
                    continue
                newest.add(topic)
            self._ready.appendleft((topic, payload))

    def _decode(self, raw_topic: bytes, payload: bytes) -> Received:
        topic = raw_topic.decode(errors="replace")
        decoder = next((d for p, d in self._decoders.items() if topic.startswith(p)), None)
        try:
            if decoder is None:
                raise BadMessageError(f"no type is known for topic {topic}")
            envelope = decoder.decode(payload)
        except _UNREADABLE as error:
            self.counters.malformed += 1
            raise BadMessageError(f"a message on {topic} is not of its type: {error}") from error
        skipped = self._skipped.pop(raw_topic, 0)
        last = self._positions.get(topic)
        self._positions[topic] = _Position(envelope.producer, envelope.seq)
        if last is None or last.producer != envelope.producer:
            return Received(topic, envelope, gap=True)
        missing = envelope.seq - last.seq - 1 - skipped
        self.counters.lost += max(missing, 0)
        return Received(topic, envelope, gap=missing != 0)


@dataclass
class _Asked(Generic[Rep]):
    """A request that waits for its answer."""

    frames: list[bytes]
    answer: asyncio.Future[Rep]


class Requester(Generic[Req, Rep]):
    """Asks one responder, and asks again where the answer stays away.

    The same body is sent again, so the other side must recognise it; a late answer to the first
    sending counts. Where the responder goes away, or says that it has handed its work over, what it
    had not answered is sent again at once.
    """

    def __init__(self, path: Path, reply_type: Any, *, hwm: int = REQUEST_HWM) -> None:
        self.counters = Counters()
        self._path = path
        self._hwm = hwm
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(reply_type)
        self._waiting: dict[bytes, _Asked[Rep]] = {}
        self._number = itertools.count(1)
        self._reader: asyncio.Task[None] | None = None
        self._open()

    async def ask(self, request: Req, *, timeout_s: float, attempts: int = 1) -> Rep:
        """The answer, within `timeout_s` seconds over all attempts. Raises NoReplyError."""
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name=f"bus:{self._path.name}")
        number = struct.pack("!Q", next(self._number))
        expiry = _EXPIRY.pack(time.monotonic_ns() + int(timeout_s * 1e9))
        answer: asyncio.Future[Rep] = asyncio.get_running_loop().create_future()
        asked = _Asked([number, expiry, self._encode(request)], answer)
        self._waiting[number] = asked
        try:
            for attempt in range(attempts):
                self.counters.resent += attempt > 0
                self._send(number, asked)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s / attempts):
                        return await asyncio.shield(answer)
            raise NoReplyError(
                f"{self._path.name} did not answer within {timeout_s:g} s: whether the request "
                "took effect is unknown"
            )
        finally:
            del self._waiting[number]
            answer.cancel()

    def _open(self) -> None:
        self._socket = context().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, self._hwm)
        self._socket.setsockopt(zmq.RCVHWM, self._hwm)
        _reconnect_soon(self._socket)
        # Queue only towards a peer that is there: nothing waits for one that may come much later.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(f"ipc://{self._path}")

    def _send(self, number: bytes, asked: _Asked[Rep], tried: int = 0) -> None:
        """Nobody connected, or no room: tried again for as long as the asker waits."""
        if self._waiting.get(number) is not asked or asked.answer.done():
            return
        # With NOBLOCK the future is done already, sent or refused.
        sent = cast("asyncio.Future[None]", self._socket.send_multipart(asked.frames, zmq.NOBLOCK))
        if sent.exception() is None:
            self.counters.sent += 1
        else:
            pause_s = UNSENT_AGAIN_S[min(tried, len(UNSENT_AGAIN_S) - 1)]
            loop = asyncio.get_running_loop()
            loop.call_later(pause_s, self._send, number, asked, tried + 1)

    async def _read(self) -> None:
        while True:
            await self._read_until_gone()
            # A new socket, because the old one might send once more to the peer that is gone.
            self._close()
            self._open()
            for number, asked in list(self._waiting.items()):
                self.counters.resent += 1
                self._send(number, asked)

    async def _read_until_gone(self) -> None:
        """Returns when the responder has gone, or says that another one took its place."""
        gone = asyncio.ensure_future(self._monitor.recv_multipart())
        reading = asyncio.create_task(self._read_answers())
        try:
            await asyncio.wait({gone, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            gone.cancel()
            reading.cancel()
            await asyncio.gather(gone, reading, return_exceptions=True)

    async def _read_answers(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            self.counters.received += 1
            if len(frames) != 2:
                self.counters.malformed += 1
                log.error("answer not understood", socket=self._path.name, frames=len(frames))
                continue
            number, payload = frames
            if payload == MOVED:
                return
            asked = self._waiting.get(number)
            if asked is None or asked.answer.done():
                continue  # an answer to a request that was given up, or a second one to a resend
            try:
                asked.answer.set_result(self._decoder.decode(payload))
            except _UNREADABLE as error:
                self.counters.malformed += 1
                asked.answer.set_exception(
                    BadMessageError(f"an answer on {self._path.name} is not of its type: {error}")
                )

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._close()

    def _close(self) -> None:
        # In this order: libzmq's I/O thread, which tells the monitor of a peer that goes at this very
        # moment, would wait for ever for a monitor that is closed, and with it all of this process.
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)


class Responder(Generic[Req, Rep]):
    """Answers requests, many at a time, up to `concurrency`; the rest wait in their senders' queues."""

    def __init__(
        self,
        path: Path,
        request_type: Any,
        handler: Callable[[Req], Awaitable[Rep]],
        *,
        concurrency: int = REQUEST_HWM,
        hwm: int = REQUEST_HWM,
    ) -> None:
        self.counters = Counters()
        self._handler = handler
        self._name = path.name
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(request_type)
        self._encode = msgspec.msgpack.Encoder().encode
        self._bound = _BoundSocket(path, zmq.ROUTER, hwm=hwm)
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reader = asyncio.create_task(self._read(), name=f"bus:{self._name}")

    async def _read(self) -> None:
        while True:
            await self._slots.acquire()
            frames = await self._bound.socket.recv_multipart()
            self.counters.received += 1
            task = asyncio.create_task(self._answer(frames))
            self._tasks.add(task)
            task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._slots.release()
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of the handler: the asker gets no answer, which means unknown, rightly.
            log.error("request failed", socket=self._name, exc_info=error)

    async def _answer(self, frames: list[bytes]) -> None:
        try:
            peer, number, expiry, payload = frames
            (expires_ns,) = _EXPIRY.unpack(expiry)
            if time.monotonic_ns() > expires_ns:
                self.counters.expired += 1
                return
            request = self._decoder.decode(payload)
        except (ValueError, struct.error) as error:
            self.counters.malformed += 1
            log.error("request not understood", socket=self._name, error=str(error))
            return
        try:
            answer = self._encode(await self._handler(request))
        except MovedError:
            answer = MOVED
        await self._bound.socket.send_multipart([peer, number, answer])
        self.counters.sent += 1

    @property
    def is_replaced(self) -> bool:
        """Another process answers under this name: what is asked from now on is asked there."""
        return self._bound.is_replaced

    @property
    def is_gone(self) -> bool:
        """Its path was cleaned away: nobody who is not connected can ask any more."""
        return self._bound.is_gone

    def reopen(self) -> bool:
        """Found under its path again; whoever is connected stays so. False: another one took it. Raises
        OSError."""
        return self._bound.reopen()

    async def close(self) -> None:
        """Takes nothing new, lets running requests finish, closes."""
        self._reader.cancel()
        await asyncio.gather(self._reader, *self._tasks, return_exceptions=True)
        self._bound.close(linger_ms=_LAST_WORDS_MS)


def _reconnect_soon(socket: zmq.asyncio.Socket) -> None:
    first_ms, longest_ms = RECONNECT_MS
    socket.setsockopt(zmq.RECONNECT_IVL, first_ms)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, longest_ms)
