"""What of an engine that has ended may have left it: believed only where nothing speaks against it."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbell.domain.ids import mint
from openbell.domain.orders import NewOrder, Order, OrdStatus, OrdType, Side
from openbell.state.departures import may_have_left
from openbell.state.live_orders import (
    CRC,
    FREE,
    HEADER_SIZE,
    INCOMPLETE_AT,
    LOCKED_AT,
    MAGIC,
    SLOT_SIZE,
    VERSION,
    Index,
    Sent,
    index_of,
    parse,
)
from openbell.state.order_register import OrderRegister

BOOT = "0f0e0d0c-0000-4000-8000-000000000001"
EPOCH = 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "live-orders"


def new(number: int) -> NewOrder:
    return NewOrder(
        cl_ord_id=mint("0badcafe", EPOCH, number),
        venue="binance",
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        order_qty=Decimal(1),
        price=Decimal(99),
    )


def in_office(folder: Path, *, slots: int = 8) -> OrderRegister:
    register = OrderRegister(folder, BOOT, slots=slots)
    register.open()
    assert not register.take_office(EPOCH)
    return register


def end(register: OrderRegister) -> None:
    """As its process does: nothing is mapped any more."""
    for segment in register._segments:
        segment._buffer.close()  # type: ignore[attr-defined]


def left(folder: Path, boot_id: str = BOOT, epoch: int = EPOCH) -> frozenset[str] | None:
    return may_have_left(folder, boot_id, epoch)


def one_sent_one_not(folder: Path) -> None:
    """Order 1 was let go, 2 was not, and 3 is not in it."""
    register = in_office(folder)
    for number in (1, 2):
        register.intended(new(number))
        if number == 1:
            register.leaving(new(1))
    end(register)


def test_of_an_engine_that_is_killed_it_is_told_once_the_kernel_says_that_it_has_ended(
    folder: Path,
) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from tests.state.test_departures import in_office, new;"
        "register = in_office(Path(sys.argv[1]));"
        "register.intended(new(1)); register.leaving(new(1)); register.intended(new(2));"
        "print('ready', flush=True); sys.stdin.read()"
    )
    root = str(Path(__file__).parents[2])
    engine = subprocess.Popen(
        [sys.executable, "-c", script, str(folder), root],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ},
    )  # fmt: skip
    try:
        assert engine.stdout is not None
        assert engine.stdout.readline() == b"ready\n"
        assert left(folder) is None, "it may still send the other one"
        os.kill(engine.pid, signal.SIGSTOP)
        assert left(folder) is None, "and so it may when it is continued"
    finally:
        engine.kill()
        engine.communicate()
    assert left(folder) == {new(1).cl_ord_id}


def test_what_did_not_fit_into_the_first_file_counts_also_before_it_is_named(folder: Path) -> None:
    register = in_office(folder, slots=1)
    for number in (1, 2):
        register.intended(new(number))
        register.leaving(new(number))
    names = sorted(path.name for path in folder.glob("*.orders"))
    assert len(names) == 2
    write_index(folder, Index(boot_id=BOOT, files=(names[0],)))
    end(register)
    assert left(folder) == {new(1).cl_ord_id, new(2).cl_ord_id}


def write_index(folder: Path, index: Index) -> None:
    index_of(folder).write_bytes(msgspec.json.encode(index))


def change(at: int, content: bytes) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (path,) = folder.glob("*.orders")
        with path.open("r+b") as file:
            file.seek(at)
            file.write(content)

    return harm


def removed(folder: Path) -> None:
    (path,) = folder.glob("*.orders")
    path.unlink()


def put_back(folder: Path) -> None:
    (path,) = folder.glob("*.orders")
    copied = path.with_suffix(".copy")
    shutil.copy(path, copied)
    copied.rename(path)


def of_a_version_without_marks(folder: Path) -> None:
    """Whole, locked, and with the slot of the order that was let go zeroed: it read as never sent."""
    (path,) = folder.glob("*.orders")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, len(MAGIC), VERSION - 1)
    fields = data[: struct.calcsize("<8sIII36sQ")]
    CRC.pack_into(data, len(fields), zlib.crc32(fields))
    for at in range(HEADER_SIZE, len(data), SLOT_SIZE):
        if data[at] in (FREE, Sent.UNANSWERED):
            data[at : at + SLOT_SIZE] = bytes(SLOT_SIZE)
    with path.open("r+b") as file:
        file.write(data)
    told = parse(bytes(data))
    assert not told.damage and [each.sent for each in told.orders] == [Sent.INTENDED]


def another_damaged(folder: Path) -> None:
    (folder / "1-cafe-0.orders").write_bytes(b"torn")


def of_another_boot(folder: Path) -> None:
    (path,) = folder.glob("*.orders")
    write_index(folder, Index(boot_id="another", files=(path.name,)))


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda folder: index_of(folder).unlink(), id="nothing is named"),
        pytest.param(lambda folder: index_of(folder).write_bytes(b"{"), id="the names are torn"),
        pytest.param(of_another_boot, id="it was named before the machine's last start"),
        pytest.param(removed, id="its file is gone"),
        pytest.param(put_back, id="a copy lies in its place"),
        pytest.param(another_damaged, id="another one cannot be read, and may be its own"),
        pytest.param(change(INCOMPLETE_AT, b"\1"), id="it had no room for all"),
        pytest.param(change(HEADER_SIZE + 30, b"\xff\xff"), id="an order in it cannot be read"),
        pytest.param(change(LOCKED_AT, b"\0"), id="it was written by a version that locks nothing"),
        pytest.param(of_a_version_without_marks, id="a zeroed slot of it looks free"),
        pytest.param(shutil.rmtree, id="the folder is gone"),
    ],
)
def test_where_anything_speaks_against_it_nothing_is_known(
    folder: Path, harm: Callable[[Path], None]
) -> None:
    one_sent_one_not(folder)
    assert left(folder) == {new(1).cl_ord_id}
    harm(folder)
    assert left(folder) is None


def test_of_another_engine_nothing_is_known(folder: Path) -> None:
    one_sent_one_not(folder)
    assert left(folder, epoch=EPOCH + 1) is None
    assert left(folder, boot_id="another") is None
    assert left(folder, boot_id="") is None


@given(
    st.lists(
        st.tuples(st.sampled_from(("intended", "leaving", "open", "doubted")), st.integers(1, 4)),
        max_size=20,
    )
)
def test_whenever_it_ends_what_was_let_go_is_among_what_may_have_left(
    acts: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "live-orders"
        register = in_office(folder)
        known: set[int] = set()
        gone: set[int] = set()
        for act, number in acts:
            match act:
                case "intended":
                    register.intended(new(number))
                    known.add(number)
                case "leaving" if number in known:
                    assert register.leaving(new(number))
                    gone.add(number)
                case "open" if number in gone:
                    register.heard(order(number, OrdStatus.NEW, "v"))
                case "doubted" if number in gone:
                    register.heard(order(number, OrdStatus.UNKNOWN))
        end(register)
        told = left(folder)
        assert told is not None
        assert {new(number).cl_ord_id for number in gone} <= told
        assert told <= {new(number).cl_ord_id for number in known}


def order(number: int, status: OrdStatus, venue_order_id: str = "") -> Order:
    return Order(
        new=new(number), status=status, created_ns=0, updated_ns=0, venue_order_id=venue_order_id
    )
