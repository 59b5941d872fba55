"""The steps of a run as this desk wants them, its own commands included."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from openbell.config.procedures import ExtraStep
from openbell.controller.desk import ControlledDesk
from openbell.procedures.command_step import CommandStep, environment_of
from openbell.procedures.declared import Procedure
from openbell.procedures.ports import Effects, NoEffects
from openbell.procedures.settings import arrange
from openbell.procedures.step import Step


def arranged(
    desk: ControlledDesk,
    procedure: Procedure,
    steps: Sequence[Step[Any, Any]],
    *,
    run: str = "",
    reason: str = "",
    effects: Effects | None = None,
    may_send: Callable[[], None] = lambda: None,
) -> tuple[Step[Any, Any], ...]:
    """Without `effects`: of a plan, which brings nothing about. `may_send` is told before a command of
    the desk's own that may send an order."""

    def make(extra: ExtraStep) -> CommandStep:
        secrets = desk.secrets.as_environment()
        environment = environment_of(extra, desk.layout, os.environ, secrets, run, reason)
        journal = effects or NoEffects()
        return CommandStep(extra, desk.layout, environment, journal, desk.redactor.redact, may_send)

    return arrange(procedure, desk.desk.file, steps, make)
