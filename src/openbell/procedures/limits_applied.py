"""Which limits the desk's gates say they apply: the engine, its standby, risk-management.

Each looks at the file of changes itself, whenever it is asked and before every order. So its answer is
no report of the past: an engine that names the version and the hash judges the next order by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from openbell.config.models import DeskFile
from openbell.domain.risk_limits import digest, plain, tightened, values
from openbell.procedures.desk_voices import DeskVoices
from openbell.procedures.ports import Services
from openbell.state.risk_limits import Changes, LimitsChange

ASK_S = 5.0

Said = Literal["confirmed", "differs", "unknown", "not running"]


@dataclass(frozen=True)
class GateWord:
    """What one gate says of the limits it applies."""

    service: str
    role: str
    said: Said
    why: str = ""
    version: int | None = None
    hash: str = ""

    def __str__(self) -> str:
        return f"{self.service} {self.said}" + (f": {self.why}" if self.why else "")


async def ask_gates(
    voices: DeskVoices, services: Services, desk: DeskFile, expected: Changes
) -> tuple[GateWord, ...]:
    """Whether each gate applies what desk.toml and these changes say."""
    roles = voices.roles
    named = (("engine", roles.engine), ("standby", roles.standby), ("risk", roles.risk))
    return tuple(
        await asyncio.gather(
            *(
                _ask(voices, services, role, name, desk, expected)
                for role, name in named
                if name is not None
            )
        )
    )


async def _ask(
    voices: DeskVoices,
    services: Services,
    role: str,
    name: str,
    desk: DeskFile,
    expected: Changes,
) -> GateWord:
    if not services.view(name).state.is_running:
        return GateWord(name, role, "not running")
    answer = await voices.ask(name, "/v1/limits", timeout_s=ASK_S)
    if not answer.known:
        return GateWord(name, role, "unknown", answer.why)
    version, told = answer.get("version"), str(answer.get("hash"))
    if answer.get("problem"):
        return GateWord(name, role, "unknown", str(answer.get("problem")), version, told)
    if expected.problem:
        return GateWord(name, role, "unknown", expected.problem, version, told)
    if version != expected.version:
        why = f"it applies version {version}, not {expected.version}"
        return GateWord(name, role, "differs", why, version, told)
    if told != digest(tightened(desk.risk, *expected.limits)):
        why = "it applies other limits: it was started with another desk.toml"
        return GateWord(name, role, "differs", why, version, told)
    return GateWord(name, role, "confirmed", "", version, told)


def all_confirmed(words: Iterable[GateWord]) -> bool:
    """A gate that does not run lets nothing through, and reads the file when it starts."""
    return all(each.said in ("confirmed", "not running") for each in words)


def doubts(words: Iterable[GateWord]) -> str:
    return "; ".join(str(each) for each in words if each.said not in ("confirmed", "not running"))


def limits_brief(desk: DeskFile, changes: Changes) -> dict[str, object]:
    """The limits in force as `status` shows them."""
    return {
        "version": changes.version,
        "hash": "" if changes.problem else digest(tightened(desk.risk, *changes.limits)),
        "problem": changes.problem,
        "changes": [change_row(each) for each in changes.changes],
    }


def change_row(change: LimitsChange) -> dict[str, object]:
    return {
        "limits": {name: plain(value) for name, value in sorted(change.limits.items())},
        "reason": change.reason,
        "by": change.who,
        "run": change.run or None,
        "since": change.at.isoformat(),
    }


def limit_rows(desk: DeskFile, changes: Changes) -> list[dict[str, str | None]]:
    """`[{"limit", "declared", "in_force"}]`; None: no such limit, or, of those in force, not known."""
    declared = values(desk.risk)
    in_force = values(tightened(desk.risk, *changes.limits))
    return [
        {
            "limit": name,
            "declared": _plain(declared.get(name)),
            "in_force": None if changes.problem else _plain(in_force.get(name)),
        }
        for name in sorted({*declared, *in_force})
    ]


def _plain(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
