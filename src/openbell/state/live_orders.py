"""The register of live orders: which orders an engine has sent that are not known to have ended.

    state/live-orders/PID-TOKEN-N.orders      of one engine; several where it grew
    state/live-orders/VENUE.ended             what a stop proved to have ended since
    state/order-registers.json                which of them the engine in office writes

A stop of the desk reads it once the engine cannot write any more. An order that is in it and in no
list of its venue is asked for, so that neither a send without an answer nor an empty list that lies
passes for zero.

What always holds, by the engine's side of it (`openbell.state.order_register`):
- An order is in it before its request can leave, and stays until it is known to have ended or never
  to have left. Whatever byte is the last that was written, a reader finds at least the live orders.
- An order without a slot is not sent. Where one that is live already gets none, the register says
  that it is incomplete; it never leaves one out in silence.
- An order that was in doubt and is taken for one that never arrived, because the venue knows none, stays
  for as long as a stop believes that it may land: the engine concludes it sooner.
- It is a mapped file: an order costs two stores into memory and no system call, and what is stored is
  there for a reader when the engine was killed or stopped a moment later. The page cache does not
  outlive the machine, so a register of another boot is not taken for complete.

And by the reader's:
- A file that the engine in office is known to write, and that is not there, is damage; so is a copy of
  one in its place. Neither the empty file of a standby nor no file at all stands in for it.

The layout, little-endian:

    header, 96 bytes    magic 8 | version u32 | slot size u32 | slots u32 | boot id 36 | inode u64
                        | crc-32 u32 | locked u8 | 3 unused | epoch u64 | 15 unused | incomplete u8
    slot, 192 bytes     state u8 | 3 unused | crc-32 u32 | sent u64, monotonic ns | length u16 | text
                        crc from `sent` to the end of the text: ClOrdID, venue, symbol, NUL between

A free slot's state is a digit as well, so zeros are none: a register, or a part of one, whose slots were
zeroed is damaged and not empty. Versions before 3 had 0 there, and are read so.
A slot's text is written while its state says free, and never changed while it says anything else:
only that one byte is. So no slot is ever half written; one whose crc is wrong was damaged, and what
was in it is not known. What is in the header behind its crc is written later: the epoch, 0 until then,
as its engine takes office. `locked`: its engine holds a shared flock on it for as long as it has it
mapped, and so until it has ended; versions before did not, and left a 0 there. The inode is the file's
own, so that a copy is told from what an engine writes; of the file's device nothing is kept, which may
have another number in another container.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

import msgspec

from openbell.domain.orders import ClOrdID

MAGIC = b"OBORDERS"
VERSION = 3
_UNMARKED = 2
"""The version in which a free slot was all zeros, and so a register that was zeroed one without orders. It is
read as it was meant: an engine of before may be the one that runs."""
HEADER_SIZE, SLOT_SIZE = 96, 192
SUFFIX, ENDED_SUFFIX = ".orders", ".ended"
INDEX = "order-registers.json"
"""Beside the folder, so that it outlives it."""

_HEADER = struct.Struct("<8sIII36sQ")
CRC = struct.Struct("<I")
FIELDS = struct.Struct("<QH")
_TEXT_AT = 8 + FIELDS.size
TEXT_MAX = SLOT_SIZE - _TEXT_AT
LOCKED_AT = 68
EPOCH = struct.Struct("<Q")
EPOCH_AT = 72
INCOMPLETE_AT = HEADER_SIZE - 1
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


FREE = 0x30
"""Not 0: a slot whose bytes were zeroed, by a file system after a crash or by a person, is not free but
lost."""
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


@dataclass(frozen=True, slots=True)
class HeldRegister:
    """A file that a process of the desk has mapped, wherever its path has gone."""

    name: str
    fd: int
    """Ours, open for reading."""


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """Which files the engine in office writes."""

    boot_id: str
    files: tuple[str, ...]


def index_of(folder: Path) -> Path:
    return folder.parent / INDEX


def read_index(folder: Path) -> Index | None:
    """None: there is none. OSError; ValueError for what is none."""
    try:
        return msgspec.json.decode(index_of(folder).read_bytes(), type=Index)
    except FileNotFoundError:
        return None


def read_live_orders(
    folder: Path, boot_id: str, held: Sequence[HeldRegister] = (), *, patient: bool = True
) -> LiveOrders:
    """What all registers in this folder say, and those that processes hold, less what stops have proven
    to have ended. Raises nothing for what is in it, and for how it is. `patient`: it may be written
    meanwhile, and what looks damaged is looked at again."""
    found = _read(folder, boot_id, held)
    for pause_s in _LOOK_AGAIN_S if patient else ():
        if not found.damage:
            break
        time.sleep(pause_s)
        found = _read(folder, boot_id, held)
    return found


def note_ended(folder: Path, venue: str, cl_ord_ids: Sequence[ClOrdID]) -> None:
    """A stop has proven of these that they have ended: the next one need not ask for them. OSError.
    Unsynced: without it they are only asked for once more."""
    path = folder / f"{venue}{ENDED_SUFFIX}"
    known = dict.fromkeys((*_ended(path), *cl_ord_ids))
    replace_unsynced(path, msgspec.json.encode(list(known)))


def replace_unsynced(path: Path, content: bytes) -> None:
    """Old or new for every reader, not for a machine that loses its power. OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def proven_ended(folder: Path, venue: str) -> frozenset[ClOrdID]:
    """What stops have proven of this venue's orders, for good: also of those that no venue tells of
    afterwards, because they never arrived, or were refused."""
    return frozenset(_ended(folder / f"{venue}{ENDED_SUFFIX}"))


