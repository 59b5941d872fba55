"""Phase 5 of an emergency stop: what is frozen is killed, what was asked to end is awaited, and what was
started meanwhile is found."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field

from openbell.kill.emergency_statement import EndedService
from openbell.kill.ending import kill_frozen
from openbell.kill.holding import Holding
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

    async def end(self, others: asyncio.Task[list[EndedService]]) -> tuple[EndedService, ...]:
        """`others`: those that were asked to end, as `stop_others` has it. Raises nothing."""
        gone = {each.service: each for each in self.holding.killed}
        names = self.holding.frozen_names
        gone |= {each.service: each for each in await self._killed(kill_frozen(self.own, names))}
        gone |= {each.service: each for each in await others}
        gone |= {each.service: each for each in await self._killed(self._last_look())}
        return tuple(gone[name] for name in sorted(gone))

    async def _last_look(self) -> list[EndedService]:
        """Whatever was started while the stop was under way, and is not the outside world, is killed."""
        left = {n: each for n, each in self.own.look().items() if each.role not in OUTSIDE}
        frozen = self.holding.frozen_pids
        self.late = [n for n, each in left.items() if each.may_send and set(each.pids) - frozen]
        self.holding.hold_registers(pid for name in self.late for pid in left[name].pids)
        return await kill_frozen(self.own, left) if left else []

    async def _killed(self, killing: Awaitable[list[EndedService]]) -> list[EndedService]:
        try:
            return await killing
        except Exception as error:  # noqa: BLE001 - told, and stops nothing
            _log.exception("processes were not killed")
            self.problems.append(f"processes were not killed: {type(error).__name__}")
            return []
