"""One venue as a stop uses it: every request in its turn, questions again once the venue takes them
again, and nothing raised but VenueError and GivenUpError.

An adapter that fails in a way that its port does not allow must not end the stop either: then
nothing is known, and it is asked again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from openbell.domain.market import Quote
from openbell.domain.orders import NewOrder
from openbell.kill.pace import Pace
from openbell.kill.plan import CancelCall, Means
from openbell.state.live_orders import LiveOrder
from openbell.venues.port import (
    Balance,
    CancelOutcome,
    Listing,
    Rejected,
    SubmitOutcome,
    Unknown,
    Venue,
    VenueError,
    VenueOrder,
    VenuePosition,
    VenueThrottledError,
    VenueUnavailableError,
)
from openbell.venues.rest import THROTTLED

T = TypeVar("T")

_log = logging.getLogger(__name__)

CONNECT_REQUESTS = 4
"""Counted for a connect: what the adapters need is two to five."""
THROTTLED_S = 1.0
"""After a refusal for too many requests that names no time: the shortest window that venues count."""


THROTTLED_S_MIN = 0.05


SHORT_LIST = 20
"""Orders in a list, or under a mass cancel, that takes no longer than an order does."""


class GivenUpError(Exception):
    """Asking on would not help, or do harm."""


class Asking:
    """`deadline_s` is a time of the running event loop; `waiting` is told the seconds and the reason
    where everything has to wait for the venue."""

    def __init__(
        self, venue: Venue, pace: Pace, deadline_s: float, waiting: Callable[[float, str], None]
    ) -> None:
        self.venue = venue
        self.why_shut = ""
        self.slowest_s = 0.0
        """Of round trips that had the venue for themselves: among others a request waits for us as
        well, and a long list or a mass cancel for its own length."""
        self._under_way = 0
        self._pace = pace
        self._deadline_s = deadline_s
        self._waiting = waiting
        self._now_s = asyncio.get_running_loop().time

    async def turn(self) -> None:
        """Returns when a request may leave. Raises GivenUpError where that is after the deadline."""
        if self._now_s() + self._pace.shut_for_s > self._deadline_s:
            raise GivenUpError(self.why_shut)
        await self._pace.turn()

    async def connect(self) -> None:
        await self._asked(self.venue.connect, requests=CONNECT_REQUESTS)

    async def open_orders(self) -> Listing:
        """Of all declared symbols, whatever the scope: so that a list without any order can be
        held against the funds that are locked."""
        return await self._asked(self.venue.open_orders)

    async def balances(self) -> Mapping[str, Balance]:
        return await self._asked(self.venue.balances)

    async def positions(self) -> list[VenuePosition]:
        return await self._asked(self.venue.positions)

    async def quote(self, symbol: str) -> Quote:
        return await self._asked(lambda: self.venue.quote(symbol))

    async def order(self, order: VenueOrder | NewOrder | LiveOrder) -> VenueOrder | None:
        return await self._asked(lambda: self.venue.order(order.symbol, order.cl_ord_id))

    async def cancel(self, call: CancelCall) -> list[CancelOutcome]:
        """An outcome for each of its orders; one for a mass cancel. Its turn was taken before."""
        venue = self.venue
        took = self._round_trip()
        try:
            match call.means:
                case Means.ACCOUNT:
                    outcomes = [await venue.cancel_account()]
                case Means.SYMBOL:
                    outcomes = [await venue.cancel_all(call.symbol)]
                case Means.BATCH:
                    outcomes = await venue.cancel_many(call.symbol, call.cl_ord_ids)
                case Means.SINGLE:
                    (order,) = call.orders
                    outcomes = [
                        await venue.cancel(
                            call.symbol, order.cl_ord_id, venue_order_id=order.venue_order_id
                        )
                    ]
        except Exception as error:  # noqa: BLE001 # a defect of theirs must not end the stop
            self._defect(error)
            named = call.means in (Means.BATCH, Means.SINGLE)
            why = f"the adapter raised {type(error).__name__}"
            outcomes = [Unknown(why=why) for _ in (call.orders if named else (None,))]
        finally:
            self._under_way -= 1
        took(_is_short_cancel(call) and not any(isinstance(each, Unknown) for each in outcomes))
        if call.means is Means.BATCH and len(outcomes) != len(call.orders):
            why = f"{len(outcomes)} outcomes of {len(call.orders)} cancels"
            outcomes = [Unknown(why=why) for _ in call.orders]
        for outcome in outcomes:
            self._heed(outcome)
        return outcomes

    async def withdraw(self, order: VenueOrder) -> None:
        """One cancel; what came of it is to be asked for."""
        await self.turn()
        await self.cancel(CancelCall(means=Means.SINGLE, symbol=order.symbol, orders=(order,)))

    async def submit(self, order: NewOrder) -> SubmitOutcome:
        await self.turn()
        try:
            outcome = await self.venue.submit(order)
        except Exception as error:  # noqa: BLE001 # the same
            self._defect(error)
            return Unknown(why=f"the adapter raised {type(error).__name__}")
        self._heed(outcome)
        return outcome

    def _heed(self, outcome: CancelOutcome) -> None:
        if is_throttled(outcome):
            assert isinstance(outcome, Rejected)
            wait_s = THROTTLED_S if outcome.retry_after_s is None else outcome.retry_after_s
            self._shut(wait_s, outcome.text)

    def _defect(self, error: Exception) -> None:
        """Without the error's own words, in which there may be credentials."""
        _log.error("the adapter of %s raised %s", self.venue.name, type(error).__name__)

    def _shut(self, wait_s: float, why: str) -> None:
        told_s = self._pace.shut_for_s
        self._pace.shut(max(wait_s, THROTTLED_S_MIN))
        if wait_s > told_s:
            self.why_shut = why
            self._waiting(wait_s, why)

    async def _asked(self, question: Callable[[], Awaitable[T]], requests: int = 1) -> T:
        """Raises VenueError, and GivenUpError as `turn` does. Where the venue wants fewer requests
        the same is asked again in time: to begin anew would cost more than was saved up meanwhile.
        """
        while True:
            for _ in range(requests):
                await self.turn()
            took = self._round_trip()
            try:
                answer = await question()
            except VenueThrottledError as error:
                self._shut(error.retry_after_s, error.message)
            except VenueError:
                raise
            except Exception as error:  # noqa: BLE001 # the same
                self._defect(error)
                raise VenueUnavailableError(
                    f"{self.venue.name}: the adapter raised {type(error).__name__}"
                ) from None
            else:
                took(requests == 1 and _is_short(answer))
                return answer
            finally:
                self._under_way -= 1

    def _round_trip(self) -> Callable[[bool], None]:
        """Begins one; to be told, when it ends, whether it counts."""
        self._under_way += 1
        alone = self._under_way == 1
        began_s = self._now_s()

        def took(counts: bool) -> None:
            if counts and alone:
                self.slowest_s = max(self.slowest_s, self._now_s() - began_s)

        return took


def _is_short(answer: object) -> bool:
    return not isinstance(answer, Listing) or len(answer.orders) <= SHORT_LIST


def _is_short_cancel(call: CancelCall) -> bool:
    """A mass cancel takes as long as what it withdraws, like a list; of how much that is there may be
    no list yet."""
    named = call.means in (Means.BATCH, Means.SINGLE)
    return named or 0 < len(call.orders) <= SHORT_LIST


def is_throttled(outcome: CancelOutcome) -> bool:
    return isinstance(outcome, Rejected) and outcome.code == THROTTLED
