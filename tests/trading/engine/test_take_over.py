"""A standby is promoted, in its own process, over a scripted venue: what it may send by at once, and what it
has to wait for."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from openbell.config.layout import DeskLayout
from openbell.domain.ids import mint, parse
from openbell.domain.orders import ClOrdID, OrdStatus
from openbell.domain.permit import PermitScope
from openbell.state.journal import Journal

S = OrdStatus
LONG_S = 600.0
"""Nothing here waits for so long: what would have to is seen not to have happened."""

_DEAD_ENGINE = """
import asyncio, sys
from decimal import Decimal
from pathlib import Path
from openbell.config.layout import DeskLayout
from openbell.domain.ids import mint
from openbell.domain.orders import NewOrder, OrderIntended, OrdType, Side
from openbell.trading.engine.ledger import Ledger
from openbell.trading.engine.registering import Registering

async def main() -> None:
    layout = DeskLayout.for_desk(Path(sys.argv[1]), {})
    ledger = await Ledger.take_over(layout.database, "execution-engine pid 1", lambda *_: None)
    registering = Registering(layout.live_orders, 10.0)
    await registering.open()
    registering.adopt(ledger.books, ledger.epoch)
    registering.replace(ledger.epoch)
    for number, came_to in enumerate(sys.argv[2:], 1):
        order = NewOrder(
            cl_ord_id=mint(layout.desk_id, ledger.epoch, number), venue="fake", symbol="BTC/USDT",
            side=Side.BUY, ord_type=OrdType.LIMIT, order_qty=Decimal(1), price=Decimal(99),
        )
        await ledger.record(OrderIntended(cl_ord_id=order.cl_ord_id, at_ns=number, order=order))
        if came_to != "journaled":
            registering.register.intended(order)
        if came_to == "let_go":
            registering.register.leaving(order)
    print('epoch', ledger.epoch, flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


class Predecessor:
    """An engine that has journaled orders, and come with each as far as told."""

    def __init__(self, layout: DeskLayout, process: asyncio.subprocess.Process) -> None:
        self.epoch = 0
        self._layout = layout
        self._process = process

    async def until_it_has_come_so_far(self) -> None:
        assert self._process.stdout is not None
        while not self.epoch:
            line = await self._process.stdout.readline()
            assert line, "it ended"
            if line.startswith(b"epoch "):  # its log goes there too
                self.epoch = int(line.split()[1])

    def order(self, number: int) -> ClOrdID:
        return mint(self._layout.desk_id, self.epoch, number)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def predecessor(layout: DeskLayout, *came_to: str) -> AsyncIterator[Predecessor]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _DEAD_ENGINE, str(layout.desk), *came_to,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    made = Predecessor(layout, process)
    try:
        await made.until_it_has_come_so_far()
        yield made
    finally:
        await made.kill()


def take_long(desk: Any) -> None:
    desk.settings["venues"]["fake"]["timeout"] = f"{LONG_S:.0f}s"
    desk.settings["permit"]["ttl"] = f"{LONG_S:.0f}s"
    desk.grant["ttl_s"] = LONG_S


async def test_what_a_killed_engine_did_not_come_to_send_is_not_waited_for(desk: Any) -> None:
    """An order that the kill met between its intent and its first byte was in doubt, and the desk stood
    still until it could land no more: for as long as its venue's time-out."""
    take_long(desk)
    async with predecessor(desk.layout, "let_go", "registered", "journaled") as before:
        await before.kill()
    desk.venue.rest(before.order(1))
    engine = await desk.stand_by()
    await desk.api.promote({"after_epoch": before.epoch, "predecessor_gone": True})
    await desk.until(lambda: not engine.why_not_trading())
    order = await desk.order()
    assert parse(order.cl_ord_id).epoch == engine.ledger.epoch
    assert desk.status(before.order(1)) is S.NEW
    for number in (2, 3):
        ended = engine.ledger.books.orders[before.order(number)]
        assert ended.status is S.REJECTED
        assert "never_sent" in ended.text
        assert ("ask", before.order(number)) not in desk.venue.log


async def test_what_it_let_go_and_nobody_knows_holds_trading_back(desk: Any) -> None:
    take_long(desk)
    async with predecessor(desk.layout, "let_go", "registered") as before:
        await before.kill()
    engine = await desk.stand_by()
    await desk.api.promote({"after_epoch": before.epoch, "predecessor_gone": True})
    await desk.until(lambda: desk.venue.log.count(("ask", before.order(1))) >= 3)
    assert desk.status(before.order(1)) is S.UNKNOWN
    assert desk.status(before.order(2)) is S.REJECTED
    assert engine.why_not_trading()
    assert not (await desk.send()).taken


@pytest.mark.parametrize("is_dead", [True, False], ids=["only the kernel", "only the controller"])
async def test_where_but_one_says_that_it_has_ended_all_of_it_is_in_doubt(
    desk: Any, is_dead: bool
) -> None:
    take_long(desk)
    async with predecessor(desk.layout, "let_go", "registered", "journaled") as before:
        if is_dead:
            await before.kill()
        engine = await desk.stand_by()
        gone = not is_dead
        await desk.api.promote({"after_epoch": before.epoch, "predecessor_gone": gone})
        orders = [before.order(number) for number in (1, 2, 3)]
        await desk.until(lambda: all(desk.status(each) is S.UNKNOWN for each in orders))
        assert engine.why_not_trading()


# --- the permit that comes with a planned hand-over


async def handed_over(desk: Any, agreed: tuple[str, ...] = ("fake",), **permit: object) -> Any:
    """From an engine that trades to another one, while the controller answers nobody."""
    take_long(desk)
    first = await desk.start()
    api = desk.api
    await desk.order()
    await desk.stand_by()
    desk.answers.clear()
    left = await api.hand_over({})
    assert left["agreed"] == ["fake"]
    given = {"scope": "trade", "expires_mono_ns": time.monotonic_ns() + int(0.9 * LONG_S * 1e9)}
    await desk.api.promote(
        {"after_epoch": left["epoch"], "agreed": agreed, "permit": given | permit}
    )
    await desk.until(lambda: first.phase == "retired")
    return desk.engine


async def test_a_promoted_engine_trades_before_the_controller_has_answered_and_obeys_its_answer(
    desk: Any,
) -> None:
    engine = await handed_over(desk)
    asked = len(desk.asked)
    order = await desk.order()
    assert parse(order.cl_ord_id).epoch == engine.ledger.epoch
    await desk.until(lambda: len(desk.asked) > asked)  # it asks all the same
    assert engine.permit.scope() is PermitScope.TRADE
    desk.grant = {"granted": False, "why_not": "halted by ann"}
    desk.answers.set()
    await desk.until(lambda: engine.permit.scope() is PermitScope.NONE)
    reply = await desk.send()
    assert (reply.taken, reply.code) == (False, "no_permit")


def halt(layout: DeskLayout) -> Path:
    return layout.halt


def latch(layout: DeskLayout) -> Path:
    return layout.latch


@pytest.mark.parametrize(("stop", "code"), [(halt, "halted"), (latch, "latched")])
async def test_a_halt_and_a_latch_of_that_very_moment_stand_above_it(
    desk: Any, stop: Callable[[DeskLayout], Path], code: str
) -> None:
    take_long(desk)
    await desk.start()
    api = desk.api
    await desk.stand_by()
    left = await api.hand_over({})
    stop(desk.layout).touch()
    given = {"scope": "trade", "expires_mono_ns": time.monotonic_ns() + int(0.9 * LONG_S * 1e9)}
    await desk.api.promote({"after_epoch": left["epoch"], "agreed": ("fake",), "permit": given})
    sent = desk.venue.submitted()
    reply = await desk.send()
    assert (reply.taken, reply.code) == (False, code)
    assert desk.venue.submitted() == sent


async def test_the_epoch_of_a_successor_is_no_surprise_to_the_engine_that_hands_over(
    desk: Any,
) -> None:
    """It looks once a second who is in office. Met between the two steps of a hand-over that look was
    an alarm, and the engine ended as one that another had taken over from."""
    first = await desk.start()
    left = await desk.api.hand_over({"within_s": 1.0})
    other = await Journal.take_over(desk.layout.database, "b", after_epoch=left["epoch"])
    await first.ledger.notice_successor()
    assert not first.ledger.fenced.is_set()
    # Nobody is bound in its place within the time: then it is one.
    await desk.until(first.ledger.fenced.is_set)
    await other.close()


async def test_where_the_engine_before_did_not_agree_it_has_to_ask(desk: Any) -> None:
    engine = await handed_over(desk, agreed=())
    assert engine.permit.scope() is PermitScope.NONE
    desk.answers.set()
    await desk.until(lambda: not engine.why_not_trading())
    await desk.order()


async def test_one_whose_end_another_clock_told_is_not_taken(desk: Any) -> None:
    far_ns = time.monotonic_ns() + int(100 * LONG_S * 1e9)
    engine = await handed_over(desk, expires_mono_ns=far_ns)
    assert engine.permit.scope() is PermitScope.NONE
