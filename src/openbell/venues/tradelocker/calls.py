"""How TradeLocker is spoken to: under a token, as one account, each route within its budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import quote as quoted
from urllib.parse import urlencode

import msgspec

from openbell.config.models import Venue as VenueConfig
from openbell.config.redact import Redactor
from openbell.domain.orders import ClOrdID
from openbell.venues.credentials import Credentials
from openbell.venues.port import (
    Accepted,
    Rejected,
    Unknown,
    VenueAuthError,
    VenueError,
    VenueThrottledError,
)
from openbell.venues.problem import Problem
from openbell.venues.rest import NEVER_ARRIVED, THROTTLED, RestVenue
from openbell.venues.settings import refuse_unusable
from openbell.venues.tradelocker import wire
from openbell.venues.tradelocker.routes import THROTTLED_S, Routes, SharedPacing
from openbell.venues.tradelocker.session import Session
from openbell.venues.transport import Reply, Request

T = TypeVar("T")

URLS = {"live": "https://live.tradelocker.com", "practice": "https://demo.tradelocker.com"}
_UNAUTHORIZED = "http_401"
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode


class LoggedInVenue(RestVenue):
    """Base of the adapter: requests of both kinds, and nothing of what they are about."""

    def __init__(self, name: str, config: VenueConfig, credentials: Credentials) -> None:
        """`[venues.X.options]`: `server`, the broker's name in TradeLocker's login; `suffix`, what
        the broker appends to its symbols (`EURUSD.x`)."""
        super().__init__(name, config, credentials)
        refuse_unusable(name, config, "tradelocker")
        self._pacing = SharedPacing()
        self._base_url = (config.url or URLS[config.environment]).rstrip("/") + "/backend-api"
        self._session = Session(
            self._log_in, credentials.key, credentials.secret, config.options["server"]
        )
        self._routes = Routes()
        self._acc_num = ""

    async def _log_in(self, which: str, body: Mapping[str, str]) -> wire.Tokens:
        request = Request(
            "POST",
            f"{self._base_url}/auth/jwt/{which}",
            {"Content-Type": "application/json"},
            _ENCODE(body),
        )
        return await self._ask(request, wire.Tokens)

    async def _get(
        self,
        route: str,
        path: str,
        shape: type[T],
        params: Mapping[str, object] | None = None,
        *,
        for_cancel: bool = False,
    ) -> T:
        """Asks, when it is its turn, and again while its budget is used up by others, for as long
        as one answer may take. Raises VenueError."""
        query = f"?{urlencode(params)}" if params else ""
        give_up_s = time.monotonic() + self.config.timeout
        while True:
            wait_s = self._routes.wait_s(route, time.monotonic())
            if time.monotonic() + wait_s > give_up_s:
                raise VenueThrottledError(
                    f"{self.name}: there is no room in the budget of {route}", retry_after_s=wait_s
                )
            await asyncio.sleep(self._routes.take(route, time.monotonic()))
            try:
                return await self._get_once(path + query, shape, for_cancel=for_cancel)
            except VenueThrottledError as error:
                if time.monotonic() + error.retry_after_s > give_up_s:
                    raise
                self._routes.refused(route, error.retry_after_s, time.monotonic())

    async def _get_once(self, target: str, shape: type[T], *, for_cancel: bool) -> T:
        """A token that is refused is replaced once: a query may be repeated."""
        token = await self._session.bearer()
        try:
            request = self._request("GET", target, token)
            return await self._ask(request, shape, for_cancel=for_cancel)
        except VenueAuthError:
            self._session.refused(token)
        request = self._request("GET", target, await self._session.bearer())
        return await self._ask(request, shape, for_cancel=for_cancel)

    async def _do(
        self,
        method: str,
        path: str,
        read: Callable[[bytes], str],
        *,
        body: Mapping[str, object] | None = None,
        route: str = "",
        cl_ord_id: ClOrdID | None = None,
    ) -> Accepted | Rejected | Unknown:
        """Sends what changes something, once; under a token that is refused it was not done, and
        is not sent again. Raises nothing for what the venue or the network does."""
        wait_s = self._routes.wait_s(route, time.monotonic())
        if wait_s > 0:
            text = f"not sent: {route} has room in {wait_s:.1f} s"
            return Rejected(code=THROTTLED, text=text, retry_after_s=wait_s)
        self._routes.take(route, time.monotonic())
        try:
            token = await self._session.bearer(for_effect=True)
        except VenueError as error:
            return Rejected(code=NEVER_ARRIVED, text=f"not sent: {error.message}")
        data = None if body is None else _ENCODE(body)
        outcome = await self._effect(
            self._request(method, path, token, data), read, cl_ord_id=cl_ord_id
        )
        if isinstance(outcome, Rejected):
            if outcome.code == _UNAUTHORIZED:
                self._session.refused(token)
            elif outcome.code == THROTTLED:
                self._routes.refused(route, THROTTLED_S, time.monotonic())
        return outcome

    def _request(self, method: str, path: str, token: str, body: bytes | None = None) -> Request:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        if self._acc_num:
            headers["accNum"] = self._acc_num
        return Request(method, self._base_url + path, headers, body)

    def _problem_in(self, reply: Reply) -> Problem | None:
        return wire.problem_in(reply.status, reply.body)

    def _clean(self, text: str) -> str:
        return super()._clean(Redactor(self._session.secrets).redact(text))


def path_part(text: object) -> str:
    return quoted(str(text), safe="")
