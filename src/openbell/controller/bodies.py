"""What may be sent: every body of the API. Unknown keys are refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    # Most are never sent to a controller in its whole life: a validator is made with the first.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class OpenBody(Body):
    safe_mode: bool = False
    only: tuple[str, ...] = ()
    force: bool = False
    reason: Annotated[str, Field(max_length=500)] = ""


class CloseBody(Body):
    flatten: Literal["aggressive", "conservative", "keep"] | None = None
    orders: Literal["cancel", "keep", "keep-passive"] | None = None
    reason: Annotated[str, Field(max_length=500)] = ""
    timeout_s: Annotated[float, Field(gt=0, le=86400)] | None = None
    force: bool | None = None
    """None, as of the others: as the closing that is gone on with was asked, else no."""


class CloseLaterBody(CloseBody):
    at: Annotated[str, Field(min_length=1, max_length=40)]
    """`15:45` on the desk's clock, or a date and time of ISO 8601."""


class CallOffBody(Body):
    reason: Annotated[str, Field(max_length=500)] = ""


class PlanBody(Body):
    parameters: dict[str, Any] = {}


class RunBody(Body):
    parameters: dict[str, Any] = {}
    reason: Annotated[str, Field(max_length=500)] = ""


class CancelBody(Body):
    reason: Annotated[str, Field(max_length=500)] = ""


class ApproveStepBody(Body):
    step: str
    digest: str
    """Of what was shown."""
    reason: Annotated[str, Field(max_length=500)]


class HaltBody(Body):
    reason: Annotated[str, Field(max_length=500)] = ""


class StrategyBody(Body):
    reason: Annotated[str, Field(max_length=500)] = ""


class LockBody(Body):
    reason: Annotated[str, Field(max_length=500)]


class UnlockBody(Body):
    reason: Annotated[str, Field(max_length=500)] = ""


class LimitsBody(Body):
    limits: Annotated[tuple[str, ...], Field(max_length=200)] = ()
    """`max_total_exposure=5000`, each."""
    reduce_by_percent: Annotated[Decimal, Field(gt=0, le=100)] | None = None
    reason: Annotated[str, Field(max_length=500)]


class RestoreLimitsBody(Body):
    limits: Annotated[tuple[str, ...], Field(max_length=200)] = ()
    """Names; none: all."""
    reason: Annotated[str, Field(max_length=500)]


class ResumeBody(Body):
    pass


Scopes = Annotated[tuple[str, ...], Field(max_length=100)]


class ActivateBody(Body):
    scopes: Scopes = ()
    reason: Annotated[str, Field(max_length=500)] = ""
    set_already: tuple[str, ...] = ()


class EmergencyBody(Body):
    reason: Annotated[str, Field(max_length=500)] = ""
    scopes: Scopes = ()
    flatten: bool = False
    account_wide: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0


class TriggeredBody(Body):
    rule: str
    scopes: Scopes
    reason: Annotated[str, Field(max_length=2000)]
    latches: tuple[str, ...]


class DeactivateBody(Body):
    scopes: Scopes = ()
    reason: Annotated[str, Field(max_length=500)]
    latches: tuple[str, ...] | None = None


class ApproveBody(Body):
    request: str
    digest: str
    """Of what was shown."""
    reason: Annotated[str, Field(max_length=500)]


class ReconcileBody(Body):
    venues: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    """None: all."""


class AdoptBody(Body):
    venues: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    reason: Annotated[str, Field(max_length=500)]
    digest: str
    """Of what was shown."""


class ServicesBody(Body):
    services: Annotated[tuple[str, ...], Field(min_length=1)]
    force: bool = False


class RollingRestartBody(Body):
    services: tuple[str, ...] = ()
    hand_back: bool = False
    reason: Annotated[str, Field(max_length=500)] = ""


class RestartBody(Body):
    quick: bool = False
    orders: Literal["cancel", "keep", "keep-passive"] | None = None
    force: bool = False
    reason: Annotated[str, Field(max_length=500)] = ""


class CheckpointBody(Body):
    level: Literal["complete", "quick"] = "complete"
    verify: bool = True
    path: str | None = None


class ExitBody(Body):
    detach: bool = False


class PermitBody(BaseModel):
    """From the engine; keys of a newer engine are left unread."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    service: str
    epoch: int
    reconciled: bool
    phase: str = ""
    books_known: bool = False
