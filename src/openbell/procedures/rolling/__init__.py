"""The rolling restart: every service gets its new code, one at a time, while the desk goes on."""

from openbell.procedures.declared import Parameter, Procedure
from openbell.procedures.rolling import hand_back, restart_service
from openbell.procedures.rolling.context import Restarted, Rolling, Times, Took
from openbell.procedures.rolling.hand_back import HandBack
from openbell.procedures.rolling.plan import (
    LeftAlone,
    Member,
    Pair,
    RollingPlan,
    Turn,
    Way,
    plan_rolling,
)
from openbell.procedures.rolling.ports import Condition, EnginePair, HandedOver
from openbell.procedures.rolling.restart_service import RestartService

PROCEDURE = Procedure(
    name="rolling-restart",
    title="Rolling restart",
    version=1,
    purpose="Gives every service its new code, one at a time, while the desk goes on trading; stops "
    "at the first that does not come back as it was.",
    command="openbell restart --rolling",
    steps=(restart_service.SPEC, hand_back.SPEC),
    parameters=(
        Parameter(name="services", kind="names", help="these; all but simulated venues without"),
        Parameter(
            name="hand_back",
            kind="yes or no",
            help="of an engine pair: hand trading back at the end",
        ),
    ),
    resumed_by="`openbell restart --rolling`, asking for the same",
    not_by_itself="it takes one service after another down, and the one at which it was cut off may be "
    "why",
    aliases=("rolling", "restart-rolling"),
)


def rolling_steps(rolling: Rolling) -> tuple[RestartService | HandBack, ...]:
    """One step a service, in the order of the plan; last, where it is asked for, the hand-back."""
    turns = tuple(RestartService(rolling, turn) for turn in rolling.plan.turns)
    return (*turns, HandBack(rolling, rolling.hand_back_to)) if rolling.hand_back_to else turns


__all__ = [
    "PROCEDURE",
    "Condition",
    "EnginePair",
    "HandedOver",
    "LeftAlone",
    "Member",
    "Pair",
    "RestartService",
    "Restarted",
    "Rolling",
    "RollingPlan",
    "Times",
    "Took",
    "Turn",
    "Way",
    "plan_rolling",
    "rolling_steps",
]
