"""The restarts of a whole desk, as data: each is a closing and, once that is proven, an opening.

They are carried out as two runs, one of `close` and one of `open`, which name each other in the record.
Positions are kept, orders as the desk file says. Trading is let again only where every look of the
opening is satisfied: that is the health gate.
"""

from __future__ import annotations

from openbell.procedures import closing, opening_steps
from openbell.procedures.closing import QUICK_LEAVES_OUT
from openbell.procedures.declared import Parameter, Procedure

_PARAMETERS = (
    Parameter(name="orders", kind="cancel|keep|keep-passive", help="what becomes of open orders"),
    Parameter(
        name="force", kind="yes or no", help="open again in spite of what a pre-flight refuses"
    ),
)
_OPENING = opening_steps.PROCEDURE.steps
_NOT_BY_ITSELF = (
    "it stops and starts everything that trades, and whoever ended the controller may have meant to "
    "stop that; until somebody goes on with it no new order is sent"
)

FULL = Procedure(
    name="restart",
    title="Restart of the whole desk",
    version=1,
    purpose="Closes the desk as a planned shutdown does, keeping positions, and opens it again once the "
    "closing is proven. It trades again only where it is found healthy and reconciled; else it is held "
    "in safe mode, with the cause and what would mend it.",
    command="openbell restart",
    steps=(
        *(step for step in closing.PROCEDURE.steps if step.name != "flatten"),
        *_OPENING,
    ),
    parameters=_PARAMETERS,
    resumed_by="`openbell restart`",
    not_by_itself=_NOT_BY_ITSELF,
    composed_of=("close", "open"),
    aliases=("full-restart", "restart-all", "reboot"),
)
QUICK = Procedure(
    name="quick-restart",
    title="Quick restart of the services",
    version=1,
    purpose="Stops every service and starts it again, in a session too: nobody is told, nothing is "
    "locked, no logs are archived, and the guard stays. Orders are cancelled or kept as the desk file "
    "says, positions are kept; books are reconciled before and after, and the desk trades again only "
    "where it is found healthy.",
    command="openbell restart --quick",
    steps=(
        *(
            step
            for step in closing.PROCEDURE.steps
            if step.name not in QUICK_LEAVES_OUT and step.name != "flatten"
        ),
        *_OPENING,
    ),
    parameters=_PARAMETERS,
    resumed_by="`openbell restart`",
    not_by_itself=_NOT_BY_ITSELF,
    composed_of=("close", "open"),
    aliases=("fast-restart",),
)
