"""`[alerts]` of desk.toml: what a person is alerted of."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from openbell.config.base import Model
from openbell.config.units import Amount, Percent, Seconds


class Alerts(Model):
    """`[alerts]`: what a person is alerted of by `openbell watch`, and by the controller during a
    closing."""

    order_open_for: Annotated[Seconds, Field(gt=0)] = 60.0
    """During a closing: how long one that cancels orders may leave one open, and how long it may not be
    known which are."""
    loss: Annotated[Amount, Field(gt=0)] | None = None
    """Loss since midnight UTC, realized and unrealized, in the quote currency; unset: `[risk]
    max_daily_loss`, and none where that is unset too."""
    reject_share: Annotated[Percent, Field(gt=0, le=1)] = Decimal("0.05")
    """Of the orders that had an outcome within the last minute: so many may be rejected."""
    rejects_at_least: Annotated[int, Field(ge=1)] = 20
    """Fewer outcomes than this are not judged."""
    zombie_for: Seconds = 2.0
    """How long a process that has ended may stay unreaped."""
