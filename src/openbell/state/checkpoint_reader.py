"""Reading a checkpoint: every byte is proven before any of it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Never

import msgspec
import zstandard

from openbell.errors import CorruptError, UsageError
from openbell.state import checkpoint_format as form
from openbell.state.checkpoint_info import CheckpointInfo, Damage, info_of
from openbell.state.files import storage_error

_CHUNK = 1 << 20


def read_proven(path: Path, use: Callable[[str, bytes], None]) -> CheckpointInfo:
    """Check the file, giving each piece of content to `use`, which must not act on it before this
    returns."""
    try:
        with path.open("rb") as file:
            return _Reading(path, file).read(use)
    except FileNotFoundError as error:
        raise UsageError(f"there is no checkpoint {path}", path=str(path)) from error
    except OSError as error:
        raise storage_error(error, "read", path) from error


class _Reading:
    """One pass over a checkpoint file, from front to back; the CRC of the whole runs along."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size = file.seek(0, 2)
        file.seek(0)
        self.whole: int | None = None

    def read(self, use: Callable[[str, bytes], None]) -> CheckpointInfo:
        header, preamble = self._header()
        for section in header.sections:
            self._section(section, use)
        assert self.whole is not None
        found = self.whole
        stated, mark = form.unpack_trailer(self._take(form.TRAILER_BYTES, "its trailer"))
        if mark != form.END_MARK:
            self._refuse("whole", f"it ends with {mark!r} instead of {form.END_MARK!r}")
        if stated != found:
            self._refuse(
                "whole", f"the CRC of the whole is {found:016x}, and it states {stated:016x}"
            )
        return info_of(self.path, header, preamble.file_bytes, found)

    def _header(self) -> tuple[form.Header, form.Preamble]:
        if self.size == 0:
            self._refuse("cut", "it is empty")
        packed = self._take(form.PREAMBLE_BYTES, "its first 40 bytes")
        try:
            preamble = form.unpack_preamble(packed)
        except form.NotAPreambleError as error:
            self._refuse(error.kind, str(error))
        if preamble.version != form.VERSION:
            self._refuse(
                "unknown_version",
                f"it is of format version {preamble.version}, and this Openbell reads "
                f"version {form.VERSION}",
            )
        if self.size < preamble.file_bytes:
            self._refuse("cut", f"it is cut after {self.size} of {preamble.file_bytes} bytes")
        if self.size > preamble.file_bytes:
            extra = self.size - preamble.file_bytes
            self._refuse("trailing_bytes", f"{extra} bytes follow its end")
        if preamble.header_bytes > min(form.HEADER_BYTES_MAX, self.size):
            self._refuse("header", f"it states a header of {preamble.header_bytes} bytes")
        encoded = self._take(preamble.header_bytes, "its header")
        if form.crc(encoded) != preamble.header_crc:
            self._refuse("header", "its header does not match its CRC")
        try:
            header = msgspec.json.decode(encoded, type=form.Header)
            datetime.fromisoformat(header.created)
        except (msgspec.DecodeError, ValueError) as error:
            self._refuse("header", f"its header is not one: {error}")
        laid_out = form.PREAMBLE_BYTES + len(encoded) + header.stored_bytes + form.TRAILER_BYTES
        if laid_out != preamble.file_bytes:
            self._refuse("header", "its sections do not fill it")
        if len({section.name for section in header.sections}) != len(header.sections):
            self._refuse("header", "a section's name occurs twice")
        return header, preamble

    def _section(self, section: form.SectionHeader, use: Callable[[str, bytes], None]) -> None:
        frame = self._take(section.stored_bytes, f"section {section.name}")
        found = f"{form.crc(frame):016x}"
        if found != section.crc64:
            how = "is all zeros" if not any(frame) else "is damaged"
            self._refuse(
                "section",
                f"section {section.name} {how}: its CRC is {found}, and the header states "
                f"{section.crc64}",
                section=section.name,
            )
        length = 0
        try:
            for piece in _decompressed(frame, section.bytes):
                length += len(piece)
                use(section.name, piece)
        except zstandard.ZstdError as error:
            self._refuse(
                "section",
                f"section {section.name} cannot be decompressed: {error}",
                section=section.name,
            )
        if length != section.bytes:
            self._refuse(
                "section",
                f"section {section.name} holds {length} bytes, and the header states "
                f"{section.bytes}",
                section=section.name,
            )

    def _take(self, count: int, what: str) -> bytes:
        data = self.file.read(count)
        if len(data) < count:
            self._refuse("cut", f"it is cut after {self.size} bytes, within {what}")
        self.whole = form.crc(data, self.whole)
        return data

    def _refuse(self, damage: Damage, why: str, **facts: object) -> Never:
        raise CorruptError(
            f"{self.path} is not a whole checkpoint: {why}",
            hint="use another one: see `openbell checkpoint list`",
            path=str(self.path),
            damage=damage,
            why=why,
            **facts,
        )


def _decompressed(frame: bytes, stated: int) -> Iterator[bytes]:
    """The frame's content in pieces, never more than `stated` bytes and one piece, whatever a
    forged frame would expand to."""
    if stated > form.SECTION_BYTES_MAX:
        raise zstandard.ZstdError(f"{stated} bytes are more than a section may have")
    if zstandard.frame_content_size(frame) != stated:
        raise zstandard.ZstdError("its frame and the header differ in its length")
    given = 0
    with zstandard.ZstdDecompressor().stream_reader(frame) as reader:
        while given <= stated and (piece := reader.read(_CHUNK)):
            given += len(piece)
            yield piece
