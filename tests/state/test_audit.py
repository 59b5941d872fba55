"""The audit log: what is done to it is found; what a crash does to it is made good."""

from __future__ import annotations

import hashlib
import io
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbell.config.redact import Redactor
from openbell.errors import CorruptError, StorageError
from openbell.state import audit, files
from openbell.state.audit import AuditHead, AuditLog, verify
from openbell.state.audit_record import EMPTY, GENESIS, seal
from openbell.state.audit_verdict import judge


class Log:
    """An audit log in a folder, and its files as they are."""

    def __init__(self, folder: Path) -> None:
        self.log_path = folder / "audit.jsonl"
        self.head_path = folder / "audit.head"
        self.audit = AuditLog(self.log_path, self.head_path, Redactor(["correct-horse"]))

    def append(self, count: int = 1) -> None:
        for number in range(count):
            self.audit.append("operator", "service.start", f"service-{number}", {"n": number})

    @property
    def lines(self) -> list[bytes]:
        return self.log_path.read_bytes().splitlines(keepends=True)

    @lines.setter
    def lines(self, lines: list[bytes]) -> None:
        self.log_path.write_bytes(b"".join(lines))

    def finding(self) -> str:
        return verify(self.log_path, self.head_path).finding


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_records_are_chained_and_the_head_knows_the_newest(log: Log) -> None:
    assert log.finding() == "whole"
    log.append(3)
    records = [json.loads(line) for line in log.lines]
    assert [record["seq"] for record in records] == [1, 2, 3]
    assert records[0]["prev"] == GENESIS
    assert [r["prev"] for r in records[1:]] == [r["hash"] for r in records[:-1]]
    assert json.loads(log.head_path.read_bytes()) == {"seq": 3, "hash": records[2]["hash"]}
    verdict = verify(log.log_path, log.head_path)
    assert (verdict.ok, verdict.records, verdict.problem) == (True, 3, "")
    assert log.log_path.stat().st_mode & 0o777 == log.head_path.stat().st_mode & 0o777 == 0o600


def test_anyone_can_check_a_hash_with_a_hashing_tool(log: Log) -> None:
    log.append()
    body, _, rest = log.lines[0].rpartition(b',"hash":"')
    assert hashlib.sha256(body).hexdigest().encode() == rest[:64]


def test_the_record_returned_is_the_one_in_the_log(log: Log) -> None:
    record = log.audit.append("operator", "desk.halt", "desk", {"why": 'a "quote"\n', "x": [1.5]})
    assert json.loads(log.lines[0])["hash"] == record.hash
    assert record.detail == {"why": 'a "quote"\n', "x": [1.5]}


def test_a_secret_is_redacted_wherever_it_stands(log: Log) -> None:
    log.audit.append(
        "operator correct-horse",
        "venue.login",
        "https://venue/?key=correct-horse",
        {"deep": [{"correct-horse": ["correct-horse"]}]},
    )
    assert b"correct-horse" not in log.log_path.read_bytes()
    assert log.lines[0].count(b"[redacted]") == 4
    assert log.finding() == "whole"


def rehashed(lines: list[bytes], change: Callable[[dict[str, Any]], None], at: int) -> list[bytes]:
    """What someone does who knows how the chain is made: change one and chain all anew."""
    head, result = EMPTY, []
    for number, line in enumerate(lines):
        said = json.loads(line)
        if number == at:
            change(said)
        said = {key: said[key] for key in ("actor", "action", "subject", "detail")}
        sealed, record = seal(head, said)
        head = AuditHead(record.seq, record.hash)
        result.append(sealed)
    return result


