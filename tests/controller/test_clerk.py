"""Since when nothing of a desk can send: what a controller that lives through many sessions says of an order
that never had an answer. The clock is the test's, and so is what the venue is asked with."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.config.secrets import load_secrets
from openbell.controller import clerk as clerk_module
from openbell.controller.clerk import Clerk
from openbell.controller.desk import ControlledDesk
from openbell.domain.ids import mint
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    OrderIntended,
    OrderRejected,
    OrdStatus,
    OrdType,
    Side,
)
from openbell.domain.service_state import ServiceState
from openbell.runtime.processes import this_boot
from openbell.runtime.spec import ServiceEvent
from openbell.state import live_orders
from openbell.state.journal import Journal
from openbell.state.order_latency import LANDS_WITHIN_S
from openbell.state.order_register import OrderRegister
from openbell.venues.unlisted import KnownOrder

DESK = """[desk]
name = "x"
[venues.sim]
url = "http://127.0.0.1:1"
symbols = ["BTC/USDT"]
taker_fee = "0.1%"
timeout = "5s"
[services.engine]
role = "engine"
port = 7701
command = ["true"]
[services.feed]
role = "market-data"
command = ["true"]
"""
TIMEOUT_S = 5.0
HOUR_S = 3600.0


class Day:
    """A desk's journal and register, and one clerk that outlives its engines."""

    def __init__(self, folder: Path) -> None:
        (folder / "desk.toml").write_text(DESK)
        self.desk = load_desk(folder)
        self.layout = DeskLayout.for_desk(folder, {})
        self.layout.make()
        self.begun_s = time.monotonic()
        self.now_s = self.begun_s
        self.quiet = True
        self.clerk = Clerk(self.layout, self.desk, self.is_quiet, lambda: self.now_s)
        self.asked: list[KnownOrder] = []
        self._journal: Journal | None = None
        self._register: OrderRegister | None = None
        self._orders = 0

    async def is_quiet(self) -> bool:
        return self.quiet

    async def ask(
        self, _layout: Any, _desk: Any, _venues: Any, _s: Any, known: Any, **_: Any
    ) -> Any:
        told: Mapping[str, Sequence[KnownOrder]] = known
        self.asked = [each for rows in told.values() for each in rows]
        return []

    async def look(self) -> dict[ClOrdID, float | None]:
        """Until when what the journal holds open may land."""
        await self.clerk.look(timeout_s=1)
        return {each.cl_ord_id: each.may_land_until_s for each in self.asked}

    async def engine_starts(self, *, register: bool = True) -> None:
        self._journal = await Journal.take_over(self.layout.database, "test")
        if register:
            self._register = OrderRegister(self.layout.live_orders, this_boot(), slots=8)
            self._register.open()
            self._register.take_office(self._journal.epoch)

    async def hands_over(self, *, answered: bool = False) -> ClOrdID:
        """Written to the journal without an answer; `answered`: the register alone knows one."""
        self._orders += 1
        order = NewOrder(
            cl_ord_id=ClOrdID(mint(self.layout.desk_id, 1, self._orders)),
            venue="sim",
            symbol="BTC/USDT",
            side=Side.BUY,
            ord_type=OrdType.LIMIT,
            order_qty=Decimal("0.01"),
            price=Decimal(56000),
        )
        assert self._journal is not None
        await self._journal.append(
            (OrderIntended(cl_ord_id=order.cl_ord_id, at_ns=1, order=order),)
        )
        if self._register is not None:
            self._register.intended(order)
            if answered:
                heard = SimpleNamespace(
                    cl_ord_id=order.cl_ord_id, status=OrdStatus.NEW, venue_order_id="v1", new=order
                )
                self._register.heard(cast(Any, heard))
        return order.cl_ord_id

    async def never_arrived(self, cl_ord_id: ClOrdID) -> None:
        assert self._journal is not None
        await self._journal.append(
            (OrderRejected(cl_ord_id=cl_ord_id, at_ns=2, code="never_arrived"),)
        )

    async def engine_is_killed(self) -> None:
        assert self._journal is not None
        await self._journal.close()
        self._journal = self._register = None


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Day:
    day = Day(tmp_path)
    monkeypatch.setattr(clerk_module, "ask_venues", day.ask)
    return day


