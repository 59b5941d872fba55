"""CPU and memory of a service with all its processes, looked up when somebody asks."""

from __future__ import annotations

import time

from openbell.runtime.host import Host
from openbell.runtime.run import CpuSample, Run

_FIGURES_AGE_S = 1.0
"""Figures may be so old: views read the process table of the whole machine once a second, however many
look, and it is most of the work of a view."""


def figures(run: Run, host: Host) -> tuple[float | None, int | None]:
    """CPU in percent of one core since the last look (at first: since its start), and resident
    bytes, both of all its processes."""
    scan = host.scanner.recent(_FIGURES_AGE_S)
    members = scan.members(run.leader)
    if not members:  # spawned since that scan: a scan for each of a hundred would be too much
        leader = host.table.facts(run.process.pid)
        if leader is None or leader.start != run.leader.start:
            return None, None
        members = [leader]
    now = time.monotonic()
    memory = sum(facts.memory_bytes for facts in members)
    last = run.cpu_sample or CpuSample(run.record.started_monotonic_s, 0.0, 0.0)
    if run.cpu_sample is None or now - last.at > _FIGURES_AGE_S:
        cpu_s = sum(facts.cpu_s for facts in members)
        # A member that ended took its share along: less than before is no use at all.
        share = max(cpu_s - last.cpu_s, 0.0) / max(now - last.at, 1e-3) * 100
        run.cpu_sample = CpuSample(now, cpu_s, share)
    else:
        share = last.percent
    return share, memory
