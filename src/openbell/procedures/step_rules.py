"""What a desk says of each step of a procedure: time-out, failure policy, who must approve, and the command
of a step of its own.

A run keeps these as they were when it was begun, so that whoever goes on with it is told what is otherwise
now. They are what code and desk file declare, not what a step makes of it: its time may depend on what it
finds to do, which is another one each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from openbell.config.models import DeskFile
from openbell.config.procedures import ExtraStep, StepSettings
from openbell.procedures.declared import Procedure, StepSpec
from openbell.procedures.settings import settings_of

Rules = Mapping[str, Any]
"""`{"timeout_s", "on_failure", "approvals", "command"}` of one step. `timeout_s` is 0 where it is made of
other settings; `command` a digest, of a step of the desk's own alone."""

_UNSET = StepSettings()


def rules_of(procedure: Procedure, desk: DeskFile) -> dict[str, dict[str, Any]]:
    """By step, those of the desk's own included. Pure."""
    settings = settings_of(procedure, desk)
    rules: dict[str, dict[str, Any]] = {}
    for name in procedure.step_names(desk.services):
        spec = procedure.spec_of(name)
        assert spec is not None, "its names are those of its steps"
        rules[name] = _of_declared(spec, settings.steps.get(name, _UNSET), desk)
    return rules | {extra.name: _of_own(extra) for extra in settings.extra}


def what_changed_of_rules(then: Mapping[str, Rules], now: Mapping[str, Rules]) -> str:
    """What is different of the steps that there are in both; empty where nothing is, and of a run from
    before its rules were kept. That a step is gone or new is told by its name. Pure."""
    told = [
        f"{step}: {', '.join(differs)}"
        for step in then
        if step in now and (differs := _differences(then[step], now[step]))
    ]
    return "; ".join(told)


def _of_declared(spec: StepSpec, settings: StepSettings, desk: DeskFile) -> dict[str, Any]:
    timeout_s = spec.timeout_s if spec.timeout_of is None else spec.timeout_of(desk)
    return {
        "timeout_s": timeout_s if settings.timeout is None else settings.timeout,
        "on_failure": settings.on_failure or str(spec.on_failure),
        "approvals": list(settings.approvals),
    }


def _of_own(extra: ExtraStep) -> dict[str, Any]:
    # The names of its secrets, not their values.
    what = [extra.command, extra.verify, extra.repeat, extra.secrets]
    return {
        "timeout_s": extra.timeout,
        "on_failure": str(extra.on_failure),
        "approvals": list(extra.approvals),
        "command": hashlib.sha256(msgspec.json.encode(what)).hexdigest(),
    }


def _differences(then: Rules, now: Rules) -> list[str]:
    told = []
    for key, what, text in (
        ("timeout_s", "time-out", _time_text),
        ("on_failure", "on failure", str),
        ("approvals", "approvals", _roles_text),
    ):
        was, is_now = then.get(key), now.get(key)
        if was != is_now:
            told.append(f"{what} {text(was)} then, {text(is_now)} now")
    if then.get("command") != now.get("command"):
        told.append("it runs or verifies by another command than then")
    return told


def _time_text(value: Any) -> str:
    return f"{value:g}s" if value else "as other settings make it"


def _roles_text(value: Any) -> str:
    return " and ".join(map(str, value)) if value else "none"
