"""What an emergency stop is asked to do, as it travels: to the guard, to a process of its own, and
into the log of its course."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from openbell.domain.scopes import DESK, Scope, ScopeKind, parse_scopes

if TYPE_CHECKING:  # loads the desk's models, while every millisecond counts
    from openbell.config.models import LoadedDesk

TIMEOUT_S = 60.0
"""What each venue is given: 3,000 single cancels at 50 a second. A second press goes on."""


class EmergencyRequest(msgspec.Struct, frozen=True, kw_only=True):
    reason: str = ""
    actor: str = ""
    scopes: tuple[Scope, ...] = (DESK,)
    flatten: bool = False
    """Close positions too, after the orders are gone."""
    account_wide: bool = False
    """Others' orders on the accounts too. Only ever on a person's word."""
    timeout_s: float = TIMEOUT_S
    set_already: tuple[str, ...] = ()
    """Ids of latches that the caller has set for it; they are not set again."""

    def __post_init__(self) -> None:
        """Raises ValueError: a strategy's positions cannot be told from the desk's, and what would be
        left out silently would be called done."""
        if self.flatten and any(scope.kind is ScopeKind.STRATEGY for scope in self.scopes):
            raise ValueError(
                "a strategy's positions cannot be told from the desk's, so they cannot be flattened; "
                "flatten the venue or the symbol: venue:NAME, symbol:BASE/QUOTE"
            )

    @property
    def whole_desk(self) -> bool:
        return DESK in self.scopes

    def covers(self, other: EmergencyRequest) -> bool:
        """Whether whoever carries this one out has done all that the other asks for."""
        wide = self.whole_desk or set(other.scopes) <= set(self.scopes)
        return (
            wide
            and (self.flatten or not other.flatten)
            and (self.account_wide or not other.account_wide)
        )

    def named(self, kind: ScopeKind) -> tuple[str, ...]:
        return tuple(scope.name for scope in self.scopes if scope.kind is kind)

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values; scopes as they are written: `desk`, `venue:binance`."""
        return {
            "reason": self.reason,
            "actor": self.actor,
            "scopes": [str(scope) for scope in self.scopes],
            "flatten": self.flatten,
            "account_wide": self.account_wide,
            "timeout_s": self.timeout_s,
            "set_already": list(self.set_already),
        }

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> EmergencyRequest:
        """From `to_wire`'s values; keys of a newer version, and the protocol's own, are left
        unread. Raises ValueError."""
        wire = msgspec.convert(dict(fields), _Wire)  # its ValidationError is a ValueError
        if not 0 < wire.timeout_s <= 86_400:
            raise ValueError("timeout_s is more than 0 and at most 86400")
        return cls(
            reason=wire.reason,
            actor=wire.actor,
            scopes=parse_scopes(wire.scopes),
            flatten=wire.flatten,
            account_wide=wire.account_wide,
            timeout_s=wire.timeout_s,
            set_already=wire.set_already,
        )


def visits_of(request: EmergencyRequest, desk: LoadedDesk) -> dict[str, tuple[str | None, ...]]:
    """Each venue in scope with its symbols in scope; None: all of it."""
    symbols = request.named(ScopeKind.SYMBOL)
    wanted: dict[str, tuple[str | None, ...]] = {}
    for name, venue in desk.file.venues.items():
        if request.whole_desk or Scope(ScopeKind.VENUE, name) in request.scopes:
            wanted[name] = (None,)
        elif some := tuple(symbol for symbol in venue.symbols if symbol in symbols):
            wanted[name] = some
    return wanted


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    reason: str = ""
    actor: str = ""
    scopes: tuple[str, ...] = ()
    flatten: bool = False
    account_wide: bool = False
    timeout_s: float = TIMEOUT_S
    set_already: tuple[str, ...] = ()
