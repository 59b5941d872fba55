"""Checkpoints: every kind of damage is refused and named."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openbell.errors import CorruptError, RefusedError, StorageError, UsageError
from openbell.state import checkpoint_format as form
from openbell.state.checkpoint import (
    SECTIONS,
    BrokenCheckpoint,
    CheckpointInfo,
    CheckpointMeta,
    list_checkpoints,
    newest_valid,
    read_checkpoint,
    save_checkpoint,
    validate,
    write_checkpoint,
)
from openbell.state.files import write_atomically

CREATED = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
META = CheckpointMeta("paper", "complete", CREATED, {"last_journal_seq": "7"})
CONTENT = {
    "trading": b'{"orders":[],"positions":[]}' * 4,
    "configuration": b"[desk]\nname = 'paper'\n",
    "strategies": b"",
    "market_data": bytes(range(256)),
    "logs": b"2026-01-31 all quiet\n" * 20,
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, CONTENT, META)
    return path


def damage_of(path: Path) -> str:
    with pytest.raises(CorruptError) as raised:
        validate(path)
    with pytest.raises(CorruptError):
        read_checkpoint(path)
    return str(raised.value.facts["damage"])


def test_the_crc_is_crc_64_xz() -> None:
    """Check value of the catalogue of parametrised CRC algorithms."""
    assert form.crc(b"123456789") == 0x995DC9BBDF1939FA
    assert form.crc(b"56789", form.crc(b"1234")) == form.crc(b"123456789")
    assert form.crc(bytes(64)) != 0, "else a zeroed file would verify"


def test_what_was_written_is_read(checkpoint: Path) -> None:
    read = read_checkpoint(checkpoint)
    assert read.sections == CONTENT
    assert read.info == validate(checkpoint)
    assert (read.info.desk, read.info.level) == ("paper", "complete")
    assert read.info.created == CREATED.replace(microsecond=123000)
    assert read.info.facts == {"last_journal_seq": "7"}
    assert [section.name for section in read.info.sections] == list(SECTIONS)
    assert read.info.bytes == checkpoint.stat().st_size
    assert checkpoint.stat().st_mode & 0o777 == 0o600
    shown = read.info.as_dict()
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


@given(
    content=st.dictionaries(st.sampled_from(SECTIONS), st.binary(max_size=3000)),
    facts=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
    desk=st.text(max_size=20),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_content_comes_back_as_it_was(
    tmp_path: Path, content: Mapping[str, bytes], facts: dict[str, str], desk: str
) -> None:
    info = save_checkpoint(tmp_path, content, CheckpointMeta(desk, "quick", CREATED, facts))
    read = read_checkpoint(info.path)
    info.path.unlink()
    assert (read.sections, read.info) == (content, info)
    assert (info.desk, info.facts) == (desk, facts)


def test_every_single_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    small = {"trading": b"orders", "logs": b"quiet"}
    write_checkpoint(path, small, CheckpointMeta("d", "quick", CREATED))
    whole = path.read_bytes()
    seen = set()
    for position in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(CorruptError) as raised:
                validate(path)
            seen.add(raised.value.facts["damage"])
    assert seen == {"header", "section", "whole"}


def test_a_cut_at_every_length_is_refused(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    for length in range(len(whole)):
        checkpoint.write_bytes(whole[:length])
        with pytest.raises(CorruptError) as raised:
            validate(checkpoint)
        assert raised.value.facts["damage"] == "cut"
        assert length == 0 or f"cut after {length}" in raised.value.message


@pytest.mark.parametrize("length", [1, 39, 40, 41, 4096])
def test_a_zeroed_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(bytes(length))
    assert damage_of(path) == ("zeroed" if length >= form.PREAMBLE_BYTES else "cut")


def test_zeros_from_any_place_to_the_end_are_refused(checkpoint: Path) -> None:
    """What a file system leaves that had the length on the disk before the bytes."""
    whole = checkpoint.read_bytes()
    for start in range(len(whole)):
        checkpoint.write_bytes(whole[:start] + bytes(len(whole) - start))
        with pytest.raises(CorruptError):
            validate(checkpoint)


def test_the_damaged_section_is_named(checkpoint: Path) -> None:
    whole = bytearray(checkpoint.read_bytes())
    position = form.PREAMBLE_BYTES + form.unpack_preamble(whole[: form.PREAMBLE_BYTES]).header_bytes
    for section in validate(checkpoint).sections:
        middle = position + section.stored_bytes // 2
        checkpoint.write_bytes(whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
        with pytest.raises(CorruptError, match=f"section {section.name} is damaged") as raised:
            validate(checkpoint)
        assert raised.value.facts["section"] == section.name
        checkpoint.write_bytes(
            whole[:position]
            + bytes(section.stored_bytes)
            + whole[position + section.stored_bytes :]
        )
        with pytest.raises(CorruptError, match=f"section {section.name} is all zeros"):
            validate(checkpoint)
        position += section.stored_bytes


def test_bytes_after_the_end_are_refused(checkpoint: Path) -> None:
    with checkpoint.open("ab") as file:
        file.write(b"??")
    assert damage_of(checkpoint) == "trailing_bytes"


def test_two_checkpoints_in_one_file_are_refused(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes() * 2)
    assert damage_of(checkpoint) == "trailing_bytes"


@pytest.mark.parametrize("content", [b"#!/bin/sh\n" * 20, b"PK\x03\x04" + bytes(range(200))])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    assert damage_of(tmp_path / "a.ckpt") == "not_a_checkpoint"


def test_a_newer_format_is_told_from_a_damaged_one(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = checkpoint.with_name("newer.ckpt")
    with monkeypatch.context() as patch:
        patch.setattr(form, "VERSION", 2)
        write_checkpoint(newer, CONTENT, META)
    assert damage_of(newer) == "unknown_version"


def forge(path: Path, header: dict[str, Any], frames: bytes) -> None:
    """A file with every CRC right and a content that no writer of ours would make."""
    encoded = msgspec.json.encode(header)
    size = form.PREAMBLE_BYTES + len(encoded) + len(frames) + form.TRAILER_BYTES
    body = form.pack_preamble(encoded, size) + encoded + frames
    path.write_bytes(body + form.pack_trailer(form.crc(body)))


def header_of(frame: bytes, stated: int) -> dict[str, Any]:
    return {
        "desk": "d",
        "level": "quick",
        "created": "2026-01-31T12:00:00.123Z",
        "openbell": "0",
        "facts": {},
        "sections": [
            {
                "name": "logs",
                "bytes": stated,
                "stored_bytes": len(frame),
                "crc64": f"{form.crc(frame):016x}",
            }
        ],
    }


def test_a_frame_that_expands_to_more_than_stated_is_refused_unexpanded(tmp_path: Path) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    assert len(bomb) < 1 << 16
    forge(tmp_path / "a.ckpt", header_of(bomb, 100), bomb)
    assert damage_of(tmp_path / "a.ckpt") == "section"


def test_a_frame_without_a_length_is_refused(tmp_path: Path) -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1000)
    forge(tmp_path / "a.ckpt", header_of(frame, 1000), frame)
    assert damage_of(tmp_path / "a.ckpt") == "section"


def test_a_section_larger_than_any_may_be_is_refused(tmp_path: Path) -> None:
    frame = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 50)
    forge(tmp_path / "a.ckpt", header_of(frame, 1 << 50), frame)
    assert damage_of(tmp_path / "a.ckpt") == "section"


@pytest.mark.parametrize(
    "change",
    [
        {"created": "yesterday"},
        {"level": "half"},
        {"sections": []},
        {"unknown": 1},
        {"sections": [{"name": "logs", "bytes": -1, "stored_bytes": 0, "crc64": "0" * 16}]},
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    frame = zstandard.ZstdCompressor().compress(b"x")
    forge(tmp_path / "a.ckpt", header_of(frame, 1), frame)
    validate(tmp_path / "a.ckpt")
    forge(tmp_path / "a.ckpt", header_of(frame, 1) | change, frame)
    assert damage_of(tmp_path / "a.ckpt") == "header"


def test_names_tell_the_time_and_never_collide(tmp_path: Path) -> None:
    infos = [save_checkpoint(tmp_path, {"trading": b"%d" % n}, META) for n in range(3)]
    assert [info.path.name for info in infos] == [
        "20260131T120000.123Z-complete.ckpt",
        "20260131T120000.123Z-complete-2.ckpt",
        "20260131T120000.123Z-complete-3.ckpt",
    ]
    assert [read_checkpoint(i.path).sections["trading"] for i in infos] == [b"0", b"1", b"2"]


def test_an_existing_file_is_never_overwritten(checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    with pytest.raises(RefusedError, match="never overwritten"):
        write_checkpoint(checkpoint, {}, META)
    assert checkpoint.read_bytes() == before


def test_an_unknown_section_is_a_defect_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="passwords"):
        write_checkpoint(tmp_path / "a.ckpt", {"passwords": b""}, META)


def test_a_missing_file_is_not_called_corrupt(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        validate(tmp_path / "none.ckpt")


def save_at(folder: Path, hour: int) -> CheckpointInfo:
    meta = CheckpointMeta("paper", "quick", CREATED + timedelta(hours=hour))
    return save_checkpoint(folder, CONTENT, meta)


def test_the_list_is_newest_first_and_names_what_is_broken(tmp_path: Path) -> None:
    assert list_checkpoints(tmp_path / "nowhere") == []
    infos = [save_at(tmp_path, hour) for hour in range(3)]
    assert list_checkpoints(tmp_path) == infos[::-1]
    infos[1].path.write_bytes(b"")
    listed = {found.path: found for found in list_checkpoints(tmp_path)}
    broken = listed[infos[1].path]
    assert isinstance(broken, BrokenCheckpoint)
    assert broken.as_dict()["valid"] is False
    assert broken.as_dict()["why"] == "it is empty"
    assert len(listed) == 3


def test_a_corrupt_newest_one_is_passed_over_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert newest_valid(tmp_path) is None
    infos = [save_at(tmp_path, hour) for hour in range(3)]
    assert newest_valid(tmp_path) == infos[2]
    whole = infos[2].path.read_bytes()
    infos[2].path.write_bytes(whole[: len(whole) // 2])
    passed_over: list[BrokenCheckpoint] = []
    with caplog.at_level(logging.ERROR):
        assert newest_valid(tmp_path, passed_over.append) == infos[1]
    assert [broken.path for broken in passed_over] == [infos[2].path]
    assert "cut after" in caplog.text
    for info in infos:
        info.path.write_bytes(b"gone")
    assert newest_valid(tmp_path) is None


def test_a_full_disk_leaves_no_half_checkpoint(small_disk: Any) -> None:
    save_at(small_disk.folder, 1)
    small_disk.fill()
    noise = {"market_data": bytes(range(256)) + CONTENT["market_data"]}
    with pytest.raises(StorageError):
        save_checkpoint(small_disk.folder, noise | {"logs": b"x" * 100_000}, META)
    assert len(list_checkpoints(small_disk.folder)) == 1
    small_disk.empty()
    save_at(small_disk.folder, 2)
    assert len(list_checkpoints(small_disk.folder)) == 2


def test_what_a_dead_writer_left_is_no_checkpoint_and_is_swept(tmp_path: Path) -> None:
    left = tmp_path / ".openbell-a.ckpt-1-00.tmp"
    write_atomically(left, b"half")
    assert list_checkpoints(tmp_path) == []
    save_at(tmp_path, 1)
    assert left.exists(), "perhaps its writer lives"
    os.utime(left, (0, 0))
    save_at(tmp_path, 2)
    assert not left.exists()
