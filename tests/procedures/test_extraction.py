"""What journal and logs hold, where no checkpoint can be had: never called one."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openbell.config.redact import Redactor
from openbell.domain.orders import NewOrder, OrderAccepted, OrderIntended, OrdType, Side
from openbell.domain.service_state import ServiceState
from openbell.errors import RefusedError, StorageError
from openbell.procedures.checkpointing import (
    BOOKS_INSTEAD,
    Sections,
    gather_sections,
    write_sections,
)
from openbell.procedures.extraction import extract_state, make_private, other_folders
from openbell.state.database import open_database
from openbell.state.journal import Journal


async def with_an_open_order(fake_desk: Any) -> str:
    """Its journal holds one own order that a venue took."""
    cl_ord_id = fake_desk.own_order(1)
    order = NewOrder(
        cl_ord_id=cl_ord_id,
        venue="sim",
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        order_qty=Decimal(1),
        price=Decimal(100),
    )
    open_database(fake_desk.layout.database).close()
    journal = await Journal.take_over(fake_desk.layout.database, "test")
    await journal.append(
        (
            OrderIntended(cl_ord_id=cl_ord_id, at_ns=1, order=order),
            OrderAccepted(cl_ord_id=cl_ord_id, at_ns=2, venue_order_id="1"),
        )
    )
    await journal.close()
    return str(cl_ord_id)


async def test_open_orders_and_the_newest_lines_are_in_it_and_no_secret(fake_desk: Any) -> None:
    name = await with_an_open_order(fake_desk)
    fake_desk.layout.service_log("engine").write_text("key hunter2 was used\n")
    taken = extract_state(
        fake_desk.desk,
        fake_desk.layout,
        Redactor(["hunter2"]),
        "close-1-state.json",
        [fake_desk.layout.checkpoints],
    )
    assert taken.path is not None and not taken.why
    path = Path(taken.path)
    assert path.stat().st_mode & 0o077 == 0
    text = path.read_text()
    assert "hunter2" not in text
    document = json.loads(text)
    (order,) = document["trading"]["orders"]
    assert name in json.dumps(order)
    assert "was used" in document["logs"]["engine"]
    assert "not a checkpoint" in document["what"]


@pytest.mark.parametrize("silent", ["failed", "hangs"])
async def test_books_that_no_engine_tells_are_the_journals_where_a_desk_is_closed(
    fake_desk: Any, silent: str
) -> None:
    """Before, they were missing from the file, and since there was one nothing was extracted either."""
    name = await with_an_open_order(fake_desk)
    if silent == "failed":
        fake_desk.services.states["engine"] = ServiceState.FAILED
    fake_desk.asks.deaf = frozenset({"engine"})

    async def gathered(*, last_resort: bool) -> Sections:
        voices = fake_desk.closing().voices
        return await gather_sections(
            fake_desk.desk, fake_desk.layout, voices, "complete", Redactor(), last_resort=last_resort
        )  # fmt: skip

    sections = await gathered(last_resort=True)
    assert name in sections.content["trading"].decode()
    assert "trading" not in sections.missing and sections.books_instead == "engine cannot be asked"
    info = await write_sections(fake_desk.desk, fake_desk.layout, sections)
    assert info.facts[BOOKS_INSTEAD] == "engine cannot be asked", "the file says so"
    assert "trading" in (await gathered(last_resort=False)).missing

    fake_desk.layout.database.write_bytes(b"damaged")
    sections = await gathered(last_resort=True)
    assert not sections.books_instead and "trading" not in sections.content
    assert sections.missing["trading"].startswith("engine cannot be asked; the journal: ")


def test_the_first_folder_that_takes_it_is_used(fake_desk: Any, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    free = tmp_path / "free"
    taken = extract_state(
        fake_desk.desk, fake_desk.layout, Redactor(), "x.json", [in_the_way, free]
    )
    assert taken.path == str(free / "x.json")
    assert str(in_the_way) in taken.why
    none = extract_state(fake_desk.desk, fake_desk.layout, Redactor(), "x.json", [in_the_way])
    assert none.path is None


def test_a_folder_that_others_can_read_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "made"
    make_private(made)
    assert made.stat().st_mode & 0o777 == 0o700
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(made)
    for folder in (open_to_all, link):
        with pytest.raises(RefusedError):
            make_private(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        make_private(tmp_path / "file" / "below")


def test_the_temporary_folder_is_the_last(fake_desk: Any) -> None:
    (spare,) = other_folders(fake_desk.desk, fake_desk.layout)
    assert spare.name == f"openbell-{os.getuid()}-{fake_desk.layout.desk_id}-checkpoints"
