"""Logs are read by time, merged, followed over rotations; nothing a program wrote is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from openbell.service.logging import timestamp
from openbell.watch.log_file import FileBytes, first_at_or_after, opened
from openbell.watch.log_line import UNKNOWN_LEVEL, parse_level, parse_line
from openbell.watch.logs import (
    LogFollower,
    LogQuery,
    errors_since,
    read_logs,
    rotated,
    text_since,
)

SECOND = 1_000_000_000
BASE = 1_723_075_200 * SECOND


def ours(at_ns: int, text: str, level: str = "info") -> str:
    return json.dumps(
        {"ts": timestamp(at_ns), "level": level, "service": "x", "event": text},
        separators=(",", ":"),
    )


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_line_of_ours_tells_time_level_text_and_fields() -> None:
    raw = b'{"ts":"2024-08-08T00:00:00.123456789Z","level":"warning","event":"late","ms":7}'
    line = parse_line(raw, "engine")
    assert line.at_ns == BASE + 123_456_789
    assert (line.level, line.text, line.fields) == ("warning", "late", {"ms": 7})
    assert line.as_dict()["at"] == "2024-08-08T00:00:00.123456+00:00"


def test_a_foreign_line_is_kept_with_its_level_unknown() -> None:
    line = parse_line(b"listening on 8080", "redis", inherited_ns=5)
    assert (line.text, line.level, line.at_ns) == ("listening on 8080", UNKNOWN_LEVEL, 5)


def test_a_foreign_line_that_names_time_and_level_is_understood() -> None:
    line = parse_line(b"2024-08-08 00:00:01,500 - bot - ERROR - no route", "bot")
    assert (line.at_ns, line.level) == (BASE + SECOND * 3 // 2, "error")


def test_numbers_as_times_are_told_by_their_size() -> None:
    for number in (BASE // SECOND, BASE // 1_000_000, BASE // 1_000, BASE):
        assert parse_line(json.dumps({"time": number}).encode(), "x").at_ns == BASE


def test_broken_json_and_bytes_that_are_no_text_are_kept() -> None:
    assert parse_line(b'{"ts": ', "x").text == '{"ts": '
    assert "�" in parse_line(b"\xff\xfe oops", "x").text


def test_levels_go_by_their_common_names() -> None:
    assert [parse_level(name) for name in ("ERROR", "warn", "Fatal")] == [
        "error",
        "warning",
        "critical",
    ]


@given(
    lines=st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from(["ours", "bare", "long"])), max_size=60
    ),
    since=st.integers(-1, 60),
)
def test_the_search_finds_what_reading_everything_finds(
    tmp_path_factory, lines: list[tuple[int, str]], since: int
) -> None:
    """Against a reading of the whole file: the lines at or after `since`, where a line without a
    time belongs to the stamped one before it."""
    path = tmp_path_factory.mktemp("logs") / "x.log"
    written: list[str] = []
    expected: list[str] = []
    clock = 0
    current: int | None = None
    for number, (step, kind) in enumerate(lines):
        clock += step
        if kind == "bare":
            text = f"bare {number}"
            # At the very start a line without a time cannot be shown to be old, unless what
            # follows it is.
            keep = current is not None and current >= since
        else:
            current = clock
            text = ours(
                BASE + clock * SECOND, f"n{number} " + "x" * (3000 if kind == "long" else 0)
            )
            keep = clock >= since
        written.append(text)
        if keep:
            expected.append(text)
    write(path, *written)
    with opened(path) as data:
        assert data is not None
        start = first_at_or_after(data, BASE + since * SECOND)
        found = data.read(start, len(data)).decode().splitlines()
    leading = [text for text in found if text not in expected]
    assert all(text.startswith("bare") for text in leading)
    assert found[len(leading) :] == expected


def test_reading_merges_services_in_time_order(tmp_path: Path) -> None:
    a = write(tmp_path / "a.log", *(ours(BASE + n * SECOND, f"a{n}") for n in (1, 3, 5)))
    b = write(
        tmp_path / "b.log", ours(BASE + 2 * SECOND, "b2"), "and more", ours(BASE + 4 * SECOND, "b4")
    )
    lines = read_logs({"a": a, "b": b}, LogQuery())
    assert [line.text for line in lines] == ["a1", "b2", "and more", "a3", "b4", "a5"]


def test_tail_since_and_level_hold_together(tmp_path: Path) -> None:
    levels = ["info", "error", "info", "critical", "error"]
    path = write(
        tmp_path / "a.log",
        *(ours(BASE + n * SECOND, f"n{n}", level) for n, level in enumerate(levels)),
        "no level here",
    )
    paths = {"a": path}
    assert [x.text for x in read_logs(paths, LogQuery(tail=2))] == ["n4", "no level here"]
    assert [x.text for x in read_logs(paths, LogQuery(level="error"))] == ["n1", "n3", "n4"]
    assert [x.text for x in errors_since(paths, BASE + 2 * SECOND)] == ["n3", "n4"]
    assert [x.text for x in errors_since(paths, BASE, limit=1)] == ["n4"]


def test_rotated_copies_are_read_too_newest_last(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", ours(BASE + 30 * SECOND, "now"))
    write(tmp_path / "a.log.1", ours(BASE + 20 * SECOND, "before"))
    write(tmp_path / "a.log.2", ours(BASE + 10 * SECOND, "long ago"))
    assert [p.name for p in rotated(path)] == ["a.log", "a.log.1", "a.log.2"]
    assert [x.text for x in read_logs({"a": path}, LogQuery())] == ["long ago", "before", "now"]
    recent = read_logs({"a": path}, LogQuery(since_ns=BASE + 15 * SECOND))
    assert [x.text for x in recent] == ["before", "now"]


def test_a_follower_sees_whole_lines_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", ours(BASE, "old"))
    follower = LogFollower({"a": path})
    assert follower.poll() == []
    with path.open("a") as file:
        file.write(ours(BASE + SECOND, "one") + "\n" + '{"ts":"2024-08-08')
    assert [line.text for line in follower.poll()] == ["one"]
    with path.open("a") as file:
        file.write('T00:00:02Z","event":"two"}\n')
    assert [line.text for line in follower.poll()] == ["two"]
    assert follower.poll() == []


def test_a_follower_misses_nothing_when_the_log_is_cut(tmp_path: Path) -> None:
    """Rotation copies the file aside and cuts it: lines written between the last look and the cut
    are only in the copy."""
    path = write(tmp_path / "a.log", ours(BASE, "old"), ours(BASE, "older"))
    follower = LogFollower({"a": path})
    with path.open("a") as file:
        file.write(ours(BASE + SECOND, "before the cut") + "\n")
    shutil.copy(path, tmp_path / "a.log.1")
    with path.open("r+") as file:
        file.truncate(0)
    with path.open("a") as file:
        file.write(ours(BASE + 2 * SECOND, "after") + "\n")
    assert [line.text for line in follower.poll()] == ["before the cut", "after"]


def test_a_file_that_is_cut_while_it_is_read_does_not_kill_the_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", *(ours(BASE + n * SECOND, "x" * 500) for n in range(500)))
    with path.open("r+b") as file:
        data = FileBytes(file.fileno())
        file.truncate(100)
        assert data.read(0, len(data)).count(b"\n") > 100_000
        assert data.line_start(len(data)) == len(data)


def test_a_missing_log_is_an_empty_one(tmp_path: Path) -> None:
    missing = tmp_path / "none.log"
    assert read_logs({"a": missing}, LogQuery()) == []
    assert text_since(missing, 0, 100) == b""


def test_text_since_is_bounded_and_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", *(ours(BASE + n * SECOND, f"n{n}") for n in range(100)))
    text = text_since(path, BASE + 50 * SECOND, 1 << 20)
    assert b'"n50"' in text and b'"n49"' not in text
    short = text_since(path, 0, 300)
    assert len(short) <= 300 and short.startswith(b'{"ts":')
