"""A guard in which an emergency stop stood still: whether it is replaced now.

It begins no stop any more, so it has to go; but it holds the dead-man's switches, and it or another may be
in the middle of what its end would harm:

    somebody else carries out a stop    left alone, for as long as that lasts: a guard that starts takes
                                        the processor, and the venues' budgets; that one is judged by itself
    it is at something itself           left alone for OWN_S: it lets go of the stop that stood still, goes on
                                        with one that was not proven, or has a dead-man's switch that runs
                                        out or fires, for which the next one would count anew
    a thread of it waits for a disk     left alone: the kernel would end all of it but that thread, which
                                        keeps its lock, and no other guard could come
    the disk does not answer            left alone: the next one could not read what it is to take over
    none of this for QUIET_S            replaced

Pure: facts in, a verdict out. Seconds are of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

QUIET_S = 10.0
"""Whoever pressed was told that the stop stood still, and loads what it takes to do it alone; nothing is lost
meanwhile, for everybody else who presses does that as well."""
OWN_S = 120.0
"""A try at a venue has `cancel_timeout`, and a switch its time-out before that, which is less; what takes
longer hangs, as the stop did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingFacts:
    now_s: float
    stood_still: bool
    elsewhere: bool | None
    """Another process carries out a stop; None: the disk does not say."""
    at_work: bool
    """The guard's own stop lets go of its turn, it tries to prove an earlier one, or a switch runs out."""
    on_disk: bool
    """A thread of it waits for a disk, and could not be ended."""


class Standing:
    """Of one guard."""

    def __init__(self) -> None:
        self._quiet_since_s: float | None = None
        self._at_work_since_s: float | None = None

    def is_to_go(self, facts: StandingFacts) -> bool:
        """Told at each look; what was not looked at for a while is taken for what it was."""
        if not facts.stood_still:
            self._quiet_since_s = self._at_work_since_s = None
            return False
        if not facts.at_work:
            self._at_work_since_s = None
        elif self._at_work_since_s is None:
            self._at_work_since_s = facts.now_s
        hangs = self._at_work_since_s is not None and facts.now_s - self._at_work_since_s >= OWN_S
        busy = facts.elsewhere is not False or facts.on_disk or (facts.at_work and not hangs)
        if busy:
            self._quiet_since_s = None
            return False
        if self._quiet_since_s is None:
            self._quiet_since_s = facts.now_s
        return facts.now_s - self._quiet_since_s >= QUIET_S
