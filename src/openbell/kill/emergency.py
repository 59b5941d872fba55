"""The emergency stop: five phases, carried out by whoever is asked: guard, command line or a
process of its own.

    1  latch, marker ─▶ freeze what can send ─┐
    2  cancel at every venue ◀── at once ─────┤  riskiest first, each venue by its fastest means
    3  verify: two empty lists, both after ◀──┘  `quiet`
    4  quick checkpoint, without the database
    5  kill what is frozen; ask the others to end, from the freeze on

What always holds:
- Nothing but the venues' own answers makes `verified`.
- The latch is set before anything else, and is asked of a disk that may hang for so long and no
  longer; an engine that is frozen needs no latch, and one that is latched no freeze.
- A disk that is full, a desk file that is broken, a venue that hangs: each costs what it is needed
  for, is told, and stops nothing else.
- It may be killed at any moment: whoever follows it, or the next who asks, observes and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.domain.scopes import ScopeKind, undeclared
from openbell.errors import StorageError
from openbell.kill.aside import aside
from openbell.kill.course import Course, Tell
from openbell.kill.emergency_statement import (
    CheckpointMade,
    EmergencyStatement,
    EndedService,
    StrategyStatement,
)
from openbell.kill.ending import KILL_TIMEOUT_S, longest_end_s, stop_others
from openbell.kill.equipment import Equipment, NotAtHandError, Pairs, ReadyEquipment
from openbell.kill.freezing import FREEZE_TIMEOUT_S
from openbell.kill.holding import LATCH_TIMEOUT_S, LOOSE_S, Holding
from openbell.kill.joining import Joining
from openbell.kill.latencies import read_latencies
from openbell.kill.own_processes import OwnProcesses
from openbell.kill.process_end import ProcessEnd
from openbell.kill.progress import Progress, StandsStillError
from openbell.kill.request import EmergencyRequest, visits_of
from openbell.runtime.processes import system_processes
from openbell.state.order_latency import SeenLatencies

if TYPE_CHECKING:
    from openbell.config.models import LoadedDesk
    from openbell.kill.flatten_record import EarlierOrders
    from openbell.kill.live_orders import Register
    from openbell.kill.statement import VenueStatement
    from openbell.venues.port import Venue

__all__ = [
    "EmergencyRequest",
    "EmergencyStatement",
    "carry_out",
    "emergency_stop",
]

OTHERS_AFTER_S = 0.5
"""How long services that cannot send wait to be asked to end, unless every venue is done before: what
they do on their way out would compete with the cancels for the processor."""
CHECKPOINT_TIMEOUT_S = 5.0
HELD_S = 2 * LATCH_TIMEOUT_S + FREEZE_TIMEOUT_S + LOOSE_S + KILL_TIMEOUT_S
LOADED_S = 10.0
"""For adapters, by whoever has nothing at hand; a second of processor time."""
OVERTIME_S = 0.5
"""As of each visit."""
LET_GO_S = 2.0
"""For a stop that hangs in a task to end, once it is cancelled."""
ORDERS_PER_VENUE = 1_000_000

_log = logging.getLogger(__name__)


def _hear_nothing(_event: Mapping[str, Any]) -> None:
    pass


async def emergency_stop(
    layout: DeskLayout,
    desk: LoadedDesk,
    credentials: Pairs,
    request: EmergencyRequest,
    *,
    warm: Mapping[str, Venue] | None = None,
    settle_s: Mapping[str, float] | None = None,
    tell: Tell = _hear_nothing,
    stands_still: Callable[[str], None] = lambda _: None,
) -> EmergencyStatement:
    """For the guard, which has everything at hand. `credentials`: as of `closing_credentials`, for
    venues that are not `warm`. `settle_s`: the longest order latency that was seen, by venue.
    Never raises for what a disk, a venue or a process does, but as `carry_out` does."""
    equipment = ReadyEquipment(desk, credentials, warm, settle_s)
    return await carry_out(layout, request, equipment, tell, stands_still)


async def carry_out(
    layout: DeskLayout,
    request: EmergencyRequest,
    equipment: Equipment,
    tell: Tell,
    stands_still: Callable[[str], None] = lambda _: None,
) -> EmergencyStatement:
    """Carries it out, or follows whoever does already, and takes over should that one die. Raises
    StandsStillError where something in it hangs: then its turn is free. `stands_still`: told so before."""
    stop = _Stop(layout, request, equipment, tell)
    work = asyncio.create_task(stop.whole())
    watching = asyncio.create_task(stop.progress.watch())
    still = ""
    try:
        await asyncio.wait({work, watching}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        still = watching.result()
        _log.error("the stop stands still: %s", still)
        stands_still(still)
        raise StandsStillError(still)
    finally:
        watching.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work}, timeout=LET_GO_S)
        if not still:
            await asyncio.wait({asyncio.create_task(stop.settled())}, timeout=HELD_S)
        elif stop.course is not None:
            stop.course.add("left", why=still)
            await stop.course.close()
        await stop.joining.leave(ended=work.done())
        stop.holding.close()
        await equipment.close()


@dataclass
class _Stop:
    layout: DeskLayout
    request: EmergencyRequest
    equipment: Equipment
    tell: Tell

    def __post_init__(self) -> None:
        self.own = OwnProcesses(self.layout)
        self.problems: list[str] = []
        self.holding = Holding(self.layout, self.request, self.own, self.problems)
        self.ending = ProcessEnd(self.own, self.holding, self.problems)
        self.began_s = asyncio.get_running_loop().time()
        self.began_at = datetime.now(UTC)
        self.unread = ""
        """What a person has to do, where it is not known which venues the register names."""
        self.joining = Joining(self.layout, self.request, self.problems, self._hear)
        self._visited = asyncio.Event()
        """Every venue is done."""
        self.desk_name = ""
        self.flatten_epoch: int | None = None
        self.sent_before: EarlierOrders | None = None
        """Flattening orders of stops before this one; None: not known."""
        self.register: Register | None = None
        """Of the orders that engines have sent; made once what it takes is loaded."""
        self.latencies = SeenLatencies()
        """The longest that an order took, as the engine has seen it."""
        self.progress = Progress()
        self.course: Course | None = None
        """Once it is begun."""

    async def whole(self) -> EmergencyStatement:
        await self.hold()
        return await self.joined() or await self.carry()

    # --- 1: nothing more is sent ---------------------------------------------------------------

    async def hold(self) -> None:
        """Latch, marker, freeze; also for whoever then only follows: it repeats nothing. The freeze
        goes on beside the rest, unless what the rest needs has to be loaded first."""
        await self.holding.begin()
        if not self.equipment.at_hand:
            await self.settled()

    async def settled(self) -> None:
        with self.progress.step("latch and freeze", HELD_S):
            await self.holding.settled()

    # --- two presses ---------------------------------------------------------------------------

    async def joined(self) -> EmergencyStatement | None:
        """The statement of whoever carries out the same already. None: it is ours to carry out."""
        stated = await self.joining.joined()
        self.request = self.joining.request
        if stated is None:
            return None
        # What was seen while it was waited for, such as a carrier that had to be ended, is in no other's.
        seen = dict.fromkeys((*stated.problems, *self.problems))
        return msgspec.structs.replace(stated, problems=tuple(seen))

    # --- 2 to 5 --------------------------------------------------------------------------------

    async def carry(self) -> EmergencyStatement:
        if self.request.flatten:
            with self.progress.step("what an earlier stop has sold", LATCH_TIMEOUT_S):
                await self._look_back()
        course = self.course = await Course.begin(self.layout.emergency, self._hear)
        course.add(
            "begun",
            course=course.name,
            at=self.began_at.isoformat(),
            pid=os.getpid(),
            start=getattr(system_processes().facts(os.getpid()), "start", None),
            request=self.request.to_wire(),
            took_over=self.joining.took_over,
            flatten_epoch=self.flatten_epoch,
        )
        course.sync()
        if self.joining.turn.problem:
            self.problems.append(self.joining.turn.problem)
        whole = self.request.whole_desk
        others = asyncio.create_task(self._held_then_others(course))
        with self.progress.step("the venues", self._venues_s()):
            venues, strategies, by_hand = await self._venues_and_strategies(course)
        self._visited.set()
        course.sync()
        await self.settled()
        stated = EmergencyStatement(
            course=course.name,
            reason=self.request.reason,
            actor=self.request.actor,
            scopes=tuple(str(scope) for scope in self.request.scopes),
            flatten=self.request.flatten,
            account_wide=self.request.account_wide,
            began=self.began_at.isoformat(),
            took_s=0.0,
            carrier_pid=os.getpid(),
            latch=self.holding.latch,
            frozen=self.holding.frozen,
            venues=venues,
            strategies=strategies,
            by_hand=self._by_hand(by_hand),
        )
        if whole:
            with self.progress.step("the checkpoint", CHECKPOINT_TIMEOUT_S):
                checkpoint = await self._checkpoint(stated)
            course.add("checkpoint", checkpoint=checkpoint)
            stated = msgspec.structs.replace(stated, checkpoint=checkpoint)
            with self.progress.step("the end of processes", longest_end_s(self.own)):
                gone = await self.ending.end(others)
            course.add("processes", services=gone)
            stated = msgspec.structs.replace(stated, ended=gone, by_hand=self._by_hand(by_hand))
            with self.progress.step("the venues, once more", self._venues_s()):
                stated = await self._after_late_ones(course, stated)
        await others
        if course.problem:
            self.problems.append(course.problem)
        took_s = asyncio.get_running_loop().time() - self.began_s
        stated = msgspec.structs.replace(
            stated, took_s=round(took_s, 6), problems=tuple(dict.fromkeys(self.problems))
        )
        course.add("ended", statement=stated.to_wire())
        await course.close()
        return stated

    def _venues_s(self) -> float:
        """Each symbol of a venue has its turn, a second at least, and what it takes is loaded before."""
        turns = max(1, len(self.request.named(ScopeKind.SYMBOL)))
        return LOADED_S + self.request.timeout_s + turns * (1.0 + OVERTIME_S)

    async def _look_back(self) -> None:
        """At what stops before this one may have sold. Nobody else closes positions now."""
        from openbell.kill.flatten_record import earlier_orders, next_epoch

        try:
            self.sent_before = await aside(
                lambda: earlier_orders(self.layout.emergency), LATCH_TIMEOUT_S
            )
        except (OSError, ValueError, TimeoutError) as error:
            _log.error("earlier courses cannot be read: %s", type(error).__name__)
            self.problems.append("it is not known what an earlier stop has sold")
        self.flatten_epoch = next_epoch(self.sent_before)

    async def _venues_and_strategies(
        self, course: Course
    ) -> tuple[tuple[VenueStatement, ...], tuple[StrategyStatement, ...], str]:
        try:
            with self.progress.step("the loading of desk.toml", LOADED_S):
                desk = await self.equipment.desk()
        except NotAtHandError as error:
            self.problems.append(f"the desk file cannot be used: {error}")
            course.add("no_desk", why=str(error))
            by_hand = (
                "no venue was asked, for the desk file does not say which there are: log in at each "
                "venue of the desk and cancel its open orders; mend desk.toml, then press again"
            )
            return (), (), by_hand
        self.desk_name = desk.file.desk.name
        strangers = list(undeclared(self.request.scopes, desk.file))
        self.problems += strangers
        by_hand = (
            "what was named is not in desk.toml, so nothing was asked of it; see the names there, and "
            "press again"
            if strangers
            else ""
        )
        self.latencies = await read_latencies(self.layout.order_latency, LATCH_TIMEOUT_S)
        self.problems += [self.latencies.told] if self.latencies.told else []
        visits = visits_of(self.request, desk)
        strategies = [
            name for name in self.request.named(ScopeKind.STRATEGY) if name in desk.file.strategies
        ]
        found = await asyncio.gather(
            asyncio.gather(
                *(self._venue(course, desk, *each) for each in enumerate(visits.items()))
            ),
            asyncio.gather(*(self._strategy(course, desk, name) for name in strategies)),
        )
        venues = tuple(found[0])
        if self.request.whole_desk:
            venues += await self._not_named(course, desk)
        return venues, tuple(found[1]), by_hand

    async def _not_named(self, course: Course, desk: LoadedDesk) -> tuple[VenueStatement, ...]:
        self.unread = ""
        try:
            from openbell.kill.live_orders import RegisterOnDisk
            from openbell.kill.stop_venues import not_named

            register = self.register or RegisterOnDisk(
                self.layout.live_orders, self.holding.registers
            )
            stated = await not_named(register, desk.file.venues, flatten=self.request.flatten)
        except Exception as error:  # noqa: BLE001 - told, and nothing is verified then
            _log.exception("the register of live orders was not read")
            self.problems.append(f"the register of live orders: {type(error).__name__}")
            self.unread = (
                "it is not known whether orders rest at venues that desk.toml no longer names: look there, "
                "and press again"
            )
            return ()
        for each in stated:
            course.add(
                "venue", what="ended", venue=each.venue, at_ns=time.time_ns(), statement=each
            )
        return stated

    async def _venue(
        self,
        course: Course,
        desk: LoadedDesk,
        place: int,
        wanted: tuple[str, tuple[str | None, ...]],
    ) -> VenueStatement:
        """One venue, on its own: nothing here waits for another."""
        from openbell.kill import statement
        from openbell.kill.events import StopEvent

        name, symbols = wanted
        config = desk.file.venues[name]
        now_s = asyncio.get_running_loop().time
        began_s = now_s()

        def tell(event: StopEvent) -> None:
            told = msgspec.to_builtins(event)
            course.add("venue", what=told.pop("type"), **told)

        try:
            with self.progress.step(f"the loading of {name}", LOADED_S * len(desk.file.venues)):
                visit = await self.equipment.visit(name)  # one after the other
            longest_s = max(visit.settle_s, self.latencies.of(name))
            visit = replace(visit, settle_s=longest_s)
            from openbell.kill.flatten_record import FlattenRecord
            from openbell.kill.live_orders import RegisterOnDisk
            from openbell.kill.plan import Scope as Part
            from openbell.kill.stop_venues import stop_venues

            if self.register is None:
                self.register = RegisterOnDisk(self.layout.live_orders, self.holding.registers)
            before = self.sent_before
            record = FlattenRecord(None if before is None else before.at(name), course.kept)
            parts: list[VenueStatement] = []
            for number, symbol in enumerate(symbols):
                first = place * ORDERS_PER_VENUE + number * (ORDERS_PER_VENUE // 100)
                left_s = max(1.0, self.request.timeout_s - (now_s() - began_s))
                parts += await stop_venues(
                    [visit],
                    desk_id=self.layout.desk_id,
                    timeout_s=left_s,
                    scope=Part(symbol=symbol, account_wide=self.request.account_wide),
                    flatten_epoch=self.flatten_epoch,
                    first_order=first,
                    record=record,
                    quiet=self.holding.quiet,
                    register=self.register,
                    tell=tell,
                )
            return statement.together(parts)
        except NotAtHandError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - without its words: there may be credentials
            _log.error("the stop of %s failed: %s", name, type(error).__name__)
            why = f"the stop itself failed: {type(error).__name__}"
        stated = statement.unvisited(
            name, config, why, flatten=self.request.flatten, took_s=now_s() - began_s
        )
        course.add("venue", what="ended", venue=name, at_ns=time.time_ns(), statement=stated)
        return stated

    async def _strategy(self, course: Course, desk: LoadedDesk, name: str) -> StrategyStatement:
        from openbell.kill.strategy_orders import stop_strategy

        course.add("strategy", what="asked", strategy=name, at_ns=time.time_ns())
        stated = await stop_strategy(
            self.layout, desk.file, name, timeout_s=self.request.timeout_s, quiet=self.holding.quiet
        )
        course.add("strategy", what="ended", strategy=name, at_ns=time.time_ns(), statement=stated)
        return stated

    async def _checkpoint(self, stated: EmergencyStatement) -> CheckpointMade:
        from openbell.kill.quick_checkpoint import save_quickly

        try:
            path = await aside(
                lambda: save_quickly(self.layout, stated, self.desk_name), CHECKPOINT_TIMEOUT_S
            )
            return CheckpointMade(path=str(path))
        except TimeoutError:
            problem = f"the disk took no checkpoint within {CHECKPOINT_TIMEOUT_S:g} s"
        except StorageError as error:
            problem = error.message
        except Exception as error:  # noqa: BLE001 - told, and stops nothing
            _log.exception("no checkpoint")
            problem = f"the checkpoint failed: {type(error).__name__}"
        self.problems.append(f"NO CHECKPOINT: {problem}")
        return CheckpointMade(problem=problem)

    async def _held_then_others(self, course: Course) -> list[EndedService]:
        """Tells how the desk is held, and of a whole one asks the other services to end."""
        await self.settled()
        course.add("latched", latch=self.holding.latch)
        if not self.request.whole_desk:
            return []
        course.add("frozen", services=self.holding.frozen)
        course.sync()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OTHERS_AFTER_S):
                await self._visited.wait()
        try:
            return await stop_others(self.layout, self.own)
        except Exception as error:  # noqa: BLE001 - told, and stops nothing
            _log.exception("services were not ended")
            why = f"services were not ended: {type(error).__name__}"
            self.problems.append(why)
            return [EndedService(service="(services that cannot send)", result="left", why=why)]

    async def _after_late_ones(
        self, course: Course, stated: EmergencyStatement
    ) -> EmergencyStatement:
        """What was started after the freeze, by a controller that had not seen the marker yet, may have
        sent while the venues were asked: they are asked once more, now that it is gone."""
        if not self.ending.late:
            return stated
        names = ", ".join(sorted(self.ending.late))
        self.problems.append(f"started while the stop was under way, killed since: {names}")
        self.register = None  # it is another one by now
        if self.request.flatten:
            # As one stop after another: its own orders are among the earlier ones now.
            kept = await course.kept()
            await self._look_back()
            self.sent_before = self.sent_before if kept else None
        venues, strategies, by_hand = await self._venues_and_strategies(course)
        return msgspec.structs.replace(
            stated, venues=venues, strategies=strategies, by_hand=self._by_hand(by_hand)
        )

    def _by_hand(self, told: str) -> str:
        whys = (told, self.joining.not_closed, self.unread, self.ending.doubt)
        return "; ".join(each for each in whys if each)

    # --- telling -------------------------------------------------------------------------------

    def _hear(self, event: Mapping[str, Any]) -> None:
        try:
            self.tell(event)
        except Exception:  # noqa: BLE001 - the stop goes on
            _log.exception("whoever follows the stop raised")
