"""Every error Openbell raises on purpose, sorted by what the caller must do.

    OpenbellError                    exit  the caller must
    ├── UsageError                   2     ask for something else (unknown name, bad value)
    ├── NotRunningError              3     open the desk first
    ├── ConfigError                  4     mend desk.toml or the environment
    ├── ConflictError                5     wait: another command or process holds what is needed
    ├── RefusedError                 6     meet the condition named, then ask again
    ├── FailedError                  1     read what failed; what runs was left running
    ├── UnverifiedError              7     look at the venue: the outcome is not known
    ├── CorruptError                 8     use another copy: a file is not what was written
    └── StorageError                 9     mend the disk or database; nothing was sent

Exit codes never change meaning; `openbell health` alone has its own (0 healthy, 1 degraded,
2 unhealthy, 3 not running). An error that is none of these is a defect and exits with 70.
"""

from __future__ import annotations

from typing import ClassVar


class OpenbellError(Exception):
    """Base of all. `message` says what is wrong, `hint` what to do about it.

    Neither may hold a secret: both are shown, logged and sent over the API.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts
        """Typed details for `--json`, for example `{"service": "engine", "port": 8004}`."""

    def as_dict(self) -> dict[str, object]:
        """`{"error": code, "message": ..., "hint": ..., **facts}`"""
        return {"error": self.code, "message": self.message, "hint": self.hint, **self.facts}


class UsageError(OpenbellError):
    exit_code = 2
    code = "usage"


class NotRunningError(OpenbellError):
    exit_code = 3
    code = "not_running"


class ConfigError(OpenbellError):
    exit_code = 4
    code = "config"


class ConflictError(OpenbellError):
    exit_code = 5
    code = "conflict"


class RefusedError(OpenbellError):
    exit_code = 6
    code = "refused"


class FailedError(OpenbellError):
    exit_code = 1
    code = "failed"


class UnverifiedError(OpenbellError):
    exit_code = 7
    code = "unverified"


class CorruptError(OpenbellError):
    exit_code = 8
    code = "corrupt"


class StorageError(OpenbellError):
    exit_code = 9
    code = "storage"
