"""`[closing]` of desk.toml: what `openbell down` does with orders and positions."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from openbell.config.base import Model
from openbell.config.units import Seconds


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
    timeout: Seconds = 300.0
    """Of the whole shutdown."""
    conservative_wait: Seconds = 5.0
    """How long limit orders get before market orders follow."""
    checkpoint_elsewhere: tuple[str, ...] = ()
    """Folders for the checkpoint where the state folder does not take it, as when its disk is full;
    the first that does is used, and at last one in the temporary folder. On another disk, mode 700."""

    @model_validator(mode="after")
    def _kept_orders_need_kept_positions(self) -> Closing:
        if self.orders != "cancel" and self.flatten != "keep":
            raise ValueError(
                f'orders = "{self.orders}" needs flatten = "keep": a resting order could reopen a '
                "flattened position"
            )
        return self
