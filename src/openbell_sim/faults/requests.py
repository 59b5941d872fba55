"""What becomes of a request that a fault strikes, on HTTP and on sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from openbell_sim.faces.port import Answer, Asked, RequestKind, Trouble
from openbell_sim.faults.kinds import (
    BadNonce,
    DropReply,
    EmptyList,
    FillDuringCancel,
    Hang,
    HttpStatus,
    KeyRefused,
    LazyCancels,
    PartialFill,
    RejectCancels,
    RequestFault,
    StatusUnknown,
    TimeoutBeforeAccept,
    TruncatedPage,
)
from openbell_sim.interventions import meddling
from openbell_sim.listing import cutting

T = TypeVar("T")
SayTrouble = Callable[[Trouble, int], Answer]


async def apply(
    fault: RequestFault,
    asked: Asked,
    carry_out: Callable[[], Awaitable[T]],
    say: SayTrouble,
    chance: random.Random,
) -> T | Answer | None:
    """As `faces.port.Meet` says."""
    # Carrying out what opens a stream lasts as long as the stream: there is no reply to lose.
    opens_stream = asked.kind is RequestKind.STREAM and asked.method == "GET"
    match fault:
        case DropReply():
            if not opens_stream:
                await carry_out()
            return None
        case TimeoutBeforeAccept():
            await asyncio.sleep(fault.hold_s)
            return None
        case Hang():
            await asyncio.sleep(fault.hold_s)
            return await carry_out()
        case StatusUnknown():
            accepted = chance.random() < 0.5 if fault.accepted is None else fault.accepted
            if accepted and not opens_stream:
                await carry_out()
            return say(Trouble.UNAVAILABLE, 503)
        case HttpStatus():
            throttled = fault.status in (418, 429)
            answer = say(Trouble.THROTTLED if throttled else Trouble.UNAVAILABLE, fault.status)
            if fault.retry_after_s is None:
                return answer
            told = {"Retry-After": str(fault.retry_after_s)}
            return replace(answer, headers={**answer.headers, **told})
        case BadNonce():
            return say(Trouble.BAD_NONCE, 400)
        case KeyRefused():
            return say(Trouble.KEY_REVOKED, 401)
        case RejectCancels():
            return say(Trouble.CANCEL_REFUSED, 400)
        case LazyCancels():
            with meddling(lazy_cancels_s=fault.delay_s):
                return await carry_out()
        case FillDuringCancel():
            with meddling(fill_on_cancel=fault.part):
                return await carry_out()
        case PartialFill():
            with meddling(partial_fills=fault.part):
                return await carry_out()
        case EmptyList():
            with cutting(lambda _: ()):
                return await carry_out()
        case TruncatedPage():
            with cutting(lambda rows: rows[: fault.keep]):
                return await carry_out()
        case _:
            raise AssertionError(f"{fault.name} has no effect on requests")
