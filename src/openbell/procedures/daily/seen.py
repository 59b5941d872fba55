"""What was asked for a checklist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openbell.config.models import DeskFile
from openbell.procedures.backups import BackupFact
from openbell.procedures.dependencies import DependencyFact
from openbell.procedures.readiness_checks import RiskSays

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Machine:
    cores: int
    load: float
    """Processes that run or wait to, in the mean of five minutes."""
    up_s: float


@dataclass(frozen=True)
class Seen:
    """What was asked for a checklist. None: nobody could be asked."""

    desk: DeskFile
    status: Document
    """As `GET /api/v1/status`; of a desk without a controller from its files."""
    controller: bool
    """A controller answers."""
    health: Document | None
    connections: Document
    positions: Document | None
    opening: Document | None
    """The record of the newest opening, as `GET /api/v1/runs/{id}/report`; None: there is none."""
    closing: Document | None
    checkpoints: Sequence[Document]
    """Newest first."""
    disk_free: int | None
    memory_free: int | None
    dependencies: tuple[DependencyFact, ...]
    backups: tuple[BackupFact, ...]
    wall_ns: int
    machine: Machine | None
    leftovers: Sequence[str]
    """Temporary files in the state folder whose writers died."""
    risk: RiskSays | None = None
    """Of risk-management itself; None: there is none, or no controller that could ask it."""
