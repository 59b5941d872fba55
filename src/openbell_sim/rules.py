"""How one venue differs from another where the exchange itself must know."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from openbell_sim.account import FeeSchedule


class ClOrdIdPolicy(StrEnum):
    """Whether a ClOrdID may be used again."""

    UNIQUE_WHILE_OPEN = "unique_while_open"
    """Per account and symbol, as on Binance: a name is free again once its order ended."""
    UNIQUE_FOR_EVER = "unique_for_ever"
    """Per account; refused orders use no name up."""
    NONE = "none"
    """It is a mere label."""


class ReduceOnlyPolicy(StrEnum):
    """What happens to a reduce-only order that is larger than the position."""

    CLIP = "clip"
    """It is cut to what is left to close."""
    REJECT = "reject"


class VenueRules(msgspec.Struct, frozen=True, kw_only=True):
    """Those of Binance spot, unless a face says otherwise."""

    cl_ord_id: ClOrdIdPolicy = ClOrdIdPolicy.UNIQUE_WHILE_OPEN
    max_open_orders: int = 200
    """Per account and symbol; 200 is Binance's MAX_NUM_ORDERS."""
    reduce_only: ReduceOnlyPolicy = ReduceOnlyPolicy.CLIP
    fees: FeeSchedule = FeeSchedule()
