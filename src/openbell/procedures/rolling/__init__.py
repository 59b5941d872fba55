"""The rolling restart: every service gets its new code, one at a time, while the desk goes on."""

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


def rolling_steps(rolling: Rolling) -> tuple[RestartService | HandBack, ...]:
    """One step a service, in the order of the plan; last, where it is asked for, the hand-back."""
    turns = tuple(RestartService(rolling, turn) for turn in rolling.plan.turns)
    return (*turns, HandBack(rolling, rolling.hand_back_to)) if rolling.hand_back_to else turns


__all__ = [
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
