"""What a stop can be limited to: the whole desk, a venue, a strategy, a symbol.

Written `desk`, `venue:binance`, `strategy:momentum`, `symbol:BTC/USDT`: on the command line, in the
API, in the audit log and in the names of the latch files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the kill switch's command must not wait for the models to load
    from openbell.config.models import DeskFile


class ScopeKind(StrEnum):
    DESK = "desk"
    VENUE = "venue"
    STRATEGY = "strategy"
    SYMBOL = "symbol"


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    kind: ScopeKind
    name: str = ""
    """Of the venue or strategy, or the unified symbol; empty for the desk."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)

    def covers(self, venue: str, strategy: str, symbol: str) -> bool:
        """Whether an order of these is inside. An order of the desk itself, such as a flatten, has
        no strategy (`""`), so a strategy's scope never holds it."""
        match self.kind:
            case ScopeKind.DESK:
                return True
            case ScopeKind.VENUE:
                return self.name == venue
            case ScopeKind.STRATEGY:
                return self.name == strategy
            case ScopeKind.SYMBOL:
                return self.name == symbol


DESK = Scope(ScopeKind.DESK)

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,47}")
_SYMBOL = re.compile(r"[A-Z0-9]{2,12}/[A-Z0-9]{2,12}")
"""As `config.models` has them: what no desk file can declare is no scope."""


def parse_scope(text: str) -> Scope:
    """Raises ValueError that says how a scope is written."""
    kind, _, name = text.partition(":")
    if text == "desk":
        return DESK
    if kind in ("venue", "strategy") and _NAME.fullmatch(name):
        return Scope(ScopeKind(kind), name)
    if kind == "symbol" and _SYMBOL.fullmatch(name):
        return Scope(ScopeKind.SYMBOL, name)
    raise ValueError(
        f'"{text}" is no scope: write desk, venue:NAME, strategy:NAME or symbol:BASE/QUOTE'
    )


def latched_told(scopes: Iterable[object]) -> str:
    """What is latched, as the options that release it."""
    named = " ".join(f"--scope {scope}" for scope in scopes)
    return f"what is latched is named by {named}" if named else "nothing is latched"


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """Sorted, each once; none at all is the whole desk. Raises ValueError."""
    return tuple(sorted({parse_scope(text) for text in texts})) or (DESK,)


def undeclared(scopes: Iterable[Scope], desk: DeskFile) -> Iterator[str]:
    """What is wrong with scopes whose name the desk file does not have: a stop of it would stop
    nothing."""
    from openbell.config.nearest import did_you_mean

    known = {
        ScopeKind.VENUE: set(desk.venues),
        ScopeKind.STRATEGY: set(desk.strategies),
        ScopeKind.SYMBOL: {symbol for venue in desk.venues.values() for symbol in venue.symbols},
    }
    for scope in scopes:
        if scope.kind is ScopeKind.DESK or scope.name in known[scope.kind]:
            continue
        names = sorted(known[scope.kind])
        advice = did_you_mean(scope.name, names) if names else "it has none"
        yield f'the desk has no {scope.kind} "{scope.name}"; {advice}'
