"""How the tests are spread over processes (pytest-xdist), and what a busy machine is forgiven."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

import openbell.venues.generic.ccxt_library  # noqa: F401  (before a test imports all of ccxt)

# How fast examples are drawn and tried says something of the machine and nothing of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Each process that runs tests holds thousands of collected tests and all that they import, none of it
# garbage: to walk that at every 700 new objects is a fifth of the collecting and a part of each test.
gc.set_threshold(50_000)

CONFORMANCE = "tests/venues/conformance/"
"""Its last test looks at the results of all of it: so one process runs it, and begins with it."""

OF_ONE_DESK = (
    "tests/controller/test_api.py",
    "tests/controller/test_kill_switch.py",
    "tests/controller/test_open_desk.py",
    "tests/controller/test_rolling_turns.py",
    "tests/console/",
)
"""The tests of such a file share one desk; those of the console one browser too."""

OF_ONE_VENUE = (
    "tests/sim/test_alpaca_py.py",
    "tests/sim/test_oanda_clients.py",
    "tests/sim/test_tradelocker_client.py",
)
"""The tests of such a file share one simulated venue: each process that runs some starts another."""

OF_ONE_VENUE_EACH_SUBJECT = "tests/venues/test_spoiled_numbers.py::"
"""And so do those of this file that are of one subject."""


WAITING = tuple(
    f"tests/{folder}/"
    for folder in (
        "clients", "console", "controller", "desk", "guard", "kill", "runtime", "service", "standby",
        "trading/engine",
    )
)  # fmt: skip
"""Tests of real processes, which mostly wait for these; the others keep a core busy by themselves."""


class _Together(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
    """Every test goes to whichever process is free, but for those that share something dear. One process of
    four has those first that wait for nothing, the others have those that do: so the cores are busy from
    the first to the last, and fewer desks at once have to bear it."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(CONFORMANCE):
            return CONFORMANCE
        if nodeid.startswith(OF_ONE_DESK + OF_ONE_VENUE):
            return nodeid.partition("::")[0]
        if nodeid.startswith(OF_ONE_VENUE_EACH_SUBJECT):
            return nodeid.rsplit("-", 2)[0]  # test_it[subject-question-by]
        return nodeid

    def _assign_work_unit(self, node: WorkerController) -> None:
        nodes = list(self.assigned_work)
        waits = nodes.index(node) < len(nodes) - max(1, len(nodes) // 4)
        wanted = (scope for scope in self.workqueue if scope.startswith(WAITING) is waits)
        if (first := next(wanted, None)) is not None:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Together(config, log)


def pytest_collection_finish() -> None:
    gc.freeze()
