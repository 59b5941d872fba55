"""How the adapter calls ccxt: each order and cancel once, with an outcome; each query in its turn."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from openbell.config.models import Venue as VenueConfig
from openbell.http_library import aiohttp
from openbell.venues.base import VenueBase
from openbell.venues.credentials import Credentials
from openbell.venues.generic import outcomes
from openbell.venues.generic.calls import Sending, open_session, sending
from openbell.venues.generic.ccxt_library import ccxt
from openbell.venues.original import original, without_urls
from openbell.venues.pacing import Pacing
from openbell.venues.port import (
    Rejected,
    Unknown,
    VenueAuthError,
    VenueError,
    VenueRefusedError,
    VenueThrottledError,
    VenueUnavailableError,
)
from openbell.venues.problem import NONSENSE
from openbell.venues.rest import NEVER_ARRIVED, THROTTLED, NoSuchOrderError

T = TypeVar("T")
_AUTH = re.compile(r"invalid (api.?)?(key|signature)", re.IGNORECASE)
"""How exchanges say it where ccxt has no class for their words. Of queries only."""

DEFAULT_WAIT = {"Retry-After": "10"}
"""Seconds after a refusal for too many requests that names no time. Ours."""


@dataclass(frozen=True)
class Done:
    """ccxt returned: the exchange accepted what was asked."""

    answer: Any

    @property
    def order_id(self) -> str:
        """Empty where the answer has none."""
        found = self.answer.get("id") if isinstance(self.answer, dict) else None
        return str(found) if found else ""


class CcxtCalls(VenueBase):
    def __init__(
        self,
        name: str,
        config: VenueConfig,
        credentials: Credentials,
        exchange: Any,
        *,
        one_at_a_time: bool,
    ) -> None:
        super().__init__(name, config, credentials)
        self._exchange = exchange
        self._line = asyncio.Lock() if one_at_a_time else nullcontext()
        self._session: aiohttp.ClientSession | None = None
        self._pacing = Pacing()
        # A simulated venue says itself when it is asked too often.
        real = config.environment != "simulated"
        self._spacing_s = float(exchange.rateLimit or 0) / 1000 if real else 0.0
        """Between two queries, as ccxt says the exchange wants them."""
        self._next_query_s = 0.0

    async def close(self) -> None:
        """Requests under way end as unknown. The venue may be connected again."""
        session, self._session = self._session, None
        await self._exchange.close()
        if session is not None:
            await session.close()

    async def _effect(
        self, call: Sending, act: Callable[[Any], Awaitable[Any]]
    ) -> Done | Rejected | Unknown:
        """Sends what changes something, once, and does not wait behind queries. Raises nothing for
        what exchange, network or ccxt do."""
        wait_s = self._pacing.wait_s(time.monotonic(), query=False)
        if wait_s > 0:
            text = f"not sent: retry after {wait_s:.1f} s"
            return Rejected(code=THROTTLED, text=text, retry_after_s=wait_s)
        try:
            async with self._line:
                with sending(call):
                    async with asyncio.timeout(self.config.timeout):
                        return Done(await act(self._opened()))
        except TimeoutError:
            outcome: Rejected | Unknown = Unknown(why=f"no answer within {self.config.timeout:g} s")
        except outcomes.THROTTLED as error:
            text = self._throttled(error)
            wait_s = self._pacing.wait_s(time.monotonic(), query=False)
            return Rejected(code=THROTTLED, text=text, retry_after_s=wait_s)
        except Exception as error:  # noqa: BLE001 # ccxt raises whatever its parsing meets
            outcome = outcomes.outcome_of(error, self._text_of(error))
        if call.sent:
            return outcome
        text = outcome.why if isinstance(outcome, Unknown) else f"{outcome.code}: {outcome.text}"
        return Rejected(code=NEVER_ARRIVED, text=f"not sent: {text}")

    async def _ask(self, question: Callable[[Any], Awaitable[T]]) -> T:
        """Raises VenueError."""
        wait_s = self._pacing.wait_s(time.monotonic(), query=True)
        if wait_s > 0:
            raise VenueThrottledError(
                f"{self.name}: held back after too many requests", retry_after_s=wait_s
            )
        now_s = time.monotonic()
        turn_s = max(now_s, self._next_query_s)
        self._next_query_s = turn_s + self._spacing_s
        await asyncio.sleep(turn_s - now_s)
        try:
            async with self._line:
                async with asyncio.timeout(self.config.timeout):
                    return await question(self._opened())
        except TimeoutError:
            raise VenueUnavailableError(
                f"{self.name}: no answer within {self.config.timeout:g} s"
            ) from None
        except Exception as error:  # noqa: BLE001 # the same
            raise self._error_of(error) from original(error, self._clean)

    def _throttled(self, error: Exception) -> str:
        headers = self._exchange.last_response_headers or {}
        named = headers if "Retry-After" in headers else DEFAULT_WAIT
        wait_s = self._pacing.refused(429, named, time.monotonic())
        return f"retry after {wait_s:.1f} s: {self._text_of(error)}"

    def _error_of(self, error: Exception) -> VenueError:
        message = f"{self.name}: {type(error).__name__} {self._text_of(error)}"
        if isinstance(error, outcomes.THROTTLED):
            text = self._throttled(error)
            wait_s = self._pacing.wait_s(time.monotonic(), query=True)
            return VenueThrottledError(f"{self.name}: {text}", retry_after_s=wait_s)
        if isinstance(error, ccxt.AuthenticationError) or _AUTH.search(message):
            return VenueAuthError(
                message, hint="check the key, its permissions and this machine's clock"
            )
        if isinstance(error, ccxt.OrderNotFound):
            return NoSuchOrderError(message)
        if isinstance(error, outcomes.UNDERSTOOD):
            return VenueRefusedError(message)
        return VenueUnavailableError(message)

    def _text_of(self, error: Exception) -> str:
        """Without addresses: ccxt puts the whole URL into its texts, signature included."""
        return self._clean(without_urls(str(error)))

    def _opened(self) -> Any:
        """The ccxt object with our session in it, in the event loop that now runs."""
        if self._session is None or self._session.closed:
            self._session = open_session()
            self._exchange.session = self._session
            self._exchange.asyncio_loop = asyncio.get_running_loop()
            self._exchange.open()
        return self._exchange

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """With the reason: of an exchange that nobody tried it is the first thing to know."""
        try:
            yield
        except (TypeError, *NONSENSE) as error:
            message = f"{self.name}: {what} of another shape ({self._clean(str(error))})"
            raise VenueUnavailableError(message) from original(error, self._clean)
