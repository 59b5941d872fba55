"""What conditions and happenings do to the venue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openbell_sim import hands
from openbell_sim.clock import VenueClock
from openbell_sim.exchange import Exchange
from openbell_sim.faces.port import Face
from openbell_sim.faults.kinds import (
    ClockSkew,
    Condition,
    DisconnectStreams,
    Happening,
    KeyRevoked,
    ManualClose,
    ManualOrder,
)
from openbell_sim.keys import KeyRing


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The venue, as far as faults reach into it."""

    face: Face
    exchange: Exchange
    keys: KeyRing
    clock: VenueClock
    first_account: str


@dataclass(frozen=True)
class Holding:
    """A condition that holds. `account`: whom it concerns, where it concerns one; empty: nobody
    was named."""

    condition: Condition
    account: str


def settle(ground: Ground, holding: Sequence[Holding]) -> None:
    """Makes the venue such that these conditions hold and no others."""
    skew_ms, revoked = 0, set()
    for held in holding:
        match held.condition:
            case ClockSkew(skew_ms=more_ms):
                skew_ms += more_ms
            case KeyRevoked():
                revoked.add(held.account or ground.first_account)
    ground.clock.skew_ns = skew_ms * 1_000_000
    ground.keys.revoke_only(revoked)


async def happen(ground: Ground, happening: Happening, account: str) -> None:
    """`account`: as in `Holding`. Raises RefusedError where the exchange refuses what a person
    does."""
    owner = account or ground.first_account
    match happening:
        case DisconnectStreams():
            await ground.face.disconnect()
        case ManualOrder():
            order = hands.ManualOrder(
                symbol=happening.symbol,
                side=happening.side,
                quantity=happening.quantity,
                type=happening.type,
                price=happening.price,
                stop_price=happening.stop_price,
            )
            hands.place(ground.exchange, owner, order)
        case ManualClose():
            hands.close(ground.exchange, owner, happening.symbol)
