"""`[kill_switch.rules]`: what sets the kill switch without a person."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from openbell.config.base import Model, Name
from openbell.config.hours import OpenHours
from openbell.config.soundness import Lasting
from openbell.config.units import Amount, Percent, Seconds

RuleScope = Literal["desk", "venue", "strategy", "symbol"]
"""What a rule is judged for, and so what it latches: the desk as a whole, or each venue, strategy or
symbol by itself."""


class LossRule(Model):
    """`[kill_switch.rules.max_daily_loss]` and `.max_drawdown`: a loss that sets the kill switch."""

    amount: Annotated[Amount, Field(gt=0)]
    """So much may be lost: since midnight UTC (daily loss), or since the highest P&L (drawdown).
    Realized, unrealized and fees."""
    currency: str | None = None
    """Of `amount`; unset: the quote currency of most of the desk's symbols. What cannot be converted
    into it is not judged."""
    scope: RuleScope = "desk"
    """What loses, and what is latched."""
    lasting: Seconds = 0.0
    """How long the loss must last; keeps out a single wrong price that looks sound."""


class RejectRule(Model):
    """`[kill_switch.rules.reject_rate]`: too many orders are rejected, by venue or adapter."""

    share: Annotated[Percent, Field(gt=0, le=1)]
    """Of the orders that had an outcome within the window."""
    within: Lasting = 60.0
    """The window."""
    at_least: Annotated[int, Field(ge=1)] = 20
    """Fewer outcomes than this within the window are not judged."""
    scope: RuleScope = "desk"
    """Whose orders, and what is latched."""
    lasting: Seconds = 0.0
    """How long it must last."""


class ExecutionsRule(Model):
    """`[kill_switch.rules.repeated_executions]`: a strategy trades over and over (RTS 6, Art. 15(3)).

    The engine's own throttle (`[risk] max_orders_per_second`) ends with the second; this one ends with
    a person."""

    at_most: Annotated[int, Field(ge=1)]
    """So many orders may trade within the window, however many executions each has; one more sets the
    kill switch. Orders that flatten are not counted."""
    within: Lasting = 60.0
    """The window."""
    scope: RuleScope = "strategy"
    """Whose orders, and what is latched."""


class StaleRule(Model):
    """`[kill_switch.rules.stale_market_data]`: orders rest, and nothing sound is quoted."""

    after: Annotated[Seconds, Field(gt=0)]
    """Without one sound quote of a symbol in which an order rests."""
    scope: Literal["desk", "venue", "symbol"] = "desk"
    """What is latched."""
    open_hours: dict[Name, str] = {}
    """When a venue's market is open, by venue, in UTC: `"mon-fri 14:30-21:00"`. One that is not
    named is always open. While it is closed nothing is judged there."""

    @field_validator("open_hours")
    @classmethod
    def _can_be_read(cls, hours: dict[str, str]) -> dict[str, str]:
        for text in hours.values():
            OpenHours.parse(text)
        return hours


class HeartbeatRule(Model):
    """`[kill_switch.rules.heartbeat_lost]`: the engine is silent while the desk is open."""

    after: Annotated[Seconds, Field(gt=0)]
    """Without a heartbeat. The guard judges it, which hears the engine's beats itself."""


class KillRules(Model):
    """`[kill_switch.rules]`: what sets the kill switch without a person. A rule that is not given does
    not exist."""

    max_daily_loss: LossRule | None = None
    """Lost since midnight UTC."""
    max_drawdown: LossRule | None = None
    """Lost since the highest P&L."""
    reject_rate: RejectRule | None = None
    """Orders rejected."""
    repeated_executions: ExecutionsRule | None = None
    """Too many orders traded; a person lets it go on."""
    stale_market_data: StaleRule | None = None
    """No sound quotes while orders rest."""
    heartbeat_lost: HeartbeatRule | None = None
    """The engine is silent."""

    @property
    def declared(self) -> tuple[str, ...]:
        """Names of the rules that are set."""
        return tuple(each for each in type(self).model_fields if getattr(self, each) is not None)

    @property
    def of_risk(self) -> tuple[str, ...]:
        """Those of them that risk-management judges; the guard judges the other."""
        return tuple(each for each in self.declared if each != "heartbeat_lost")


class KillSwitch(Model):
    """`[kill_switch]`."""

    rules: KillRules = KillRules()
    """What sets it without a person."""
