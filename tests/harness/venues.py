"""Simulated venues for desks of tests."""

from __future__ import annotations

from contextlib import AbstractContextManager

from openbell_sim.testing import VenueProcess, VenueThread, venue_process, venue_thread


def some_venue(*arguments: str, apart: bool) -> AbstractContextManager[VenueThread | VenueProcess]:
    """`apart`: a process, which can be killed and stopped and takes nothing of this one's time; else a
    thread, whose start costs next to nothing."""
    if apart:
        return venue_process(*arguments)
    return venue_thread(*arguments)
