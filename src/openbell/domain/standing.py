"""Differences of position that stand from look to look, symbol by symbol.

On an account that trades all the time hardly two looks in a row are clear: some order of the symbol has
just been sent, or filled while the venue was asked. Counted is therefore each look in which a position
differs by more than orders in flight can explain, and by what may be the same as in the looks counted
before it; one that is not clear neither counts nor forgets.

Pure: findings of a look in, what stands out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from openbell.domain.reconcile import Agreement, PositionFinding

UNCLEAR_LOOKS = 5
"""After so many looks in a row that told nothing of a symbol, what was counted before is forgotten: a
difference that passed and came again is not one that stands. Ours."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One symbol's difference."""

    low: Decimal
    high: Decimal
    """The venue's less the books' quantity lies between these, by all looks that count."""
    looks: int = 1
    """How many those are."""
    unclear: int = 0
    """Looks since the last of them that told nothing."""


def follow(
    standing: Mapping[str, Standing], findings: Iterable[PositionFinding], *, complete: bool
) -> dict[str, Standing]:
    """What stands after one more look, by symbol. A symbol that it does not name is flat on both sides where
    it is `complete`; else the venue may not have been heard of it, which tells nothing."""
    by_symbol = {finding.symbol: finding for finding in findings}
    after: dict[str, Standing] = {}
    for symbol in dict.fromkeys((*by_symbol, *standing)):
        before, finding = standing.get(symbol), by_symbol.get(symbol)
        if finding is not None and finding.beyond is not None:
            after[symbol] = _counted(before, *finding.beyond)
            continue
        agrees = complete if finding is None else finding.status is Agreement.OK
        if before is not None and not agrees and before.unclear < UNCLEAR_LOOKS:
            after[symbol] = Standing(before.low, before.high, before.looks, before.unclear + 1)
    return after


def told(
    standing: Mapping[str, Standing], findings: Iterable[PositionFinding], *, looks: int
) -> dict[str, str]:
    """Symbols whose difference stood in so many looks, each with what it is."""
    by_symbol = {finding.symbol: finding for finding in findings}
    return {
        symbol: _why(each, by_symbol.get(symbol))
        for symbol, each in standing.items()
        if each.looks >= looks
    }


def _why(standing: Standing, finding: PositionFinding | None) -> str:
    if finding is not None and finding.status is Agreement.MISMATCH:
        return finding.why
    side = "more" if standing.low > 0 else "less"
    return (
        f"the venue holds {side} than the books, beyond what orders under way explain; "
        "`openbell reconcile` looks for executions that do"
    )


def _counted(before: Standing | None, low: Decimal, high: Decimal) -> Standing:
    if before is None or high < before.low or low > before.high:
        return Standing(low, high)
    return Standing(max(low, before.low), min(high, before.high), before.looks + 1)
