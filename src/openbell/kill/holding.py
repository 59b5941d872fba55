"""How an emergency stop sees to it that nothing more is sent: latch, marker, freeze.

    latch, marker ─▶ freeze ─▶ all frozen, or not running ──────────────────────▶ quiet
                        └─▶ one that cannot be frozen is killed ─▶ seen gone ───▶ quiet
                                                  └─▶ nor killed ─▶ an engine: latched for `OBEYED_S` ─▶ quiet
                                                                 └▶ another, or no latch: never quiet

What always holds: `quiet` is set only once nothing can send, and what could be sent before counts from
then. Whoever holds no latch, no freeze and no kill over a service that may send proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from openbell.config.duties import ENGINES
from openbell.config.layout import DeskLayout
from openbell.errors import StorageError
from openbell.kill.aside import aside
from openbell.kill.emergency_statement import EndedService, FrozenService, LatchSet
from openbell.kill.ending import OUTLIVED, kill_frozen
from openbell.kill.freezing import freeze
from openbell.kill.marker import is_begun, set_marker
from openbell.kill.own_processes import OwnProcesses
from openbell.kill.request import EmergencyRequest
from openbell.state.halts import Halt
from openbell.state.latch import Latches, Setting

if TYPE_CHECKING:  # what the latch and the freeze do not need is loaded after them
    from openbell.state.live_orders import HeldRegister

LATCH_TIMEOUT_S = 0.5
"""For a disk that hangs; what is frozen needs no latch."""
OBEYED_S = 0.1
"""From the latch on, for what every engine has looked at it by; what is promised for a latch."""

_log = logging.getLogger(__name__)


@dataclass
class Holding:
    layout: DeskLayout
    request: EmergencyRequest
    own: OwnProcesses
    problems: list[str]
    """What did not go as it should is added here."""
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing can send any more."""
    latch: LatchSet = field(default_factory=lambda: LatchSet(set=False, durable=False))
    frozen: tuple[FrozenService, ...] = ()
    killed: list[EndedService] = field(default_factory=list)
    """What could not be frozen, and was killed at once."""
    held: list[HeldRegister] = field(default_factory=list)
    """Registers that what was frozen has mapped."""
    _setting: asyncio.Task[LatchSet] | None = None
    _holding: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """The latch is set, or tried for as long as a disk is given; the rest goes on beside."""
        self._setting = asyncio.create_task(self._set_latch())
        await asyncio.wait([self._setting], timeout=LATCH_TIMEOUT_S)
        self._holding = asyncio.create_task(self._hold(self._setting))

    async def settled(self) -> None:
        """What holds the desk is never left half done, even by whoever only followed."""
        if self._holding is not None:
            await asyncio.wait([self._holding])

    def hold_registers(self, pids: Iterable[int]) -> None:
        """Before what has them mapped is killed. Blocks for some system calls."""
        from openbell.kill.held_registers import held_registers

        self.held += held_registers(pids)

    def close(self) -> None:
        for each in self.held:
            with contextlib.suppress(OSError):
                os.close(each.fd)
        self.held.clear()

    @property
    def frozen_names(self) -> list[str]:
        return [each.service for each in self.frozen if each.result != "not_running"]

    @property
    def frozen_pids(self) -> set[int]:
        return {pid for each in self.frozen for pid in each.pids}

    # --- one after the other -------------------------------------------------------------------

    async def _hold(self, setting: asyncio.Task[LatchSet]) -> None:
        at_large: list[str] = []
        known = True
        if self.request.whole_desk:
            try:
                self.frozen = await aside(self._freeze)
                at_large = await self._kill_loose()
            except Exception as error:  # noqa: BLE001 - told, and stops nothing
                _log.exception("nothing was frozen")
                self.problems.append(f"nothing was frozen: {type(error).__name__}")
                known = False
        self.latch = await setting
        if self.request.whole_desk and not self.latch.set and not is_begun(self.layout):
            self.problems.append("nothing keeps services from being started: no latch, no marker")
        if self.frozen and known and not at_large:
            self.quiet.set()
        elif self.latch.set and known and self._obey(at_large):
            asyncio.get_running_loop().call_later(OBEYED_S, self.quiet.set)
        else:
            why = ", ".join(at_large) or "no latch"
            self.problems.append(f"nothing keeps the engines from sending: {why}, and not frozen")

    def _freeze(self) -> tuple[FrozenService, ...]:
        frozen = freeze(self.own)
        self.hold_registers(pid for each in frozen for pid in each.pids)
        return frozen

    async def _kill_loose(self) -> list[str]:
        """What could not be frozen would go on sending, and obeys the latch only where it is an engine:
        it is killed now, and not after the venues are asked. Returns what may still be at large."""
        loose = [each for each in self.frozen if each.result == "not_frozen"]
        if not loose:
            return []
        self.problems += [f"{each.service} is not frozen: {each.why}" for each in loose]
        self.killed = await kill_frozen(self.own, [each.service for each in loose])
        # One with a SIGKILL runs no instruction of its own any more, however long the kernel keeps it.
        return [
            each.service for each in self.killed if each.result == "left" and each.why != OUTLIVED
        ]

    def _obey(self, names: Iterable[str]) -> bool:
        """Whether these are engines, which look at the latch before each order."""
        there = self.own.look()
        return all(name not in there or there[name].role in ENGINES for name in names)

    async def _set_latch(self) -> LatchSet:
        def work() -> tuple[Setting, str]:
            marked = ""
            if self.request.whole_desk:
                marked = set_marker(self.layout, self.request.reason, self.request.actor)
            latches = Latches(self.layout)
            there = {latch.id: latch for latch in latches.read(opened=False)}
            if self.request.set_already and all(i in there for i in self.request.set_already):
                found = tuple(there[each] for each in self.request.set_already)
                return Setting(found), marked
            reason = f"emergency stop: {self.request.reason or 'no reason given'}"
            halt = Halt(reason, self.request.actor or "unknown", datetime.now(UTC))
            return latches.set(self.request.scopes, halt), marked

        try:
            setting, marked = await aside(work, 2 * LATCH_TIMEOUT_S)
        except StorageError as error:
            return LatchSet(set=False, durable=False, problems=(error.message,))
        except TimeoutError:
            # The file comes first, and the disk that hangs is asked to keep it after that.
            there = Latches(self.layout).scopes()
            is_set = all(scope in there for scope in self.request.scopes)
            return LatchSet(set=is_set, durable=False, problems=("the disk does not answer",))
        return LatchSet(
            set=True,
            durable=setting.durable,
            ids=tuple(latch.id for latch in setting.latches),
            problems=(*setting.problems, *([marked] if marked else [])),
        )
