"""The register of live orders: whatever byte was the last that an engine wrote, a stop finds at least
the orders that are live, and what cannot be read is never taken for nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openbell.domain.ids import mint
from openbell.domain.orders import ClOrdID, NewOrder, Order, OrdStatus, OrdType, Side
from openbell.errors import StorageError
from openbell.state import order_register
from openbell.state.live_orders import (
    FREE,
    HEADER_SIZE,
    SLOT_SIZE,
    HeldRegister,
    LiveOrder,
    Sent,
    free_slots,
    header,
    index_of,
    note_ended,
    parse,
    read_live_orders,
)
from openbell.state.order_register import OrderRegister, Segment

BOOT = "0f0e0d0c-0000-4000-8000-000000000001"


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """The registers' folder: what names those in office lies beside it."""
    folder = tmp_path / "live-orders"
    folder.mkdir()
    return folder


def new(number: int, *, venue: str = "binance", symbol: str = "BTC/USDT") -> NewOrder:
    return NewOrder(
        cl_ord_id=mint("0badcafe", 7, number),
        venue=venue,
        symbol=symbol,
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        order_qty=Decimal(1),
        price=Decimal(99),
    )


def order(number: int, status: OrdStatus, venue_order_id: str = "") -> Order:
    return Order(
        new=new(number), status=status, created_ns=0, updated_ns=0, venue_order_id=venue_order_id
    )


def opened(folder: Path, *, slots: int = 8) -> OrderRegister:
    register = OrderRegister(folder, BOOT, slots=slots)
    register.open()
    return register


def in_office(folder: Path, epoch: int, *, slots: int = 8) -> OrderRegister:
    register = opened(folder, slots=slots)
    assert not register.take_office(epoch)
    return register


def found(folder: Path, boot: str = BOOT) -> dict[str, Sent]:
    told = read_live_orders(folder, boot)
    assert not told.damage, told
    return {each.cl_ord_id: each.sent for each in told.orders}


# What an order's way through it looks like.


def test_an_order_is_in_it_from_before_its_send_to_its_end(tmp_path: Path) -> None:
    register = opened(tmp_path)
    before_ns = time.monotonic_ns()
    register.intended(new(1))
    (read,) = read_live_orders(tmp_path, BOOT).orders
    assert before_ns <= read.sent_ns <= time.monotonic_ns()
    key = mint("0badcafe", 7, 1)
    assert read == LiveOrder(key, "binance", "BTC/USDT", Sent.UNANSWERED, read.sent_ns)
    register.leaving(new(1))
    register.heard(order(1, OrdStatus.UNKNOWN))
    assert found(tmp_path) == {key: Sent.UNANSWERED}
    register.heard(order(1, OrdStatus.NEW, "v1"))
    assert found(tmp_path) == {key: Sent.OPEN}
    register.heard(order(1, OrdStatus.UNKNOWN, "v1"))  # a cancel without an answer
    register.heard(order(1, OrdStatus.PENDING_CANCEL, "v1"))
    assert found(tmp_path) == {key: Sent.OPEN}
    register.heard(order(1, OrdStatus.CANCELED, "v1"))
    assert found(tmp_path) == {}
    assert len(register) == 0


def test_only_an_adapter_that_was_seen_to_ask_for_leave_is_believed_not_to_have_sent(
    tmp_path: Path,
) -> None:
    register = opened(tmp_path)
    register.intended(new(1))
    register.leaving(new(1))
    register.intended(new(2))
    register.intended(new(3, venue="kraken"))
    assert list(found(tmp_path).values()) == [Sent.UNANSWERED, Sent.INTENDED, Sent.UNANSWERED]
    assert register.leaving(new(2))
    assert list(found(tmp_path).values()) == [Sent.UNANSWERED] * 3
    assert not register.leaving(new(4)), "it was never registered"


def test_an_order_that_comes_back_from_its_end_is_in_it_again(tmp_path: Path) -> None:
    register = opened(tmp_path)
    register.intended(new(1))
    register.heard(order(1, OrdStatus.REJECTED))
    register.heard(order(1, OrdStatus.PARTIALLY_FILLED, "v1"))
    assert list(found(tmp_path).values()) == [Sent.OPEN]


