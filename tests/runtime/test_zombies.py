"""Zombies of services: real ones, and since when."""

from __future__ import annotations

import subprocess
import sys

from openbell.runtime.processes import system_processes
from openbell.runtime.zombies import ZombieWatch

PARENT = """
import os, sys
child = os.fork()
if child == 0:
    os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
print(child, flush=True)
sys.stdin.read()
"""


def test_a_child_that_nobody_reaps_is_found_with_its_service_and_its_time() -> None:
    now = [100.0]
    watch = ZombieWatch(system_processes(), clock=lambda: now[0])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as service:
        assert service.stdout is not None
        child = int(service.stdout.readline())
        (found,) = watch.look({"engine": service.pid}) or ()
        assert (found.service, found.pid, found.seen_for_s) == ("engine", child, 0.0)
        now[0] += 3
        (found,) = watch.look({"engine": service.pid}) or ()
        assert found.seen_for_s == 3.0
        assert watch.look({}) == ()
        service.communicate()
