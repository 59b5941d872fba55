"""Two presses: whoever comes second follows the first, takes over from it, or goes on beside it.

    the lock is free ─▶ ours
    it is held ─▶ follow ─▶ its statement, where it does all that is asked for here
                    ├▶ it has died, or stands still and was ended ─▶ ours
                    ├▶ it stands still and cannot be ended ─▶ beside it
                    └▶ it does less than is asked for here ─▶ beside it, after NARROWER_S

What always holds: of any number of stops at most one closes positions (`flatten_turn`). Cancels go out
from any number of them: that does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.errors import StorageError
from openbell.kill.aside import aside
from openbell.kill.course import POLL_S, Following, Tell, Turn, ended, still_holds, turns
from openbell.kill.emergency_statement import EmergencyStatement
from openbell.kill.flatten_turn import FlattenTurn
from openbell.kill.patient_lock import PatientLock
from openbell.kill.request import EmergencyRequest
from openbell.kill.stuck import NotKilledError, Stuck, Watch

NARROWER_S = 1.0
"""How long a wider stop waits for a narrower one that is under way, before it goes on beside it."""

_log = logging.getLogger(__name__)


class Joining:
    def __init__(
        self, layout: DeskLayout, request: EmergencyRequest, problems: list[str], hear: Tell
    ) -> None:
        """`problems`: what did not go as it should is added there. `hear`: raises nothing."""
        self.layout = layout
        self.request = request
        """What is left of it: closing positions may be left out."""
        self.problems = problems
        self.turn = Turn(layout)
        self.flattening = FlattenTurn(layout)
        self._beside = PatientLock(layout.emergency_beside_lock)
        self._holding: asyncio.Task[None] | None = None
        self.took_over = ""
        self.not_closed = ""
        """Why this stop closes no positions, though it was asked to."""
        self._hear = hear

    def give_back(self) -> None:
        self._give_back_beside()
        self.flattening.give_back()
        self.turn.give_back()

    async def leave(self, *, ended: bool) -> None:
        """`ended`: False: a task of this stop goes on, and may close positions. Then nobody else does, for as
        long as this process lives: its turn is free, for who only cancels does no harm."""
        if ended or not self.request.flatten:
            self.give_back()
            return
        await self.flattening.take()
        self._give_back_beside()
        self.turn.give_back()

    def _go_beside(self) -> None:
        """So that this stop is under way for whoever asks, also once the one that has the turn has ended."""
        self._holding = asyncio.create_task(self._hold_beside())

    async def _hold_beside(self) -> None:
        """Another one may go on beside it as well, and who asks holds it for a moment: it comes after these.
        A disk that takes no lock keeps nobody from stopping."""
        with contextlib.suppress(StorageError):
            while not await self._beside.take():  # noqa: ASYNC110 - a lock tells nobody that it is free
                await asyncio.sleep(POLL_S)

    def _give_back_beside(self) -> None:
        if self._holding is not None:
            self._holding.cancel()
        self._beside.give_back()

    async def joined(self) -> EmergencyStatement | None:
        """The statement of whoever carries out the same already. None: it is ours to carry out."""
        following = Following(self.layout.emergency)
        watch = Watch(self.layout.emergency_lock)
        covered = True
        both_flatten = over = False
        now_s = asyncio.get_running_loop().time
        since_s = now_s()
        async for ours in turns(self.turn):
            # Of a course that was followed; a lock that is free from the start has none.
            news = await following.news() if not ours or following.name else []
            for event in news:
                if event.get("event") == "begun":
                    covered, both_flatten = self._compare(event)
                self._hear({**event, "joined": following.name})
                stated = ended([event])
                over = stated is not None
                if stated is None or not covered:
                    continue
                theirs = self._read(stated, following.name)
                if theirs is not None and await still_holds(self.layout, stated):
                    return theirs
            if ours:
                self.took_over = "" if over else following.name or self.took_over
                if self.request.flatten and self.turn.unanswered:
                    self._close_none(f"{self.turn.problem}, and another stop may close them")
                elif self.request.flatten and await self.flattening.is_anothers():
                    self._close_none("a stop that went on beside another one closes them")
                return None
            beside_s = now_s() - since_s
            if (
                not covered
                and not both_flatten
                and beside_s > NARROWER_S
                and await self._may_go_beside(
                    lambda: _is_held_by(watch, following, following.began),
                    patient=beside_s < 2 * NARROWER_S,
                )
            ):
                self.problems.append("a narrower stop was under way: this one went on beside it")
                self._go_beside()
                return None
            stuck = watch.look(now_s(), following.began)
            if stuck is not None and not await self._end_stuck(
                watch, stuck, following, both_flatten
            ):
                self._go_beside()
                return None
        return None

    def _read(self, stated: Mapping[str, Any], course: str) -> EmergencyStatement | None:
        """None: another version wrote it, and what cannot be read proves nothing: it is done again."""
        try:
            return EmergencyStatement.from_wire(dict(stated), joined=True)
        except ValueError:
            _log.warning("the statement of course %s cannot be read", course)
            self.problems.append(
                f"the statement of course {course} cannot be read: it counts as none, and was not joined"
            )
            return None

    async def _end_stuck(
        self, watch: Watch, stuck: Stuck, following: Following, both_flatten: bool
    ) -> bool:
        """Whether its turn may be waited for now; else this stop goes on without it."""
        told = f"process {stuck.pid} carried out a stop and stands still ({stuck.why})"
        _log.error("%s: it is killed", told)
        self._hear({"event": "stuck", "pid": stuck.pid, "why": stuck.why})

        def same() -> bool:
            return _is_held_by(watch, following, (stuck.pid, stuck.start))

        try:
            gone = await aside(lambda: watch.end(stuck, following.began))
        except NotKilledError as error:
            self.problems.append(f"{told}; {error}: this stop goes on beside it")
            if both_flatten or (self.request.flatten and not following.name):
                # Should it go on after all, two would sell at the same time.
                self._close_none(f"{told}, and may go on: end it by hand")
            await self._may_go_beside(same, patient=False)
            return False
        self.took_over = following.name
        if gone:
            self.problems.append(f"{told}: it was killed")
            return True
        # Nothing of it runs again; but others may find it so as well.
        if not await self._may_go_beside(same, patient=True):
            return True
        self.problems.append(
            f"{told}: it was killed, and the kernel has not ended it: this stop goes on beside it"
        )
        return False

    async def _may_go_beside(self, same: Callable[[], bool], *, patient: bool) -> bool:
        """Whether this stop goes on without its turn: one that closes positions does so under the second
        lock only, and while the first has not changed hands (`same`); else it closes none, or, where it is
        `patient`, looks who has the first now."""
        if not self.request.flatten:
            return True
        why = await self.flattening.take()
        if not why and not same():
            self.flattening.give_back()
            if patient:
                return False
            why = "it is not known who else closes them"
        if why:
            self._close_none(why)
        return True

    def _close_none(self, why: str) -> None:
        self.request = msgspec.structs.replace(self.request, flatten=False)
        self.not_closed = f"positions are not closed: {why}; press again once it has ended"

    def _compare(self, begun: Mapping[str, Any]) -> tuple[bool, bool]:
        """Whether the stop under way does all that is asked for here; whether both would flatten,
        which must not be done by two at the same time."""
        try:
            other = EmergencyRequest.from_wire(begun.get("request") or {})
        except ValueError:
            return False, True
        return other.covers(self.request), other.flatten and self.request.flatten


def _is_held_by(watch: Watch, following: Following, who: tuple[int, int] | None) -> bool:
    """For certain."""
    return who is not None and watch.holder(following.began) == who