def in_doubt_and_taken_for_never_arrived(folder: Path) -> OrderRegister:
    register = opened(folder)
    register.intended(new(1))
    register.leaving(new(1))
    register.heard(order(1, OrdStatus.UNKNOWN))
    register.heard(order(1, OrdStatus.REJECTED))
    return register


def test_one_that_is_taken_for_never_arrived_stays_for_as_long_as_a_stop_believes_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine concludes from a venue that knows none after its time-out and the longest latency, some
    ten seconds; a stop waits thirty. A stop in between said zero of an order that could still land."""
    register = in_doubt_and_taken_for_never_arrived(tmp_path / "a")
    register.intended(new(2))
    register.heard(order(2, OrdStatus.REJECTED))  # by the venue's own word, or never sent
    register.heard(order(1, OrdStatus.REJECTED))
    assert found(tmp_path / "a") == {mint("0badcafe", 7, 1): Sent.UNANSWERED}

    monkeypatch.setattr(order_register, "LINGERS_NS", 0)
    register = in_doubt_and_taken_for_never_arrived(tmp_path / "b")
    register.heard(order(2, OrdStatus.PENDING_NEW))
    assert found(tmp_path / "b") == {}
    assert len(register) == 0


@pytest.mark.parametrize("status", [OrdStatus.UNKNOWN, OrdStatus.NEW])
def test_one_that_comes_back_meanwhile_is_not_freed_when_that_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: OrdStatus
) -> None:
    monkeypatch.setattr(order_register, "LINGERS_NS", 0)
    register = in_doubt_and_taken_for_never_arrived(tmp_path)
    monkeypatch.setattr(register, "_free_lingering", lambda _now_ns: None)
    register.heard(order(1, status, "v1" if status is OrdStatus.NEW else ""))
    monkeypatch.undo()
    register.heard(order(2, OrdStatus.PENDING_NEW))
    assert list(found(tmp_path)) == [mint("0badcafe", 7, 1)]


def test_one_that_its_venue_has_lost_stays_as_long_as_one_that_never_arrived(
    tmp_path: Path,
) -> None:
    """The engine calls it ended after three answers; no stop would, and one that came a moment later was
    told of no order at all."""
    register = opened(tmp_path)
    register.intended(new(1))
    register.heard(order(1, OrdStatus.NEW, "v1"))
    register.heard(order(1, OrdStatus.UNKNOWN, "v1"))
    register.heard(order(1, OrdStatus.REJECTED, "v1"))
    assert found(tmp_path) == {mint("0badcafe", 7, 1): Sent.OPEN}


def test_an_adopted_one_without_an_answer_stays_as_long(tmp_path: Path) -> None:
    register = opened(tmp_path)
    register.adopt([order(1, OrdStatus.UNKNOWN), order(2, OrdStatus.NEW, "v2")], 77)
    register.heard(order(1, OrdStatus.REJECTED))
    register.heard(order(2, OrdStatus.CANCELED, "v2"))
    assert list(found(tmp_path)) == [mint("0badcafe", 7, 1)]


def test_it_grows_and_names_every_order(tmp_path: Path) -> None:
    register = opened(tmp_path, slots=2)
    for number in range(20):
        register.intended(new(number))
    assert len(found(tmp_path)) == len(register) == 20
    assert len(list(tmp_path.glob("*.orders"))) == 4  # 2, 4, 8, 16
    for number in range(19):
        register.heard(order(number, OrdStatus.FILLED, "v"))
    assert list(found(tmp_path)) == [mint("0badcafe", 7, 19)]
    for number in range(20, 40):
        register.intended(new(number))
    assert len(list(tmp_path.glob("*.orders"))) == 4, "slots are used again"


def test_an_order_without_a_slot_is_refused_and_one_that_lives_already_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = opened(tmp_path, slots=1)
    register.intended(new(1))

    def full(*_: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(register, "_grow", full)
    with pytest.raises(StorageError):
        register.intended(new(2))
    assert len(found(tmp_path)) == 1, "what was not sent need not be known"
    with pytest.raises(StorageError):
        register.heard(order(3, OrdStatus.NEW, "v3"))
    told = read_live_orders(tmp_path, BOOT)
    assert "no room" in told.damage
    assert [each.cl_ord_id for each in told.orders] == [mint("0badcafe", 7, 1)]


def test_without_a_file_and_with_names_that_do_not_fit_nothing_may_be_sent(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        OrderRegister(tmp_path, BOOT).intended(new(1))
    with pytest.raises(StorageError):
        opened(tmp_path).intended(new(1, symbol="X" * SLOT_SIZE))


def test_a_full_disk_is_met_when_it_is_opened(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    with pytest.raises(StorageError):
        OrderRegister(blocked / "live-orders", BOOT).open()


def test_who_takes_over_has_what_the_books_hold_open_and_the_old_file_goes(tmp_path: Path) -> None:
    first = in_office(tmp_path, 1)
    first.intended(new(1))
    first.intended(new(2))
    second = opened(tmp_path)
    assert len(found(tmp_path)) == 2, "opened is not yet adopted"
    second.adopt([order(2, OrdStatus.NEW, "v2"), order(3, OrdStatus.PENDING_NEW)], 77)
    assert not second.take_office(2)
    second.remove_others()
    assert found(tmp_path) == {
        mint("0badcafe", 7, 2): Sent.OPEN,
        mint("0badcafe", 7, 3): Sent.UNANSWERED,
    }
    assert {each.sent_ns for each in read_live_orders(tmp_path, BOOT).orders} == {77}
    first.intended(new(4))  # fenced, and not seen any more
    assert len(found(tmp_path)) == 2
    third = opened(tmp_path)
    third.discard()
    assert len(found(tmp_path)) == 2


def test_the_register_of_an_engine_that_stands_by_is_left_and_one_that_is_gone_made_anew(
    tmp_path: Path,
) -> None:
    by = opened(tmp_path)
    gone = tmp_path / "999999999-dead-0.orders"
    gone.write_bytes(next(tmp_path.glob("*.orders")).read_bytes())
    making = tmp_path / ".openbell-0.tmp"
    making.write_bytes(b"")
    first = in_office(tmp_path, 1)
    first.remove_others()
    assert by.is_there
    assert first.is_there
    assert not gone.exists()
    assert making.exists(), "of one that starts at the same moment: its start failed without it"
    first.intended(new(1))
    by.take_office(2)
    by.remove_others()
    assert not first.is_there
    assert found(tmp_path) == {}


def test_what_earlier_registers_name_beyond_the_books_is_carried_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines that were restarted within those 30 s forgot of what was taken for never arrived; and where
    the database was restored, orders rested that nothing named any more."""
    first = in_office(tmp_path, 1)
    for number in range(1, 7):
        first.intended(new(number))
    first.leaving(new(7))
    first.intended(new(7))  # has no leave yet
    for number in (3, 4, 6):
        first.heard(order(number, OrdStatus.NEW, "v"))
    books = {
        each.cl_ord_id: each
        for each in (
            order(1, OrdStatus.REJECTED),
            order(2, OrdStatus.UNKNOWN),
            order(3, OrdStatus.FILLED, "v"),
            order(4, OrdStatus.REJECTED, "v"),
        )
    }
    second = opened(tmp_path)
    second.adopt([books[new(2).cl_ord_id]], 77)
    earlier = read_live_orders(tmp_path, BOOT)
    monkeypatch.setattr(order_register, "LINGERS_NS", 0)
    unknown = second.carry_over(earlier, books, 99)
    assert set(unknown) == {new(number).cl_ord_id for number in (5, 6, 7)}
    second.take_office(2)
    second.remove_others()
    assert {key.rpartition("-")[2]: sent for key, sent in found(tmp_path).items()} == {
        "1": Sent.UNANSWERED,
        "2": Sent.UNANSWERED,
        "4": Sent.OPEN,
        "5": Sent.UNANSWERED,
        "6": Sent.OPEN,
        "7": Sent.UNANSWERED,
    }
    sent_ns = {each.cl_ord_id: each.sent_ns for each in read_live_orders(tmp_path, BOOT).orders}
    known_ns = {each.cl_ord_id: each.sent_ns for each in earlier.orders}
    assert sent_ns[new(5).cl_ord_id] == known_ns[new(5).cl_ord_id]
    assert sent_ns[new(7).cl_ord_id] == 99, "it may get its leave, and leave, until then"
    second.heard(order(8, OrdStatus.PENDING_NEW))
    assert {key.rpartition("-")[2] for key in found(tmp_path)} == {"2", "5", "6", "7"}


