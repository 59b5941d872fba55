"""The engine's side of the register of live orders; what it is, and its layout: `openbell.state.live_orders`.

    open ─▶ adopt, carry_over ─▶ mark_epoch ─▶ intended, leaving, heard ...
                                      └──▶ take_office ─▶ remove_others

Whoever takes office names its files before it removes those of others, so that a crash between any two
of these leaves at least one register with each live order. Orders may leave before: those of earlier
registers are in both until then, and the files that are named are still there.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import time
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from openbell.domain.orders import ClOrdID, NewOrder, Order, OrdStatus
from openbell.errors import StorageError
from openbell.state.files import replacing, storage_error
from openbell.state.live_orders import (
    CRC,
    ENDED_SUFFIX,
    EPOCH,
    EPOCH_AT,
    FIELDS,
    FREE,
    HEADER_SIZE,
    INCOMPLETE_AT,
    SLOT_SIZE,
    SUFFIX,
    TEXT_MAX,
    Index,
    LiveOrders,
    Sent,
    epoch_of,
    free_slots,
    header,
    index_of,
    read_index,
    replace_unsynced,
)
from openbell.state.order_latency import LANDS_WITHIN_S

SLOTS = 4096
"""Of the first file, 0.8 MB; each further one holds twice as many."""
SLOTS_MAX = 1 << 16
LINGERS_NS = int(LANDS_WITHIN_S * 1e9)
"""From when it was concluded, which is after its time-out: so a stop's own bound is over by then."""


class Buffer(Protocol):
    """As a mapped file."""

    def __setitem__(self, key: int | slice, value: int | bytes, /) -> None: ...
    def __getitem__(self, key: slice, /) -> bytes: ...


