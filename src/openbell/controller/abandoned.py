"""A run that was cut off, and is given up because somebody asks for something else: told by the run that
takes its place, and part of its result. Nobody has to find out from the history that it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openbell.controller.desk import Interrupted
from openbell.domain.closing_wishes import wishes_told


@dataclass(frozen=True)
class Abandoned:
    run: Interrupted
    why: str

    def told(self) -> str:
        at = f" at {self.run.step}" if self.run.step else " before its first step"
        asked = asked_told(self.run.procedure, self.run.parameters)
        of = f" ({asked})" if asked else ""
        return (
            f"{self.run.id}{of}, begun by {self.run.actor} and cut off{at}, is given up: {self.why}"
        )

    def as_dict(self) -> dict[str, object]:
        return {
            "run": self.run.id,
            "procedure": self.run.procedure,
            "step": self.run.step,
            "by": self.run.actor,
            "asked_for": dict(self.run.parameters),
            "message": self.told(),
        }


def abandoned_document(given_up: Abandoned | None) -> dict[str, object]:
    """What a run's result says of it; nothing where no run was given up."""
    return {} if given_up is None else {"abandoned": given_up.as_dict()}


def asked_told(procedure: str, asked: Mapping[str, object]) -> str:
    """What a run was asked for, in a few words: `safe mode`, `only web`, `flatten keep, orders keep`."""
    if procedure == "close":
        return wishes_told(asked)
    told = ["safe mode"] if asked.get("safe_mode") else []
    for key, word in (("only", "only"), ("services", "services")):
        names = asked.get(key)
        if isinstance(names, list | tuple) and names:
            told.append(f"{word} {', '.join(map(str, names))}")
    return ", ".join(told)
