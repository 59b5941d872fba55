"""A backup is good when its newest file is young, has something in it, and was read back."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sqlite3
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.errors import ConfigError
from openbell.procedures.backups import BackupFact, look_at_backups
from openbell.procedures.checklists import Check, Found
from openbell.procedures.preflight_checks import backup_checks
from openbell.procedures.read_back import DamagedError, read_back

DATA = os.urandom(20_000)


def _tar(mode: Literal["w:", "w:gz", "w:xz"]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode=mode) as archive:
        member = tarfile.TarInfo("state/desk.db")
        member.size = len(DATA)
        archive.addfile(member, io.BytesIO(DATA))
    return whole.getvalue()


def _zip() -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("desk.db", DATA)
    return whole.getvalue()


def _sqlite(folder: Path) -> bytes:
    path = folder / "made.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, body BLOB)")
        connection.executemany("INSERT INTO orders (body) VALUES (?)", [(DATA,)] * 20)
    connection.close()
    return path.read_bytes()


WHOLE = {
    "a.gz": gzip.compress(DATA),
    "a.bz2": bz2.compress(DATA),
    "a.xz": lzma.compress(DATA),
    "a.tar": _tar("w:"),
    "a.tgz": _tar("w:gz"),
    "a.tar.gz": _tar("w:gz"),
    "a.tar.xz": _tar("w:xz"),
    "a.zip": _zip(),
}


@pytest.mark.parametrize("name", [*WHOLE, "a.db"])
def test_a_whole_file_is_read_and_one_that_is_cut_or_spoiled_is_not_believed(
    tmp_path: Path, name: str
) -> None:
    content = WHOLE.get(name) or _sqlite(tmp_path)
    path = tmp_path / name
    path.write_bytes(content)
    assert read_back(path)
    for cut in (len(content) // 2, 0):
        path.write_bytes(content[:cut])
        with pytest.raises(DamagedError):
            read_back(path)
    if name == "a.tar":
        return  # it has checksums of its headers alone, so a cut is found and a changed byte is not
    path.write_bytes(content[:5000] + os.urandom(5000) + content[10_000:])
    with pytest.raises(DamagedError):
        read_back(path)


async def look(folder: Path, more: str = "") -> tuple[BackupFact, Check]:
    desk_folder = folder / "desk"
    desk_folder.mkdir(exist_ok=True)
    (desk_folder / "desk.toml").write_text(
        f'[desk]\nname = "x"\n[services.a]\ncommand = ["true"]\n[backups.night]\n{more}\n'
        + ("" if "folder" in more else 'folder = "../kept"\n')
    )
    desk = load_desk(desk_folder)
    layout = DeskLayout.for_desk(desk_folder, {})
    facts = await look_at_backups(desk, layout, os.environ)
    (check,) = backup_checks(facts)
    return facts[0], check


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    folder = tmp_path / "kept"
    folder.mkdir()
    return folder


async def test_the_newest_file_is_read_back_in_a_process_of_its_own(
    tmp_path: Path, kept: Path
) -> None:
    (kept / "old.tar.gz").write_bytes(b"damaged")
    os.utime(kept / "old.tar.gz", (time.time() - 90_000,) * 2)
    (kept / "new.tar.gz").write_bytes(WHOLE["a.tar.gz"])
    fact, check = await look(tmp_path)
    assert (fact.path, fact.whole) == (str(kept / "new.tar.gz"), True), fact
    assert "1 members" in check.detail
    assert check.found is Found.OK
    (kept / "newest.tar.gz").write_bytes(WHOLE["a.tar.gz"][:-9])
    os.utime(kept / "newest.tar.gz", (time.time() + 60,) * 2)
    fact, check = await look(tmp_path)
    assert check.found is Found.FAILED, fact
    assert "not whole" in check.detail and "[backups.night]" in check.remedy
    _, told = await look(tmp_path, "required = false")
    assert told.found is Found.WARN


@pytest.mark.parametrize(
    ("more", "age_s", "found", "said"),
    [
        ('max_age = "1h"', 7200, Found.FAILED, "older than 1.0 h"),
        ('min_size = "64M"', 0, Found.FAILED, "smaller than 64 MiB"),
        ("", -86_400, Found.FAILED, "in the future"),
        ('files = "*.dump"', 0, Found.FAILED, "no file *.dump"),
        ('folder = "../nowhere"', 0, Found.FAILED, "No such file"),
        ('verify = ["false", "{file}"]', 0, Found.FAILED, "exit status 1"),
        ('verify = ["grep", "-q", "word", "{file}"]', 0, Found.OK, "exit status 0"),
        (
            'verify = ["sh", "-c", "sleep 60", "{file}"]\ntimeout = "300ms"',
            0,
            Found.UNKNOWN,
            "was killed",
        ),
        ('verify = ["/no/such", "{file}"]', 0, Found.UNKNOWN, "cannot be run"),
        ("", 0, Found.UNKNOWN, "give `verify`"),
    ],
)
async def test_what_is_not_known_to_be_good_is_not_called_good(
    tmp_path: Path, kept: Path, more: str, age_s: float, found: Found, said: str
) -> None:
    (kept / "desk.copy").write_text("word\n" * 1000)
    os.utime(kept / "desk.copy", (time.time() - age_s,) * 2)
    fact, check = await look(tmp_path, more)
    assert check.found is found, (fact, check)
    assert said in check.detail


@given(
    whole=st.sampled_from([True, False, None]),
    age_s=st.one_of(st.none(), st.floats(-1e6, 1e6)),
    size=st.integers(0, 10_000),
)
def test_only_a_young_and_whole_one_of_some_size_is_good(
    whole: bool | None, age_s: float | None, size: int
) -> None:
    fact = BackupFact("x", True, 3600.0, 1024, "/x", age_s, size, whole, "said")
    (check,) = backup_checks((fact,))
    good = whole is True and age_s is not None and -300 <= age_s <= 3600 and size >= 1024
    assert (check.found is Found.OK) == good or (whole is True and age_s is None)


async def test_a_command_that_does_not_look_at_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"verify names no \{file\}"):
        await look(tmp_path, 'verify = ["true"]')


def test_a_desk_without_any_says_so() -> None:
    (check,) = backup_checks(())
    assert check.found is Found.NOT_CONFIGURED
    assert "[backups]" in check.detail
