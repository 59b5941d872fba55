"""Amounts, rates and currencies on the command line of `openbell-sim`."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from openbell.errors import ConfigError
from openbell_sim.account import FeeIn, FeeSchedule
from openbell_sim.faces.port import FaceKind
from openbell_sim.market.source import MarketSource

_OTHER_NAMES = {"BTC": "XBT", "XBT": "BTC", "DOGE": "XDG", "XDG": "DOGE"}
"""Kraken has names of its own for two currencies."""


def currencies_of(kind: FaceKind, sources: Iterable[MarketSource]) -> frozenset[str]:
    """Those that this venue has, by its own names."""
    traded = [each for source in sources for each in source.instruments]
    return frozenset(
        {
            *(name for each in (*kind.instruments.values(), *traded) for name in each.currencies),
            *kind.deposits,
            *filter(None, (kind.rules.fees.token,)),
        }
    )


def deposits_of(
    texts: Sequence[str], accounts: Sequence[str], currencies: Collection[str]
) -> dict[tuple[str, str], Decimal]:
    deposits: dict[tuple[str, str], Decimal] = {}
    for text in texts:
        holder, equals, amount = text.partition("=")
        account, colon, currency = holder.rpartition(":")
        if not equals or not currency:
            raise ConfigError(f"--deposit {text}: write CURRENCY=AMOUNT or ACCOUNT:CURRENCY=AMOUNT")
        _known_currency(currency, currencies, f"--deposit {text}")
        for name in [account] if colon else accounts:
            if name not in accounts:
                raise ConfigError(f"--deposit {text}: there is no account {name}")
            deposits[name, currency] = _decimal(amount, f"--deposit {text}")
    return deposits


def fees_of(
    kind: FaceKind, options: argparse.Namespace, currencies: Collection[str]
) -> FeeSchedule:
    usual = kind.rules.fees
    fee_in, token = usual.fee_in, usual.token
    if options.fee_in in list(FeeIn):
        fee_in, token = FeeIn(options.fee_in), ""
    elif options.fee_in is not None:
        token = options.fee_in
        _known_currency(token, currencies, f"--fee-in {token}")
    return msgspec.structs.replace(
        usual,
        maker=_rate(options.maker_fee, usual.maker, "--maker-fee"),
        taker=_rate(options.taker_fee, usual.taker, "--taker-fee"),
        fee_in=fee_in,
        token=token,
    )


def _known_currency(currency: str, known: Collection[str], what: str) -> None:
    """Raises ConfigError for a currency that nobody could do anything with here."""
    if currency in known:
        return
    other = _OTHER_NAMES.get(currency)
    raise ConfigError(
        f"{what}: there is no {currency} at this venue",
        hint=f"it is called {other} here"
        if other in known
        else f"there is {', '.join(sorted(known))}",
    )


def _rate(text: str | None, usual: Decimal, what: str) -> Decimal:
    if text is None:
        return usual
    rate = _decimal(text, what)
    if rate > 1:
        raise ConfigError(
            f"{what} {text}: more than all of the notional",
            hint="a rate is a share: 0.001 is 0.1 %",
        )
    return rate


def _decimal(text: str, what: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise ConfigError(f"{what}: {text!r} is not an amount")
    return value
