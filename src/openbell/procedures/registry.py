"""Every procedure there is, by name: what `openbell procedure`, the API, the runbooks and the check
of a desk file read. The order is the one in which they are listed."""

from __future__ import annotations

from openbell.config.nearest import nearest, nearest_told
from openbell.errors import UsageError
from openbell.procedures import closing, opening_steps, restarting, rolling
from openbell.procedures.declared import Procedure

PROCEDURES: dict[str, Procedure] = {
    each.name: each
    for each in (
        opening_steps.PROCEDURE,
        closing.PROCEDURE,
        restarting.FULL,
        restarting.QUICK,
        rolling.PROCEDURE,
    )
}


def find_procedure(name: str) -> Procedure:
    """Raises UsageError with the nearest names."""
    if name in PROCEDURES:
        return PROCEDURES[name]
    other = [each.name for each in PROCEDURES.values() if name.casefold() in each.aliases]
    near = other or nearest(name, PROCEDURES)
    raise UsageError(
        f'there is no procedure "{name}"',
        hint=nearest_told(near) or f"there are: {', '.join(PROCEDURES)}",
        procedure=name,
        nearest=near,
    )
