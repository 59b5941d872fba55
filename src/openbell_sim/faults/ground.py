"""What conditions and happenings do to the venue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from openbell.errors import ConfigError
from openbell_sim import hands
from openbell_sim.clock import VenueClock
from openbell_sim.exchange import Exchange
from openbell_sim.faces.port import Face
from openbell_sim.faults.kinds import (
    AnyFault,
    ClockSkew,
    Condition,
    DeadManFires,
    DisconnectStreams,
    DropProtective,
    FillOrders,
    Happening,
    KeyRevoked,
    ManualClose,
    ManualOrder,
    MarketStateSet,
)
from openbell_sim.interventions import Interventions
from openbell_sim.keys import KeyRing
from openbell_sim.sessions import MarketState


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The venue, as far as faults reach into it."""

    face: Face
    exchange: Exchange
    keys: KeyRing
    clock: VenueClock
    first_account: str
    states_set: dict[str, MarketState] = field(default_factory=dict)
    """What `settle` set, by symbol; "" for every symbol."""


@dataclass(frozen=True)
class Holding:
    """A condition that holds. `account`: whom it concerns, where it concerns one; empty: nobody
    was named."""

    condition: Condition
    account: str


def check(ground: Ground, fault: AnyFault) -> None:
    """Raises ConfigError for an account or a symbol that the venue does not have."""
    account, symbol = getattr(fault, "account", ""), getattr(fault, "symbol", "")
    accounts, symbols = ground.exchange.ledger.accounts, ground.exchange.markets
    if account and account not in accounts:
        raise ConfigError(f"{fault.name}: no account {account}; there is {', '.join(accounts)}")
    if symbol and symbol not in symbols:
        raise ConfigError(f"{fault.name}: no symbol {symbol}; there is {', '.join(symbols)}")


def settle(ground: Ground, holding: Sequence[Holding]) -> None:
    """Makes the venue such that these conditions hold and no others."""
    skew_ms, states, drops = 0, {}, False
    revoked: dict[str, set[str]] = {"all": set(), "trading": set(), "closing": set()}
    for held in holding:
        match held.condition:
            case ClockSkew(skew_ms=more_ms):
                skew_ms += more_ms
            case KeyRevoked(keys=which):
                revoked[which].add(held.account or ground.first_account)
            case MarketStateSet(symbol=symbol, state=state):
                states[symbol] = state
            case DropProtective():
                drops = True
    ground.clock.skew_ns = skew_ms * 1_000_000
    ground.keys.revoke_only(
        revoked["all"], trading_of=revoked["trading"], closing_of=revoked["closing"]
    )
    ground.exchange.intervene(Interventions(drop_stops=drops))
    _set_states(ground, states)


def _set_states(ground: Ground, states: dict[str, MarketState]) -> None:
    if states == ground.states_set:
        return
    # Every symbol first, which takes back what was said of single ones.
    if "" in states or "" in ground.states_set:
        ground.exchange.set_session(None, states.get(""))
        ground.states_set.clear()
    for symbol in sorted({*states, *ground.states_set} - {""}):
        ground.exchange.set_session(symbol, states.get(symbol))
    ground.states_set.clear()
    ground.states_set.update(states)


async def happen(ground: Ground, happening: Happening, account: str) -> None:
    """`account`: as in `Holding`. Raises RefusedError where the exchange refuses what a person
    does."""
    owner = account or ground.first_account
    match happening:
        case DisconnectStreams():
            await ground.face.disconnect()
        case FillOrders():
            for resting in list(ground.exchange.ledger.open[owner].values()):
                if happening.symbol in ("", resting.symbol) and not resting.waits:
                    ground.exchange.fill(resting, happening.part)
        case DeadManFires():
            ground.exchange.fire_dead_man(owner, happening.symbol or None)
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
