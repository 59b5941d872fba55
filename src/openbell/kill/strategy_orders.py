"""Stops the orders of one strategy, which no venue can tell from another's: the engine can.

A ClOrdID says desk and epoch, and no strategy. So this part of an emergency stop is the only one
that needs the engine: it is asked to cancel, and then for the orders that the venues list, until
two lists in a row, both complete, have none of the strategy and no send of it is without an answer: such
an order is in no list, and may rest a moment later. An engine that does not answer makes it unknown, with
what a person can do instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from openbell.config.duties import ENGINES
from openbell.kill.emergency_statement import StrategyStatement
from openbell.kill.pace import Backoff
from openbell.kill.venue import SETTLE_S_MIN
from openbell.service_client import Answer, ServiceClient
from openbell.venues.asking import EMPTY_ANSWERS

if TYPE_CHECKING:
    from openbell.config.layout import DeskLayout
    from openbell.config.models import DeskFile

ANSWER_S = 10.0
"""An engine's `cancel` answers within 8 s."""
ENGINE_SILENT_S = 12.0
"""Then it is not asked any longer: a person has to know, and has other ways."""
RETRY_S = (0.1, 1.0)


async def stop_strategy(
    layout: DeskLayout, desk: DeskFile, strategy: str, *, timeout_s: float, quiet: asyncio.Event
) -> StrategyStatement:
    """Never raises for what an engine does."""
    engines = {
        name: service.port
        for name, service in desk.services.items()
        if service.role in ENGINES and service.port is not None
    }
    client = ServiceClient(engines, layout.service_token)
    asked = _Asked(client, list(engines), strategy, quiet)
    now_s = asyncio.get_running_loop().time
    began_s = now_s()
    try:
        async with asyncio.timeout(timeout_s):
            await asked.until_zero()
    except TimeoutError:
        pass
    finally:
        await client.close()
    result = "verified" if asked.verified else "residual" if asked.listed else "unknown"
    venue = desk.strategies[strategy].venue
    return StrategyStatement(
        strategy=strategy,
        result=result,  # type: ignore[arg-type]
        orders=tuple(asked.orders),
        why="" if asked.verified else asked.why,
        by_hand=""
        if asked.verified
        else f"stop its venue: openbell emergency-stop --scope venue:{venue}; or the whole desk",
        took_s=round(now_s() - began_s, 6),
    )


class _Asked:
    def __init__(
        self, client: ServiceClient, engines: Sequence[str], strategy: str, quiet: asyncio.Event
    ) -> None:
        self.verified = False
        self.listed = False
        """The last question was answered in full, and `orders` is not empty."""
        self.orders: list[dict[str, Any]] = []
        self.sending = 0
        """Orders of the strategy that have no answer yet."""
        self.why = "no engine answered" if engines else "the desk has no engine that can be asked"
        self._client = client
        self._engines = engines
        self._strategy = strategy
        self._quiet = quiet

    async def until_zero(self) -> None:
        retry = Backoff(*RETRY_S)
        now_s = asyncio.get_running_loop().time
        heard_s = now_s()
        empty = 0
        while self._engines and empty < EMPTY_ANSWERS:
            quiet = self._quiet.is_set()
            if await self._look():
                heard_s = now_s()
                if not (self.orders or self.sending) and quiet:
                    empty += 1
                    if empty < EMPTY_ANSWERS:
                        await asyncio.sleep(SETTLE_S_MIN)
                    continue
                if self.orders:
                    await self._cancel()
            elif now_s() - heard_s > ENGINE_SILENT_S:
                return
            empty = 0
            await retry.pause()
        self.verified = empty >= EMPTY_ANSWERS

    async def _look(self) -> bool:
        """Whether the list is complete."""
        self.listed = False
        answer = await self._ask("GET", "/v1/orders")
        if not answer.known:
            self.why = answer.why or "the engine does not answer"
            return False
        orders = [row for row in answer.get("orders") or () if isinstance(row, dict)]
        self.orders = [row for row in orders if row.get("strategy") == self._strategy]
        self.listed = bool(self.orders)
        sending = answer.get("sending")
        if not isinstance(sending, list):
            self.why = "the engine does not say which orders have no answer yet"
            return self.listed
        self.sending = sum(
            isinstance(row, dict) and row.get("strategy") == self._strategy for row in sending
        )
        cut = [name for name, each in _venues(answer).items() if each.get("complete") is not True]
        if cut:
            self.why = f"the list of {', '.join(cut)} is not complete"
            return self.listed
        # An own order that the books do not know may be the strategy's as well.
        strange = [row for row in orders if row.get("own") and row.get("books") is None]
        if strange and not self.orders:
            self.why = f"{len(strange)} own orders are in no book: they may be this strategy's"
            return False
        if self.orders:
            self.why = "listed as open"
        elif self.sending:
            self.why = f"{self.sending} of its orders have no answer yet: they may still land"
        else:
            self.why = "one empty list proves nothing"
        return True

    async def _cancel(self) -> None:
        body = {"strategy": self._strategy, "reason": "emergency stop"}
        answer = await self._ask("POST", "/v1/cancel", body)
        if not answer.known:
            self.why = answer.why or "the engine does not answer"

    async def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> Answer:
        """Of a pair the first one that answers. One that stands by refuses, which is not why nothing
        is known: the other one is."""
        refused = failed = None
        for engine in self._engines:
            if method == "GET":
                answer = await self._client.get(engine, path, timeout_s=ANSWER_S)
            else:
                answer = await self._client.post(engine, path, body, timeout_s=ANSWER_S)
            if answer.known:
                return answer
            if answer.status == HTTPStatus.CONFLICT:
                refused = answer
            else:
                failed = answer
        return failed or refused or Answer(None, why=self.why)


def _venues(answer: Answer) -> dict[str, Mapping[str, Any]]:
    venues = answer.get("venues")
    return venues if isinstance(venues, dict) else {}
