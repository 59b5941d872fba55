"""Being logged in: an access token that is good now, and no more logins than that needs.

A login hands out an access token of an hour and a refresh token of seven days, and a refresh both
anew (public-api.tradelocker.com, "Fetch JWT token", "Refresh JWT token"). How long a token lives is
read from the token itself, as the time from its `iat` to its `exp`, and counted by our monotonic
clock: neither a wrong clock here nor one there logs us out.

Invariants: one login or refresh at a time; after one that was refused none is tried before its
pause is over, and the pause doubles. A password that is wrong must not lock the account.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from openbell.venues.port import (
    VenueAuthError,
    VenueError,
    VenueRefusedError,
    VenueThrottledError,
    VenueUnavailableError,
)
from openbell.venues.tradelocker.wire import Tokens

RENEW_SHARE = 0.25
"""A token is renewed by the next query once so much of its life is left: a quarter of an hour."""
LAST_S = 30.0
"""So long before its end an order no longer goes under a token."""
LIFE_S = 600.0
"""Ours, of a token that does not tell its life."""
REFUSED_PAUSE_S = 10.0
REFUSED_PAUSE_MAX_S = 300.0
UNANSWERED_PAUSE_S = 1.0
"""Ours: between two logins, after the first that was refused, at most, and after one that was not
answered."""

Ask = Callable[[str, Mapping[str, str]], Awaitable[Tokens]]
"""`POST /auth/jwt/<which>` with this body. Raises VenueError."""


@dataclass
class _Token:
    text: str = field(default="", repr=False)
    life_s: float = 0.0
    ends_s: float = 0.0

    def left_s(self, now_s: float) -> float:
        return self.ends_s - now_s if self.text else 0.0


class Session:
    """Its representation tells no token."""

    def __init__(self, ask: Ask, email: str, password: str, server: str) -> None:
        self._ask = ask
        self._credentials = {"email": email, "password": password, "server": server}
        self._access = _Token()
        self._refresh = _Token()
        self._lock = asyncio.Lock()
        self._not_before_s = 0.0
        self._pause_s = REFUSED_PAUSE_S
        self._error: VenueError | None = None
        """Why the last login failed; None once one did not."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be told to anybody."""
        return tuple(token.text for token in (self._access, self._refresh) if token.text)

    async def bearer(self, *, for_effect: bool = False) -> str:
        """An access token. `for_effect`: one that is still good does, so that no order waits for a
        renewal. Raises VenueError."""
        if self._is_good(for_effect):
            return self._access.text
        async with self._lock:
            if not self._is_good(for_effect):
                try:
                    await self._renew()
                except VenueError:
                    if not self._is_good(for_effect=True):
                        raise
            return self._access.text

    def refused(self, token: str) -> None:
        """The venue no longer takes this one."""
        if token == self._access.text:
            self._access = _Token()

    def _is_good(self, for_effect: bool) -> bool:
        need_s = LAST_S if for_effect else max(LAST_S, self._access.life_s * RENEW_SHARE)
        return self._access.left_s(time.monotonic()) > need_s

    async def _renew(self) -> None:
        if self._error is not None and time.monotonic() < self._not_before_s:
            raise _again(self._error, self._not_before_s - time.monotonic())
        try:
            self._take(await self._asked())
        except (VenueAuthError, VenueRefusedError) as error:
            # 400 is what the reference lists for a login that is refused.
            self._error = VenueAuthError(error.message, hint=_HINT)
            self._not_before_s = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, REFUSED_PAUSE_MAX_S)
            raise self._error from error
        except VenueError as error:
            self._error = error
            self._not_before_s = time.monotonic() + UNANSWERED_PAUSE_S
            raise

    async def _asked(self) -> Tokens:
        """By the refresh token where there is a good one, and where that is refused by the
        password. Raises VenueError."""
        if self._refresh.left_s(time.monotonic()) > LAST_S:
            try:
                return await self._ask("refresh", {"refreshToken": self._refresh.text})
            except (VenueAuthError, VenueRefusedError):
                self._refresh = _Token()
        return await self._ask("token", self._credentials)

    def _take(self, tokens: Tokens) -> None:
        now_s = time.monotonic()
        self._access = _token(tokens.access_token, now_s)
        self._refresh = _token(tokens.refresh_token, now_s)
        self._error, self._pause_s = None, REFUSED_PAUSE_S


_HINT = "check e-mail, password and the option server"


def _again(error: VenueError, wait_s: float) -> VenueError:
    """The same failure, told without asking."""
    message = f"{error.message} (not asked again for {wait_s:.0f} s)"
    if isinstance(error, VenueAuthError):
        return VenueAuthError(message, hint=_HINT)
    if isinstance(error, VenueThrottledError):
        return VenueThrottledError(message, retry_after_s=error.retry_after_s)
    return VenueUnavailableError(message)


class _Claims(msgspec.Struct, frozen=True):
    iat: float | None = None
    exp: float | None = None


def _token(text: str, now_s: float) -> _Token:
    life_s = _life_s(text)
    return _Token(text, life_s, now_s + life_s)


def _life_s(token: str) -> float:
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        data = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        claims = msgspec.json.decode(data, type=_Claims)
    except ValueError:  # msgspec's errors are of this kind too
        return LIFE_S
    if claims.iat is None or claims.exp is None or claims.exp <= claims.iat:
        return LIFE_S
    return claims.exp - claims.iat
