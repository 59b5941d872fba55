"""Trying what a service would be started with, beside the one that runs."""

from __future__ import annotations

import time

from openbell.domain.service_state import ServiceState


async def test_one_that_does_not_end_is_killed_and_the_service_is_left_alone(bench):
    bench.add("web", "sleep", trial={"command": ("sleep", "86400"), "timeout": "500ms"})
    supervisor = bench.supervisor()
    await supervisor.adopt()
    assert supervisor.trial_of("web") == (), "nothing runs: there is nothing to try"
    await supervisor.start("web")
    pid = supervisor.view("web").pid
    began = time.monotonic()
    tried = await supervisor.trial("web")
    assert tried.refused == "did not end within 0.5s, and was killed"
    assert time.monotonic() - began < 60
    view = supervisor.view("web")
    assert (view.state, view.pid) == (ServiceState.READY, pid)
    assert list(bench.leaders("web")) == [pid], "nothing of the trial is left"
