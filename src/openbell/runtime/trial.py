"""Trying what a service would be started with, beside the one that runs.

A service that is restarted in place is stopped before its new code was ever run: code that does not
load, or a strategy that cannot be made, then leaves nothing to go on with. So a trial is run first: the
same command in the same environment, told to load what a start would load and to end.
"""

from __future__ import annotations

import time

from openbell.runtime.commands import run_command
from openbell.runtime.members import Mark
from openbell.runtime.processes import MARK_VARIABLE
from openbell.runtime.spec import ServiceSpec, TrialResult


async def try_out(spec: ServiceSpec, mark: Mark) -> TrialResult:
    """`mark` is that of the process that runs: whatever a trial leaves behind, though its controller
    was killed, belongs to the service and is ended with it."""
    began = time.monotonic()
    ran = await run_command(
        spec.trial,
        cwd=spec.cwd,
        environment={MARK_VARIABLE: str(mark), **spec.environment},
        timeout_s=spec.trial_timeout_s,
    )
    refused = "" if ran.status == 0 else ran.why or f"it ended with status {ran.status}"
    return TrialResult(
        spec.name,
        refused=refused,
        seconds=time.monotonic() - began,
        log_tail=ran.lines if refused else (),
    )
