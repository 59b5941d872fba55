"""The register of live orders: which orders an engine has sent that are not known to have ended.

    state/live-orders/PID-TOKEN-N.orders      of one engine; several where it grew
    state/live-orders/VENUE.ended             what a stop proved to have ended since

A stop of the desk reads it once the engine cannot write any more. An order that is in it and in no
list of its venue is asked for, so that neither a send without an answer nor an empty list that lies
passes for zero.

What always holds:
- An order is in it before its request can leave, and stays until it is known to have ended or never
  to have left. Whatever byte is the last that was written, a reader finds at least the live orders.
- An order without a slot is not sent. Where one that is live already gets none, the register says
  that it is incomplete; it never leaves one out in silence.
- An order that was in doubt and is taken for one that never arrived, because the venue knows none, stays
  for as long as a stop believes that it may land: the engine concludes it sooner.
- It is a mapped file: an order costs two stores into memory and no system call, and what is stored is
  there for a reader when the engine was killed or stopped a moment later. The page cache does not
  outlive the machine, so a register of another boot is not taken for complete.

The layout, little-endian:

    header, 64 bytes    magic 8 | version u32 | slot size u32 | slots u32 | boot id 36 | crc-32 u32
                        | 3 unused | incomplete u8, outside of the crc
    slot, 192 bytes     state u8 | 3 unused | crc-32 u32 | sent u64, monotonic ns | length u16 | text
                        crc from `sent` to the end of the text: ClOrdID, venue, symbol, NUL between

A slot's text is written while its state says free, and never changed while it says anything else:
only that one byte is. So no slot is ever half written; one whose crc is wrong was damaged, and what
was in it is not known. The file has its full size, written and synced, before it is mapped: a disk
that is full makes no engine fail in the middle of an order.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Protocol

import msgspec

from openbell.domain.orders import ClOrdID, NewOrder, Order, OrdStatus
from openbell.errors import StorageError
from openbell.state.files import replacing, storage_error
from openbell.state.order_latency import LATENCY_MAX_S

MAGIC = b"OBORDERS"
VERSION = 1
HEADER_SIZE, SLOT_SIZE = 64, 192
SLOTS = 4096
"""Of the first file, 0.8 MB; each further one holds twice as many."""
SLOTS_MAX = 1 << 16
SUFFIX, ENDED_SUFFIX = ".orders", ".ended"

_HEADER = struct.Struct("<8sIII36s")
_CRC = struct.Struct("<I")
_FIELDS = struct.Struct("<QH")
_TEXT_AT = 8 + _FIELDS.size
_TEXT_MAX = SLOT_SIZE - _TEXT_AT
_INCOMPLETE_AT = HEADER_SIZE - 1
LINGERS_NS = int(LATENCY_MAX_S * 1e9)
"""From when it was concluded, which is after its time-out: so a stop's own bound is over by then."""
_LOOK_AGAIN_S = (0.002, 0.01, 0.05)
"""A register that is written while it is read may show a slot between two of its orders."""


class Sent(IntEnum):
    """How far an order has come. The digits, so that a person can read a dump."""

    INTENDED = 0x31
    """No byte of it has left: the engine that holds it was asked for leave, and had not got it."""
    UNANSWERED = 0x32
    """It may have left; the venue has not answered."""
    OPEN = 0x33
    """The venue has had it."""


_FREE = 0
_STATES = {each.value: each for each in Sent}


@dataclass(frozen=True, slots=True)
class LiveOrder:
    cl_ord_id: ClOrdID
    venue: str
    symbol: str
    sent: Sent
    sent_ns: int
    """Monotonic, when it was handed over; its first byte left within its venue's time-out from
    then. 0: before the machine's last start."""


@dataclass(frozen=True, slots=True)
class LiveOrders:
    """What the registers of a desk say."""

    orders: tuple[LiveOrder, ...] = ()
    damage: str = ""
    """Why there may be live orders that it does not name: it cannot be read in full."""
    gap: str = ""
    """Why it does not claim to be complete; empty where it does."""


