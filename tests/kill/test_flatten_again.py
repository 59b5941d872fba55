"""A `--flatten` that is killed and pressed again sells nothing twice. Judged by the venue's own orders,
at a spot venue, where a second sale would sell what the desk does not hold."""

from __future__ import annotations

import asyncio
import os
import random
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kill.house import HOLDINGS, House, house
from tests.kill.small_desk import SmallDesk, small_desk

from openbell.domain.orders import ClOrdID, OrdType, Side
from openbell.kill.course import Course
from openbell.kill.events import Flattened, Flattening
from openbell.kill.flatten_record import (
    NEVER_ARRIVES_S,
    EarlierOrders,
    FlattenRecord,
    SentOrder,
    earlier_orders,
)

SEED = int(os.environ.get("OPENBELL_SEED", str(random.SystemRandom().randrange(1 << 32))))
SPOT = 'holdings = { BTC = "5", ETH = "100" }\n'
BOUGHT, HELD = Decimal("0.04"), Decimal("0.03996")
"""The venue keeps a thousandth of what is bought."""
EPOCH = 170_000_000_000


def buy(here: House) -> None:
    """The desk holds more than `holdings`: that much is its position."""
    here.rest(1, side=Side.BUY, type=OrdType.MARKET, quantity=BOUGHT)


def sold(here: House) -> Decimal:
    """By the venue's own book of orders."""
    orders = here.sim.exchange.ledger.orders.values()
    return sum((o.cum_qty for o in orders if o.side is Side.SELL), Decimal(0))


async def press_and_kill_as_its_order_arrives(desk: SmallDesk, here: House) -> None:
    """SIGKILL to a press whose order hangs at the venue, and was not carried out there."""
    process = await desk.begin("--flatten", "--alone")
    await desk.until(lambda: here.hits() == [1], "its order has come to the venue")
    assert process.returncode is None and "flattening" in whats(desk)
    process.kill()
    await process.wait()
    assert sold(here) == 0, "it was to be killed before its order was carried out"


def whats(desk: SmallDesk) -> list[str]:
    """Of all courses so far."""
    folder = desk.layout.emergency
    return [
        str(event.get("what"))
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_bytes().split(b"\n")[:-1]
        if (event := msgspec.json.decode(line, type=dict[str, Any]))["event"] == "venue"
    ]


async def test_killed_between_an_order_and_its_answer_the_next_press_finds_it_and_sells_no_more(
    tmp_path: Path,
) -> None:
    async with small_desk(tmp_path / "desk", ("binance",), venue_more=SPOT) as desk:
        (here,) = desk.houses.values()
        buy(here)
        # Shorter than the request lives, which is the desk's time-out: else it is refused as too old.
        await here.suffer({"kind": "hang", "hold_s": 1.5, "kinds": ["submit"], "count": 1})
        await press_and_kill_as_its_order_arrives(desk, here)
        await desk.until(lambda: sold(here) == HELD, "the order lands without whoever sent it")
        pressed = await desk.press("--flatten", "--alone")
        assert pressed.status == 0, pressed
        assert pressed.venue("binance-0")["flat"]["result"] == "verified"
        assert sold(here) == HELD


async def test_an_order_of_a_killed_press_that_is_still_on_its_way_is_not_sent_again(
    tmp_path: Path,
) -> None:
    """The venue knows nothing of it yet: that is unknown, and no reason to sell."""
    async with small_desk(tmp_path / "desk", ("binance",), venue_more=SPOT) as desk:
        (here,) = desk.houses.values()
        buy(here)
        await here.suffer({"kind": "hang", "hold_s": 40, "kinds": ["submit"], "count": 1})
        await press_and_kill_as_its_order_arrives(desk, here)
        pressed = await desk.press("--flatten", "--alone")
        assert pressed.status == 7, pressed
        flat = pressed.venue("binance-0")["flat"]
        assert flat["result"] == "unknown"
        assert "not found at the venue" in flat["why"]
        assert "https://binance-0.example/orders" in pressed.venue("binance-0")["by_hand"]
        assert sold(here) == 0
        again = await desk.press("--flatten", "--alone")
        assert again.status == 7, again
        assert here.hits() == [1], "no other order reached the venue"


