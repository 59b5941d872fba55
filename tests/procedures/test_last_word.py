"""What the venues said last is believed of a simulated venue that is down, while nothing that could have
changed it has run; everybody else is asked again."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from openbell.config.loader import parse_desk
from openbell.config.models import LoadedDesk
from openbell.config.procedures import ExtraStep
from openbell.domain.service_state import ServiceState
from openbell.kill.marker import set_marker
from openbell.procedures.closing import closing_steps
from openbell.procedures.closing.statement import Statement, closing_statement
from openbell.procedures.command_step import CommandStep, environment_of
from openbell.procedures.run import Runner
from openbell.state.last_word import a_sender_starts
from openbell.venues.asking import VenueAnswer


async def close(desk: Any, journal: Any, **wishes: Any) -> Statement:
    closing = desk.closing(**wishes)
    for step in (steps := closing_steps(closing)):
        if step.name in ("cancel_orders", "flatten"):
            step.timeout_s = 0.3  # type: ignore[misc]
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=10)
    return await closing_statement(closing, await runner.run(steps))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    from openbell.procedures.closing import cancel_orders, flatten, wait_for_orders

    monkeypatch.setattr(cancel_orders, "_RETRY_S", 0.01)
    monkeypatch.setattr(flatten, "_RETRY_S", 0.01)
    monkeypatch.setattr(wait_for_orders, "_POLL_S", 0.01)


async def cut_off(desk: Any, make_journal: Any, killed: Any, line: str, **wishes: Any) -> None:
    journal = make_journal(dies_after=line)
    with pytest.raises(killed):
        await close(desk, journal, **wishes)
    desk.earlier = journal.ended


async def test_an_engine_that_was_started_since_makes_the_venues_be_asked_again(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """Cut off after the services were stopped; a person starts the engine by hand; the closing is gone
    on with, and as the engine stops an order of it lands. It ended as verified, without a look at the
    venue, while the order rested there."""
    await cut_off(fake_desk, make_journal, killed, "done stop_services")
    a_sender_starts(fake_desk.layout)  # as the controller does before each such start
    fake_desk.services.states["engine"] = ServiceState.READY
    stop = fake_desk.services.stop

    async def stop_and_leak(name: str, *, reason: str) -> Any:
        if name == "engine":
            fake_desk.venue.orders[fake_desk.own_order(9)] = True
        return await stop(name, reason=reason)

    fake_desk.services.stop = stop_and_leak
    fake_desk.venue.errands = 0
    statement = await close(fake_desk, make_journal())
    assert fake_desk.venue.errands > 0
    assert set(fake_desk.venue.orders) == {"someone-else"}, "it was withdrawn"
    assert statement.verified and statement.left_nothing, statement.summary


async def test_what_was_said_before_a_sender_that_this_closing_stops_itself_is_over(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """Whoever started it has not said so on the disk. The venue is down, so nobody knows."""
    await cut_off(fake_desk, make_journal, killed, "done stop_venues")
    fake_desk.services.states["engine"] = ServiceState.READY
    statement = await close(fake_desk, make_journal())
    assert fake_desk.services.states["engine"] is ServiceState.STOPPED
    assert statement.document["unknown"] and not statement.verified


async def test_what_ran_since_is_asked_about_though_the_venue_is_gone(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """Nobody knows what rests there: that is not proven."""
    await cut_off(fake_desk, make_journal, killed, "done stop_venues")
    a_sender_starts(fake_desk.layout)
    statement = await close(fake_desk, make_journal())
    assert not statement.verified and statement.document["unknown"]
    assert not statement.left_nothing


async def test_after_an_emergency_stop_the_last_word_is_not_believed(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """It may have closed positions since."""
    await cut_off(fake_desk, make_journal, killed, "done stop_venues")
    set_marker(fake_desk.layout, "odd fills", "eve")
    statement = await close(fake_desk, make_journal())
    assert not statement.verified and statement.document["unknown"]


async def test_a_process_that_may_send_and_nobody_supervises_counts(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    await cut_off(fake_desk, make_journal, killed, "done stop_venues")
    closing = fake_desk.closing()
    assert (await closing.last_word.kept()).picture is not None
    closing.last_word.marked = lambda: {4711: "engine"}
    assert (await closing.last_word.kept()).picture is None
    closing.last_word.marked = lambda: {4711: "feed"}
    assert (await closing.last_word.kept()).picture is not None


async def test_a_later_closing_of_a_closed_desk_believes_it_too(
    fake_desk: Any, journal: Any, make_journal: Any
) -> None:
    """Orders were kept; the simulated venue is down since."""
    kept = set(fake_desk.venue.orders)
    first = await close(fake_desk, journal, flatten="keep", orders="keep")
    assert first.verified
    again = await close(fake_desk, make_journal(), flatten="keep", orders="keep")
    assert again.document["unknown"] == [] and again.document["asked"] == "venue"
    assert {row["cl_ord_id"] for row in again.document["remaining_orders"]} == kept
    cancelling = await close(fake_desk, make_journal(), flatten="keep")
    assert "2 orders" in cancelling.summary and not cancelling.verified
    assert {row["cl_ord_id"] for row in cancelling.document["remaining_orders"]} == kept


class TwoVenues:
    """`procedures.ports.VenueTruth`: the simulated one of the desk, and a real one beside it."""

    def __init__(self, sim: Any) -> None:
        self.sim = sim
        self.own: tuple[Any, ...] = ()
        self.asked: list[frozenset[str]] = []

    async def look(
        self, *, timeout_s: float, but: Collection[str] = (), fills_since_ns: int | None = None
    ) -> Sequence[VenueAnswer]:
        self.asked.append(frozenset({"sim", "real"} - set(but)))
        said = [] if "sim" in but else list(await self.sim.look(timeout_s=timeout_s))
        return [*said, VenueAnswer(name="real", status="ok", open_orders=self.own)]

    async def cancel(self, *, timeout_s: float, but: Collection[str] = ()) -> Sequence[VenueAnswer]:
        self.own = ()
        if "sim" not in but:
            await self.sim.cancel(timeout_s=timeout_s)
        return await self.look(timeout_s=timeout_s, but=but)


def with_a_real_venue(desk: Any) -> TwoVenues:
    text = desk.desk.path.read_text() + (
        '[venues.real]\nadapter = "kraken"\nenvironment = "live"\nallow_live = true\n'
        'symbols = ["ETH/USDT"]\nkey_env = "KEY"\nsecret_env = "SECRET"\n'
    )
    path = Path(desk.desk.path)
    file = parse_desk(text.encode(), path)
    desk.desk = LoadedDesk(file=file, path=path, digest="1" * 64)
    venues = TwoVenues(desk.venue)
    desk.venue = venues
    return venues


async def test_a_real_venue_is_asked_again_and_a_simulated_one_that_is_down_believed(
    fake_desk: Any, make_journal: Any, killed: Any
) -> None:
    """Cut off overnight: what is told of an exchange is what it says now."""
    venues = with_a_real_venue(fake_desk)
    sim = venues.sim
    await cut_off(fake_desk, make_journal, killed, "done stop_venues")
    late = (await sim_order(sim, fake_desk.own_order(7)),)
    venues.own, venues.asked = late, []
    statement = await close(fake_desk, make_journal())
    assert venues.asked and set(venues.asked) == {frozenset({"real"})}
    assert venues.own == (), "what it told of was withdrawn"
    assert statement.verified, statement.summary


async def sim_order(sim: Any, name: str) -> Any:
    """As a venue tells it."""
    import msgspec

    sim.services.states["venue"] = ServiceState.READY
    sim.orders = {name: True}
    (answer,) = await sim.look(timeout_s=1)
    sim.services.states["venue"] = ServiceState.STOPPED
    sim.orders = {}
    return msgspec.structs.replace(answer.open_orders[0], venue="real")


@pytest.mark.parametrize("sends", [False, True])
async def test_what_is_sent_after_the_last_word_is_asked_about_again(
    fake_desk: Any, journal: Any, sends: bool
) -> None:
    """A command of the desk's own that is given a key, after `stop_services`: what it sent rested at the
    venue, and the closing ended as verified by what had been said before."""
    closing = fake_desk.closing()

    def may_send() -> None:
        closing.may_send()
        if sends:
            fake_desk.venue.orders[fake_desk.own_order(9)] = True

    extra = ExtraStep(
        name="pay", command=("touch", "done"), verify=("test", "-e", "done"), secrets=("KEY",),
        after="stop_services",
    )  # fmt: skip
    layout = fake_desk.layout
    layout.desk.mkdir(exist_ok=True)
    environment = environment_of(extra, layout, os.environ, {}, "close-1", "")
    pay = CommandStep(extra, layout, environment, fake_desk.effects, str, may_send)
    steps = [*closing_steps(closing)]
    names = [step.name for step in steps]
    # The venue can be asked to the end, as a real one can; this one's process is then no leftover.
    steps[names.index("stop_venues")] = pay
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=60)
    reports = await runner.run(steps)
    assert [left["service"] for left in closing.processes_left or ()] == ["venue"]
    closing.processes_left = ()
    statement = await closing_statement(closing, reports)
    assert (layout.desk / "done").exists()
    own = [row for row in statement.document["remaining_orders"] if row["own"]]
    assert len(own) == sends and statement.verified is not sends, statement.summary
    assert not statement.left_nothing


async def test_what_was_left_at_work_and_cannot_be_looked_for_is_not_proven_gone(
    fake_desk: Any, journal: Any
) -> None:
    def at_work() -> Any:
        raise OSError("Input/output error")

    closing = fake_desk.closing()
    closing.at_work = at_work
    runner = Runner(journal, lambda _: None, on_report=closing.note, timeout_s=60)
    statement = await closing_statement(closing, await runner.run(closing_steps(closing)))
    assert statement.services_stopped and not statement.verified
    assert "left at work is not known: Input/output error" in statement.summary