class Segment:
    """One file."""

    def __init__(self, buffer: Buffer, slots: int, inode: int = 0) -> None:
        self.slots = slots
        self.inode = inode
        self._buffer = buffer
        # The one that was freed last is taken last: a slow reader finds it as it was.
        self._free = deque(range(slots))

    def put(self, content: bytes, state: Sent) -> int | None:
        """The offset of its slot; None where there is no room."""
        if not self._free:
            return None
        at = HEADER_SIZE + self._free.popleft() * SLOT_SIZE
        self._buffer[at + 4 : at + 4 + len(content)] = content
        self._buffer[at] = state
        return at

    def mark(self, at: int, state: int) -> None:
        self._buffer[at] = state
        if state == FREE:
            self._free.append((at - HEADER_SIZE) // SLOT_SIZE)

    def mark_incomplete(self) -> None:
        self._buffer[INCOMPLETE_AT] = 1

    def mark_epoch(self, epoch: int) -> None:
        self._buffer[EPOCH_AT : EPOCH_AT + EPOCH.size] = EPOCH.pack(epoch)

    @property
    def content(self) -> bytes:
        """All of it; what was mapped is there when its file has no name any more."""
        return self._buffer[:]

    def move(self, buffer: Buffer, inode: int) -> None:
        """To one with the same content."""
        self._buffer, self.inode = buffer, inode


class OrderRegister:
    """Of one engine, which writes it on one event loop. Nothing may be sent before `open`."""

    def __init__(self, folder: Path, boot_id: str, *, slots: int = SLOTS) -> None:
        self._folder = folder
        self._boot_id = boot_id
        self._slots = slots
        self._epoch = 0
        self._prefix = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._segments: list[Segment] = []
        self._paths: list[Path] = []
        self._places: dict[ClOrdID, tuple[Segment, int, Sent]] = {}
        self._doubted: set[ClOrdID] = set()
        """In it without an answer, and in doubt since."""
        self._lingering: dict[ClOrdID, int] = {}
        """Taken for never arrived, or lost, until when they stay; monotonic, soonest first."""
        self._telling: set[str] = set()
        """Venues whose adapter is seen to ask for leave before an order's first byte."""
        self._lost = False
        """It was removed and could not be made anew."""

    @property
    def is_there(self) -> bool:
        """Whether a reader finds it. One that was removed is still written to, and nobody reads it."""
        files = zip(self._segments, self._paths, strict=True)
        return bool(self._segments) and all(_is_at(path, each.inode) for each, path in files)

    @property
    def is_named(self) -> bool:
        """Whether a reader is told that these are the files of the engine in office."""
        try:
            return read_index(self._folder) == self._index
        except (OSError, ValueError):
            return False

    def __len__(self) -> int:
        return len(self._places)

    def open(self) -> None:
        """Makes the file; or makes it anew, with all that was in it, where somebody has removed it.
        StorageError: nothing may be sent."""
        if not self._segments:
            self._grow(self._slots)
        for segment, path in zip(self._segments, self._paths, strict=True):
            if not _is_at(path, segment.inode):
                self._lost = True
                segment.move(*self._make(path, segment.slots, segment.content[EPOCH_AT:]))
        self._lost = False

    def adopt(self, orders: Iterable[Order], sent_ns: int) -> None:
        """Orders of engines before this one, each of which left before `sent_ns`. StorageError: some
        have no slot."""
        for order in orders:
            state = Sent.OPEN if order.venue_order_id else Sent.UNANSWERED
            self._put(order.new.cl_ord_id, order.new.venue, order.new.symbol, state, sent_ns)
            if state is Sent.UNANSWERED:
                self._doubted.add(order.cl_ord_id)

    def carry_over(
        self, earlier: LiveOrders, books: Mapping[ClOrdID, Order], sent_ns: int
    ) -> tuple[ClOrdID, ...]:
        """What earlier registers name and the books do not hold open; after `adopt`. One that the books
        have as rejected may have been taken for never arrived, sooner than a stop believes it: it stays
        as long as with the engine before. Returns those that no book knows, as after the database was
        restored: they stay until a stop has proven their end. StorageError: some have no slot."""
        unknown = []
        for order in earlier.orders:
            key = order.cl_ord_id
            known = books.get(key)
            if key in self._places or (
                known is not None and known.status is not OrdStatus.REJECTED
            ):
                continue
            state = max(order.sent, Sent.UNANSWERED)
            # One that waited for leave may still get it, from an engine that is not seen to have ended.
            at_ns = sent_ns if order.sent is Sent.INTENDED else order.sent_ns
            self._put(key, order.venue, order.symbol, state, at_ns)
            if known is None:
                unknown.append(key)
            else:
                self._lingering[key] = sent_ns + LINGERS_NS
        return tuple(unknown)

    def take_office(self, epoch: int) -> str:
        """From now on these files are the desk's: says so in them and beside them. Why the latter could
        not be done, or nothing: then a stop proves nothing until it is (`is_named`)."""
        self.mark_epoch(epoch)
        try:
            self.name()
        except OSError as error:
            return storage_error(error, "write", index_of(self._folder)).message
        return ""

    def mark_epoch(self, epoch: int) -> None:
        """In the files themselves, in memory: nobody takes them for those of one that stands by."""
        self._epoch = epoch
        for segment in self._segments:
            segment.mark_epoch(epoch)

    def name(self) -> None:
        """OSError. Not synced: no register outlives the machine either, and a take-over must not wait
        for a disk."""
        replace_unsynced(index_of(self._folder), msgspec.json.encode(self._index))

    @property
    def _index(self) -> Index:
        return Index(boot_id=self._boot_id, files=tuple(path.name for path in self._paths))

    def remove_others(self) -> None:
        """Registers of engines before this one, once their orders are adopted; not that of one that
        stands by, which will be written, nor a successor's, nor what one that starts is just making."""
        with contextlib.suppress(OSError):  # what stays only names orders once more
            for path in list(self._folder.iterdir()):
                is_ours = path.suffix in (SUFFIX, ENDED_SUFFIX)
                if is_ours and path not in self._paths and not _is_needed(path, self._epoch):
                    path.unlink(missing_ok=True)

    def intended(self, order: NewOrder) -> None:
        """It is about to be sent. StorageError: it must not be."""
        state = Sent.INTENDED if order.venue in self._telling else Sent.UNANSWERED
        self._put(order.cl_ord_id, order.venue, order.symbol, state, time.monotonic_ns())

    def leaving(self, order: NewOrder) -> bool:
        """Its first byte is about to be written. False: it is not in here, and must not be."""
        self._telling.add(order.venue)
        self._mark(order.cl_ord_id, Sent.INTENDED, Sent.UNANSWERED)
        return order.cl_ord_id in self._places and not self._lost

    def heard(self, order: Order) -> None:
        """Its state in the books after an event. StorageError: it is live and has no slot; the
        register is incomplete from now on, and says so."""
        key, now_ns = order.cl_ord_id, time.monotonic_ns()
        self._free_lingering(now_ns)
        if order.status is OrdStatus.REJECTED and self._may_be_wrong(key):
            self._doubted.discard(key)
            self._lingering.setdefault(key, now_ns + LINGERS_NS)
        elif order.status.is_final:
            self._free(key)
        elif key in self._places:
            self._lingering.pop(key, None)
            if order.venue_order_id:
                self._doubted.discard(key)
                self._mark(key, Sent.INTENDED, Sent.OPEN)
                self._mark(key, Sent.UNANSWERED, Sent.OPEN)
            elif order.status is OrdStatus.UNKNOWN:
                self._doubted.add(key)
        elif order.status is not OrdStatus.PENDING_NEW and self._segments:
            new = order.new
            try:
                self._put(key, new.venue, new.symbol, Sent.OPEN, time.monotonic_ns())
            except StorageError:
                self._segments[0].mark_incomplete()
                raise

    def _may_be_wrong(self, key: ClOrdID) -> bool:
        """Whether its rejection may be what was concluded from a venue that knows none, and not the
        venue's word: it was in doubt, or the venue had it once."""
        place = self._places.get(key)
        rested = place is not None and place[2] is Sent.OPEN
        return rested or key in self._doubted or key in self._lingering

    def discard(self) -> None:
        """Removes it; of an engine that never took office."""
        for path in self._paths:
            with contextlib.suppress(OSError):
                path.unlink()
        self._segments, self._paths = [], []

    def _free(self, key: ClOrdID) -> None:
        self._doubted.discard(key)
        self._lingering.pop(key, None)
        place = self._places.pop(key, None)
        if place is not None:
            segment, at, _ = place
            segment.mark(at, FREE)

    def _free_lingering(self, now_ns: int) -> None:
        while self._lingering:
            key, until_ns = next(iter(self._lingering.items()))
            if now_ns < until_ns:
                return
            self._free(key)

    def _mark(self, key: ClOrdID, before: Sent, after: Sent) -> None:
        place = self._places.get(key)
        if place is not None and place[2] is before:
            segment, at, _ = place
            segment.mark(at, after)
            self._places[key] = (segment, at, after)

    def _put(self, key: ClOrdID, venue: str, symbol: str, state: Sent, sent_ns: int) -> None:
        if key in self._places:
            return
        content = _content(key, venue, symbol, sent_ns)
        if not self._segments or self._lost:
            raise StorageError("the register of live orders is not open")
        segment = self._segments[-1]
        at = segment.put(content, state)
        if at is None:
            segment, at = self._put_elsewhere(content, state)
        self._places[key] = (segment, at, state)

    def _put_elsewhere(self, content: bytes, state: Sent) -> tuple[Segment, int]:
        """The last file is full."""
        for segment in self._segments:
            at = segment.put(content, state)
            if at is not None:
                return segment, at
        segment = self._grow(min(SLOTS_MAX, 2 * self._segments[-1].slots))
        at = segment.put(content, state)
        assert at is not None
        return segment, at

    def _grow(self, slots: int) -> Segment:
        path = self._folder / f"{self._prefix}-{len(self._paths)}{SUFFIX}"
        rest = bytes(HEADER_SIZE - EPOCH_AT) + free_slots(slots)
        buffer, inode = self._make(path, slots, rest)
        segment = Segment(buffer, slots, inode)
        self._paths.append(path)
        self._segments.append(segment)
        if self._epoch:
            # What cannot be named is found in the folder all the same, and named within a second.
            self.take_office(self._epoch)
        return segment

    def _make(self, path: Path, slots: int, rest: bytes) -> tuple[Buffer, int]:
        """`rest`: what follows what its header says for good. StorageError."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing(path) as file:
                inode = file.inode
                start = header(slots, self._boot_id, inode)[:EPOCH_AT]
                file.write(start + rest)
            with path.open("r+b") as opened:
                # For as long as it is mapped, and so until this process has ended, however it does:
                # by it `openbell.state.departures` is sure of that.
                fcntl.flock(opened.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
                return mmap.mmap(opened.fileno(), len(start) + len(rest)), inode
        except OSError as error:
            raise storage_error(error, "map", path) from error


def _is_at(path: Path, inode: int) -> bool:
    """Whether it leads to this very file, and not to a copy."""
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


def _is_needed(path: Path, epoch: int) -> bool:
    """Whether it is the register of a process that is there, and that stands by or took office after
    this epoch: of two that start at the same time the first may come to this when it is replaced.
    OSError."""
    pid = path.name.partition("-")[0]
    if path.suffix != SUFFIX or not pid.isdigit():
        return False
    with path.open("rb") as file:
        under = epoch_of(file.read(HEADER_SIZE))
    if under and under <= epoch:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _content(cl_ord_id: str, venue: str, symbol: str, sent_ns: int) -> bytes:
    """A slot from its crc on. StorageError for what does not fit."""
    text = f"{cl_ord_id}\0{venue}\0{symbol}".encode()
    if len(text) > TEXT_MAX:
        raise StorageError(
            f"{cl_ord_id}: venue and symbol have no room in the register of live orders"
        )
    content = FIELDS.pack(sent_ns, len(text)) + text
    return CRC.pack(zlib.crc32(content)) + content
