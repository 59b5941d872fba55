"""Each engine event exactly once and in order, whatever gets lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

from openbell.domain.orders import ClOrdID, OrderCanceled
from openbell.trading.bus import Publisher, Responder
from openbell.trading.event_feed import EngineEventFeed
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

WAIT_S = 60.0


class Engine:
    """What the execution engine shows of itself on the bus: a journal that is kept over restarts."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.journal: list[EngineEvent] = []
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.publisher = Publisher(self.run / EVENTS_SOCKET, producer=f"engine/{self.starts}")
        self.replay = Responder(self.run / REPLAY_SOCKET, ReplayRequest, self.answer)

    async def answer(self, request: ReplayRequest) -> ReplayReply:
        events = [e for e in self.journal if e.journal_seq > request.after_seq]
        last = self.journal[-1].journal_seq if self.journal else 0
        return ReplayReply(events=tuple(events[: request.limit]), last_seq=last)

    def append(self, seq: int, *, lost: bool = False) -> None:
        event = OrderCanceled(cl_ord_id=ClOrdID(f"o{seq}"), at_ns=seq)
        self.journal.append(EngineEvent(journal_seq=seq, strategy="s", event=event))
        if lost:
            self.publisher._seq[ORDER_TOPIC] = self.publisher._seq.get(ORDER_TOPIC, 0) + 1
        else:
            self.publisher.publish(ORDER_TOPIC, self.journal[-1])

    def beat(self) -> None:
        last = self.journal[-1].journal_seq if self.journal else 0
        self.publisher.publish(ENGINE_TOPIC, EngineHeartbeat(trading=True, last_journal_seq=last))

    async def stop(self) -> None:
        self.publisher.close()
        await self.replay.close()


async def collect(feed: EngineEventFeed, engine: Engine, until: int) -> list[int]:
    """Sequence numbers as they come, with heartbeats going on, until `until` was seen."""

    async def beat() -> None:
        while True:
            engine.beat()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(beat())
    seen: list[int] = []
    async with asyncio.timeout(WAIT_S):
        async for message in feed:
            if isinstance(message, EngineEvent):
                seen.append(message.journal_seq)
                if message.journal_seq >= until:
                    break
    task.cancel()
    return seen


async def test_a_late_reader_gets_the_journal_first(run: Path) -> None:
    engine = Engine(run)
    for seq in (1, 2, 5):  # the journal's numbers need not be consecutive
        engine.append(seq)
    feed = EngineEventFeed(run)
    assert await collect(feed, engine, 5) == [1, 2, 5]
    await feed.close()
    await engine.stop()


async def test_a_reader_from_now_on_gets_only_what_follows(run: Path) -> None:
    engine = Engine(run)
    engine.append(1)
    feed = EngineEventFeed(run, after_seq=None)
    collecting = asyncio.create_task(collect(feed, engine, 3))
    async with asyncio.timeout(WAIT_S):
        while feed.last_seq is None:
            await asyncio.sleep(0.005)
    engine.append(2)
    engine.append(3)
    assert await collecting == [2, 3]
    await feed.close()
    await engine.stop()


async def test_lost_events_and_a_lost_last_event_are_replayed(run: Path) -> None:
    engine = Engine(run)
    engine.append(1)
    feed = EngineEventFeed(run)
    assert await collect(feed, engine, 1) == [1]
    engine.append(2, lost=True)
    engine.append(3)
    engine.append(4, lost=True)  # nothing follows it: only the heartbeat tells
    assert await collect(feed, engine, 4) == [2, 3, 4]
    await feed.close()
    await engine.stop()


async def test_a_restarted_engine_is_noticed_and_what_it_wrote_meanwhile_is_replayed(
    run: Path,
) -> None:
    engine = Engine(run)
    engine.append(1)
    feed = EngineEventFeed(run)
    assert await collect(feed, engine, 1) == [1]
    await engine.stop()
    engine.append(2, lost=True)
    engine.start()
    engine.append(3)
    assert await collect(feed, engine, 3) == [2, 3]
    await feed.close()
    await engine.stop()
