"""Names that a person may have meant, for a message about one that there is not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` known names that resemble `name` or begin with it, nearest first; case is no matter."""
    folded = {other.casefold(): other for other in sorted(set(known))}
    typed = name.casefold()
    close = [
        other
        for other in get_close_matches(typed, folded, n=n, cutoff=0.5)
        if _slips(typed, other) <= max(1, len(typed) // 3) or typed[:3] == other[:3]
    ]
    begun = [other for other in folded if typed and other.startswith(typed)]
    return [folded[each] for each in dict.fromkeys([*close, *begun])][:n]


def _slips(typed: str, meant: str) -> int:
    """Letters left out, added, mistaken or swapped with their neighbour. `difflib` counts letters in
    common, and those of `nope` are nearly those of `open`."""
    above, row = [0] * (len(meant) + 1), list(range(len(meant) + 1))
    for i, letter in enumerate(typed, 1):
        above, before, row = row, above, [i]
        for j, other in enumerate(meant, 1):
            least = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == meant[j - 2] and typed[i - 2] == other:
                least = min(least, before[j - 2] + 1)
            row.append(least)
    return row[-1]


def misspelt(name: str, known: Iterable[str]) -> str:
    """The known name that one slip of the finger makes of `name`, a letter too many, too few, another one or
    two the other way round: `BTC/USDT` for `BTC/USDTT`; else empty."""
    return next((each for each in sorted(set(known)) if _slips(name, each) == 1), "")


def nearest_told(near: Sequence[str]) -> str:
    """`did you mean market-data or market-analysis?`; empty where nothing is near."""
    return f"did you mean {' or '.join(near)}?" if near else ""


def did_you_mean(name: str, known: Collection[str]) -> str:
    """`did you mean market-data?`, or the names there are."""
    if near := nearest(name, known):
        return nearest_told(near)
    return f"there are: {', '.join(sorted(known))}" if known else "there are none"