def test_of_two_that_start_at_once_the_one_that_was_replaced_leaves_its_successors(
    tmp_path: Path,
) -> None:
    """It took office first and came to remove others' registers last: the successor's was one of them,
    with orders in it."""
    first = in_office(tmp_path, 1)
    second = in_office(tmp_path, 2)
    second.intended(new(1))
    first.remove_others()
    assert second.is_there
    second.remove_others()
    assert not first.is_there
    assert len(found(tmp_path)) == 1
    (path,) = tmp_path.glob("*.orders")
    path.rename(tmp_path / "999999999-dead-0.orders")
    in_office(tmp_path, 1).remove_others()  # under a restored database epochs begin anew
    assert [each.name for each in tmp_path.glob("999999999*")] == []


def test_what_a_stop_has_proven_to_have_ended_is_not_named_again(tmp_path: Path) -> None:
    register = opened(tmp_path)
    for number in (1, 2, 3):
        register.intended(new(number))
    note_ended(tmp_path, "binance", [mint("0badcafe", 7, 1)])
    note_ended(tmp_path, "binance", [mint("0badcafe", 7, 2)])
    note_ended(tmp_path, "kraken", [mint("0badcafe", 7, 3)])
    assert list(found(tmp_path)) == [mint("0badcafe", 7, 3)]
    (tmp_path / "binance.ended").write_bytes(b"[torn")
    assert len(found(tmp_path)) == 3


