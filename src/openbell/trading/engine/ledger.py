"""Journal and books as one thing: the journal is the truth, the books are its fold.

A ledger in office writes the journal; one that follows folds what another engine writes, and can
take office later without reading the whole journal first.

Invariants
- Books hold exactly the journal's entries up to `last_seq`, in order, each once.
- An event is in the journal before anything acts on it or hears of it.
- An event that cannot be (an overfill, a life that begins in the middle) is refused before it is
  committed, so that every later start can fold the journal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from openbell.domain import cash, external, order_book
from openbell.domain.books import Books
from openbell.domain.cash import CashBooked
from openbell.domain.external import EXTERNAL, JournalEvent, OfVenue, PositionAdopted
from openbell.domain.orders import ClOrdID, Order, OrderFilled, OrderIntended
from openbell.errors import CorruptError, StorageError
from openbell.service.logging import get_logger
from openbell.state.books_at_rest import fold
from openbell.state.database import Database, open_database
from openbell.state.journal import FencedError, Journal, JournalReader
from openbell.trading.engine import metrics
from openbell.trading.messages import EngineEvent, ReplayReply, ReplayRequest

log = get_logger()

SNAPSHOT_EVERY = 20_000
"""Events. A start folds at most so many: about a third of a second."""
FORGET_FINAL_AFTER_S = 600.0
"""How long a final order stays known: far beyond any venue's delay in telling of a fill."""
REPLAY_MAX = 250
"""Entries a replay reads at once: about a millisecond in which nothing else runs."""
FOLLOW_MAX = 250
"""Entries a follower folds at once, for the same reason."""
_STRATEGIES_KEPT = 100_000
_RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)

_encode = msgspec.msgpack.Encoder().encode

Hear = Callable[[EngineEvent, Order | None], None]
"""Without an order: what was adopted from a venue."""


