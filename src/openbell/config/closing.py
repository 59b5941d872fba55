"""`[closing]` of desk.toml: what `openbell down` does with orders and positions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from openbell.config.base import Model
from openbell.config.soundness import Lasting
from openbell.config.units import Percent, Seconds


class ReduceLimits(Model):
    """`[closing.reduce_limits]`: limits of positions are made smaller before strategies are halted, so
    that these wind down by themselves. Left out: they are not."""

    by: Percent
    """How much smaller, of what people and `[risk]` allow: `"50%"`."""
    stages: Annotated[int, Field(ge=1, le=20)] = 1
    """In how many equal stages."""
    every: Lasting = 30.0
    """How long a stage lasts at most; the next one begins as soon as all positions are within it."""

    @model_validator(mode="after")
    def _is_a_reduction(self) -> ReduceLimits:
        if not 0 < self.by <= 1:
            raise ValueError("by must be more than 0% and at most 100%")
        return self


class Closing(Model):
    """`[closing]`: what `openbell down` does with orders and positions."""

    flatten: Literal["aggressive", "conservative", "keep"] = "aggressive"
    """aggressive: market orders. conservative: IOC limits at mid first, then market orders.
    keep: positions stay."""
    orders: Literal["cancel", "keep", "keep-passive"] = "cancel"
    """keep-passive: those that can only provide liquidity (`post_only`) stay, the others are
    cancelled. It and keep are allowed only together with `flatten = "keep"`."""
    wait_for_orders: Seconds = 60.0
    """How long orders that were cancelled or sent may take to become final."""
    timeout: Lasting = 300.0
    """Of the whole shutdown."""
    conservative_wait: Seconds = 5.0
    """How long limit orders get before market orders follow."""
    checkpoint_elsewhere: tuple[str, ...] = ()
    """Folders for the checkpoint where the state folder does not take it, as when its disk is full;
    the first that does is used, and at last one in the temporary folder. On another disk, mode 700."""

    reduce_limits: ReduceLimits | None = None
    """Makes limits smaller first; see there."""

    @model_validator(mode="after")
    def _reduction_leaves_time(self) -> Closing:
        reduce = self.reduce_limits
        if reduce is not None and reduce.stages * reduce.every > self.timeout / 2:
            raise ValueError(
                "the stages of reduce_limits take more than half of timeout: give the closing more "
                "time, or the stages less"
            )
        return self

    @model_validator(mode="after")
    def _kept_orders_need_kept_positions(self) -> Closing:
        if self.orders != "cancel" and self.flatten != "keep":
            raise ValueError(
                f'orders = "{self.orders}" needs flatten = "keep": a resting order could reopen a '
                "flattened position"
            )
        return self
