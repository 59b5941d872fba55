"""Asking the controller for leave to trade, and counting its life down on our own clock.

Invariant: a permit is never believed to live longer than the controller meant. Its life is counted
from before the request left, on the monotonic clock: whatever delays the answer, or the process
itself (a SIGSTOP, a blocked event loop), shortens the permit and cannot lengthen it.

A permit that is refused is gone at once. A controller that does not answer leaves the permit as it
is until it runs out.

The one permit that is not asked for comes with a hand-over's promotion (`take`): it bridges the first
question, which is asked at once all the same. It carries its end, on the clock that all processes of one
boot share, counted by the controller from before the promotion left.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from openbell.domain.permit import Permit, PermitScope, scope_now
from openbell.http_library import aiohttp
from openbell.runtime.own_socket import ForeignSocketError, OwnUnixConnector
from openbell.service.logging import get_logger

log = get_logger()

RETRY_S = 0.1
"""How often a permit that is not held is asked for: a part of what an opening takes."""
AGAIN_S = 0.25
"""After a question without an answer: a controller that was replaced must not be asked only when the next
renewal is due, by which time the permit may have run out. One that is gone costs an attempt to connect."""
_URL = "http://localhost/api/v1/permit"


class PermitRequest(msgspec.Struct, frozen=True, kw_only=True):
    service: str
    epoch: int
    reconciled: bool
    phase: str
    books_known: bool = False
    """Compared in full, though some symbols may differ."""


class PermitAnswer(msgspec.Struct, frozen=True, kw_only=True):
    granted: bool
    scope: PermitScope = PermitScope.NONE
    ttl_s: float = 0.0
    why_not: str = ""


class PermitClient:
    """Holds the engine's permit. `scope()` is what every send looks at."""

    def __init__(
        self,
        *,
        socket: Path,
        token: Path,
        renew_every_s: float,
        request: Callable[[], PermitRequest],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.why_not = "no permit was asked for yet"
        self._socket = socket
        self._token = token
        self._renew_every_s = renew_every_s
        self._request = request
        self._on_change = on_change
        self._held: Permit | None = None
        self._wanted = PermitScope.TRADE
        self._generation = 0
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()

    def scope(self) -> PermitScope:
        """What may be sent at this moment; NONE where the permit ran out or was never given."""
        return scope_now(self._held, time.monotonic_ns())

    def expires_in_s(self) -> float:
        """0 without a permit."""
        if self._held is None:
            return 0.0
        return max(0.0, (self._held.expires_mono_ns - time.monotonic_ns()) / 1e9)

    def give_up(self, why: str) -> None:
        """No permit from this moment on, not even by an answer that is under way, until `want`."""
        self._wanted = PermitScope.NONE
        self._drop(why)

    def want(self) -> None:
        """Permits may be asked for again."""
        self._wanted = PermitScope.TRADE
        self.ask_now()

    def take(self, given: Permit, *, ttl_s: float) -> None:
        """Holds a permit that came with the promotion, until the question that `want` began is answered.
        Not one that would live longer than any could (`ttl_s`): its end was not told by this clock."""
        left_s = (given.expires_mono_ns - time.monotonic_ns()) / 1e9
        if self._wanted is not PermitScope.TRADE or given.scope is PermitScope.NONE:
            return
        if not 0 < left_s <= ttl_s:
            log.warning("the permit of the promotion is not taken", left_s=round(left_s, 3))
            return
        self._held = given
        self.why_not = ""
        log.info("permit granted", scope=given.scope, left_s=round(left_s, 3), by="the promotion")
        self._on_change()

    @contextlib.asynccontextmanager
    async def reducing(self, timeout_s: float) -> AsyncIterator[PermitScope]:
        """While a flatten runs: gives the scope that holds once the controller has answered, or
        after `timeout_s`. An engine that gave up its permit asks for one to reduce, and takes no
        other: whether anybody wants positions closed is the controller's word, not the halt's."""
        gave_up = self._wanted is PermitScope.NONE
        if gave_up:
            self._wanted = PermitScope.REDUCE
        try:
            self.ask_now()
            deadline = time.monotonic() + timeout_s
            while not self._lives and time.monotonic() < deadline:
                self._answered.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(deadline - time.monotonic()):
                        await self._answered.wait()
            yield self.scope()
        finally:
            if gave_up and self._wanted is PermitScope.REDUCE:
                self.give_up("halted")

    def ask_now(self) -> None:
        """The facts that the controller judges by have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Asks for ever."""
        async with aiohttp.ClientSession(
            connector=OwnUnixConnector(path=str(self._socket)),
            timeout=aiohttp.ClientTimeout(total=self._renew_every_s),
        ) as session:
            while True:
                self._wake.clear()
                heard = True
                if self._wanted is not PermitScope.NONE:
                    heard = await self._ask(session)
                    self._answered.set()
                asks_soon = self._wanted is not PermitScope.NONE and not self._lives
                pause_s = RETRY_S if asks_soon else self._renew_every_s
                if not heard:
                    pause_s = min(pause_s, AGAIN_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._wake.wait()
                self._notice_expiry()

    @property
    def _lives(self) -> bool:
        return self.scope() is not PermitScope.NONE

    async def _ask(self, session: aiohttp.ClientSession) -> bool:
        """Whether the controller answered."""
        generation = self._generation
        asked_ns = time.monotonic_ns()
        try:
            token = self._token.read_text().strip()
            async with session.post(
                _URL,
                data=msgspec.json.encode(self._request()),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            ) as response:
                body = await response.read()
                if response.status != 200:
                    self._unanswered(f"the controller answered with status {response.status}")
                    return True
            answer = msgspec.json.decode(body, type=PermitAnswer)
        except ForeignSocketError as error:
            self._unanswered(f"the controller cannot be asked: {error}")
            return False
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._unanswered(f"the controller cannot be asked ({type(error).__name__})")
            return False
        except msgspec.MsgspecError as error:
            self._unanswered(f"the controller's answer is not understood: {error}")
            return True
        if generation != self._generation:
            return True  # given up while the answer was under way
        if not answer.granted or answer.scope is PermitScope.NONE or answer.ttl_s <= 0:
            self._drop(answer.why_not or "the controller refused")
            return True
        if self._wanted is PermitScope.REDUCE and answer.scope is not PermitScope.REDUCE:
            self._unanswered("halted, and the desk is not being closed")
            return True
        is_news = self.scope() is not answer.scope
        self._held = Permit(answer.scope, asked_ns + int(answer.ttl_s * 1e9))
        self.why_not = ""
        if is_news:
            log.info("permit granted", scope=answer.scope, ttl_s=answer.ttl_s)
            self._on_change()
        return True

    def _unanswered(self, why: str) -> None:
        if not self._lives:
            self.why_not = why

    def _drop(self, why: str) -> None:
        had = self._lives
        self._generation += 1
        self._held = None
        self.why_not = why
        if had:
            log.warning("permit gone", why=why)
            self._on_change()

    def _notice_expiry(self) -> None:
        if self._held is not None and not self._lives:
            log.warning("permit ran out", scope=self._held.scope)
            self._held = None
            self.why_not = self.why_not or "the permit ran out"
            self._on_change()
