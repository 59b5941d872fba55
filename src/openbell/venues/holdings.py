"""Positions on venues that keep none: what the account holds of each symbol's base currency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from openbell.venues.port import Balance, VenuePosition

_ZERO = Decimal(0)


def spot_positions(
    symbols: Sequence[str], balances: Mapping[str, Balance], holdings: Mapping[str, Decimal]
) -> list[VenuePosition]:
    """One per symbol: balance less `holdings`. Where two symbols share a base currency, the first
    of them carries its balance."""
    positions: list[VenuePosition] = []
    counted: set[str] = set()
    for symbol in symbols:
        base = symbol.split("/")[0]
        quantity = _ZERO
        if base not in counted:
            counted.add(base)
            balance = balances.get(base)
            total = balance.total if balance is not None else _ZERO
            quantity = total - holdings.get(base, _ZERO)
        positions.append(VenuePosition(symbol=symbol, quantity=quantity))
    return positions
