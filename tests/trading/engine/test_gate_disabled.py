"""A disabled strategy at the gate: its new orders stop, whatever its file says; all else goes on."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.engine_desk import engine_desk

from openbell.config.layout import DeskLayout
from openbell.domain.orders import (
    ClOrdID,
    NewOrder,
    OrderIntended,
    OrdStatus,
    OrdType,
    Purpose,
    Side,
)
from openbell.domain.permit import PermitScope
from openbell.state.disabled_strategies import DisabledStrategies
from openbell.state.halts import Halt
from openbell.state.latch import Latches
from openbell.trading.engine.gate import Gate
from openbell.trading.messages import CancelIntent
from openbell.venues.transport import NotSentError

HALT = Halt("odd fills", "ann", datetime(2026, 1, 31, 12, tzinfo=UTC))


async def test_its_orders_are_refused_by_name_until_it_is_enabled_and_no_others(desk: Any) -> None:
    engine = await desk.start()
    disabled = DisabledStrategies.of(desk.layout)
    disabled.disable("s", HALT)
    reply = await desk.send()
    assert (reply.taken, reply.code) == (False, "disabled")
    assert reply.text == "s is disabled by ann since 2026-01-31 12:00:00 UTC: odd fills"
    assert desk.venue.submitted() == []
    assert not engine.why_not_trading(), "the desk trades"
    other = await desk.order(strategy="other")
    await desk.until_status(other.cl_ord_id, OrdStatus.NEW)
    disabled.enable("s")
    assert (await desk.send()).taken


async def test_its_resting_order_stays_and_its_cancel_is_taken(desk: Any) -> None:
    await desk.start()
    order = await desk.order()
    await desk.until_status(order.cl_ord_id, OrdStatus.NEW)
    DisabledStrategies.of(desk.layout).disable("s", HALT)
    assert (await desk.send()).code == "disabled"
    assert desk.status(order.cl_ord_id) is OrdStatus.NEW
    cancel = CancelIntent(intent_id="c", strategy="s", cl_ord_id=order.cl_ord_id)
    assert (await desk.ask(cancel)).taken
    await desk.until_status(order.cl_ord_id, OrdStatus.CANCELED)


@pytest.mark.parametrize("strategy", ["", "s"])
async def test_a_flatten_goes_on(desk: Any, strategy: str) -> None:
    """What is closed is the desk's position, whoever made it."""
    engine = await desk.start()
    bought = await desk.order(ord_type=OrdType.MARKET, price=None)
    await desk.until_status(bought.cl_ord_id, OrdStatus.FILLED)
    DisabledStrategies.of(desk.layout).disable("s", HALT)
    intent = desk.intent(strategy=strategy, side=Side.SELL, ord_type=OrdType.MARKET, price=None)
    assert (await engine.desk.submit(intent, purpose=Purpose.FLATTEN)).taken


async def test_one_that_is_disabled_while_the_journal_is_written_sends_nothing(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await desk.start()
    append = engine.ledger._journal.append

    async def slow(events: Any) -> int:
        if isinstance(events[0], OrderIntended):
            DisabledStrategies.of(desk.layout).disable("s", HALT)
        return await append(events)

    monkeypatch.setattr(engine.ledger._journal, "append", slow)
    reply = await desk.send()
    assert (reply.taken, reply.code) == (False, "disabled")
    await desk.until_status(reply.cl_ord_id, OrdStatus.REJECTED)
    assert desk.venue.submitted() == []


async def test_an_order_that_waited_for_a_connection_is_not_written(desk: Any) -> None:
    engine = await desk.start()
    order = await desk.order()
    DisabledStrategies.of(desk.layout).disable("s", HALT)
    with pytest.raises(NotSentError, match="s is disabled by ann"):
        engine.desk.on_sent(order.cl_ord_id, 0)


class TradePermit:
    def scope(self) -> PermitScope:
        return PermitScope.TRADE


def last_look(layout: DeskLayout, strategy: str, purpose: Purpose) -> str:
    """The code of the refusal directly before the send; empty where there is none."""
    unused: Any = None
    gate = Gate(
        limits=unused,
        latches=Latches(layout),
        halt_file=layout.halt,
        disabled=DisabledStrategies.of(layout),
        permit=TradePermit(),
        links={},
        market=unused,
        risk_view=None,
    )
    order = NewOrder(
        cl_ord_id=ClOrdID("ob00000000-1-1"), venue="fake", symbol="BTC/USDT", side=Side.BUY,
        ord_type=OrdType.MARKET, order_qty=Decimal(1), strategy=strategy, purpose=purpose,
    )  # fmt: skip
    refusal = gate.still_refuses(order)
    return "" if refusal is None else refusal.code


@given(
    st.from_regex(r"[a-z][a-z0-9_-]{0,47}", fullmatch=True),
    st.from_regex(r"[a-z][a-z0-9_-]{0,47}", fullmatch=True),
    st.binary(max_size=100),
)
def test_no_order_of_a_disabled_strategy_passes_whatever_its_file_says(
    name: str, other: str, content: bytes
) -> None:
    with tempfile.TemporaryDirectory() as made:
        layout = DeskLayout.for_desk(Path(made), {})
        layout.make()
        assert last_look(layout, name, Purpose.TRADE) == ""
        (layout.disabled_strategies / f"{name}.json").write_bytes(content)
        assert last_look(layout, name, Purpose.TRADE) == "disabled"
        assert last_look(layout, name, Purpose.FLATTEN) == ""
        assert last_look(layout, other, Purpose.TRADE) == ("disabled" if other == name else "")
        assert last_look(layout, "", Purpose.FLATTEN) == ""


async def test_it_stays_disabled_for_the_engine_that_comes_after_a_killed_one(folder: Path) -> None:
    """As real processes: also what a promoted standby finds, which is another engine on these files."""
    async with engine_desk(folder, relayed=False) as desk:
        await desk.start()
        assert (await desk.send("before", ord_type=OrdType.MARKET)).taken
        disabled = DisabledStrategies.of(desk.layout)
        disabled.disable("s", HALT)
        assert (await desk.send("disabled", ord_type=OrdType.MARKET)).code == "disabled"
        await desk.kill()
        await desk.start()
        assert (await desk.send("restarted", ord_type=OrdType.MARKET)).code == "disabled"
        assert (await desk.send("of another", strategy="t", ord_type=OrdType.MARKET)).taken
        disabled.enable("s")
        assert (await desk.send("enabled", ord_type=OrdType.MARKET)).taken
