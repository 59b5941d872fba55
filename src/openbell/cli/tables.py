"""Tables and small figures for terminals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from openbell.config.unit_texts import format_duration
from openbell.domain.figures import NOTHING as NOTHING
from openbell.domain.figures import number as number


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: str = "") -> str:
    """Columns set with two spaces between them; `right` holds an `r` for each column set right.

    Plain text on purpose: it is piped, grepped and pasted into tickets.
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    lines = [list(headings), *texts]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    aligns = right.ljust(len(headings))
    return "\n".join(
        "  ".join(
            cell.rjust(width) if align == "r" else cell.ljust(width)
            for cell, width, align in zip(line, widths, aligns, strict=True)
        ).rstrip()
        for line in lines
    )


def duration(seconds: float | None) -> str:
    return NOTHING if seconds is None else format_duration(seconds)


def size(count: float | None) -> str:
    """Bytes as people read them: `48.2M`."""
    if count is None:
        return NOTHING
    for unit in ("B", "K", "M", "G"):
        if count < 1024 or unit == "G":
            return f"{count:.0f}{unit}" if unit == "B" else f"{count:.1f}{unit}"
        count /= 1024
    raise AssertionError("unreachable: G takes all")


def price(value: object, tick: object = None) -> str:
    """A price with the digits of its tick, two at least; without a tick, below 100 with five
    digits that tell something, above with two. `-` for None."""
    if value is None:
        return NOTHING
    amount = Decimal(str(value))
    if tick is not None:
        exponent = Decimal(str(tick)).normalize().as_tuple().exponent
        assert isinstance(exponent, int), "a tick is a finite number"
        return number(amount, max(2, -exponent))
    if abs(amount) >= 100:
        return number(amount, 2)
    return number(amount, max(5, 4 - amount.adjusted()) if amount else 2)


def _text(cell: object) -> str:
    if cell is None or cell == "":
        return NOTHING
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return str(cell)
