"""An engine's register of live orders across a change of engines, as a stop reads it."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openbell.domain.books import Books
from openbell.domain.ids import mint
from openbell.domain.orders import ClOrdID, NewOrder, OrderIntended, OrderRejected, OrdType, Side
from openbell.runtime.processes import this_boot
from openbell.state.live_orders import HEADER_SIZE, LiveOrders, index_of, read_live_orders
from openbell.trading.engine.registering import Registering


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "live-orders"


def new(number: int) -> NewOrder:
    return NewOrder(
        cl_ord_id=mint("0badcafe", 7, number),
        venue="binance",
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        order_qty=Decimal(1),
        price=Decimal(99),
    )


def books(*numbers: int, rejected: tuple[int, ...] = ()) -> Books:
    """Of orders that were sent, and of those the ones that were taken for never arrived."""
    found = Books()
    for at_ns, number in enumerate(numbers, 1):
        order = new(number)
        found.apply(OrderIntended(cl_ord_id=order.cl_ord_id, at_ns=at_ns, order=order))
        if number in rejected:
            found.apply(
                OrderRejected(cl_ord_id=order.cl_ord_id, at_ns=at_ns, code="never_arrived", text="")
            )
    return found


def read(folder: Path) -> LiveOrders:
    return read_live_orders(folder, this_boot())


def named(folder: Path) -> set[ClOrdID]:
    told = read(folder)
    assert (told.damage, told.gap) == ("", "")
    return {each.cl_ord_id for each in told.orders}


async def engine(folder: Path, epoch: int, found: Books) -> Registering:
    registering = Registering(folder, 1.0)
    await registering.open()
    registering.adopt(found, epoch)
    registering.replace(epoch)
    return registering


async def test_what_was_taken_for_never_arrived_is_named_across_a_restart_of_the_engine(
    folder: Path,
) -> None:
    """Restarted within those 30 s it named none, and a stop said zero while the order could land."""
    first = await engine(folder, 1, books())
    first.register.intended(new(1))
    first.register.intended(new(2))
    await engine(folder, 2, books(1, 2, rejected=(1,)))
    assert named(folder) == {new(1).cl_ord_id, new(2).cl_ord_id}
    assert len(list(folder.glob("*.orders"))) == 1


async def test_until_it_is_replaced_a_stop_finds_the_register_of_the_engine_before_as_well(
    folder: Path,
) -> None:
    """An engine that was handed over to sends before it has written to the disk that it is the one."""
    await engine(folder, 1, books(1))
    second = Registering(folder, 1.0)
    await second.open()
    second.adopt(books(1), 2)
    second.register.intended(new(2))
    assert named(folder) == {new(1).cl_ord_id, new(2).cl_ord_id}
    assert len(list(folder.glob("*.orders"))) == 2
    second.replace(2)
    assert named(folder) == {new(1).cl_ord_id, new(2).cl_ord_id}
    assert len(list(folder.glob("*.orders"))) == 1


async def test_what_a_restored_database_lacks_stays_named_and_is_an_alert(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old register was the last to name them, and went with the first engine that took office."""
    first = await engine(folder, 5, books())
    first.register.intended(new(1))
    first.register.intended(new(2))
    (path,) = folder.glob("*.orders")
    path.rename(folder / "999999999-dead-0.orders")  # its process is gone, its epoch a later one
    for epoch in (1, 2):
        await engine(folder, epoch, books(2))
        assert named(folder) == {new(1).cl_ord_id, new(2).cl_ord_id}
        assert len(list(folder.glob("*.orders"))) == 1
    told = capsys.readouterr()
    assert "journal lacks" in told.out + told.err


async def test_one_that_is_removed_while_it_trades_is_made_anew_with_all_that_it_named(
    folder: Path,
) -> None:
    registering = await engine(folder, 1, books(1))
    registering.register.intended(new(2))
    shutil.rmtree(folder)
    assert "gone" in read(folder).damage
    registering.keep(1)
    assert named(folder) == {new(1).cl_ord_id, new(2).cl_ord_id}
    index_of(folder).unlink()
    assert not registering.register.is_named
    registering.keep(1)
    assert registering.register.is_named


async def test_where_a_replaced_engine_named_its_own_last_the_one_in_office_names_its_own_again(
    folder: Path,
) -> None:
    first = await engine(folder, 1, books())
    second = await engine(folder, 2, books(1))
    first.register.take_office(1)
    assert "gone" in read(folder).damage, "until then nothing is proven"
    second.keep(2)
    assert named(folder) == {new(1).cl_ord_id}


async def test_what_was_damaged_in_the_register_of_an_engine_before_is_an_alert(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was removed with a line in a log, and the next stop took the new one for whole."""
    first = await engine(folder, 1, books())
    first.register.intended(new(1))
    (path,) = folder.glob("*.orders")
    with path.open("r+b") as file:
        file.seek(HEADER_SIZE + 30)  # in its first order's text
        file.write(b"\xff\xff")
    assert read(folder).damage
    capsys.readouterr()
    await engine(folder, 2, books())
    told = capsys.readouterr()
    (line,) = [line for line in (told.out + told.err).splitlines() if "is not whole" in line]
    assert "critical" in line.lower() and "alert" in line
    assert read(folder).damage == ""


@pytest.mark.parametrize("state", ["expects_successor", "retired"])
async def test_an_engine_that_gives_its_office_away_makes_no_register_anew(
    desk: Any, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    """The epoch was read in a thread, for longer than its successor took: that one had removed the
    register, and this one made it anew, with an alert, and named it in place of the successor's."""
    engine = await desk.start(until_trading=False)
    setattr(engine.ledger, state, True)
    shutil.rmtree(desk.layout.live_orders)
    await engine.look_after_storage()
    assert not desk.layout.live_orders.exists()
    assert "made anew" not in capsys.readouterr().out
    setattr(engine.ledger, state, False)
    await engine.look_after_storage()
    assert engine.registering.register.is_there, "one that stays in office keeps it"
