"""What is wrong in a desk file, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openbell.errors import ConfigError

KeyPath = tuple[str, ...]
"""Keys from the top of desk.toml: `("services", "engine", "port")`."""


@dataclass(frozen=True)
class Problem:
    key: KeyPath
    message: str
    """What is wrong, in a sentence without a full stop."""
    hint: str
    """What to do about it."""
    line: int | None = None
    """One-based line of desk.toml; None where there is none to name."""

    def located(self, path: Path) -> str:
        """`desk.toml:12: services.engine.port: <message>; <hint>`"""
        place = f"{path}:{self.line}" if self.line else str(path)
        key = f" {'.'.join(self.key)}:" if self.key else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}:{key} {self.message}{hint}"

    def as_dict(self, path: Path) -> dict[str, object]:
        """For `--json`: `{"file", "line", "key", "message", "hint"}`"""
        return {
            "file": str(path),
            "line": self.line,
            "key": ".".join(self.key),
            "message": self.message,
            "hint": self.hint,
        }


class DeskFileError(ConfigError):
    """desk.toml cannot be used. `problems` names every one of them, not only the first."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__(
            "\n".join([f"{path} has {count}:", *(p.located(path) for p in self.problems)]),
            hint="mend the lines named, then run `openbell check`",
            problems=[p.as_dict(path) for p in self.problems],
        )
