"""Faults that hurt real desks, as data, and the one middleware that applies them.

A plan is a list of faults. Of each request the first fault that matches it (kind's own sense,
method, path, count left, probability) is applied; what a fault answers is in the language of the
face that was asked. Everything random is seeded: the same plan and the same requests give the same
faults.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from openbell_sim.clock import VenueClock
from openbell_sim.faces.port import Answer, Face, RequestKind, Trouble
from openbell_sim.listing import cutting

_EXEMPT = ("/sim/", "/health", "/ready", "/metrics", "/shutdown-status")
"""Whoever checks the desk needs to reach the venue whatever the desk is made to suffer."""


_CANCELS = (RequestKind.CANCEL, RequestKind.MASS_CANCEL)


class FaultKind(StrEnum):
    DROP_REPLY = "drop_reply"
    """The request is carried out, its reply lost: the connection is closed."""
    TIMEOUT_BEFORE_ACCEPT = "timeout_before_accept"
    """The request is not carried out; no answer comes for `hold_s`, then the connection closes."""
    HANG = "hang"
    """The request waits for `hold_s` and is carried out then, whether or not its client waits."""
    STATUS_503_UNKNOWN = "status_503_unknown"
    """503 "execution status unknown". `accepted` says whether the request was carried out; null
    leaves it to chance."""
    HTTP_STATUS = "http_status"
    """`status`, with Retry-After where `retry_after_s` is given; the request is not carried out."""
    REJECT_CANCELS = "reject_cancels"
    """Cancels are refused, the orders stay."""
    EMPTY_OPEN_ORDERS = "empty_open_orders"
    """The list of open orders is answered with 200 and nothing in it."""
    DISCONNECT_STREAMS = "disconnect_streams"
    """Every WebSocket is closed, at once when the fault is posted."""
    CLOCK_SKEW = "clock_skew"
    """The venue's clock goes wrong by `skew_ms` for as long as the fault is in the plan."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: FaultKind
    method: str = "*"
    path: str = "*"
    """Both with shell wildcards."""
    count: int | None = None
    """How often at most; null: until cleared."""
    probability: float = 1.0
    status: int = 429
    retry_after_s: int | None = None
    hold_s: float = 30.0
    accepted: bool | None = None
    skew_ms: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must lie between 0 and 1")
        if self.count is not None and self.count < 1:
            raise ValueError("count must be at least 1")
        if self.hold_s < 0:
            raise ValueError("hold_s must not be negative")
        if not 400 <= self.status <= 599:
            raise ValueError("status must be an error: 400 to 599")


