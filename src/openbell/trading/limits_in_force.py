"""The limits that one process applies: of the desk file it started with, tightened as
`state.risk_limits` says at this moment. The engine, its standby and risk-management hold one each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openbell.config.models import Risk
from openbell.domain.risk_limits import digest, plain, tightened, values
from openbell.service.logging import get_logger
from openbell.state.risk_limits import Changes, ChangesOnDisk

log = get_logger()


@dataclass(frozen=True)
class Applied:
    """What applies, and which version of the changes that is."""

    risk: Risk
    changes: Changes

    @property
    def problem(self) -> str:
        """Why it is not known whether more is to be held back; empty where it is."""
        return self.changes.problem

    def document(self) -> Mapping[str, object]:
        """`{"version", "hash", "problem", "limits": {name: value}}`"""
        return {
            "version": self.changes.version,
            "hash": digest(self.risk),
            "problem": self.problem,
            "limits": {name: plain(value) for name, value in values(self.risk).items()},
        }


class LimitsInForce:
    def __init__(self, risk: Risk, path: Path) -> None:
        self._declared = risk
        self._disk = ChangesOnDisk(path)
        self._applied = Applied(risk, Changes())

    def now(self) -> Applied:
        changes = self._disk.now()
        before = self._applied
        if changes is not before.changes:
            self._applied = Applied(tightened(self._declared, *changes.limits), changes)
            self._tell(before.changes, changes)
        return self._applied

    def _tell(self, before: Changes, now: Changes) -> None:
        if now.problem and now.problem != before.problem:
            log.critical("the limits in force are not known", alert=True, why=now.problem)
        elif not now.problem and (now.version != before.version or before.problem):
            log.warning("limits changed", version=now.version, hash=digest(self._applied.risk))
