"""How a request is sent once and understood: the rules of the port, kept in one place.

answer                              submit, cancel            query
----------------------------------  ------------------------  ----------------------
success of the expected shape       Accepted                  its value
understood and refused              Rejected(venue's code)    VenueRefusedError
no such order                       Rejected(venue's code)    NoSuchOrderError
key, signature, time stamp refused  Rejected(venue's code)    VenueAuthError
429, 418; or held back by pacing    Rejected("throttled")     VenueThrottledError
no connection, so never sent        Rejected("never_arrived") VenueUnavailableError
a ClOrdID that exists already       Unknown                   VenueRefusedError
5xx, time-out, cut connection,
another shape, "status unknown"     Unknown                   VenueUnavailableError
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID
from openbell.venues.base import VenueBase
from openbell.venues.clock import VenueClock
from openbell.venues.credentials import Credentials
from openbell.venues.pacing import Pacing
from openbell.venues.port import (
    Accepted,
    Rejected,
    Unknown,
    VenueAuthError,
    VenueError,
    VenueRefusedError,
    VenueThrottledError,
    VenueUnavailableError,
)
from openbell.venues.problem import NONSENSE, Meaning, Problem
from openbell.venues.transport import NoReplyError, NotSentError, Reply, Request, Transport

T = TypeVar("T")

THROTTLED = "throttled"
NEVER_ARRIVED = "never_arrived"


class NoSuchOrderError(VenueRefusedError):
    """The venue says that it knows no such order."""


def not_looked_up(error: VenueError) -> Rejected:
    """Of a cancel whose order had to be asked for first and could not be: nothing that cancels was
    sent. Where that was for the venue's limits, whoever cancels is told how long to wait."""
    text = f"not sent: {error.message}"
    if isinstance(error, VenueThrottledError):
        return Rejected(code=THROTTLED, text=text, retry_after_s=error.retry_after_s)
    return Rejected(code=NEVER_ARRIVED, text=text)


class RestVenue(VenueBase):
    """Base of the adapters that speak HTTP. A subclass implements the port's calls."""

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        super().__init__(name, config, credentials)
        self._transport = Transport()
        self._pacing = Pacing()
        self._clock = VenueClock()

    async def close(self) -> None:
        """Requests under way end as unknown. The venue may be connected again."""
        await self._transport.close()

    # What a venue adds.

    def _problem_in(self, reply: Reply) -> Problem | None:
        """What an answer means; None for success."""
        raise NotImplementedError

    def _note(self, reply: Reply) -> None:
        """Sees every answer before it is judged: for the request budget."""

    # The rules.

    async def _effect(
        self, request: Request, read: Callable[[bytes], str], *, cl_ord_id: ClOrdID | None = None
    ) -> Accepted | Rejected | Unknown:
        """Sends what changes something, once; `read` takes the venue's order id from a success.

        Raises nothing for what the venue or the network does.
        """
        wait_s = self._pacing.wait_s(time.monotonic(), query=False)
        if wait_s > 0:
            text = f"not sent: retry after {wait_s:.1f} s"
            return Rejected(code=THROTTLED, text=text, retry_after_s=wait_s)
        self._pacing.under_way += 1
        try:
            reply = await self._transport.send(
                request, timeout_s=self.config.timeout, on_sent=self._sent_hook(cl_ord_id)
            )
        except NotSentError as error:
            return Rejected(code=NEVER_ARRIVED, text=str(error))
        except NoReplyError as error:
            return Unknown(why=str(error))
        finally:
            self._pacing.under_way -= 1
        problem = self._judged(reply)
        if problem is not None:
            return self._outcome_of(problem, reply)
        try:
            return Accepted(venue_order_id=read(reply.body))
        except (msgspec.DecodeError, *NONSENSE):
            return Unknown(why=f"HTTP {reply.status} with an answer of another shape")

    async def _ask(self, request: Request, shape: type[T], *, for_cancel: bool = False) -> T:
        """Sends a query and decodes its answer. Raises VenueError.

        `for_cancel`: without it an order cannot be cancelled, so it may use the part of the budget
        that is kept for cancels.
        """
        wait_s = self._pacing.wait_s(time.monotonic(), query=not for_cancel)
        if wait_s > 0:
            raise VenueThrottledError(
                f"{self.name}: held back to stay inside the request budget", retry_after_s=wait_s
            )
        self._pacing.under_way += 1
        try:
            reply = await self._transport.send(request, timeout_s=self.config.timeout)
        except (NotSentError, NoReplyError) as error:
            raise VenueUnavailableError(f"{self.name}: {error}") from error
        finally:
            self._pacing.under_way -= 1
        problem = self._judged(reply)
        if problem is not None:
            raise self._error_of(problem, reply)
        return self._decoded(reply.body, shape)

    def _judged(self, reply: Reply) -> Problem | None:
        """What an answer means; one that cannot be judged is uncertain."""
        try:
            self._note(reply)
            return self._problem_in(reply)
        except NONSENSE as error:
            text = f"an answer that makes no sense ({type(error).__name__})"
            return Problem(Meaning.UNCERTAIN, f"http_{reply.status}", text)

    def _decoded(self, body: bytes, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=shape)
        except (msgspec.DecodeError, *NONSENSE) as error:
            raise VenueUnavailableError(f"{self.name}: an answer of another shape") from error

    def _outcome_of(self, problem: Problem, reply: Reply) -> Rejected | Unknown:
        text = self._clean(problem.text)
        if problem.meaning is Meaning.UNCERTAIN:
            return Unknown(why=f"HTTP {reply.status}, {problem.code}: {text}")
        if problem.meaning is Meaning.DUPLICATE:
            # Rejected would say that there is no order, and there is one: an earlier send of the
            # same intent arrived. Asking by ClOrdID finds it.
            return Unknown(why=f"duplicate id: {text}")
        if problem.meaning is Meaning.THROTTLED:
            wait_s = self._pacing.refused(reply.status, reply.headers, time.monotonic())
            text = f"retry after {wait_s:.1f} s: {text}"
            return Rejected(code=THROTTLED, text=text, retry_after_s=wait_s)
        return Rejected(code=problem.code, text=text)

    def _error_of(self, problem: Problem, reply: Reply) -> VenueError:
        text = self._clean(problem.text)
        # Kraken's codes are its whole text.
        message = f"{self.name}: {text if text == problem.code else f'{problem.code} {text}'}"
        match problem.meaning:
            case Meaning.THROTTLED:
                wait_s = self._pacing.refused(reply.status, reply.headers, time.monotonic())
                return VenueThrottledError(message, retry_after_s=wait_s)
            case Meaning.NOT_ALLOWED:
                return VenueAuthError(
                    message, hint="check the key, its permissions and this machine's clock"
                )
            case Meaning.UNCERTAIN:
                return VenueUnavailableError(message)
            case Meaning.NO_SUCH_ORDER:
                return NoSuchOrderError(message, venue_code=problem.code)
            case Meaning.REFUSED | Meaning.DUPLICATE:
                return VenueRefusedError(message, venue_code=problem.code)
