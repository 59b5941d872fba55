"""Names that a person may have meant, for a message about one that there is not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` known names that resemble `name` or begin with it, nearest first; case is no matter."""
    folded = {other.casefold(): other for other in sorted(set(known))}
    typed = name.casefold()
    close = get_close_matches(typed, folded, n=n, cutoff=0.5)
    begun = [other for other in folded if typed and other.startswith(typed)]
    return [folded[each] for each in dict.fromkeys([*close, *begun])][:n]


def misspelt(name: str, known: Iterable[str]) -> str:
    """The known name that a slip of the finger makes of `name`: `BTC/USDT` for `BTC/USDTT`; else empty."""
    close = get_close_matches(name, sorted(set(known)), n=1, cutoff=0.8)
    return close[0] if close else ""


def nearest_told(near: Sequence[str]) -> str:
    """`did you mean market-data or market-analysis?`; empty where nothing is near."""
    return f"did you mean {' or '.join(near)}?" if near else ""


def did_you_mean(name: str, known: Collection[str]) -> str:
    """`did you mean market-data?`, or the names there are."""
    if near := nearest(name, known):
        return nearest_told(near)
    return f"there are: {', '.join(sorted(known))}" if known else "there are none"