# --- the engine's side -----------------------------------------------------------------------------


class Buffer(Protocol):
    """As a mapped file, or a bytearray."""

    def __setitem__(self, key: int | slice, value: int | bytes, /) -> None: ...


class _Segment:
    """One file."""

    def __init__(self, buffer: Buffer, slots: int) -> None:
        self.slots = slots
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
        if state == _FREE:
            self._free.append((at - HEADER_SIZE) // SLOT_SIZE)

    def mark_incomplete(self) -> None:
        self._buffer[_INCOMPLETE_AT] = 1


class OrderRegister:
    """Of one engine, which writes it on one event loop. Nothing may be sent before `open`."""

    def __init__(self, folder: Path, boot_id: str, *, slots: int = SLOTS) -> None:
        self._folder = folder
        self._boot_id = boot_id
        self._slots = slots
        self._prefix = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._segments: list[_Segment] = []
        self._paths: list[Path] = []
        self._places: dict[ClOrdID, tuple[_Segment, int, Sent]] = {}
        self._doubted: set[ClOrdID] = set()
        """In it without an answer, and in doubt since."""
        self._lingering: dict[ClOrdID, int] = {}
        """Taken for never arrived, until when they stay; monotonic, soonest first."""
        self._telling: set[str] = set()
        """Venues whose adapter is seen to ask for leave before an order's first byte."""

    @property
    def is_there(self) -> bool:
        """Whether a reader finds it. One that was removed is still written to, and nobody reads it."""
        return bool(self._segments) and all(path.exists() for path in self._paths)

    def __len__(self) -> int:
        return len(self._places)

    def open(self) -> None:
        """Makes the file; nothing where it is there. StorageError."""
        if not self.is_there:
            self._segments, self._paths = [], []
            self._places.clear()
            self._doubted.clear()
            self._lingering.clear()
            self._grow(self._slots)

    def adopt(self, orders: Iterable[Order], sent_ns: int) -> None:
        """Orders of engines before this one, each of which left before `sent_ns`. StorageError: some
        have no slot."""
        for order in orders:
            state = Sent.OPEN if order.venue_order_id else Sent.UNANSWERED
            self._put(order.new, state, sent_ns)
            if state is Sent.UNANSWERED:
                self._doubted.add(order.cl_ord_id)

    def remove_others(self) -> None:
        """Registers of engines before this one, once their orders are adopted; not that of one that
        stands by, which is empty and will be written, nor what one that starts is just making."""
        with contextlib.suppress(OSError):  # what stays only names orders once more
            for path in list(self._folder.iterdir()):
                is_ours = path.suffix in (SUFFIX, ENDED_SUFFIX)
                if is_ours and path not in self._paths and not _stands_by(path):
                    path.unlink(missing_ok=True)

    def intended(self, order: NewOrder) -> None:
        """It is about to be sent. StorageError: it must not be."""
        state = Sent.INTENDED if order.venue in self._telling else Sent.UNANSWERED
        self._put(order, state, time.monotonic_ns())

    def leaving(self, order: NewOrder) -> bool:
        """Its first byte is about to be written. False: it is not in here, and must not be."""
        self._telling.add(order.venue)
        self._mark(order.cl_ord_id, Sent.INTENDED, Sent.UNANSWERED)
        return order.cl_ord_id in self._places

    def heard(self, order: Order) -> None:
        """Its state in the books after an event. StorageError: it is live and has no slot; the
        register is incomplete from now on, and says so."""
        key, now_ns = order.cl_ord_id, time.monotonic_ns()
        self._free_lingering(now_ns)
        if order.status is OrdStatus.REJECTED and (key in self._doubted or key in self._lingering):
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
            try:
                self._put(order.new, Sent.OPEN, time.monotonic_ns())
            except StorageError:
                self._segments[0].mark_incomplete()
                raise

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
            segment.mark(at, _FREE)

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

    def _put(self, order: NewOrder, state: Sent, sent_ns: int) -> None:
        if order.cl_ord_id in self._places:
            return
        content = _content(order.cl_ord_id, order.venue, order.symbol, sent_ns)
        if not self._segments:
            raise StorageError("the register of live orders is not open")
        segment = self._segments[-1]
        at = segment.put(content, state)
        if at is None:
            segment, at = self._put_elsewhere(content, state)
        self._places[order.cl_ord_id] = (segment, at, state)

    def _put_elsewhere(self, content: bytes, state: Sent) -> tuple[_Segment, int]:
        """The last file is full."""
        for segment in self._segments:
            at = segment.put(content, state)
            if at is not None:
                return segment, at
        segment = self._grow(min(SLOTS_MAX, 2 * self._segments[-1].slots))
        at = segment.put(content, state)
        assert at is not None
        return segment, at

    def _grow(self, slots: int) -> _Segment:
        path = self._folder / f"{self._prefix}-{len(self._paths)}{SUFFIX}"
        size = HEADER_SIZE + slots * SLOT_SIZE
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(header(slots, self._boot_id) + bytes(size - HEADER_SIZE))
            with path.open("r+b") as opened:
                buffer = mmap.mmap(opened.fileno(), size)
        except OSError as error:
            raise storage_error(error, "map", path) from error
        segment = _Segment(buffer, slots)
        self._paths.append(path)
        self._segments.append(segment)
        return segment


def _stands_by(path: Path) -> bool:
    """Whether it is the register of a process that is there, with nothing in it. OSError."""
    pid = path.name.partition("-")[0]
    if path.suffix != SUFFIX or not pid.isdigit():
        return False
    told = parse(path.read_bytes())
    if told.damage or told.orders:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def header(slots: int, boot_id: str) -> bytes:
    fields = _HEADER.pack(MAGIC, VERSION, SLOT_SIZE, slots, boot_id.encode()[:36])
    return (fields + _CRC.pack(zlib.crc32(fields))).ljust(HEADER_SIZE, b"\0")


def _content(cl_ord_id: str, venue: str, symbol: str, sent_ns: int) -> bytes:
    """A slot from its crc on. StorageError for what does not fit."""
    text = f"{cl_ord_id}\0{venue}\0{symbol}".encode()
    if len(text) > _TEXT_MAX:
        raise StorageError(
            f"{cl_ord_id}: venue and symbol have no room in the register of live orders"
        )
    content = _FIELDS.pack(sent_ns, len(text)) + text
    return _CRC.pack(zlib.crc32(content)) + content


# --- a reader's side -------------------------------------------------------------------------------


def read_live_orders(folder: Path, boot_id: str) -> LiveOrders:
    """What all registers in this folder say, less what stops have proven to have ended. Raises
    nothing for what is in it, and for how it is."""
    found = _read(folder, boot_id)
    for pause_s in _LOOK_AGAIN_S:
        if not found.damage:
            break
        time.sleep(pause_s)
        found = _read(folder, boot_id)
    return found


def note_ended(folder: Path, venue: str, cl_ord_ids: Sequence[ClOrdID]) -> None:
    """A stop has proven of these that they have ended: the next one need not ask for them. OSError.
    Unsynced: without it they are only asked for once more."""
    path = folder / f"{venue}{ENDED_SUFFIX}"
    known = dict.fromkeys((*_ended(path), *cl_ord_ids))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(list(known)))
    temporary.replace(path)


