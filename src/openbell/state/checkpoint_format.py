"""The bytes of a checkpoint file; docs/reference/checkpoint-format.md is the same for people.

    preamble   40 bytes, the same in every version:
               magic 8, version u32, header length u32, file length u64,
               CRC of the header u64, CRC of the 32 bytes before u64
    header     JSON: desk, level, created, facts, and the table of sections
    sections   one zstd frame each, in the table's order, without gaps
    trailer    CRC of every byte before it u64, end mark 8

Numbers are little-endian. Every CRC is CRC-64/XZ: unlike CRC-64/ECMA-182, it does not call a file
of zeros right. Each byte of the file is under at least one CRC, so any single flipped bit is
found, and the first CRC that fails says where.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal

import msgspec
from fastcrc import crc64

MAGIC = b"\x89OBCKPT\n"
"""A first byte that is no text, and a line end that a text-mode transfer would change."""
END_MARK = b"OBCKEND\n"
VERSION = 1

SECTION_BYTES_MAX = 4 << 30
"""Ours, of decompressed content. A damaged file cannot state a size at all (its CRC fails); this
bounds what a forged one can claim."""
HEADER_BYTES_MAX = 1 << 20

_PREAMBLE = struct.Struct("<8sIIQQ")
_CRC = struct.Struct("<Q")
PREAMBLE_BYTES = _PREAMBLE.size + _CRC.size
TRAILER_BYTES = _CRC.size + len(END_MARK)

Level = Literal["complete", "quick"]
Size = Annotated[int, msgspec.Meta(ge=0)]


class SectionHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table of sections."""

    name: str
    bytes: Size
    """Of the content."""
    stored_bytes: Size
    """Of its zstd frame in the file."""
    crc64: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    """Of the zstd frame, so that damage is found before anything is decompressed; the frame has a
    checksum of its own over the content."""


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    desk: str
    level: Level
    created: str
    """`2026-01-31T12:00:00.123Z`"""
    openbell: str
    """Version of the program that wrote it."""
    facts: dict[str, str]
    sections: list[SectionHeader]

    @property
    def stored_bytes(self) -> int:
        return sum(section.stored_bytes for section in self.sections)


class Preamble(msgspec.Struct, frozen=True):
    version: int
    header_bytes: int
    file_bytes: int
    header_crc: int


class NotAPreambleError(ValueError):
    """The first bytes are not those of a checkpoint; `kind` as in `checkpoint.Damage`."""

    def __init__(self, kind: Literal["zeroed", "not_a_checkpoint", "header"], why: str) -> None:
        super().__init__(why)
        self.kind: Literal["zeroed", "not_a_checkpoint", "header"] = kind


def crc(data: bytes | memoryview, before: int | None = None) -> int:
    """CRC-64/XZ; `before` is the CRC of what came before `data`."""
    value: int = crc64.xz(data, before)
    return value


def pack_preamble(header: bytes, file_bytes: int) -> bytes:
    packed = _PREAMBLE.pack(MAGIC, VERSION, len(header), file_bytes, crc(header))
    return packed + _CRC.pack(crc(packed))


def unpack_preamble(data: bytes) -> Preamble:
    """From exactly `PREAMBLE_BYTES`. Raises NotAPreambleError."""
    if not any(data):
        raise NotAPreambleError("zeroed", "it begins with zeros: it was emptied, not written")
    magic, version, header_bytes, file_bytes, header_crc = _PREAMBLE.unpack_from(data)
    (stated,) = _CRC.unpack_from(data, _PREAMBLE.size)
    found = crc(data[: _PREAMBLE.size])
    if magic != MAGIC:
        # With the CRC right it is another program's file; with four right bytes a damaged one.
        alike = sum(a == b for a, b in zip(magic, MAGIC, strict=True)) >= len(MAGIC) // 2
        raise NotAPreambleError(
            "header" if alike else "not_a_checkpoint",
            f"it begins with {magic!r} instead of {MAGIC!r}",
        )
    if found != stated:
        raise NotAPreambleError("header", "its first 40 bytes do not match their CRC")
    return Preamble(version, header_bytes, file_bytes, header_crc)


def pack_trailer(whole_crc: int) -> bytes:
    return _CRC.pack(whole_crc) + END_MARK


def unpack_trailer(data: bytes) -> tuple[int, bytes]:
    """`(CRC of the whole, end mark)`"""
    return _CRC.unpack_from(data)[0], data[_CRC.size :]