class Ledger:
    """What the engine knows and may never forget. Made by `take_over` or `follow`."""

    def __init__(
        self,
        database: Path,
        journal: Journal | None,
        reader: JournalReader,
        books: Books,
        last_seq: int,
        hear: Hear,
    ) -> None:
        self.books = books
        self.last_seq = last_seq
        self.storage_problem = ""
        """Why the last append failed; empty while storage works."""
        self.fenced = asyncio.Event()
        """Set once another engine took over. For ever."""
        self.expects_successor = False
        """True: it is handing its epoch over, and to see another one is no surprise either."""
        self.retired = False
        """True: the epoch was handed over, and to be refused an append is no surprise."""
        self._database = database
        self._office = journal
        self._reader = reader
        self._hear = hear
        # Not that of this start: an engine that is killed again and again would never take one, and
        # every start would fold more than the one before.
        self._snapshot_seq = reader.newest_snapshot_seq()
        self._snapshotting: asyncio.Task[None] | None = None
        self._strategies: dict[ClOrdID, str] = {}
        self._needed_since_ns: dict[str, Callable[[], int]] = {}
        self._opened: Database | None = None
        """Of one that follows: open for writing, so that office is taken without that."""
        self._ahead: dict[ClOrdID, tuple[Order, int]] = {}
        """Orders as they will be once the appends under way are done, with how many those are."""

    @classmethod
    async def take_over(cls, database: Path, holder: str, hear: Hear) -> Ledger:
        """Begins a new epoch; every earlier engine is fenced from here on. StorageError, CorruptError."""
        journal = await Journal.take_over(database, holder)
        try:
            books, last_seq = await asyncio.to_thread(fold, journal)
        except BaseException:
            await journal.close()
            raise
        log.info("took over", epoch=journal.epoch, last_seq=last_seq, open=len(books.open_orders()))
        return cls(database, journal, JournalReader.open(database), books, last_seq, hear)

    @classmethod
    async def follow(cls, database: Path, hear: Hear) -> Ledger:
        """Folds what is there, and takes nothing over. StorageError, CorruptError."""
        opened = await asyncio.to_thread(_open_ahead, database)  # the first to come makes it
        try:
            ledger = await cls.look_at(database, hear)
        except BaseException:
            opened.close()
            raise
        ledger._opened = opened
        books = ledger.books
        log.info("following", last_seq=ledger.last_seq, open=len(books.open_orders()))
        return ledger

    @classmethod
    async def look_at(cls, database: Path, hear: Hear) -> Ledger:
        """Folds what is there, reading only. NotRunningError where there is no database, ConfigError
        where its schema is another; StorageError, CorruptError."""
        reader = JournalReader.open(database)
        try:
            books, last_seq = await asyncio.to_thread(fold, reader)
        except BaseException:
            reader.close()
            raise
        return cls(database, None, reader, books, last_seq, hear)

    @property
    def in_office(self) -> bool:
        return self._office is not None

    @property
    def epoch(self) -> int:
        """0 for one that follows."""
        return self._office.epoch if self._office is not None else 0

    @property
    def _journal(self) -> Journal:
        if self._office is None:
            raise StorageError("a standby journals nothing")
        return self._office

    async def follow_on(self) -> None:
        """Folds what another engine has journaled since. StorageError, CorruptError."""
        entries = FOLLOW_MAX
        while entries == FOLLOW_MAX:
            entries = self._follow_page()
            await asyncio.sleep(0)

    def _follow_page(self) -> int:
        if self.in_office:
            return 0
        entries = 0
        for entry in self._reader.read(self.last_seq, FOLLOW_MAX):
            self.books.apply(entry.event)
            self.last_seq = entry.seq
            entries += 1
        return entries

    async def take_office(self, holder: str, *, after_epoch: int) -> None:
        """Becomes the journal's writer, with everything in the books that was journaled before.
        ConflictError where another epoch than `after_epoch` is current; StorageError, CorruptError.
        After any of them this ledger goes on following."""
        opened, self._opened = self._opened, None
        journal = await Journal.take_over(
            self._database, holder, after_epoch=after_epoch, opened=opened
        )
        try:
            await self.follow_on()
        except BaseException:
            await journal.close()
            raise
        self._snapshot_seq = self._reader.newest_snapshot_seq()
        self._office = journal
        log.info("took over", epoch=journal.epoch, last_seq=self.last_seq)

    async def record(self, *events: JournalEvent) -> None:
        """Returns when they are journaled, applied and published.

        StorageError, FencedError: nothing was recorded, nothing may be sent.
        ImpossibleEventError: an event contradicts its order, or the books; nothing was recorded.
        """
        self._journal  # noqa: B018 - one that follows refuses at once: its storage has not failed
        self._look_ahead(events)
        # Shielded: what is under way to the disk must reach the books, whoever gave up waiting.
        await asyncio.shield(asyncio.ensure_future(self._append(events)))

    async def record_surely(self, *events: JournalEvent) -> None:
        """As `record`, but tried again until storage works: for what has already happened. Of a
        ledger that follows StorageError, at once: what happens is for the one in office to write."""
        attempt = 0
        while True:
            try:
                await self.record(*events)
            except StorageError as error:
                if not self.in_office:
                    raise
                if attempt == 0:
                    log.critical("an outcome waits for storage", alert=True, why=error.message)
                await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1
            else:
                return

    def replay(self, request: ReplayRequest) -> ReplayReply:
        """Events after `after_seq` as they were published. CorruptError."""
        if request.limit <= 0 or request.after_seq >= self.last_seq:
            return ReplayReply(events=(), last_seq=self.last_seq)
        limit = min(request.limit, REPLAY_MAX, self.last_seq - request.after_seq)
        events = tuple(
            EngineEvent(journal_seq=e.seq, strategy=self._strategy(e.event), event=e.event)
            for e in self._journal.read(request.after_seq, limit)
        )
        return ReplayReply(events=events, last_seq=self.last_seq)

    async def probe_storage(self) -> bool:
        """Whether storage works, by writing to it; tells after a failure that trading may go on."""
        try:
            await self.save_snapshot()
        except (StorageError, FencedError) as error:
            self._note_failure(error)
            return False
        self.storage_problem = ""
        return True

    async def notice_successor(self) -> None:
        """Fences this engine if another one took over: one that has nothing to append would not
        learn of it otherwise."""
        try:
            epoch = await asyncio.to_thread(self._reader.current_epoch)
        except (StorageError, CorruptError) as error:
            log.warning("epoch not read", why=error.message)
            return
        if epoch != self.epoch:
            self._note_failure(FencedError(f"epoch {self.epoch} is over: {epoch} is current"))

    def keep(self, venue: str, needed_since_ns: Callable[[], int]) -> None:
        """From then on (our clock) no order of this venue is forgotten: its executions will be
        asked for again, and one whose order is not known would be counted twice."""
        self._needed_since_ns[venue] = needed_since_ns

    def forget(self) -> None:
        """Drops orders that ended long ago and are needed by no venue's comparison."""
        self.books.forget(
            final_before_ns=time.time_ns() - int(FORGET_FINAL_AFTER_S * 1e9),
            needed_since_ns={name: since() for name, since in self._needed_since_ns.items()},
        )

    async def save_snapshot(self) -> None:
        """So that the next start folds only what follows. StorageError, FencedError."""
        self.forget()
        seq, snapshot = self.last_seq, self.books.to_snapshot()
        self._snapshot_seq = seq
        await self._journal.save_snapshot(seq, await asyncio.to_thread(_encode, snapshot))

    async def close(self) -> None:
        if self._snapshotting is not None:
            await asyncio.gather(self._snapshotting, return_exceptions=True)
        self._reader.close()
        if self._opened is not None:
            self._opened.close()
        if self._office is not None:
            await self._office.close()

    def _look_ahead(self, events: Iterable[JournalEvent]) -> None:
        ahead: dict[ClOrdID, Order] = {}
        for event in events:
            if isinstance(event, PositionAdopted):
                self._check_adoption(event)
                continue
            if isinstance(event, CashBooked):
                self._check_cash(event)
                continue
            key = event.cl_ord_id
            known = ahead.get(key) or (self._ahead[key][0] if key in self._ahead else None)
            ahead[key] = order_book.apply(known or self.books.orders.get(key), event)
        for key, order in ahead.items():
            self._ahead[key] = (order, self._ahead[key][1] + 1 if key in self._ahead else 1)

    def _check_adoption(self, event: PositionAdopted) -> None:
        """It was concluded from the books as they are: nothing of its instrument may be under way,
        or what it leads to would not be the venue's word."""
        external.check(event)
        under_way = any(
            (order.new.venue, order.new.symbol) == event.instrument
            for order, _ in self._ahead.values()
        )
        if under_way or self.books.position(*event.instrument).quantity != event.books_qty:
            raise order_book.ImpossibleEventError(
                f"{event.venue} {event.symbol} changed while its adoption was written"
            )

    def _check_cash(self, event: CashBooked) -> None:
        """As of an adoption: it was concluded from the books as they are."""
        cash.check(event)
        known = self.books.cash_at(event.venue).get(event.currency)
        held = None if known is None else known.amount
        under_way = any(order.new.venue == event.venue for order, _ in self._ahead.values())
        if under_way or held != event.books:
            raise order_book.ImpossibleEventError(
                f"{event.currency} at {event.venue} moved while it was booked"
            )

    def _arrived(self, events: Iterable[JournalEvent]) -> None:
        for key in {e.cl_ord_id for e in events if not isinstance(e, OfVenue)}:
            order, appends = self._ahead[key]
            if appends == 1:
                del self._ahead[key]
            else:
                self._ahead[key] = (order, appends - 1)

    async def _append(self, events: tuple[JournalEvent, ...]) -> None:
        begun = time.perf_counter()
        try:
            last = await self._journal.append(events)
        except (StorageError, FencedError) as error:
            self._note_failure(error)
            raise
        finally:
            self._arrived(events)
        metrics.JOURNAL.observe(time.perf_counter() - begun)
        self.storage_problem = ""
        self._catch_up(last, events)
        if self.last_seq - self._snapshot_seq >= SNAPSHOT_EVERY and self._snapshotting is None:
            self._snapshotting = asyncio.create_task(self._snapshot_aside(), name="snapshot")

    def _catch_up(self, last: int, events: tuple[JournalEvent, ...]) -> None:
        """Applies what was committed. After an error at a commit an entry may exist of which no
        one was told: then the journal, and not what we meant to write, is read."""
        first = last - len(events) + 1
        if first > self.last_seq + 1:
            for entry in self._journal.read(self.last_seq, last - self.last_seq):
                self._apply(entry.seq, entry.event)
            return
        for seq, event in enumerate(events, first):
            if seq > self.last_seq:
                self._apply(seq, event)

    def _apply(self, seq: int, event: JournalEvent) -> None:
        order = self.books.apply(event)
        self.last_seq = seq
        if isinstance(event, OrderFilled) and order is not None:
            metrics.FILLS.labels(order.new.venue).inc()
        strategy = EXTERNAL if order is None else order.new.strategy
        message = EngineEvent(journal_seq=seq, strategy=strategy, event=event)
        self._hear(message, order)

    def _strategy(self, event: JournalEvent) -> str:
        """Whose order it is. Pages of a replay come in order, so an order that the books forgot has
        been seen with its intent before its other events are asked for."""
        if isinstance(event, OfVenue):
            return EXTERNAL
        if isinstance(event, OrderIntended):
            self._strategies[event.cl_ord_id] = event.order.strategy
            if len(self._strategies) > _STRATEGIES_KEPT:
                del self._strategies[next(iter(self._strategies))]
        order = self.books.orders.get(event.cl_ord_id)
        return order.new.strategy if order else self._strategies.get(event.cl_ord_id, "")

    def _note_failure(self, error: StorageError | FencedError) -> None:
        if isinstance(error, FencedError) and (self.retired or self.expects_successor):
            log.info("handed over", why=error.message)
        elif isinstance(error, FencedError):
            if not self.fenced.is_set():
                log.critical("fenced", alert=True, why=error.message)
            self.fenced.set()
        elif not self.storage_problem:
            log.critical("storage failed: no order is sent", alert=True, why=error.message)
        self.storage_problem = error.message

    async def _snapshot_aside(self) -> None:
        try:
            await self.save_snapshot()
        except (StorageError, FencedError) as error:
            self._note_failure(error)
        finally:
            self._snapshotting = None


def _open_ahead(database: Path) -> Database:
    opened = open_database(database)
    try:
        opened.note_opened()
    except BaseException:
        opened.close()
        raise
    return opened
