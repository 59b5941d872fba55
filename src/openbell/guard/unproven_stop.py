"""Goes on with emergency stops that ended without proof, whoever carried them out: a venue that hung then
may answer now, and orders rest there. Cancels what the stop was to cancel, and asks, until it is proven, with
longer and longer pauses; a person who releases a latch of that stop ends it.

    look ─▶ owed, due, nobody else at it ─▶ a try, in a task of its own per venue ─▶ noted
                                              └─ looked at again meanwhile ─▶ not owed any more: broken off

What always holds
- Only the desk's own orders, also where the account is the desk's alone or the stop was for the whole
  account: others' orders are withdrawn on a person's word, and that was for that once.
- Where a stop is carried out, or the venue's dead-man's switch withdraws the orders itself, it is left to
  that. A try under way is broken off then, and where a latch is released, at the next look; for a stop in
  this guard at once.
- Nothing is called verified while something lives that may send, as far as the stop was to end it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from openbell.config.duties import ENGINES
from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.errors import OpenbellError, StorageError
from openbell.guard.visiting import given_s, visit_to
from openbell.guard.warm_venue import WarmVenue
from openbell.kill.aside import aside
from openbell.kill.course import under_way
from openbell.kill.live_orders import RegisterOnDisk
from openbell.kill.own_processes import OwnProcesses
from openbell.kill.plan import Scope
from openbell.kill.statement import VenueStatement, together
from openbell.kill.stop_venues import stop_venues
from openbell.kill.unproven_stop import Debt, Debts, note_went_on
from openbell.runtime.records import Records
from openbell.state.kill_log import append_act

LOOK_EVERY_S, LOOK_TRYING_S = 2.0, 0.5
"""Between two looks at what is owed: while nothing is tried, and while something is."""
RETRY_FIRST_S, RETRY_MAX_S = 2.0, 60.0
"""Pauses at one venue, doubled each time: it may be down for hours, and each try takes its budget."""
DISK_S = 2.0
"""For a disk to answer; what it says later was so before, and is asked anew."""
OTHERS_REST = (
    "the desk's own orders are gone; those of others rest, and go by a person's word: press again"
)

_log = logging.getLogger(__name__)


class Switch(Protocol):
    @property
    def is_to_cancel(self) -> bool:
        """The dead-man's switch withdraws orders here itself."""
        ...


class Stops(Protocol):
    """As this guard carries them out."""

    begins: Callable[[], None]

    @property
    def under_way(self) -> bool: ...


