"""What a run of a procedure is begun with. Apart from `state.runs`, which loads a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NewRun:
    kind: str
    """Name of the procedure: `open`, `close`, ..."""
    who: str
    why: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    """Of the procedure; 0: it has none."""
    plan: tuple[str, ...] = ()
    """Names of its steps, in order."""
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By step: what the desk says of it (`procedures.step_rules`)."""