def test_what_a_killed_process_wrote_last_is_there(tmp_path: Path) -> None:
    """Neither synced nor closed: the memory that it mapped is the file's own."""
    script = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from tests.state.test_live_orders import new, opened;"
        "register = opened(Path(sys.argv[1])); register.intended(new(1));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), root], check=False, env={**os.environ}
    )
    assert ended.returncode == -signal.SIGKILL
    assert found(tmp_path) == {mint("0badcafe", 7, 1): Sent.UNANSWERED}


# What is not as it should be.


def test_without_any_register_nothing_is_claimed(tmp_path: Path) -> None:
    told = read_live_orders(tmp_path / "none", BOOT)
    assert (told.orders, told.damage) == ((), "")
    assert "register" in told.gap


def test_one_from_before_the_machines_last_start_is_asked_for_and_not_taken_for_complete(
    tmp_path: Path,
) -> None:
    register = opened(tmp_path)
    register.intended(new(1))
    for boot in ("another", ""):
        told = read_live_orders(tmp_path, boot)
        assert (told.damage, [each.sent_ns for each in told.orders]) == ("", [0])
        assert "before the machine was last started" in told.gap


def test_one_whose_machine_named_no_boot_is_not_taken_for_complete(tmp_path: Path) -> None:
    OrderRegister(tmp_path, "").open()
    assert read_live_orders(tmp_path, BOOT).gap


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damaged_byte_makes_a_live_order_vanish_in_silence(data: st.DataObject) -> None:
    """But for the one byte that says that a slot is free."""
    register, written = _recorded(4)
    for number in range(3):
        register.intended(new(number))
    image = written.images(len(written.log))[0]
    known = parse(image)
    at = data.draw(st.integers(0, HEADER_SIZE + 3 * SLOT_SIZE - 1))
    value = data.draw(st.integers(0, 255))
    image[at] = value
    told = parse(image)
    is_state = at >= HEADER_SIZE and (at - HEADER_SIZE) % SLOT_SIZE == 0
    if not (is_state and value == FREE):
        assert told.damage or {each.cl_ord_id for each in told.orders} == {
            each.cl_ord_id for each in known.orders
        }