async def test_killed_at_any_moment_of_a_flatten_nothing_is_sold_twice(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    async with small_desk(tmp_path / "desk", ("binance",), venue_more=SPOT) as desk:
        (here,) = desk.houses.values()
        for number in range(4):
            said = f"seed {SEED}, round {number}"
            before = sold(here)
            buy(here)
            await here.suffer(latency_ms=chance.uniform(0, 80))
            moment = chance.choice(("verified", "flattening", "flattening", "flattened"))
            seen = whats(desk).count(moment)
            process = await desk.begin("--flatten", "--alone")
            await desk.until(
                lambda m=moment, s=seen, p=process: (  # type: ignore[misc]
                    whats(desk).count(m) > s or p.returncode is not None
                ),
                moment,
            )
            await asyncio.sleep(chance.uniform(0, 0.2))
            if process.returncode is None:
                process.kill()
            await process.wait()
            pressed = await desk.press("--flatten", "--alone")
            flat = pressed.venue("binance-0")["flat"]
            # Killed after it was written and before it was sent: nobody can tell that from an order
            # that is on its way, so nothing is sold and a person is told.
            assert sold(here) - before <= HELD, f"{said}: {pressed}"
            if flat["result"] == "verified":
                assert sold(here) - before == HELD, f"{said}: {pressed}"
            else:
                assert flat["result"] == "unknown", f"{said}: {pressed}"
                await _by_hand(desk, here, before)


async def _by_hand(desk: SmallDesk, here: House, before: Decimal) -> None:
    """As a person does who was told: sells at the venue, and opens the desk anew."""
    left = HELD - (sold(here) - before)
    if left:
        here.rest(1, side=Side.SELL, type=OrdType.MARKET, quantity=left, desk=None)
    for path in desk.layout.emergency.glob("*.jsonl"):
        old_s = time.time() - NEVER_ARRIVES_S - 1
        os.utime(path, (old_s, old_s))


@pytest.mark.parametrize("face", ["binance", "binance-usdm"])
async def test_where_the_disk_keeps_nothing_only_what_cannot_flip_is_sent(face: str) -> None:
    async def lost() -> bool:
        return False

    async with house(face, holdings=HOLDINGS.get(face, {})) as here:
        buy_at = here.kind.quantity * 4
        here.rest(1, side=Side.BUY, type=OrdType.MARKET, quantity=buy_at)
        record = FlattenRecord(kept=lost)
        stated = await here.stop(flatten_epoch=EPOCH, record=record)
        assert stated.flat is not None
        if face == "binance":
            assert stated.flat.result == "residual"
            assert "does not keep" in stated.flat.why
            assert stated.by_hand
            assert sold(here) == 0
        else:
            assert stated.flat.result == "verified"
            assert sold(here) == buy_at


async def test_where_the_disk_does_not_tell_of_earlier_stops_nothing_is_sold_on_the_spot() -> None:
    async with house("binance", holdings=HOLDINGS["binance"]) as here:
        buy(here)
        stated = await here.stop(flatten_epoch=EPOCH, record=FlattenRecord(earlier=None))
        assert stated.flat is not None
        assert stated.flat.result == "unknown"
        assert "earlier stop" in stated.flat.why
        assert sold(here) == 0


# --- what a course says of them ------------------------------------------------------------------


def sending(number: int, at_ns: int) -> Flattening:
    return Flattening(
        venue="binance",
        at_ns=at_ns,
        symbol="BTC/USDT",
        side=Side.SELL,
        quantity=Decimal("0.04"),
        cl_ord_id=ClOrdID(f"ob0badcafe-1-{number}"),
        leg="BTC",
        held=Decimal("0.04"),
    )


async def keep(folder: Path, *events: Flattening | Flattened, epoch: int | None = 5) -> Path:
    course = await Course.begin(folder, lambda _: None)
    course.add("begun", flatten_epoch=epoch)
    for event in events:
        told = msgspec.to_builtins(event)
        course.add("venue", what=told.pop("type"), **told)
    assert await course.kept()
    await course.close()
    return folder / f"{course.name}.jsonl"


async def test_an_order_is_open_until_it_is_told_what_became_of_it(tmp_path: Path) -> None:
    now_ns = time.time_ns()
    ended = Flattened(
        venue="binance", at_ns=now_ns, symbol="BTC/USDT", cl_ord_id=ClOrdID("ob0badcafe-1-1"),
        status="filled", filled=Decimal("0.04"),
    )  # fmt: skip
    assert earlier_orders(tmp_path / "none") == EarlierOrders()
    await keep(tmp_path, sending(1, now_ns), sending(2, now_ns), epoch=7)
    await keep(tmp_path, ended, epoch=None)
    found = earlier_orders(tmp_path)
    assert found.last_epoch == 7
    assert found.at("kraken") == ()
    assert found.at("binance") == (
        SentOrder(
            venue="binance", symbol="BTC/USDT", leg="BTC", side=Side.SELL,
            quantity=Decimal("0.04"), held=Decimal("0.04"), cl_ord_id=ClOrdID("ob0badcafe-1-2"),
        ),
    )  # fmt: skip
    late_ns = now_ns + int(NEVER_ARRIVES_S * 1e9) + 1
    assert earlier_orders(tmp_path, late_ns).orders == ()


async def test_a_torn_last_line_was_never_sent_and_a_damaged_course_is_not_known(
    tmp_path: Path,
) -> None:
    path = await keep(tmp_path, sending(1, time.time_ns()))
    with path.open("ab") as file:
        file.write(b'{"event": "venue", "what": "flatt')
    assert len(earlier_orders(tmp_path).orders) == 1
    with path.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ValueError, match="damaged"):
        earlier_orders(tmp_path)


async def test_a_course_without_a_disk_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    course = await Course.begin(tmp_path / "file" / "folder", lambda _: None)
    course.add("begun")
    assert not await course.kept()