class LatencyModel(StrEnum):
    FIXED = "fixed"
    UNIFORM = "uniform"
    LOGNORMAL = "lognormal"


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long requests wait before they are carried out, in milliseconds."""

    model: LatencyModel = LatencyModel.FIXED
    ms: float = 0.0
    """FIXED: always. LOGNORMAL: the median."""
    low_ms: float = 0.0
    high_ms: float = 0.0
    """UNIFORM: between these."""
    sigma: float = 0.5
    """LOGNORMAL: of the logarithm. 0.5 puts the 99th percentile at 3.2 times the median."""
    seed: int = 1

    def draw_s(self, chance: random.Random) -> float:
        match self.model:
            case LatencyModel.FIXED:
                ms = self.ms
            case LatencyModel.UNIFORM:
                ms = chance.uniform(self.low_ms, self.high_ms)
            case LatencyModel.LOGNORMAL:
                ms = self.ms * chance.lognormvariate(0, self.sigma)
        return max(0.0, ms / 1000)


@dataclass
class Armed:
    """A fault in the plan."""

    number: int
    fault: Fault
    hits: int = 0

    @property
    def spent(self) -> bool:
        return self.fault.count is not None and self.hits >= self.fault.count


@dataclass
class FaultPlan:
    face: Face
    clock: VenueClock
    seed: int = 1
    armed: list[Armed] = field(default_factory=list)
    latency: Latency = field(default_factory=Latency)

    def __post_init__(self) -> None:
        self._numbers = 0
        self._chance = random.Random(self.seed)  # noqa: S311 # to be repeatable is the point
        self._latency_chance = random.Random(self.latency.seed)  # noqa: S311

    def set_latency(self, latency: Latency) -> None:
        self.latency = latency
        self._latency_chance = random.Random(latency.seed)  # noqa: S311

    def reseed(self, seed: int) -> None:
        self.seed = seed
        self._chance = random.Random(seed)  # noqa: S311

    def clear(self) -> None:
        self.armed.clear()
        self.reseed(self.seed)
        self._set_clock()

    async def add(self, fault: Fault) -> Armed:
        self._numbers += 1
        armed = Armed(self._numbers, fault)
        if fault.kind is FaultKind.DISCONNECT_STREAMS:
            armed.hits = await self.face.disconnect()
            return armed
        self.armed.append(armed)
        self._set_clock()
        return armed

    def _set_clock(self) -> None:
        skews = [a.fault.skew_ms for a in self.armed if a.fault.kind is FaultKind.CLOCK_SKEW]
        self.clock.skew_ns = sum(skews) * 1_000_000

    def pick(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets; counts it."""
        for armed in self.armed:
            fault = armed.fault
            if armed.spent or not self._concerns(fault, method, path):
                continue
            if fault.probability < 1 and self._chance.random() >= fault.probability:
                continue
            armed.hits += 1
            return fault
        return None

    def _concerns(self, fault: Fault, method: str, path: str) -> bool:
        match fault.kind:
            case FaultKind.CLOCK_SKEW:
                return False
            case FaultKind.REJECT_CANCELS if self.face.kind_of(method, path) not in _CANCELS:
                return False
            case FaultKind.EMPTY_OPEN_ORDERS if (
                self.face.kind_of(method, path) is not RequestKind.OPEN_ORDERS
            ):
                return False
        return fnmatchcase(method, fault.method) and fnmatchcase(path, fault.path)

    def draw_latency_s(self) -> float:
        return self.latency.draw_s(self._latency_chance)

    def decide_accepted(self, fault: Fault) -> bool:
        return self._chance.random() < 0.5 if fault.accepted is None else fault.accepted


def middleware(plan: FaultPlan) -> Middleware:
    """To be put in front of every face."""

    @web.middleware
    async def apply(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(_EXEMPT):
            return await handler(request)
        delay_s = plan.draw_latency_s()
        if delay_s:
            await asyncio.sleep(delay_s)
        fault = plan.pick(request.method, request.path)
        if fault is None:
            return await handler(request)
        return await _apply(plan, fault, request, handler)

    return apply


async def _apply(
    plan: FaultPlan, fault: Fault, request: web.Request, handler: Handler
) -> web.StreamResponse:
    match fault.kind:
        case FaultKind.DROP_REPLY:
            return _cut(request, await handler(request))
        case FaultKind.TIMEOUT_BEFORE_ACCEPT:
            await request.read()
            await asyncio.sleep(fault.hold_s)
            return _cut(request, web.Response(status=504))
        case FaultKind.HANG:
            # The body is read first: it is gone with a client that does not wait.
            await request.read()
            await asyncio.sleep(fault.hold_s)
            return await handler(request)
        case FaultKind.STATUS_503_UNKNOWN:
            if plan.decide_accepted(fault):
                await handler(request)
            return _reply(plan.face.trouble(Trouble.UNAVAILABLE, 503))
        case FaultKind.HTTP_STATUS:
            throttled = fault.status in (418, 429)
            trouble = Trouble.THROTTLED if throttled else Trouble.UNAVAILABLE
            reply = _reply(plan.face.trouble(trouble, fault.status))
            if fault.retry_after_s is not None:
                reply.headers["Retry-After"] = str(fault.retry_after_s)
            return reply
        case FaultKind.REJECT_CANCELS:
            return _reply(plan.face.trouble(Trouble.CANCEL_REFUSED, 400))
        case FaultKind.EMPTY_OPEN_ORDERS:
            with cutting(lambda _: ()):
                return await handler(request)
        case FaultKind.DISCONNECT_STREAMS | FaultKind.CLOCK_SKEW:
            raise AssertionError(f"{fault.kind} does not concern requests")


def _cut(request: web.Request, reply: web.StreamResponse) -> web.StreamResponse:
    """Closes the connection before a byte of the reply leaves."""
    if request.transport is not None:
        request.transport.abort()
    return reply


def _reply(answer: Answer) -> web.Response:
    return web.Response(
        body=None if answer.body is None else orjson.dumps(answer.body),
        status=answer.status,
        headers=answer.headers,
        content_type="application/json",
    )