@pytest.mark.parametrize("cut", [0, 10, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 100])
def test_one_that_is_cut_or_zeroed_is_damaged(tmp_path: Path, cut: int) -> None:
    opened(tmp_path).intended(new(1))
    (path,) = tmp_path.glob("*.orders")
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    assert read_live_orders(tmp_path, BOOT).damage
    path.write_bytes(bytes(len(whole)))
    assert read_live_orders(tmp_path, BOOT).damage


def with_orders(folder: Path, *, slots: int = 8) -> tuple[Path, set[ClOrdID]]:
    """Of an engine in office: one order rests, one is unanswered, one has ended, the rest is free."""
    register = in_office(folder, 7, slots=slots)
    for number in (1, 2, 3):
        register.intended(new(number))
    register.heard(order(1, OrdStatus.NEW, "v1"))
    register.heard(order(3, OrdStatus.CANCELED, "v3"))
    (path,) = folder.glob("*.orders")
    return path, {new(1).cl_ord_id, new(2).cl_ord_id}


def test_a_register_whose_slots_are_zeroed_is_damaged_and_not_empty(tmp_path: Path) -> None:
    """Its header was whole, every state read as free, and a stop took it for a desk without orders."""
    path, _ = with_orders(tmp_path)
    content = path.read_bytes()
    with path.open("r+b") as file:  # the file itself: a copy would be damage already
        file.seek(HEADER_SIZE)
        file.write(bytes(len(content) - HEADER_SIZE))
    assert (
        "8 of its entries cannot be read" in read_live_orders(tmp_path, BOOT, patient=False).damage
    )