def _read(folder: Path, boot_id: str) -> LiveOrders:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
        ended = {
            (path.stem, key)
            for path in folder.iterdir()
            if path.suffix == ENDED_SUFFIX
            for key in _ended(path)
        }
    except FileNotFoundError:
        paths, ended = [], set()
    except OSError as error:
        return LiveOrders(damage=f"{folder} cannot be read: {error.strerror}")
    if not paths:
        return LiveOrders(gap="no engine keeps a register of the orders that it sends")
    orders: dict[ClOrdID, LiveOrder] = {}
    damage, gap = "", ""
    for path in paths:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            # An engine that takes over has adopted it, perhaps into a file that was not there when
            # these were listed, or was still empty when it was read.
            damage = damage or f"{path} was removed while it was read"
            continue
        except OSError as error:
            damage = damage or f"{path} cannot be read: {error.strerror}"
            continue
        told = parse(data)
        if told.damage:
            damage = damage or f"{path}: {told.damage}"
        stale = not told.damage.startswith(_NO_HEADER) and _boot_of(data) != boot_id
        gap = gap or (_STALE if stale else "")
        for order in told.orders:
            if (order.venue, order.cl_ord_id) in ended:
                continue
            seen = replace(order, sent_ns=0) if stale else order
            known = orders.get(order.cl_ord_id)
            if known is None or known.sent < seen.sent:
                orders[order.cl_ord_id] = seen
    return LiveOrders(tuple(orders.values()), damage, gap)


