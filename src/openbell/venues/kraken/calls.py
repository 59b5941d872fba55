"""How a request is put to Kraken: nonce, signature, rate counters, and what an answer means."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.domain.orders import ClOrdID
from openbell.venues.ccxt_common import CcxtVenue
from openbell.venues.credentials import Credentials
from openbell.venues.kraken import errors, wire
from openbell.venues.kraken.budget import Budget, tier_of
from openbell.venues.kraken.nonces import ATTEMPTS, Line, Nonces
from openbell.venues.port import (
    Accepted,
    Rejected,
    Unknown,
    VenueAuthError,
    VenueError,
    VenueThrottledError,
)
from openbell.venues.problem import Meaning, Problem
from openbell.venues.rest import THROTTLED
from openbell.venues.settings import refuse_unusable
from openbell.venues.transport import Reply, Request

T = TypeVar("T")


class KrakenCalls(CcxtVenue):
    """Base of `KrakenVenue`, without the port's calls."""

    exchange_id = "kraken"

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        refuse_unusable(name, config, "kraken")
        self._nonces = Nonces()
        self._line = Line()
        self._budget = Budget(tier_of(config.options))
        super().__init__(name, config, credentials)

    def _make_exchange(self) -> Any:
        exchange = super()._make_exchange()
        exchange.incrementing_nonce = self._nonces.next
        return exchange

    # What an answer means.

    def _problem_in(self, reply: Reply) -> Problem | None:
        problem = errors.problem_in(reply.status, reply.body)
        if problem is None:
            self._nonces.taken()
            return None
        if problem.code == errors.INVALID_NONCE:
            self._nonces.refused()
        # Kraken's codes are sentences, and may repeat what they complain of.
        return replace(problem, code=self._clean(problem.code))

    def _outcome_of(self, problem: Problem, reply: Reply) -> Rejected | Unknown:
        if problem.meaning is Meaning.THROTTLED:
            if problem.code.startswith("EOrder:"):
                # Of one pair; whoever sent it knows which.
                return Rejected(code=errors.ORDERS_EXCEEDED, text=self._clean(problem.text))
            return held_back(self._throttled(problem))
        return super()._outcome_of(problem, reply)

    def _error_of(self, problem: Problem, reply: Reply) -> VenueError:
        if problem.meaning is Meaning.THROTTLED:
            return VenueThrottledError(
                f"{self.name}: {self._clean(problem.text)}",
                retry_after_s=self._throttled(problem),
            )
        return super()._error_of(problem, reply)

    def _throttled(self, problem: Problem) -> float:
        now_s = time.monotonic()
        if problem.code == errors.LOCKOUT:
            return self._budget.locked_out(now_s)
        return self._budget.calls_exceeded(now_s)

    # Requests.

    def _sign(self, path: str, params: Mapping[str, Any]) -> Request:
        """Takes a nonce: to be sent at once."""
        try:
            return self._signed("POST", "private", path, params)
        except ValueError as error:  # binascii.Error: the secret is no base64
            raise VenueAuthError(
                f"{self.name}: the secret cannot be used to sign",
                hint="a Kraken private key is base64; copy it whole",
            ) from error

    async def _change(
        self,
        path: str,
        params: Mapping[str, Any],
        read: Callable[[bytes], str],
        *,
        cl_ord_id: ClOrdID | None = None,
    ) -> Accepted | Rejected | Unknown:
        shut_s = self._budget.shut_s(time.monotonic())
        if shut_s > 0:
            return held_back(shut_s)
        async with self._line.effect():
            return await self._effect(self._sign(path, params), read, cl_ord_id=cl_ord_id)

    async def _private(
        self,
        path: str,
        params: Mapping[str, str | int],
        shape: type[T],
        *,
        cost: float = 1.0,
        urgent: bool = False,
    ) -> T:
        """A signed query, asked again while its nonce is refused: then it was not even read.
        `urgent`: ahead of other queries, and whatever the call counter says. Raises VenueError."""
        attempts = 0
        while True:
            attempts += 1
            now_s = time.monotonic()
            wait_s = self._budget.shut_s(now_s)
            if not urgent:
                wait_s = max(wait_s, self._budget.query_wait_s(cost, now_s))
            if wait_s > 0:
                raise VenueThrottledError(
                    f"{self.name}: held back to stay inside the call counter", retry_after_s=wait_s
                )
            self._budget.called(cost, now_s)
            try:
                async with self._line.effect() if urgent else self._line.query():
                    # mypy cannot tell what a generic struct is made of.
                    reply: wire.Reply[T] = await self._ask(
                        self._sign(path, params),
                        wire.Reply[shape],  # type: ignore[valid-type]
                    )
                return reply.result
            except VenueAuthError as error:
                if errors.INVALID_NONCE not in error.message or attempts == ATTEMPTS:
                    raise

    async def _public(self, path: str, params: Mapping[str, str | int], shape: type[T]) -> T:
        reply: wire.Reply[T] = await self._ask(
            self._signed("GET", "public", path, params),
            wire.Reply[shape],  # type: ignore[valid-type]
        )
        return reply.result


def held_back(wait_s: float) -> Rejected:
    text = f"retry after {wait_s:.1f} s"
    return Rejected(code=THROTTLED, text=text, retry_after_s=wait_s)


def result_of(body: bytes, shape: type[T]) -> T:
    """Raises msgspec.DecodeError."""
    reply: wire.Reply[T] = msgspec.json.decode(
        body,
        type=wire.Reply[shape],  # type: ignore[valid-type]
    )
    return reply.result