@pytest.mark.parametrize(
    ("tamper", "finding", "line"),
    [
        (lambda ls: [ls[0], ls[1].replace(b"operator", b"nobody__"), *ls[2:]], "edited", 2),
        (lambda ls: [*ls[:4], ls[4].replace(b'"n":4', b'"n":5')], "edited", 5),
        (lambda ls: [ls[0], b"not a record\n", *ls[2:]], "edited", 2),
        (lambda ls: [ls[0], b"\n", *ls[1:]], "edited", 2),
        (lambda ls: [ls[0], ls[2], ls[1], *ls[3:]], "reordered", 2),
        (lambda ls: [*ls, ls[0]], "reordered", 6),
        (lambda ls: [ls[0], *ls[2:]], "removed", 2),
        (lambda ls: ls[1:], "removed", 1),
        (lambda ls: ls[:4], "truncated", None),
        (lambda _: [], "truncated", None),
        (lambda ls: rehashed(ls, lambda r: r.update(actor="nobody"), 1), "head_mismatch", 5),
        (lambda ls: [*ls[:2], rehashed(ls, lambda r: r.update(actor="x"), 2)[2], *ls[3:]],
         "edited", 3),
    ],
)  # fmt: skip
def test_tampering_is_found_and_named(
    log: Log, tamper: Callable[[list[bytes]], list[bytes]], finding: str, line: int | None
) -> None:
    log.append(5)
    log.lines = tamper(log.lines)
    verdict = verify(log.log_path, log.head_path)
    assert not verdict.ok
    assert verdict.problem
    # A record in the middle that was chained anew has a time of its own: it or the next one shows.
    assert verdict.finding == finding
    assert verdict.line in ({line, line + 1} if line else {None})


def test_a_log_that_was_deleted_is_found(log: Log) -> None:
    log.append(2)
    log.log_path.unlink()
    assert log.finding() == "truncated"


@pytest.mark.parametrize("head", [None, b"", b"{}", b'{"seq":1,"hash":"00"}'])
def test_a_head_that_was_deleted_or_changed_is_found(log: Log, head: bytes | None) -> None:
    log.append(3)
    log.head_path.unlink()
    if head is not None:
        log.head_path.write_bytes(head)
    assert not verify(log.log_path, log.head_path).ok
    with pytest.raises(CorruptError):
        log.append()


def test_nothing_is_added_to_a_log_that_was_cut(log: Log) -> None:
    log.append(3)
    log.lines = log.lines[:2]
    with pytest.raises(CorruptError, match=r"ends with record 2, its head knows 3") as raised:
        log.append()
    assert "move them aside" in raised.value.hint
    assert len(log.lines) == 2


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_no_change_of_a_single_byte_goes_unseen(data: st.DataObject) -> None:
    head, lines = EMPTY, []
    for number in range(4):
        said = {"actor": "a", "action": "b", "subject": "c", "detail": {"n": number}}
        line, record = seal(head, said)
        head = AuditHead(record.seq, record.hash)
        lines.append(line)
    content = bytearray(b"".join(lines))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    assert not judge(io.BytesIO(content), head).ok


@pytest.mark.parametrize("torn", [1, 20, 150])
def test_a_line_torn_by_a_crash_is_cut_off_and_the_log_says_so(log: Log, torn: int) -> None:
    log.append(2)
    whole = log.lines
    log.lines = [*whole, whole[1][:torn]]
    verdict = verify(log.log_path, log.head_path)
    assert (verdict.ok, verdict.finding, verdict.records) == (True, "torn_tail", 2)
    log.append()
    assert log.finding() == "whole"
    recovered = json.loads(log.lines[2])
    assert (recovered["action"], recovered["detail"]["torn_bytes"]) == ("audit.recovered", torn)
    assert len(log.lines) == 4


def test_a_crash_between_the_record_and_its_head_is_made_good(log: Log) -> None:
    log.append(1)
    old_head = log.head_path.read_bytes()
    log.append(1)
    log.head_path.write_bytes(old_head)
    verdict = verify(log.log_path, log.head_path)
    assert (verdict.ok, verdict.finding, verdict.records) == (True, "head_behind", 2)
    log.append(1)
    assert log.finding() == "whole"
    assert len(log.lines) == 3