class UnprovenStop:
    def __init__(
        self,
        layout: DeskLayout,
        desk: LoadedDesk,
        venues: Mapping[str, WarmVenue],
        switches: Mapping[str, Switch],
        stops: Stops,
        tell: Callable[..., None],
    ) -> None:
        self._layout = layout
        self._desk = desk
        self._debts = Debts(layout, desk)
        self._venues = venues
        self._switches = switches
        self._cancel_timeout_s = desk.file.guard.cancel_timeout
        self._tell = tell
        self._stops = stops
        stops.begins = self.give_way
        self._next: dict[Debt, tuple[float, float]] = {}
        """Not before, and the pause after that."""
        self._at_work: dict[str, str] = {}
        """By venue: what is tried now, or what came of it."""
        self._tries: dict[str, tuple[Debt, asyncio.Task[None]]] = {}
        """By venue, one at a time."""
        self._noting: set[str] = set()
        """Venues whose try sends nothing any more: what it has found is kept, and not broken off."""
        self._told: set[Debt] = set()
        """Whose first try is in the log."""
        self._looking: asyncio.Task[tuple[Debt, ...]] | None = None
        self._looking_since_s = 0.0

    @property
    def tries(self) -> bool:
        """Something is tried now."""
        return bool(self._tries)

    def document(self) -> dict[str, str]:
        """By venue that is gone on with."""
        return dict(self._at_work)

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                await asyncio.sleep(LOOK_TRYING_S if self._tries else LOOK_EVERY_S)
                self._act_on(await self._look())
        finally:
            tasks = [task for _, task in self._tries.values()]
            self.give_way("the guard ends")
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tries.clear()

    def give_way(self, why: str = "a stop is carried out") -> None:
        """At once: the venues' budgets are another's."""
        for name in self._tries:
            self._break_off(name, why)

    # --- what is owed --------------------------------------------------------------------------

    async def why_needed(self) -> str:
        """Why this guard is not to end though its desk is closed; empty where no stop is under way, and none
        left it anything to do. Looked for anew: what one left that has just ended is in no `document` yet."""

        def look() -> tuple[bool, tuple[Debt, ...]]:
            stopping = under_way(self._layout)
            owed = Debts(self._layout, self._desk).owed()
            return stopping or under_way(self._layout), owed

        try:
            stopping, owed = await aside(look, DISK_S)
        except (OSError, OpenbellError, TimeoutError):
            return "it is not known whether an emergency stop is proven"
        if stopping:
            return "an emergency stop is under way"
        left = [
            f"stop {debt.course} at {debt.venue}" for debt in owed if debt.venue in self._venues
        ]
        return f"it goes on with {', '.join(left)}" if left else ""

    async def _look(self) -> tuple[Debt, ...] | None:
        """One look at a time, on a disk that may hang; None: it does not say."""
        now_s = asyncio.get_running_loop().time
        if self._looking is None:
            self._looking_since_s = now_s()
            self._looking = asyncio.create_task(aside(self._debts.owed))
        await asyncio.wait([self._looking], timeout=DISK_S)
        if not self._looking.done():
            return None
        looking, self._looking = self._looking, None
        owed = looking.result()
        return owed if now_s() - self._looking_since_s <= DISK_S else None

    def _act_on(self, owed: tuple[Debt, ...] | None) -> None:
        if self._stops.under_way:
            owed = ()
        for name, (debt, task) in tuple(self._tries.items()):
            if task.done():
                del self._tries[name]
                if not task.cancelled():
                    task.result()
            elif owed is None:
                self._break_off(name, "the disk does not say whether it is latched")
            elif debt not in owed:
                self._break_off(name, "it is owed no more, or a stop is carried out")
            elif self._switches[name].is_to_cancel:
                self._break_off(name, "left to its dead-man's switch")
        if owed is None:
            return
        self._next = {debt: at for debt, at in self._next.items() if debt in owed}
        self._told &= set(owed)
        named = {*(debt.venue for debt in owed), *self._tries}
        self._at_work = {name: text for name, text in self._at_work.items() if name in named}
        for debt in owed:
            if debt.venue not in self._tries and self._is_due(debt):
                self._at_work[debt.venue] = f"going on with stop {debt.course}"
                task = asyncio.create_task(self._try(debt), name=f"stop {debt.course}")
                self._tries[debt.venue] = debt, task

    def _is_due(self, debt: Debt) -> bool:
        held = self._venues.get(debt.venue)
        if held is None or held.venue is None or self._switches[debt.venue].is_to_cancel:
            return False
        not_before_s, _ = self._next.get(debt, (0.0, 0.0))
        return asyncio.get_running_loop().time() >= not_before_s

    def _break_off(self, name: str, why: str) -> None:
        debt, task = self._tries[name]
        if not task.done() and not task.cancelling() and name not in self._noting:
            task.cancel()
            self._at_work[name] = f"stop {debt.course} is not gone on with now: {why}"

    # --- a try ---------------------------------------------------------------------------------

    async def _try(self, debt: Debt) -> None:
        name = debt.venue
        if debt not in self._told:
            self._told.add(debt)
            self._tell("stop_gone_on", venue=name, course=debt.course)
            await self._record(debt, "begun")
        try:
            stated = await self._stopped(debt)
        finally:
            _, pause_s = self._next.get(debt, (0.0, RETRY_FIRST_S))
            now_s = asyncio.get_running_loop().time()
            self._next[debt] = now_s + pause_s, min(RETRY_MAX_S, 2 * pause_s)
        why = f": {stated.why}" if stated.why else ""
        again = "" if stated.result == "verified" else f"; again in {pause_s:g} s"
        self._at_work[name] = f"{stated.result}{why}{again}"
        self._noting.add(name)
        try:
            await aside(lambda: note_went_on(self._layout, debt, stated), DISK_S)
            if stated.result == "verified":
                self._tell("stop_proven", venue=name, course=debt.course)
                await self._record(debt, stated.result)
        except (TimeoutError, StorageError):
            return  # it is found out once more
        finally:
            self._noting.discard(name)

    async def _record(self, debt: Debt, result: str) -> None:
        """In the kill switch's own log: no controller may be there to have it audited."""
        detail = {"course": debt.course, "venue": debt.venue, "result": result, "by_guard": True}
        path = self._layout.kill_switch_log
        try:
            await aside(lambda: append_act(path, "guard", "emergency.went_on", detail), DISK_S)
        except (TimeoutError, StorageError) as error:
            self._tell("not_recorded", why=str(error) or "the disk does not answer")

    async def _stopped(self, debt: Debt) -> VenueStatement:
        held = self._venues[debt.venue]
        # Not even where the account is the desk's alone: what rests there since may be a person's.
        not_all = held.config.model_copy(update={"exclusive": False})
        visit = await visit_to(held, self._layout, DISK_S, not_all)
        at_large = await self._at_large(debt)
        others_too = debt.account_wide or held.config.exclusive
        register = RegisterOnDisk(self._layout.live_orders)
        parts: list[VenueStatement] = []
        for symbol in debt.symbols:
            found = await stop_venues(
                [visit],
                desk_id=self._layout.desk_id,
                timeout_s=given_s(visit, self._cancel_timeout_s),
                scope=Scope(symbol=symbol),
                quiet=asyncio.Event() if at_large else None,  # never set: it proves nothing
                register=register,
            )
            parts += [_with_others(each, symbol) if others_too else each for each in found]
        stated = together(parts)
        at_large = at_large or await self._at_large(debt)
        if at_large and stated.result == "verified":
            stated = msgspec.structs.replace(stated, result="unknown", why="none is listed")
        if at_large:
            stated = msgspec.structs.replace(stated, why=f"{stated.why}; {at_large}")
        return stated

    async def _at_large(self, debt: Debt) -> str:
        """What of the desk lives and may send, though the stop was to end it; empty for nothing. Engines look
        at the latch before each order, and those of a desk that is stopped in part only go on."""
        if not debt.whole_desk:
            return ""
        try:
            names, unreadable = await aside(lambda: _senders(self._layout), DISK_S)
        except (OSError, TimeoutError):
            return "it is not known whether something of the desk sends: the disk does not say"
        if names:
            return f"alive, and may send: {', '.join(names)}"
        if unreadable:
            return (
                f"it is not known whether something of the desk sends: {unreadable} cannot be read"
            )
        return ""


def _senders(layout: DeskLayout) -> tuple[list[str], str]:
    """Services that may send and do not look at the latch; and which records tell nothing. Raises OSError."""
    _, unreadable = Records(layout.records).read_all()
    own = OwnProcesses(layout)
    alive = own.look()
    if own.unread:
        raise TimeoutError
    names = [each.name for each in alive.values() if each.may_send and each.role not in ENGINES]
    return sorted(names), ", ".join(path.name for path in unreadable)


def _with_others(stated: VenueStatement, symbol: str | None) -> VenueStatement:
    """As much as it says of a stop that was to withdraw others' orders, too."""
    others = tuple(each for each in stated.spared if symbol in (None, each.symbol))
    if stated.result != "verified" or not others:
        return stated
    spared = tuple(each for each in stated.spared if each not in others)
    return msgspec.structs.replace(
        stated,
        result="residual",
        orders=others,
        spared=spared,
        why=OTHERS_REST,
        by_hand=OTHERS_REST,
    )
