"""While a service is held, as by an emergency stop, nothing starts it."""

from __future__ import annotations

import os
import signal

from openbell.domain.service_state import ServiceState


class Held:
    """What holds every service that has not the role "venue"."""

    def __init__(self) -> None:
        self.why = ""

    def __call__(self, spec):
        return "" if spec.role == "venue" else self.why


async def test_a_service_that_exits_while_it_is_held_is_stopped_and_not_restarted(bench, until):
    bench.add("engine", "sleep", role="other", restart={"policy": "always", "backoff": "10ms"})
    held = Held()
    supervisor = bench.supervisor(hold=held)
    await supervisor.start("engine")
    held.why = "an emergency stop holds it"
    os.kill(supervisor.view("engine").pid, signal.SIGKILL)
    await until(lambda: supervisor.view("engine").state is ServiceState.STOPPED)
    assert "killed by SIGKILL" in supervisor.view("engine").reason
    assert held.why in supervisor.view("engine").reason
    assert "backoff" not in bench.states("engine")

    refused = await supervisor.start("engine")
    assert (refused.ready, refused.reason) == (False, held.why)
    held.why = ""
    assert (await supervisor.start("engine")).ready


async def test_a_restart_that_waits_in_its_back_off_is_held_when_its_time_comes(bench, until):
    bench.add("engine", "exit", 1, restart={"policy": "always", "backoff": "300ms", "limit": 9})
    held = Held()
    supervisor = bench.supervisor(hold=held)
    await supervisor.start("engine")
    await until(lambda: supervisor.view("engine").state is ServiceState.BACKOFF)
    held.why = "an emergency stop holds it"
    await until(lambda: supervisor.view("engine").state is ServiceState.STOPPED)
    assert supervisor.view("engine").reason == held.why


async def test_what_is_the_outside_world_is_started_all_the_same(bench):
    bench.add("exchange", "sleep", role="venue")
    held = Held()
    held.why = "an emergency stop holds it"
    supervisor = bench.supervisor(hold=held)
    assert (await supervisor.start("exchange")).ready
