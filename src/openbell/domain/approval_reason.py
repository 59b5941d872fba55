"""That whoever approves says why. Apart from `domain.approvals`, for commands that load no more than this."""

from __future__ import annotations

from openbell.errors import UsageError


def why_approved(reason: str) -> str:
    """The reason, without which an approval does not count. Raises UsageError."""
    if not (said := reason.strip()):
        raise UsageError("an approval needs a reason", hint='say why: --reason "looked at it"')
    return said