def test_a_head_behind_by_two_is_no_crash(log: Log) -> None:
    log.append(1)
    old_head = log.head_path.read_bytes()
    log.append(2)
    log.head_path.write_bytes(old_head)
    assert log.finding() == "head_mismatch"
    with pytest.raises(CorruptError):
        log.append()


def test_a_crash_before_the_first_head_is_made_good(log: Log) -> None:
    log.append(1)
    log.head_path.unlink()
    assert log.finding() == "head_behind"
    log.append(1)
    assert log.finding() == "whole"


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_record_that_cannot_be_written_is_refused_and_leaves_nothing(
    log: Log, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    log.append(1)
    real = files.os.write

    def fails(fd: int, data: bytes = b"") -> int:
        if call == "write":
            real(fd, data[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, fails)
        with pytest.raises(StorageError):
            log.append(1)
    assert len(log.lines) == 1
    assert log.finding() == "whole"
    log.append(1)
    assert log.finding() == "whole"


def test_a_full_disk_is_refused_and_the_log_goes_on_with_space(small_disk: Any) -> None:
    log = Log(small_disk.folder)
    log.append(3)
    small_disk.fill()
    with pytest.raises(StorageError):
        for _ in range(1000):
            log.append(1)
    verdict = verify(log.log_path, log.head_path)
    assert verdict.ok, verdict
    small_disk.empty()
    log.append(2)
    assert log.finding() == "whole"


def test_a_record_larger_than_a_fact_is_refused(log: Log) -> None:
    with pytest.raises(StorageError, match="too long"):
        log.audit.append("a", "b", "c", {"file": "x" * (1 << 20)})
    assert log.finding() == "whole"


APPENDS = """
    import sys
    from pathlib import Path
    from openbell.state.audit import AuditLog

    log = AuditLog(Path(sys.argv[1]), Path(sys.argv[2]))
    number = 0
    while number < int(sys.argv[4]):
        number += 1
        record = log.append(sys.argv[3], "test", "subject", {"n": number, "pad": "x" * number})
        print(record.seq, flush=True)
"""


def test_two_processes_do_not_interleave(log: Log, spawn: Any) -> None:
    children = [spawn(APPENDS, log.log_path, log.head_path, name, 60) for name in "ab"]
    log.append(30)
    for child in children:
        _, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
    verdict = verify(log.log_path, log.head_path)
    assert (verdict.finding, verdict.records) == ("whole", 150)
    records = [json.loads(line) for line in log.lines]
    for name in "ab":
        its = [record["detail"]["n"] for record in records if record["actor"] == name]
        assert its == list(range(1, 61))


def test_kill_9_loses_no_acknowledged_record_and_the_log_goes_on(log: Log, spawn: Any) -> None:
    acknowledged = 0
    for _ in range(4):
        child = spawn(APPENDS, log.log_path, log.head_path, "child", 10**9)
        for _ in range(20):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate(timeout=60)
        complete = [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = int(complete[-1]) if complete else acknowledged + 20
        verdict = verify(log.log_path, log.head_path)
        assert verdict.ok, verdict
        assert verdict.records >= acknowledged
        log.append(1)
        assert log.finding() == "whole"
        acknowledged = len(log.lines)


HOLDS_THE_LOCK = """
    import fcntl, sys
    file = open(sys.argv[1], "a")
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_holder_that_hangs_refuses_the_record_instead_of_hanging_the_desk(
    log: Log, spawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(1)
    monkeypatch.setattr(audit, "_LOCK_TIMEOUT_SECS", 0.05)
    child = spawn(HOLDS_THE_LOCK, log.log_path)
    assert child.stdout.readline() == "held\n"
    with pytest.raises(StorageError, match="locked"):
        log.append(1)
    child.kill()
    child.wait()
    log.append(1)
    assert log.finding() == "whole"