_NO_HEADER = "not a register of live orders"
_STALE = "the register of live orders is from before the machine was last started"


def parse(data: bytes) -> LiveOrders:
    """One file's content; `sent_ns` as it is written."""
    slots = _slots_of(data)
    if slots is None:
        return LiveOrders(damage=f"{_NO_HEADER}, or cut short")
    orders: list[LiveOrder] = []
    damaged = 0
    for at, state in _used(data, slots):
        order = _order_at(data, at, state)
        if order is None:
            damaged += 1
        else:
            orders.append(order)
    damage = f"{damaged} of its entries cannot be read" if damaged else ""
    if data[_INCOMPLETE_AT]:
        damage = damage or "it had no room for all"
    return LiveOrders(tuple(orders), damage)


def _slots_of(data: bytes) -> int | None:
    if len(data) < HEADER_SIZE:
        return None
    fields = data[: _HEADER.size]
    (crc,) = _CRC.unpack_from(data, _HEADER.size)
    magic, version, slot_size, slots, _ = _HEADER.unpack(fields)
    if crc != zlib.crc32(fields) or (magic, version, slot_size) != (MAGIC, VERSION, SLOT_SIZE):
        return None
    return slots if len(data) == HEADER_SIZE + slots * SLOT_SIZE else None


def _boot_of(data: bytes) -> str:
    return bytes(_HEADER.unpack(data[: _HEADER.size])[4]).rstrip(b"\0").decode(errors="replace")


def _used(data: bytes, slots: int) -> Iterator[tuple[int, int]]:
    """Offset and state of each slot that is not free."""
    states = data[HEADER_SIZE::SLOT_SIZE]
    if not any(states):
        return
    for number in range(slots):
        if states[number] != _FREE:
            yield HEADER_SIZE + number * SLOT_SIZE, states[number]


def _order_at(data: bytes, at: int, state: int) -> LiveOrder | None:
    """None: damaged."""
    (crc,) = _CRC.unpack_from(data, at + 4)
    sent_ns, length = _FIELDS.unpack_from(data, at + 8)
    if length > _TEXT_MAX or state not in _STATES:
        return None
    content = data[at + 8 : at + _TEXT_AT + length]
    if zlib.crc32(content) != crc:
        return None
    try:
        cl_ord_id, venue, symbol = content[_FIELDS.size :].decode().split("\0")
    except ValueError:
        return None
    return LiveOrder(ClOrdID(cl_ord_id), venue, symbol, _STATES[state], sent_ns)


def _ended(path: Path) -> list[ClOrdID]:
    """Empty where it cannot be read: then they are asked for."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[ClOrdID])
    except (OSError, msgspec.DecodeError):
        return []
