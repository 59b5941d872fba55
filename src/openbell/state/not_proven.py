"""The last closing, where it stopped every service and did not prove the desk closed.

The desk is offline, and something may rest at a venue all the same. It stands in the file of the desk's
target, in one write with it, until a closing proves the desk closed or it is opened again.
"""

from __future__ import annotations

import msgspec

from openbell.state.not_opened import NotOpened, closed_because


class NotProven(msgspec.Struct, frozen=True):
    run: str
    """The closing."""
    why: str
    who: str
    at: str
    """ISO 8601, UTC."""

    def as_dict(self) -> dict[str, str]:
        """As `status` shows it."""
        return {"run": self.run, "why": self.why, "by": self.who, "at": self.at}

    def told(self) -> str:
        """In a sentence."""
        return f"closed, not proven: {self.run}: {self.why}"

    def advice(self) -> dict[str, str]:
        """As `status` recommends it."""
        return {
            "severity": "critical",
            "subject": self.run,
            "text": f"closed, but not proven: {self.why}; orders may rest",
            "action": "look at the venue; openbell down asks the venues again, "
            "openbell up --safe-mode opens what could mend it",
        }


def why_closed(not_opened: NotOpened | None, not_proven: NotProven | None) -> str:
    """Why a closed desk is closed. That it may not be comes first, whatever was tried since."""
    return closed_because(not_opened) if not_proven is None else not_proven.told()
