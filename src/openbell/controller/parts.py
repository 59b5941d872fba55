"""The parts of a controller that its API speaks to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from openbell.controller.acts import Acts
from openbell.controller.close_desk import Closings
from openbell.controller.desk import ControlledDesk
from openbell.controller.emergency import Emergency
from openbell.controller.going_on import GoingOn
from openbell.controller.guard_keeper import GuardKeeper
from openbell.controller.kill_switch import KillSwitch
from openbell.controller.limits import LimitChanges
from openbell.controller.observing import Observer
from openbell.controller.open_desk import Openings
from openbell.controller.pair import EnginePair
from openbell.controller.planned_closing import PlannedClosings
from openbell.controller.procedures import Procedures
from openbell.controller.reconciling import Reconciling
from openbell.controller.restarting import Restarts
from openbell.controller.rolling import RollingRestarts


@dataclass(frozen=True)
class Parts:
    """Everything the routes call."""

    desk: ControlledDesk
    observer: Observer
    openings: Openings
    closings: Closings
    planned: PlannedClosings
    going_on: GoingOn
    rolling: RollingRestarts
    restarts: Restarts
    procedures: Procedures
    acts: Acts
    kill_switch: KillSwitch
    limits: LimitChanges
    emergency: Emergency
    pair: EnginePair
    reconciling: Reconciling
    guard: GuardKeeper
    exit_controller: Callable[[str], None]
