"""The last opening, where it ended before it had begun anything: refused by its pre-flight, say.

The desk is then what it was before, and nothing is left that had to be closed. It stands in the file of
the desk's target, in one write with it, and is gone as soon as anything else is asked of the desk.
"""

from __future__ import annotations

import msgspec


class NotOpened(msgspec.Struct, frozen=True):
    run: str
    step: str
    """At which it ended."""
    why: str
    """With what would mend it."""
    who: str
    at: str
    """ISO 8601, UTC."""

    def as_dict(self) -> dict[str, str]:
        """As `status` shows it."""
        return {
            "run": self.run, "step": self.step, "why": self.why, "by": self.who, "at": self.at,
        }  # fmt: skip

    def advice(self) -> dict[str, str]:
        """As `status` recommends it."""
        return {
            "severity": "warning",
            "subject": self.run,
            "text": f"not opened: {self.why}",
            "action": "mend it, then openbell up",
        }


def closed_because(told: NotOpened | None) -> str:
    """Why a closed desk is closed."""
    if told is None:
        return "closed"
    return (
        f"closed: {told.run} by {told.who} ended at {told.step or 'its begin'}, before anything was "
        "started"
    )
