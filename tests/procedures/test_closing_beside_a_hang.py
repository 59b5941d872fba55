"""A closing past an engine that is gone while its last order still hangs in the venue: judged by the
venue's own log of orders."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from openbell.config.loader import load_desk
from openbell.controller.clerk import Clerk
from openbell.domain.ids import mint
from openbell.domain.orders import ClOrdID, NewOrder, OrderIntended, OrdType, Side
from openbell.domain.service_state import ServiceState
from openbell.procedures.closing.cancel_orders import CancelOrders
from openbell.procedures.closing.context import Closing
from openbell.procedures.closing.picture import Sight
from openbell.procedures.closing.wait_for_orders import WaitForOrders
from openbell.procedures.run import Runner
from openbell.procedures.step import Outcome
from openbell.state.journal import Journal
from openbell.state.live_orders import note_ended
from openbell.venues.credentials import Credentials
from openbell.venues.registry import open_venue
from openbell_sim.testing import KEY, SECRET, VenueThread, venue_thread

HELD_S = 3.0
"""Longer than a clerk takes, on a quiet machine, to be there, to cancel, and to look twice; within the five
seconds after which the venue refuses a request for its age."""


def far_below(desk_id: str) -> NewOrder:
    return NewOrder(
        cl_ord_id=ClOrdID(mint(desk_id, 1, 7)),
        venue="sim",
        symbol="BTC/USDT",
        side=Side.BUY,
        ord_type=OrdType.LIMIT,
        order_qty=Decimal("0.01"),
        price=Decimal(56000),
    )


async def quiet() -> bool:
    """No engine lives here that could send."""
    return True


async def send_and_die(desk: Any, url: str, order: NewOrder) -> None:
    """As an engine that is killed between its request and the answer: the journal has the intent."""
    journal = await Journal.take_over(desk.layout.database, "test")
    await journal.append((OrderIntended(cl_ord_id=order.cl_ord_id, at_ns=1, order=order),))
    await journal.close()
    venue = open_venue("sim", desk.desk.file.venues["sim"], Credentials(KEY, SECRET))
    await venue.connect()
    hanging = asyncio.create_task(venue.submit(order))
    while not _get(url, "control/faults")["faults"][0]["hits"]:
        assert not hanging.done()
        await asyncio.sleep(0.02)
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    await venue.close()


def _get(url: str, what: str) -> Any:
    with urllib.request.urlopen(f"{url}/sim/v1/{what}", timeout=10) as answer:
        return json.load(answer)


def _strike(url: str, **fault: object) -> None:
    request = urllib.request.Request(
        f"{url}/sim/v1/control/faults", json.dumps(fault).encode(), method="POST"
    )
    urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture
def at_a_venue(fake_desk: Any, tmp_path: Path) -> Any:
    """The fake desk's services, all stopped, over the books and the venue of a real desk."""
    log = tmp_path / "venue.jsonl"
    with venue_thread("--symbols", "BTCUSDT", "--log", str(log)) as sim:
        file = fake_desk.layout.desk / "desk.toml"
        more = f'url = "{sim.url}"\nkey_env = "THE_KEY"\nsecret_env = "THE_SECRET"'
        file.write_text(file.read_text().replace('url = "http://127.0.0.1:1"', more))
        env = fake_desk.layout.desk / ".env"
        env.write_text(f"THE_KEY={KEY}\nTHE_SECRET={SECRET}\n")
        env.chmod(0o600)
        fake_desk.desk = load_desk(fake_desk.layout.desk)
        for name in fake_desk.services.states:
            fake_desk.services.states[name] = ServiceState.STOPPED
        yield fake_desk, sim, log


def closing_past_the_engine(desk: Any) -> Closing:
    closing: Closing = desk.closing()
    closing.venues = Clerk(desk.layout, desk.desk, quiet)
    closing.sight = Sight(closing.services, closing.voices, closing.venues, closing.last_word.kept)
    return closing


def events_of(log: Path, order: NewOrder) -> list[str]:
    told = [json.loads(line) for line in log.read_text().splitlines()]
    numbers = {e["order_id"] for e in told if e.get("cl_ord_id") == order.cl_ord_id}
    return [e["event"] for e in told if e.get("order_id") in numbers]


async def test_an_order_that_lands_after_the_cancel_had_passed_is_withdrawn_before_it_is_told_so(
    at_a_venue: tuple[Any, VenueThread, Path], journal: Any
) -> None:
    desk, sim, log = at_a_venue
    _strike(sim.url, kind="hang", kinds=["submit"], hold_s=HELD_S, count=1)
    order = far_below(desk.layout.desk_id)
    await send_and_die(desk, sim.url, order)
    assert events_of(log, order) == [], "it hangs"
    closing = closing_past_the_engine(desk)
    (report,) = await Runner(journal, lambda _: None, timeout_s=90).run([CancelOrders(closing)])
    assert report.outcome is Outcome.DONE, report.detail
    assert events_of(log, order) == ["accept", "cancel"]


async def test_one_of_which_an_emergency_stop_has_proven_the_end_is_not_asked_for_again(
    at_a_venue: tuple[Any, VenueThread, Path],
) -> None:
    """The venue never took it, knows no such order, and the engine that would book it is gone. A closing
    took a minute and a half to say that this is not known, and said so at every further one."""
    desk, sim, log = at_a_venue
    _strike(sim.url, kind="timeout_before_accept", kinds=["submit"], hold_s=1, count=1)
    order = far_below(desk.layout.desk_id)
    await send_and_die(desk, sim.url, order)
    clerk = Clerk(desk.layout, desk.desk, quiet)
    (before,) = await clerk.look(timeout_s=60)
    assert before.status == "unknown" and "the venue knows none" in before.why
    desk.layout.live_orders.mkdir()
    note_ended(desk.layout.live_orders, "another", [order.cl_ord_id])
    (before,) = await clerk.look(timeout_s=60)
    assert before.status == "unknown", "at another venue"
    note_ended(desk.layout.live_orders, "sim", [order.cl_ord_id])
    (after,) = await clerk.look(timeout_s=60)
    assert (after.status, after.open_orders) == ("ok", ())
    assert "accept" not in events_of(log, order)


async def test_one_that_never_had_an_answer_has_never_arrived_once_its_time_is_over(
    at_a_venue: tuple[Any, VenueThread, Path], journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an engine and without a stop that had proven it, every closing waited for all of
    `wait_for_orders`, and said that it is not known."""
    desk, sim, log = at_a_venue
    _strike(sim.url, kind="timeout_before_accept", kinds=["submit"], hold_s=1, count=1)
    order = far_below(desk.layout.desk_id)
    await send_and_die(desk, sim.url, order)
    clerk = Clerk(desk.layout, desk.desk, quiet)
    (before,) = await clerk.look(timeout_s=60)
    assert before.status == "unknown" and "may arrive for" in before.why
    assert before.ended == ()
    monkeypatch.setattr("openbell.controller.clerk.LANDS_WITHIN_S", 0.0)
    clerk = Clerk(desk.layout, desk.desk, quiet)
    (after,) = await clerk.look(timeout_s=60)
    assert (after.status, after.open_orders, after.ended) == ("ok", (), (order.cl_ord_id,))
    closing = closing_past_the_engine(desk)
    closing.wishes = replace(closing.wishes, wait_for_orders_s=60.0)
    (report,) = await Runner(journal, lambda _: None, timeout_s=90).run([WaitForOrders(closing)])
    assert (report.outcome, report.detail) == (Outcome.DONE, "no order is pending")
    assert "accept" not in events_of(log, order)
