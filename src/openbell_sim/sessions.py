"""Whether a symbol is traded now, and what becomes of the market's words meanwhile."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from openbell_sim.market.events import BestSet, LevelsSet, MarketEvent, Snapshot, Traded


class MarketState(StrEnum):
    """Open orders stay in every state, and nothing trades in any but OPEN."""

    OPEN = "open"
    CANCEL_ONLY = "cancel_only"
    """Cancels are taken; orders and amendments are not."""
    HALTED = "halted"
    """Neither orders nor amendments nor cancels are taken."""
    CLOSED = "closed"
    """As CANCEL_ONLY, by the calendar."""


class SessionSet(Protocol):
    """See `events.Session`."""

    @property
    def symbol(self) -> str: ...
    @property
    def state(self) -> MarketState | None: ...
    @property
    def scheduled(self) -> bool: ...


class Sessions:
    """The state of every symbol: what somebody set, else what the calendar says, else open."""

    def __init__(self) -> None:
        self._set: dict[bool, dict[str, MarketState]] = {True: {}, False: {}}
        """By whether the calendar said it; then by symbol, "" for every symbol."""

    def apply(self, event: SessionSet) -> None:
        states = self._set[event.scheduled]
        if not event.symbol:
            states.clear()
        if event.state is not None:
            states[event.symbol] = event.state
        else:
            states.pop(event.symbol, None)

    def holds(self, event: SessionSet) -> bool:
        """Whether the event would change nothing."""
        states = self._set[event.scheduled]
        alone = bool(event.symbol) or set(states) <= {""}
        return alone and states.get(event.symbol) == event.state

    def state(self, symbol: str) -> MarketState:
        for states in (self._set[False], self._set[True]):
            state = states.get(symbol) or states.get("")
            if state is not None:
                return state
        return MarketState.OPEN


class Backlog:
    """What a market source said while the market did not trade: its quotes count when it opens,
    its trades never were."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._levels: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
        """Bids and asks, quantity by price."""
        self._best: BestSet | None = None

    def keep(self, event: MarketEvent) -> None:
        match event:
            case Snapshot():
                self._snapshot = event
                self._levels = ({}, {})
                self._best = None
            case LevelsSet():
                for kept, told in zip(self._levels, (event.bids, event.asks), strict=True):
                    kept.update(told)
            case BestSet():
                self._best = event
            case Traded():
                pass

    def take(self, symbol: str) -> list[MarketEvent]:
        """All of it in as few words as possible; the backlog is empty then."""
        events: list[MarketEvent] = []
        if self._snapshot is not None:
            events.append(self._snapshot)
        if any(self._levels):
            bids, asks = (tuple(levels.items()) for levels in self._levels)
            events.append(LevelsSet(symbol, bids, asks))
        if self._best is not None:
            events.append(self._best)
        self._snapshot, self._levels, self._best = None, ({}, {}), None
        return events
