"""What a venue is unless somebody says otherwise: the markets and the money of its face."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from openbell.errors import ConfigError
from openbell_sim.faces.port import FaceKind
from openbell_sim.instruments import Instrument
from openbell_sim.market.generator import Generator
from openbell_sim.market.source import MarketSource


def instruments(kind: FaceKind, symbols: Iterable[str]) -> list[Instrument]:
    """Those of the venue by their names there. Raises ConfigError for a name it does not know."""
    wanted = list(symbols)
    unknown = [symbol for symbol in wanted if symbol not in kind.instruments]
    if unknown:
        raise ConfigError(
            f"{kind.title} as simulated knows no {', '.join(unknown)}",
            hint=f"symbols that can be generated: {', '.join(kind.instruments)}",
        )
    return [kind.instruments[symbol] for symbol in wanted]


def generated(kind: FaceKind, symbols: Iterable[str], seed: int) -> MarketSource:
    """Raises ConfigError for a symbol that nothing is known of."""
    try:
        return Generator(instruments(kind, symbols), seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def deposits(kind: FaceKind, accounts: Sequence[str]) -> dict[tuple[str, str], Decimal]:
    """By `(account, currency)`."""
    return {
        (account, currency): amount
        for account in accounts
        for currency, amount in kind.deposits.items()
    }