@settings(deadline=None)
@given(data=st.data())
def test_no_cut_and_no_zeroed_range_makes_a_live_order_vanish_in_silence(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What lies in the header behind its crc is written later than it, and is left alone here."""
    whole, live = content_with_orders(tmp_path_factory)
    if data.draw(st.booleans(), label="cut"):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        start = data.draw(
            st.one_of(st.integers(0, 67), st.integers(HEADER_SIZE, len(whole) - 1)), label="start"
        )
        end = data.draw(st.integers(start + 1, len(whole)), label="end")
        damaged = whole[:start] + bytes(end - start) + whole[end:]
    told = parse(damaged)
    named = {each.cl_ord_id for each in told.orders}
    assert told.damage or named == live
    zeroed_states = [
        at for at in range(HEADER_SIZE, len(damaged), SLOT_SIZE) if whole[at] and not damaged[at]
    ]
    if zeroed_states:
        assert told.damage, "also where only free slots were zeroed: nobody can tell"


_CONTENT: list[tuple[bytes, set[ClOrdID]]] = []


def content_with_orders(factory: pytest.TempPathFactory) -> tuple[bytes, set[ClOrdID]]:
    if not _CONTENT:
        folder = factory.mktemp("made") / "live-orders"
        folder.mkdir()
        path, live = with_orders(folder)
        _CONTENT.append((path.read_bytes(), live))
    return _CONTENT[0]


def test_a_register_of_the_version_before_is_read_as_it_was_meant() -> None:
    """While the desk is updated its engine may be of before; what it wrote is neither damage nor nothing."""
    content = Segment(bytearray(header(3, BOOT, 7) + bytes(3 * SLOT_SIZE)), 3)
    content.put(order_register._content(new(1).cl_ord_id, "binance", "BTC/USDT", 5), Sent.OPEN)
    fields = bytearray(content.content)
    struct.pack_into("<I", fields, 8, 2)
    struct.pack_into("<I", fields, 64, zlib.crc32(fields[:64]))
    told = parse(bytes(fields))
    assert (told.damage, [each.cl_ord_id for each in told.orders]) == ("", [new(1).cl_ord_id])
    assert parse(content.content).damage, "of this version two of its slots are zeroed"


def test_one_damaged_register_hides_no_other(tmp_path: Path) -> None:
    opened(tmp_path).intended(new(1))
    (tmp_path / "1-dead-0.orders").write_bytes(b"nonsense")
    told = read_live_orders(tmp_path, BOOT)
    assert told.damage
    assert [each.cl_ord_id for each in told.orders] == [mint("0badcafe", 7, 1)]


def test_one_that_a_successor_replaces_while_it_is_read_hides_no_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor's own was not there when the files were listed: nothing was read, and nothing was
    said to be damaged or missing."""
    first = in_office(tmp_path, 1)
    first.intended(new(1))
    read = Path.read_bytes

    def hand_over(path: Path) -> bytes:
        monkeypatch.setattr(Path, "read_bytes", read)
        second = opened(tmp_path)
        second.adopt([order(1, OrdStatus.PENDING_NEW)], 77)
        second.take_office(2)
        second.remove_others()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", hand_over)
    assert list(found(tmp_path)) == [mint("0badcafe", 7, 1)]


def test_one_that_is_listed_and_never_there_is_damage(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "1-dead-0.orders").symlink_to(tmp_path / "nowhere")
    assert "removed" in read_live_orders(tmp_path, BOOT).damage


# Files that are gone, or are not what they seem.


def test_without_the_files_of_the_engine_in_office_it_is_damaged(tmp_path: Path) -> None:
    """It was told as a desk whose engine keeps none, and its stop was verified."""
    register = in_office(tmp_path, 1)
    register.intended(new(1))
    assert register.is_named
    (path,) = tmp_path.glob("*.orders")
    path.unlink()
    assert str(path) in read_live_orders(tmp_path, BOOT).damage
    tmp_path.rmdir()
    told = read_live_orders(tmp_path, BOOT)
    assert (told.orders, told.gap) == ((), "")
    assert "gone" in told.damage
    told = read_live_orders(tmp_path, "another")
    assert not told.damage, "it says nothing of engines since the machine was started again"
    assert told.gap


def test_the_empty_file_of_a_standby_does_not_stand_in_for_a_primarys(tmp_path: Path) -> None:
    in_office(tmp_path, 1).intended(new(1))
    (path,) = tmp_path.glob("*.orders")
    opened(tmp_path)
    path.unlink()
    assert "gone" in read_live_orders(tmp_path, BOOT).damage
    index_of(tmp_path).unlink()
    told = read_live_orders(tmp_path, BOOT)
    assert (told.orders, told.damage) == ((), "")
    assert "taken office" in told.gap


def test_a_file_of_several_that_is_gone_is_missed_as_well(tmp_path: Path) -> None:
    register = in_office(tmp_path, 1, slots=1)
    for number in range(4):
        register.intended(new(number))
    assert len(found(tmp_path)) == 4
    sorted(tmp_path.glob("*.orders"))[1].unlink()
    assert "-1.orders is gone" in read_live_orders(tmp_path, BOOT).damage


def test_what_names_them_is_damage_where_it_cannot_be_read(tmp_path: Path) -> None:
    register = in_office(tmp_path, 1)
    index_of(tmp_path).write_bytes(b"{")
    assert index_of(tmp_path).name in read_live_orders(tmp_path, BOOT).damage
    assert not register.is_named
    register.name()
    assert not read_live_orders(tmp_path, BOOT).damage


def test_where_it_cannot_be_named_it_says_so_and_a_stop_proves_nothing(tmp_path: Path) -> None:
    in_office(tmp_path, 1)
    second = opened(tmp_path)
    named = index_of(tmp_path)
    blocked = named.with_name(f".{named.name}.{os.getpid()}")
    blocked.mkdir()
    assert named.name in second.take_office(2)
    second.remove_others()
    assert "gone" in read_live_orders(tmp_path, BOOT).damage
    blocked.rmdir()
    assert not second.take_office(2)
    assert found(tmp_path) == {}


def test_a_copy_of_it_is_not_taken_for_it(tmp_path: Path) -> None:
    """A state folder that is copied back while the machine runs holds what was live then."""
    register = in_office(tmp_path, 1)
    copied = tmp_path.with_name("copied")
    shutil.copytree(tmp_path, copied)
    register.intended(new(1))
    tmp_path.rename(tmp_path.with_name("aside"))
    copied.rename(tmp_path)
    assert "copy" in read_live_orders(tmp_path, BOOT).damage
    (itself,) = tmp_path.with_name("aside").glob("*.orders")
    with itself.open("rb") as file:  # as a frozen engine has it
        held = HeldRegister(itself.name, file.fileno())
        told = read_live_orders(tmp_path, BOOT, [held])
        assert (told.damage, len(told.orders)) == ("", 1)
    assert not register.is_there
    register.open()
    assert len(found(tmp_path)) == 1


def test_what_a_process_holds_open_is_read_wherever_its_path_has_gone(tmp_path: Path) -> None:
    register = in_office(tmp_path, 1)
    register.intended(new(1))
    (path,) = tmp_path.glob("*.orders")
    with path.open("rb") as file:
        held = HeldRegister(path.name, file.fileno())
        assert len(read_live_orders(tmp_path, BOOT, [held]).orders) == 1
        path.unlink()
        told = read_live_orders(tmp_path, BOOT, [held])
        assert (told.damage, told.gap) == ("", "")
        assert [each.cl_ord_id for each in told.orders] == [new(1).cl_ord_id]
        index_of(tmp_path).unlink()
        tmp_path.rmdir()
        assert read_live_orders(tmp_path, BOOT, [held]) == told


def test_what_one_that_gave_its_office_away_still_holds_open_is_its_successors(
    tmp_path: Path,
) -> None:
    """Everything that rested at a hand-over was asked for by a stop long after its end."""
    first = in_office(tmp_path, 1)
    first.intended(new(1))
    first.intended(new(2))
    (path,) = tmp_path.glob("*.orders")
    with path.open("rb") as file:
        held = HeldRegister(path.name, file.fileno())
        second = opened(tmp_path)
        second.adopt([order(1, OrdStatus.NEW, "v"), order(2, OrdStatus.NEW, "v")], 77)
        second.take_office(2)
        second.remove_others()
        second.heard(order(1, OrdStatus.FILLED, "v"))
        told = read_live_orders(tmp_path, BOOT, [held])
        assert (told.damage, told.gap) == ("", "")
        assert [each.cl_ord_id for each in told.orders] == [new(2).cl_ord_id]
        shutil.rmtree(tmp_path)
        assert len(read_live_orders(tmp_path, BOOT, [held]).orders) == 2


def test_one_that_is_gone_is_made_anew_with_all_that_was_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with what no book holds open: one that was taken for never arrived was forgotten."""
    register = in_office(tmp_path, 1, slots=1)
    for number in (1, 2, 3):
        register.intended(new(number))
    register.leaving(new(3))
    register.intended(new(4))  # waits for leave
    register.heard(order(1, OrdStatus.UNKNOWN))
    register.heard(order(1, OrdStatus.REJECTED))
    register.heard(order(2, OrdStatus.NEW, "v"))
    before = read_live_orders(tmp_path, BOOT)
    assert len(before.orders) == 4
    for path in tmp_path.glob("*.orders"):
        path.unlink()
    make = OrderRegister._make

    def full(*_: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(register, "_make", full)
    with pytest.raises(StorageError):
        register.open()
    with pytest.raises(StorageError):
        register.intended(new(5))
    assert not register.leaving(new(4)), "no reader would find it"
    monkeypatch.setattr(register, "_make", make.__get__(register))
    register.open()
    told = read_live_orders(tmp_path, BOOT)
    assert (told.damage, told.gap) == ("", "")
    assert {each.cl_ord_id: each.sent for each in told.orders} == {
        each.cl_ord_id: max(each.sent, Sent.UNANSWERED) for each in before.orders
    }
    register.heard(order(3, OrdStatus.CANCELED))
    assert len(found(tmp_path)) == 3, "it is this one that is written"


# A crash at any byte.


@dataclass
class Written:
    """Every byte that a register wrote, in an order in which it may have reached the memory: within
    one copy any, between two their own."""

    random: random.Random
    log: list[tuple[int, int, int]] = field(default_factory=list)
    """File, offset, value."""
    slots: list[int] = field(default_factory=list)

    def images(self, count: int) -> list[bytearray]:
        """The files after so many of the bytes."""
        files = [bytearray(header(n, BOOT, 0) + free_slots(n)) for n in self.slots]
        for file, offset, value in self.log[:count]:
            files[file][offset] = value
        return files


@dataclass
class Recording:
    written: Written
    file: int

    def __getitem__(self, key: slice) -> bytes:
        raise NotImplementedError

    def __setitem__(self, key: int | slice, value: int | bytes) -> None:
        if isinstance(key, int):
            assert isinstance(value, int)
            self.written.log.append((self.file, key, value))
            return
        assert isinstance(value, bytes)
        assert key.stop - key.start == len(value)
        copied = [(self.file, key.start + n, each) for n, each in enumerate(value)]
        self.written.random.shuffle(copied)
        self.written.log += copied


class Recorded(OrderRegister):
    written: Written

    def open(self) -> None:
        self._grow(self._slots)

    def _grow(self, slots: int) -> Segment:
        self.written.slots.append(slots)
        segment = Segment(Recording(self.written, len(self.written.slots) - 1), slots)
        self._segments.append(segment)
        return segment


def _recorded(slots: int, seed: int = 0) -> tuple[Recorded, Written]:
    register = Recorded(Path("nowhere"), BOOT, slots=slots)
    register.written = Written(random.Random(seed))
    register.open()
    return register, register.written


_ACTS = ("send", "leave", "accept", "doubt", "end", "revive")


@settings(max_examples=150, deadline=None)
@given(
    acts=st.lists(st.tuples(st.sampled_from(_ACTS), st.integers(0, 5)), max_size=25),
    seed=st.integers(0, 1000),
)
def test_a_crash_at_any_byte_leaves_at_least_the_live_orders(
    acts: list[tuple[str, int]], seed: int
) -> None:
    register, written = _recorded(2, seed)
    live: dict[ClOrdID, Sent] = {}
    """As the engine knows them, with the least that must be said of each."""
    required: list[tuple[int, dict[ClOrdID, Sent]]] = []
    """From so many bytes on, until the next."""
    for act, number in acts:
        key = new(number).cl_ord_id
        before = dict(live)
        if act == "send" and key not in live:
            register.intended(new(number))
            live[key] = Sent.INTENDED
        elif act == "leave" and key in live:
            register.leaving(new(number))
            live[key] = max(live[key], Sent.UNANSWERED)
        elif act == "accept" and key in live:
            register.heard(order(number, OrdStatus.NEW, "v"))
            live[key] = Sent.OPEN
        elif act == "doubt" and key in live:
            register.heard(order(number, OrdStatus.UNKNOWN))
        elif act == "end" and key in live:
            # From here on it need not be named.
            del live[key]
            required.append((len(written.log), {k: v for k, v in before.items() if k != key}))
            register.heard(order(number, OrdStatus.CANCELED, "v"))
        elif act == "revive" and key not in live:
            register.heard(order(number, OrdStatus.NEW, "v"))
            live[key] = Sent.OPEN
        required.append((len(written.log), dict(live)))
    for count in range(len(written.log) + 1):
        told = [parse(bytes(image)) for image in written.images(count)]
        assert not any(each.damage for each in told)
        named = {each.cl_ord_id: each.sent for files in told for each in files.orders}
        must = next((live for at, live in reversed(required) if at <= count), {})
        assert {key: max(sent, named.get(key, Sent.INTENDED)) for key, sent in must.items()} == {
            key: named.get(key) for key in must
        }, f"after {count} bytes"
