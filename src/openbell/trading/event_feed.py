"""The engine's order events, each exactly once and in order, whatever is lost on the way.

The engine publishes an event after it is in the journal, and answers `ReplayRequest` from the
journal. So a gap (a lost message, a restarted engine, a late subscription) is filled by asking for
what follows the last event that was seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from openbell.service.logging import get_logger
from openbell.trading.bus import NoReplyError, Received, Requester, Subscriber
from openbell.trading.messages import (
    ENGINE_TOPIC,
    EVENTS_SOCKET,
    ORDER_TOPIC,
    REPLAY_SOCKET,
    EngineEvent,
    EngineHeartbeat,
    ReplayReply,
    ReplayRequest,
)

log = get_logger()

KEEP_FINAL_NS = 3_600_000_000_000
"""How long whoever folds the feed keeps final orders, for fills that come late. Ours: an hour. A fill
that the engine books later still cannot be folded, and stops whoever folds."""
_REPLAY_TIMEOUT_S = 2.0


class EngineEventFeed:
    """Iterate over it: `EngineEvent`s in journal order, and `EngineHeartbeat`s as they come.

    `after_seq`: the last event the reader has already seen; 0 for all of the journal, None for
    those from now on. Waits for an engine that is not there.
    """

    def __init__(self, run: Path, *, after_seq: int | None = 0) -> None:
        self.last_seq = after_seq
        self.replays = 0
        """How often a gap was filled from the journal."""
        self._subscriber = Subscriber(
            run / EVENTS_SOCKET, {ORDER_TOPIC: EngineEvent, ENGINE_TOPIC: EngineHeartbeat}
        )
        self._requester: Requester[ReplayRequest, ReplayReply] = Requester(
            run / REPLAY_SOCKET, ReplayReply
        )

    @property
    def lost(self) -> int:
        return self._subscriber.counters.lost

    async def __aiter__(self) -> AsyncIterator[EngineEvent | EngineHeartbeat]:
        if self.last_seq is None:
            self.last_seq = (await self._ask(ReplayRequest(after_seq=0, limit=0))).last_seq
        else:
            async for event in self._replay():
                yield event
        async for received in self._subscriber:
            if self._may_have_missed(received):
                async for event in self._replay():
                    yield event
            body = received.body
            if isinstance(body, EngineHeartbeat):
                yield body
            elif body.journal_seq > self.last_seq:
                self.last_seq = body.journal_seq
                yield body

    def _may_have_missed(self, received: Received) -> bool:
        assert self.last_seq is not None
        if isinstance(received.body, EngineHeartbeat):
            # The last event before a quiet time has no successor to show that it was lost.
            return received.body.last_journal_seq > self.last_seq
        return received.gap

    async def _replay(self) -> AsyncIterator[EngineEvent]:
        assert self.last_seq is not None
        self.replays += 1
        while True:
            reply = await self._ask(ReplayRequest(after_seq=self.last_seq))
            for event in reply.events:
                if event.journal_seq > self.last_seq:
                    self.last_seq = event.journal_seq
                    yield event
            if not reply.events or self.last_seq >= reply.last_seq:
                self.last_seq = max(self.last_seq, reply.last_seq)
                return

    async def _ask(self, request: ReplayRequest) -> ReplayReply:
        while True:
            try:
                return await self._requester.ask(request, timeout_s=_REPLAY_TIMEOUT_S)
            except NoReplyError:
                log.warning("engine does not answer a replay", after_seq=request.after_seq)

    async def close(self) -> None:
        self._subscriber.close()
        await self._requester.close()
        await asyncio.sleep(0)