async def test_what_an_earlier_session_was_quiet_since_says_nothing_of_the_order_of_a_later_one(
    day: Day,
) -> None:
    """An engine died with an order without an answer, and `openbell orders` asked past it. The next engine
    settled it and traded for an hour; one that it had just handed over when it was killed was taken for one
    that never arrived, since nothing had been able to send "since ten o'clock", and landed after the
    closing was told as verified."""
    day.now_s = day.begun_s - HOUR_S
    await day.engine_starts(register=False)
    first = await day.hands_over()
    assert await day.look() == {first: day.now_s + LANDS_WITHIN_S}
    await day.never_arrived(first)
    await day.engine_is_killed()
    await day.engine_starts()  # and no look meanwhile: it is the register that tells
    second = await day.hands_over()
    await day.engine_is_killed()
    day.now_s = time.monotonic() + 1
    found = await day.look()
    assert found == {second: pytest.approx(day.now_s + LANDS_WITHIN_S)}
    day.now_s += HOUR_S
    (until_s,) = (await day.look()).values()
    assert until_s == found[second], "it is the same end of the same engine"


async def test_it_is_its_venues_time_out_from_its_hand_over_where_that_is_over_sooner(
    day: Day,
) -> None:
    await day.engine_starts()
    order = await day.hands_over()
    handed_over_s = time.monotonic()
    await day.engine_is_killed()
    day.now_s = handed_over_s + HOUR_S
    (until_s,) = (await day.look()).values()
    assert until_s is not None
    assert day.begun_s <= until_s - TIMEOUT_S - LANDS_WITHIN_S <= handed_over_s
    assert set(await day.look()) == {order}


async def test_a_look_at_which_nothing_is_without_an_answer_confirms_no_quiet(day: Day) -> None:
    await day.engine_starts(register=False)
    first = await day.hands_over()
    assert await day.look() == {first: day.now_s + LANDS_WITHIN_S}
    await day.never_arrived(first)
    assert await day.look() == {}
    second = await day.hands_over()
    day.now_s += HOUR_S
    assert await day.look() == {second: day.now_s + LANDS_WITHIN_S}


async def test_while_something_may_send_an_order_may_land_and_it_is_counted_anew_from_its_end(
    day: Day,
) -> None:
    await day.engine_starts(register=False)
    order = await day.hands_over()
    assert await day.look() == {order: day.now_s + LANDS_WITHIN_S}
    day.quiet = False
    assert await day.look() == {order: None}
    day.quiet = True
    day.now_s += HOUR_S
    assert await day.look() == {order: day.now_s + LANDS_WITHIN_S}


async def test_it_is_counted_anew_after_a_sender_that_no_look_has_met(day: Day) -> None:
    await day.engine_starts(register=False)
    order = await day.hands_over()
    await day.look()
    day.clerk.a_sender_starts()
    day.now_s += HOUR_S
    assert await day.look() == {order: day.now_s + LANDS_WITHIN_S}


@pytest.mark.parametrize("at", ["is_quiet", "read_live_orders"])
async def test_one_that_starts_while_it_is_looked_is_met(
    day: Day, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    await day.engine_starts(register=False)
    order = await day.hands_over()
    if at == "is_quiet":

        async def starts() -> bool:
            day.clerk.a_sender_starts()
            return True

        monkeypatch.setattr(day.clerk, "_is_quiet", starts)
    else:
        read = live_orders.read_live_orders

        def reads(*args: Any) -> Any:
            day.clerk.a_sender_starts()
            return read(*args)

        monkeypatch.setattr(clerk_module, "read_live_orders", reads)
    assert await day.look() == {order: None}


async def test_an_order_that_the_register_knows_to_be_open_is_never_taken_for_one_that_never_arrived(
    day: Day,
) -> None:
    await day.engine_starts()
    open_, silent = await day.hands_over(answered=True), await day.hands_over()
    await day.engine_is_killed()
    day.now_s = time.monotonic() + HOUR_S
    found = await day.look()
    assert found[open_] is None and found[silent] is not None


async def test_with_a_register_that_lacks_some_no_order_is_taken_for_one_that_never_arrived(
    day: Day,
) -> None:
    await day.engine_starts()
    order = await day.hands_over()
    await day.engine_is_killed()
    day.now_s = time.monotonic() + HOUR_S
    (file,) = day.layout.live_orders.glob("*.orders")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert await day.look() == {order: None}
    file.unlink()  # which the engine in office is known to write
    assert await day.look() == {order: None}


async def test_a_desk_tells_its_clerk_of_every_service_that_starts_and_can_send(
    day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = SimpleNamespace(views=list)
    desk = ControlledDesk(
        day.layout,
        day.desk,
        load_secrets(day.desk, day.layout),
        cast(Any, supervisor),
        cast(Any, None),
    )
    told: list[None] = []
    monkeypatch.setattr(desk.clerk, "a_sender_starts", lambda: told.append(None))
    stopped, starting = ServiceState.STOPPED, ServiceState.STARTING
    for service, state in (("feed", starting), ("engine", stopped), ("engine", starting)):
        before = len(told)
        desk.on_service_event(ServiceEvent(1, service, state, stopped, "asked", None))
        assert len(told) - before == ((service, state) == ("engine", starting))
