"""The steps of one opening, made of the controller's own parts, and what is asked of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from openbell.config.phases import phases_of, waits_for
from openbell.controller.arranging import arranged
from openbell.controller.desk import ControlledDesk
from openbell.controller.guard_keeper import GuardKeeper
from openbell.domain.service_state import UP
from openbell.kill.pressed import Pressed
from openbell.procedures.begin_trading import BeginTrading, without_engine
from openbell.procedures.opening import (
    ServiceOutcome,
    Starting,
    StartServices,
    let_run_ahead,
    only_wanted,
    phase_steps,
    sending_nothing,
    services_to_open,
)
from openbell.procedures.opening_steps import PROCEDURE
from openbell.procedures.ports import Effects
from openbell.procedures.preflight_facts import Surroundings
from openbell.procedures.preflighting import TakePreflight
from openbell.procedures.readiness import Look, TradingSight, looks
from openbell.procedures.settings import approvals_of, inner_of
from openbell.procedures.starting_guard import StartGuard
from openbell.procedures.step import OnFailure, Step


@dataclass(frozen=True)
class OpenWishes:
    safe_mode: bool = False
    only: tuple[str, ...] = ()
    force: bool = False
    reason: str = ""
    restart_of: str = ""
    """The closing after which it opens the desk again: it then trades only where every look before
    is satisfied. Not asked for by people."""
    before: Pressed | None = None
    """What was known of emergency stops when it was asked for; None: when the controller is asked. Not
    asked for by people."""


class OpeningParts:
    """Of one desk."""

    def __init__(self, desk: ControlledDesk, guard: GuardKeeper) -> None:
        self._desk = desk
        self._guard = guard

    def steps(
        self,
        wishes: OpenWishes,
        tell: Callable[[ServiceOutcome], None] = lambda _: None,
        run: str = "",
        effects: Effects | None = None,
    ) -> tuple[tuple[Step[Any, Any], ...], Starting, BeginTrading]:
        """All of them, and what the opening's outcome is told from."""
        guard, starting, phases, trade = self._opening_steps(wishes, tell)
        steps = arranged(
            self._desk, PROCEDURE, [
                self._preflight(wishes),
                *guard,
                *phases,
                *self._readiness(wishes, trade),
                trade,
            ],
            run=run, reason=wishes.reason, effects=effects,
        )  # fmt: skip
        let_run_ahead(
            [
                (
                    inner
                    if isinstance(inner := inner_of(step), StartServices | StartGuard)
                    else None,
                    bool(approvals_of(step)),
                    step.on_failure in (OnFailure.ABORT, OnFailure.ASK),
                )
                for step in steps
            ]
        )
        return steps, starting, trade

    def wanted(self, wishes: OpenWishes) -> tuple[str, ...]:
        """In start order."""
        services = self._desk.desk.file.services
        depends_on = {name: service.depends_on for name, service in services.items()}
        return services_to_open(depends_on, wishes.only)

    def blocked(self, wanted: Collection[str], coming: Collection[str] = ()) -> str:
        """Why waiting for trading would be of no use; `coming` counts as up."""
        desk = self._desk
        engine = desk.roles.engine
        if engine is not None and engine not in coming and desk.states.get(engine) not in UP:
            return f"{engine} is not up" if engine in wanted else without_engine(engine, wanted)
        missing = [name for name in desk.critical_not_ready(engine or "") if name not in coming]
        return f"critical services are not ready: {', '.join(missing)}" if missing else ""

    def _preflight(self, wishes: OpenWishes) -> TakePreflight:
        desk = self._desk
        engine = desk.roles.engine
        return TakePreflight(
            Surroundings(
                desk=desk.desk,
                layout=desk.layout,
                environ={**os.environ, **desk.secrets.as_environment()},
                engine_runs=engine is not None and desk.states.get(engine) in UP,
                force=wishes.force,
            )
        )

    def _readiness(self, wishes: OpenWishes, trade: BeginTrading) -> list[Look]:
        """Of a desk whose engine is wanted; what they find against trading holds `trade`."""
        desk = self._desk
        engine = desk.roles.engine
        wanted = self.wanted(wishes)
        if engine is None or engine not in wanted:
            return []
        sight = TradingSight(
            desk=desk.desk.file,
            voices=desk.voices,
            views=lambda: {view.name: view for view in desk.supervisor.views()},
            wanted=wanted,
            guard=self._guard.view,
            patience=trade.patience,
            engine_is_to_come=desk.states.get(engine) not in UP,
            strict=bool(wishes.restart_of),
        )
        trade.held = lambda: sight.why_held() if desk.targets.held_back else ""
        return looks(sight)

    def _opening_steps(
        self, wishes: OpenWishes, tell: Callable[[ServiceOutcome], None]
    ) -> tuple[list[StartGuard], Starting, list[StartServices], BeginTrading]:
        """A desk without venues has no guard to start."""
        desk = self._desk
        services = desk.desk.file.services
        wanted = self.wanted(wishes)
        timeouts = {
            name: ready.timeout if (ready := service.readiness()) is not None else 5.0
            for name, service in services.items()
        }
        starting = Starting(desk.supervisor, only_wanted(waits_for(services), wanted), tell)
        phase_of = phases_of(services)
        phases = phase_steps(starting, wanted, phase_of, timeouts)
        quiet = sending_nothing(services, phase_of, starting.wait_for, wanted)
        guard = [StartGuard(self._guard, starting, quiet)] if desk.desk.file.venues else []
        trade = BeginTrading(
            voices=desk.voices,
            target=lambda: desk.targets.now,
            latched=lambda: desk.targets.latched,
            latch_note=lambda: desk.targets.latch_note,
            blocked=lambda: self.blocked(wanted),
        )
        return guard, starting, phases, trade
