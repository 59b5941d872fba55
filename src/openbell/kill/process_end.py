"""Phase 5 of an emergency stop: what is frozen is killed, what was asked to end is awaited, and what was
started meanwhile is found."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field

from openbell.kill.emergency_statement import EndedService
from openbell.kill.ending import OUTLIVED, kill_frozen
from openbell.kill.holding import LOOSE_S, Holding
from openbell.kill.marker import OUTSIDE
from openbell.kill.own_processes import OwnProcesses

_log = logging.getLogger(__name__)


@dataclass
class ProcessEnd:
    own: OwnProcesses
    holding: Holding
    problems: list[str]
    """What did not go as it should is added here."""
    late: list[str] = field(default_factory=list)
    """Services that may send, and were started after the freeze."""
    doubt: str = ""
    """What a person has to do, where it is not known whether there are such."""

    async def end(self, others: asyncio.Task[list[EndedService]]) -> tuple[EndedService, ...]:
        """`others`: those that were asked to end, as `stop_others` has it. Raises nothing."""
        gone = {each.service: each for each in self.holding.killed}
        names = self.holding.frozen_names
        gone |= await self._killed(kill_frozen(self.own, names), names)
        gone |= {each.service: each for each in await others}
        gone |= await self._last_look()
        return tuple(gone[name] for name in sorted(gone))

    async def _last_look(self) -> dict[str, EndedService]:
        """Whatever was started while the stop was under way, and is not the outside world, is killed."""
        try:
            left = {n: each for n, each in self.own.look().items() if each.role not in OUTSIDE}
            frozen = self.holding.frozen_pids
            self.late = [n for n, each in left.items() if each.may_send and set(each.pids) - frozen]
            pids = [pid for name in self.late for pid in left[name].pids]
        except Exception as error:  # noqa: BLE001 - told, and nothing is verified then
            _log.exception("what is left was not looked for")
            why = f"it was not looked for what was started meanwhile: {type(error).__name__}"
            self.problems.append(why)
            self.doubt = f"{why}; see that no process of the desk is left, and press again"
            return {}
        if not left:
            return {}
        if pids:
            await self.holding.hold_registers(pids, LOOSE_S)
        ended = await self._killed(kill_frozen(self.own, left), left)
        # One with a SIGKILL runs no instruction of its own any more.
        at_large = [n for n in self.late if (each := ended.get(n)) and _may_act(each)]
        if at_large:
            names = ", ".join(at_large)
            self.doubt = f"{names} may still send: end it by hand, and press again"
        return ended

    async def _killed(
        self, killing: Awaitable[list[EndedService]], names: Iterable[str]
    ) -> dict[str, EndedService]:
        try:
            return {each.service: each for each in await killing}
        except Exception as error:  # noqa: BLE001 - told, and stops nothing
            _log.exception("processes were not killed")
            self.problems.append(f"processes were not killed: {type(error).__name__}")
            return _not_ended(names, f"it was not killed: {type(error).__name__}")


def _may_act(ended: EndedService) -> bool:
    return ended.result == "left" and ended.why != OUTLIVED


def _not_ended(names: Iterable[str], why: str) -> dict[str, EndedService]:
    """Of services of which nobody has seen the end."""
    return {name: EndedService(service=name, result="left", why=why) for name in names}
