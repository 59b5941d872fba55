"""How an emergency stop sees to it that nothing more is sent: latch, marker, freeze.

    latch, marker ─▶ freeze ─▶ all frozen, or not running ──────────────────────▶ quiet
                        └─▶ one that cannot be frozen is killed ─▶ seen gone ───▶ quiet
                                                  └─▶ nor killed ─▶ an engine: latched for `OBEYED_S` ─▶ quiet
                                                                 └▶ another, or no latch: never quiet

Where no record could be read, an engine that shows no mark is not found: that is one of the last kind.

What always holds: `quiet` is set only once nothing can send, and what could be sent before counts from
then. Whoever holds no latch, no freeze and no kill over a service that may send proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openbell.config.duties import ENGINES
from openbell.config.layout import DeskLayout
from openbell.errors import StorageError
from openbell.kill.aside import aside
from openbell.kill.emergency_statement import EndedService, FrozenService, LatchSet
from openbell.kill.ending import OUTLIVED, kill_frozen
from openbell.kill.freezing import freeze
from openbell.kill.latching import halt_of
from openbell.kill.marker import is_begun, set_marker
from openbell.kill.own_processes import OwnProcesses
from openbell.kill.request import EmergencyRequest
from openbell.state.latch import Latches, Setting

if TYPE_CHECKING:  # what the latch and the freeze do not need is loaded after them
    from openbell.state.live_orders import HeldRegister

LATCH_TIMEOUT_S = 0.5
"""For a disk that hangs; what is frozen needs no latch."""
REGISTERS_S = 5.0
"""For a disk that is busy, as for reading them. What did not come counts as a register that is not whole."""
LOOSE_S = 0.5
"""How long what cannot be frozen, and sends on, is left alive for the registers that it has mapped."""
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
    _held: list[HeldRegister] = field(default_factory=list)
    """Registers that what was frozen has mapped."""
    _not_held: str = ""
    """Why there may be more of them."""
    _closed: bool = False
    _registers: asyncio.Task[None] | None = None
    _setting: asyncio.Task[LatchSet] | None = None
    _holding: asyncio.Task[None] | None = None
    _waiting: asyncio.Task[None] | None = None
    """For records, where there is no latch either."""

    async def begin(self) -> None:
        """The latch is set, or tried for as long as a disk is given; the rest goes on beside."""
        self._setting = asyncio.create_task(self._set_latch())
        await asyncio.wait([self._setting], timeout=LATCH_TIMEOUT_S)
        self._holding = asyncio.create_task(self._hold(self._setting))

    async def settled(self) -> None:
        """What holds the desk is never left half done, even by whoever only followed."""
        if self._holding is not None:
            await asyncio.wait([self._holding])

    async def hold_registers(self, pids: Iterable[int], within_s: float) -> None:
        """Of what they have mapped, before they are killed; or says that it did not come to it. The disk
        may hang: the freeze, and the cancels, never wait for it. Raises nothing."""
        from openbell.kill.held_registers import held_registers

        found: list[HeldRegister] = []
        guarded, named = threading.Lock(), tuple(pids)
        over = given_up = False

        def work() -> None:
            nonlocal over
            found.extend(held_registers(named))
            with guarded:
                over = True
                if given_up:
                    _close(found)

        try:
            await aside(work, within_s)
        except TimeoutError:
            _log.error("the registers of live orders that are mapped were not opened in time")
        except Exception:  # noqa: BLE001 - told, and no register is complete then
            _log.exception("the registers of live orders that are mapped were not opened")
        finally:
            with guarded:
                given_up = not over
            if over and self._closed:
                _close(found)
            elif over:
                self._held += found
            else:
                self._not_held = "the disk does not answer for what the engines have mapped"

    async def registers(self) -> tuple[tuple[HeldRegister, ...], str]:
        """What is held, and why it may not be all."""
        if self._registers is not None:
            await asyncio.wait([self._registers])
        return tuple(self._held), self._not_held

    def close(self) -> None:
        self._closed = True
        for task in (self._registers, self._waiting):
            if task is not None:
                task.cancel()
        _close(self._held)

    @property
    def frozen_names(self) -> list[str]:
        return [each.service for each in self.frozen if each.result != "not_running"]

    @property
    def frozen_pids(self) -> set[int]:
        return {pid for each in self.frozen for pid in each.pids}

    # --- one after the other -------------------------------------------------------------------

    async def _hold(self, setting: asyncio.Task[LatchSet]) -> None:
        at_large, known = await self._freeze_all()
        self.latch = await setting
        if self.request.whole_desk and not self.latch.set and not is_begun(self.layout):
            self.problems.append("nothing keeps services from being started: no latch, no marker")
        if self.own.unread and known and self.request.whole_desk and not self.latch.set:
            self._waiting = asyncio.create_task(self._hold_late())
        else:
            self._conclude(at_large, known=known)

    async def _hold_late(self) -> None:
        """A disk that is only slow is waited for, beside the cancels: there was neither latch nor record."""
        await aside(lambda: self.own.wait_for_records(REGISTERS_S))
        at_large, known = await self._freeze_all()
        self._conclude(at_large, known=known)

    async def _freeze_all(self) -> tuple[list[str], bool]:
        """What may still be at large, and whether that is known."""
        if not self.request.whole_desk:
            return [], True
        try:
            self.frozen = await aside(lambda: freeze(self.own))
            pids = [pid for each in self.frozen for pid in each.pids]
            if self._registers is not None:
                await asyncio.wait([self._registers])
            self._registers = asyncio.create_task(self.hold_registers(pids, REGISTERS_S))
            return await self._kill_loose(), True
        except Exception as error:  # noqa: BLE001 - told, and stops nothing
            _log.exception("nothing was frozen")
            self.problems.append(f"nothing was frozen: {type(error).__name__}")
            return [], False

    def _conclude(self, at_large: list[str], *, known: bool) -> None:
        unread = self.request.whole_desk and known and self.own.unread
        if unread:
            self.problems.append(
                "the disk does not answer for the records of what runs: an engine that shows no mark is "
                "not found, and only the latch holds it"
            )
        if self.frozen and known and not at_large and not unread:
            self.quiet.set()
        elif self.latch.set and known and self._obey(at_large):
            asyncio.get_running_loop().call_later(OBEYED_S, self.quiet.set)
        else:
            why = ", ".join(at_large) or "no latch"
            self.problems.append(f"nothing keeps the engines from sending: {why}, and not frozen")

    async def _kill_loose(self) -> list[str]:
        """What could not be frozen would go on sending, and obeys the latch only where it is an engine:
        it is killed now, and not after the venues are asked. Returns what may still be at large."""
        loose = [each for each in self.frozen if each.result == "not_frozen"]
        if not loose:
            return []
        self.problems += [f"{each.service} is not frozen: {each.why}" for each in loose]
        if self._registers is not None:
            await asyncio.wait([self._registers], timeout=LOOSE_S)
        killed = await kill_frozen(self.own, [each.service for each in loose])
        self.killed += killed
        # One with a SIGKILL runs no instruction of its own any more, however long the kernel keeps it.
        return [each.service for each in killed if each.result == "left" and each.why != OUTLIVED]

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
            return latches.set(self.request.scopes, halt_of(self.request)), marked

        try:
            setting, marked = await aside(work, 2 * LATCH_TIMEOUT_S)
        except StorageError as error:
            return LatchSet(set=False, durable=False, problems=(error.message,))
        except TimeoutError:
            # The file comes first, and the disk that hangs is asked to keep it after that.
            try:
                there = await aside(lambda: Latches(self.layout).scopes(), LATCH_TIMEOUT_S)
            except TimeoutError:
                there = frozenset()
            is_set = all(scope in there for scope in self.request.scopes)
            return LatchSet(set=is_set, durable=False, problems=("the disk does not answer",))
        return LatchSet(
            set=True,
            durable=setting.durable,
            ids=tuple(latch.id for latch in setting.latches),
            problems=(*setting.problems, *([marked] if marked else [])),
        )


def _close(held: list[HeldRegister]) -> None:
    for each in held:
        with contextlib.suppress(OSError):
            os.close(each.fd)
    held.clear()
