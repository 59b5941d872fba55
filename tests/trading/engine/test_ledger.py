"""A ledger in office and one that follows: the same books, whoever writes."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openbell.domain.ids import mint
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    Order,
    OrderAccepted,
    OrderIntended,
    OrdType,
    Side,
)
from openbell.errors import ConflictError, StorageError
from openbell.state.journal import FencedError, JournalReader
from openbell.trading.engine import ledger as module
from openbell.trading.engine.ledger import Ledger
from openbell.trading.messages import EngineEvent


def deaf(_message: EngineEvent, _order: Order | None) -> None: ...


def intended(number: int, epoch: int = 1) -> OrderIntended:
    cl_ord_id = mint("0123abcd", epoch, number)
    order = NewOrder(
        cl_ord_id=cl_ord_id, venue="v", symbol="BTC/USDT", side=Side.BUY, ord_type=OrdType.LIMIT,
        order_qty=Decimal(1), price=Decimal(9), strategy="s", intent_id=f"i{number}",
    )  # fmt: skip
    return OrderIntended(cl_ord_id=cl_ord_id, at_ns=number, order=order)


def accepted(cl_ord_id: ClOrdID) -> OrderAccepted:
    return OrderAccepted(cl_ord_id=cl_ord_id, at_ns=9, venue_order_id="v1")


async def test_one_that_follows_takes_office_with_everything_that_was_journaled(
    tmp_path: Path,
) -> None:
    path = tmp_path / "desk.db"
    old = await Ledger.take_over(path, "a pid 1", deaf)
    standby = await Ledger.follow(path, deaf)
    assert (standby.in_office, standby.epoch) == (False, 0)
    first = intended(1)
    await old.record(first)
    await standby.follow_on()
    assert standby.books.order_of_intent("s", "i1") == first.cl_ord_id
    for record in (standby.record, standby.record_surely):
        with pytest.raises(StorageError):
            await asyncio.wait_for(record(intended(2)), 60)
    assert standby.storage_problem == "", "nothing is wrong with its storage"
    await old.record(accepted(first.cl_ord_id), intended(3))

    heard: list[int] = []
    standby._hear = lambda message, _order: heard.append(message.journal_seq)
    with pytest.raises(ConflictError):
        await standby.take_office("b pid 2", after_epoch=old.epoch + 1)
    assert not standby.in_office
    await standby.take_office("b pid 2", after_epoch=old.epoch)
    assert standby.books.to_snapshot() == old.books.to_snapshot()
    assert heard == [], "what another engine journaled is not told again"
    with pytest.raises(FencedError):
        await old.record(intended(4))
    assert old.fenced.is_set()
    await standby.record(intended(5))
    assert heard == [4] and standby.last_seq == 4
    for each in (old, standby):
        await each.close()


async def test_an_engine_that_is_killed_again_and_again_still_takes_a_snapshot(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Each one journals less than what a snapshot is taken after."""
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 10)
    path = tmp_path / "desk.db"
    number = 0
    for _ in range(4):
        ledger = await Ledger.take_over(path, "a pid 1", deaf)
        for _ in range(4):
            number += 1
            await ledger.record(intended(number, ledger.epoch))
        await ledger.close()  # as killed: without the snapshot of an orderly end
    reader = JournalReader.open(path)
    assert 10 <= reader.newest_snapshot_seq() <= number
    reader.close()
