"""Stopping as a ladder: ask the leader, wait until nothing is left, then kill all of it.

A service has stopped when its whole group is empty, and so is its session, and nothing carries its
mark: a leader that exits while a child holds the port has not stopped. Zombies are not alive.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass

from openbell.runtime.hung import STACK_SIGNAL, awaits, catches, waits_of
from openbell.runtime.limits import ServiceCgroup
from openbell.runtime.members import Leader, Scan, Scanner, end_members
from openbell.runtime.process_watch import ProcessWatch, WatchedProcess
from openbell.runtime.processes import ProcessFacts, ProcessTable
from openbell.runtime.spec import Rung

KILL_TIMEOUT_S = 5.0
"""SIGKILL cannot be refused; what outlives it so long hangs in the kernel (a dead disk)."""
STACK_TIMEOUT_S = 0.5
"""For a process that hangs to take the signal that asks for its stack."""
_WRITING_S = 0.1
"""For its stack to be written, once it has taken it: nobody tells when it is."""
_PENDING_EVERY_S = 0.01
_LOOK_AGAIN_S = 0.25
"""New members may be forked while the known ones are waited for."""


@dataclass(frozen=True)
class LadderResult:
    rungs: tuple[Rung, ...]
    survivors: tuple[int, ...]
    """Pids that are still alive; empty: it has stopped."""


class Ladder:
    """Stops one service. `process` may have ended already: then only the rest of it is stopped."""

    def __init__(
        self,
        process: WatchedProcess,
        leader: Leader,
        *,
        table: ProcessTable,
        watch: ProcessWatch,
        scanner: Scanner,
        cgroup: ServiceCgroup | None,
        with_earlier_runs: bool,
    ) -> None:
        self._process = process
        self._leader = leader
        self._table = table
        self._watch = watch
        self._scanner = scanner
        self._cgroup = cgroup
        self._with_earlier_runs = with_earlier_runs

    async def stop(
        self, stop_signal: signal.Signals, timeout_s: float, *, ask_where: bool = False
    ) -> LadderResult:
        """`stop_signal` to the leader, `timeout_s` for all to end, then SIGKILL to all. `ask_where`:
        a leader that is left is first asked for its stack, which costs half a second at most."""
        rungs = []
        asked = time.monotonic()
        action = stop_signal.name.removeprefix("SIG")
        delivered = self._process.signal(stop_signal)
        if delivered and self._is_frozen():
            # A stopped process gets no signal but KILL; it has to be continued to see this one.
            self._process.signal(signal.SIGCONT)
            action += " and CONT (it was frozen)"
        left = await self._wait_until_empty(asked + timeout_s)
        rungs.append(
            Rung(
                action if delivered else f"{action} (not delivered)",
                time.monotonic() - asked,
                "timed out" if left else "group empty",
            )
        )
        if left:
            if ask_where:
                rungs += await self._ask_where(left)
            rung, left = await self._kill()
            rungs.append(rung)
        return LadderResult(tuple(rungs), tuple(sorted(facts.pid for facts in left)))

    async def _ask_where(self, left: list[ProcessFacts]) -> list[Rung]:
        """Has a leader that hangs print its stack into its log. Of one that has no handler for that, or does
        not come to it, the kernel tells what it waits for."""
        pid = self._leader.pid
        if self._process.exit.done() or pid not in {facts.pid for facts in left}:
            return []
        asked: list[Rung] = []
        if catches(pid, STACK_SIGNAL) and self._process.signal(STACK_SIGNAL):
            taken, seconds = await self._await_stack(pid)
            asked = [
                Rung("QUIT for its stack", seconds, "taken: see its log" if taken else "not taken")
            ]
            if taken:
                return asked
        waits = waits_of(pid)
        return [*asked, Rung("look what it waits for", 0.0, waits)] if waits else asked

    async def _await_stack(self, pid: int) -> tuple[bool, float]:
        """Whether it took the signal, and the seconds that took."""
        exit_ = self._process.exit
        began = time.monotonic()
        until = began + STACK_TIMEOUT_S
        while awaits(pid, STACK_SIGNAL) and not exit_.done() and time.monotonic() < until:
            await asyncio.wait((exit_,), timeout=_PENDING_EVERY_S)
        taken = not awaits(pid, STACK_SIGNAL)
        if taken:
            await asyncio.wait((exit_,), timeout=_WRITING_S)
        return taken, time.monotonic() - began

    async def kill_rest(self) -> LadderResult:
        """SIGKILL to whatever a leader that has ended left in its group; nothing when it left none.

        Asks the kernel only, so that a restart is not held up by a scan of all processes; those
        that left the session are ended by `sweep`.
        """
        if not self._process.signal_group(0):
            return LadderResult((), ())
        rung, left = await self._kill()
        return LadderResult((rung,), tuple(sorted(facts.pid for facts in left)))

    async def _kill(self) -> tuple[Rung, list[ProcessFacts]]:
        began = time.monotonic()
        deadline = began + KILL_TIMEOUT_S
        by_cgroup = self._cgroup is not None and self._cgroup.kill()
        self._process.signal_group(signal.SIGKILL)
        while left := self._members(await self._scanner.fresh()):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            await end_members(left, signal.SIGKILL, self._watch, min(remaining, _LOOK_AGAIN_S))
        if not self._process.exit.done():
            await asyncio.wait((self._process.exit,), timeout=deadline - time.monotonic())
        rung = Rung(
            "KILL cgroup and group" if by_cgroup else "KILL group",
            time.monotonic() - began,
            f"{len(left)} left" if left else "group empty",
        )
        return rung, left

    async def _wait_until_empty(self, deadline: float) -> list[ProcessFacts]:
        """Who is left at the deadline; empty as soon as nobody is."""
        if not self._process.exit.done():
            await asyncio.wait((self._process.exit,), timeout=deadline - time.monotonic())
        while left := self._members(await self._scanner.fresh()):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return left
            await end_members(left, 0, self._watch, min(remaining, _LOOK_AGAIN_S))
        return []

    def _members(self, scan: Scan) -> list[ProcessFacts]:
        if self._with_earlier_runs:
            return scan.remains(self._leader)
        return scan.members(self._leader)

    def _is_frozen(self) -> bool:
        facts = self._table.facts(self._leader.pid)
        return facts is not None and facts.frozen


async def sweep(
    service: str, up_to_generation: int | None, scanner: Scanner, watch: ProcessWatch
) -> tuple[int, ...]:
    """Kills what earlier runs of a service left behind in sessions of their own: everything that
    carries its mark with a generation up to this one (None: any). The pids that were killed."""
    left = [
        facts
        for facts, mark in (await scanner.fresh()).marked(service)
        if up_to_generation is None or mark.generation <= up_to_generation
    ]
    if left:
        await end_members(left, signal.SIGKILL, watch, KILL_TIMEOUT_S)
    return tuple(facts.pid for facts in left)