_NO_REGISTER = "no engine keeps a register of the orders that it sends"
_NO_OFFICE = "no engine that keeps a register has taken office"
_NO_HEADER = "not a register of live orders"
_STALE = "the register of live orders is from before the machine was last started"
_COPY = "it is a copy, and not the file that an engine writes"


class _Gathered:
    """What the files say, one after the other."""

    def __init__(self, boot_id: str, ended: set[tuple[str, ClOrdID]]) -> None:
        self.damage = self.gap = ""
        self.in_office = False
        """Whether one of them is, or was, of an engine that had taken office."""
        self.epoch = 0
        """The latest under which the engine of one of them took office, since the machine's last start."""
        self.inodes: set[int] = set()
        self.names: set[str] = set()
        self._boot_id = boot_id
        self._ended = ended
        self._orders: dict[ClOrdID, LiveOrder] = {}

    def add(self, name: str, data: bytes, inode: int, *, replaced: bool = False) -> None:
        """`replaced`: the file itself is known, so that a copy in its place hides nothing."""
        self.inodes.add(inode)
        self.names.add(Path(name).name)
        told = parse(data)
        fixed = fixed_of(data)
        stale = fixed is not None and fixed.boot_id != self._boot_id
        if told.damage:
            self.damage = self.damage or f"{name}: {told.damage}"
        elif fixed is not None and not stale and fixed.inode == inode:
            self.epoch = max(self.epoch, epoch_of(data))
        elif not (stale or replaced):
            self.damage = self.damage or f"{name}: {_COPY}"
        if stale:
            self.gap = self.gap or _STALE
        if fixed is None or stale or epoch_of(data):
            self.in_office = True  # or nobody can tell, and that is told already
        for order in told.orders:
            if (order.venue, order.cl_ord_id) in self._ended:
                continue
            seen = replace(order, sent_ns=0) if stale else order
            known = self._orders.get(order.cl_ord_id)
            if known is None or known.sent < seen.sent:
                self._orders[order.cl_ord_id] = seen

    def missing(self, why: str) -> None:
        self.damage = self.damage or why

    def told(self) -> LiveOrders:
        gap = self.gap
        if not self.names and not self.damage:
            gap = _NO_REGISTER
        elif not (self.in_office or self.damage):
            gap = gap or _NO_OFFICE
        return LiveOrders(tuple(self._orders.values()), self.damage, gap)


def _read(folder: Path, boot_id: str, held: Sequence[HeldRegister]) -> LiveOrders:
    problem = ""
    index: Index | None = None
    try:
        # Before the files: an engine that takes over removes the others after it has said so here.
        index = read_index(folder)
    except (OSError, ValueError) as error:
        problem = f"{index_of(folder)} cannot be read: {type(error).__name__}"
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
        paths, ended = [], set()
        problem = problem or f"{folder} cannot be read: {error.strerror}"
    found = _Gathered(boot_id, ended)
    if problem:
        found.missing(problem)
    mapped: list[tuple[str, bytes, int]] = []
    for each in held:
        try:
            mapped.append((each.name, _content_of(each.fd), os.fstat(each.fd).st_ino))
        except OSError as error:
            found.missing(f"{each.name} cannot be read: {error.strerror}")
    known = {Path(name).name for name, _, _ in mapped}
    for path in paths:
        try:
            data, inode = path.read_bytes(), path.stat().st_ino
        except FileNotFoundError:
            # An engine that takes over has adopted it, perhaps into a file that was not there when
            # these were listed, or was still empty when it was read.
            found.missing(f"{path} was removed while it was read")
        except OSError as error:
            found.missing(f"{path} cannot be read: {error.strerror}")
        else:
            found.add(str(path), data, inode, replaced=path.name in known)
    for name, data, inode in mapped:
        # An engine that gave its office away has its file until it ends; its successor, which took
        # office later, has adopted what was in it, and knows what became of that since.
        adopted = 0 < epoch_of(data) < found.epoch
        if inode not in found.inodes and not adopted:
            found.add(name, data, inode)
    if index is not None and boot_id and index.boot_id == boot_id:
        for name in sorted(set(index.files) - found.names):
            found.missing(f"{folder / name} is gone, which the engine in office writes")
    return found.told()


def _content_of(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    pieces, at = [], 0
    while at < size:
        piece = os.pread(fd, size - at, at)
        if not piece:
            break
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def parse(data: bytes) -> LiveOrders:
    """One file's content; `sent_ns` as it is written."""
    fixed = fixed_of(data)
    if fixed is None:
        return LiveOrders(damage=f"{_NO_HEADER}, or cut short")
    orders: list[LiveOrder] = []
    damaged = 0
    for at, state in _used(data, fixed):
        order = _order_at(data, at, state)
        if order is None:
            damaged += 1
        else:
            orders.append(order)
    damage = f"{damaged} of its entries cannot be read" if damaged else ""
    if data[INCOMPLETE_AT]:
        damage = damage or "it had no room for all"
    return LiveOrders(tuple(orders), damage)


def header(slots: int, boot_id: str, inode: int) -> bytes:
    fields = _HEADER.pack(MAGIC, VERSION, SLOT_SIZE, slots, boot_id.encode()[:36], inode)
    return (fields + CRC.pack(zlib.crc32(fields)) + b"\1").ljust(HEADER_SIZE, b"\0")


def epoch_of(data: bytes) -> int:
    """Under which its engine took office; 0: it has not, or this is no register."""
    if fixed_of(data[:HEADER_SIZE], whole=False) is None:
        return 0
    return int(EPOCH.unpack_from(data, EPOCH_AT)[0])


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a header says for good."""

    slots: int
    free: int
    """The state of its free slots."""
    boot_id: str
    inode: int
    locked: bool


def fixed_of(data: bytes, *, whole: bool = True) -> Fixed | None:
    """None: this is no register, or not all of one."""
    if len(data) < HEADER_SIZE:
        return None
    fields = data[: _HEADER.size]
    (crc,) = CRC.unpack_from(data, _HEADER.size)
    magic, version, slot_size, slots, boot_id, inode = _HEADER.unpack(fields)
    if crc != zlib.crc32(fields) or (magic, slot_size) != (MAGIC, SLOT_SIZE):
        return None
    if version not in (VERSION, _UNMARKED):
        return None
    if whole and len(data) != HEADER_SIZE + slots * SLOT_SIZE:
        return None
    boot = bytes(boot_id).rstrip(b"\0").decode(errors="replace")
    free = FREE if version == VERSION else 0
    return Fixed(slots, free, boot, inode, data[LOCKED_AT] != 0)


def free_slots(count: int) -> bytes:
    """What follows the header of a register without orders."""
    return bytes([FREE]).ljust(SLOT_SIZE, b"\0") * count


def _used(data: bytes, fixed: Fixed) -> Iterator[tuple[int, int]]:
    """Offset and state of each slot that is not free."""
    states = data[HEADER_SIZE::SLOT_SIZE]
    if states.count(fixed.free) == fixed.slots:
        return
    for number in range(fixed.slots):
        if states[number] != fixed.free:
            yield HEADER_SIZE + number * SLOT_SIZE, states[number]


def _order_at(data: bytes, at: int, state: int) -> LiveOrder | None:
    """None: damaged."""
    (crc,) = CRC.unpack_from(data, at + 4)
    sent_ns, length = FIELDS.unpack_from(data, at + 8)
    if length > TEXT_MAX or state not in _STATES:
        return None
    content = data[at + 8 : at + _TEXT_AT + length]
    if zlib.crc32(content) != crc:
        return None
    try:
        cl_ord_id, venue, symbol = content[FIELDS.size :].decode().split("\0")
    except ValueError:
        return None
    return LiveOrder(ClOrdID(cl_ord_id), venue, symbol, _STATES[state], sent_ns)


def _ended(path: Path) -> list[ClOrdID]:
    """Empty where it cannot be read: then they are asked for."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[ClOrdID])
    except (OSError, msgspec.DecodeError):
        return []
