"""What the suite tried and what came of it, and the table made of that."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Result:
    operation: str
    subject: str
    place: tuple[str, int]
    """File and line of the test."""
    outcome: str
    """pytest's: passed, failed, skipped."""
    reason: str = ""


RESULTS = pytest.StashKey[list[Result]]()

_HEAD = """\
# What was tested at which venue

Written by the conformance suite (`make conformance`) from its own results, and compared with them
in each test run. Every adapter is run against the simulated face of its venue, through a relay that
loses replies; nothing here was run against a real venue.

**tested**: passed. **-**: not supported by the venue, or not promised by the adapter. **not tested**,
**nothing to try**: the number leads to the reason below.

"""


def table(results: list[Result]) -> str:
    """Markdown. An operation that failed anywhere is told as such."""
    by_cell: defaultdict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        by_cell[result.operation, result.subject].append(result)
    # In the order of the suite, whatever the order it was run in.
    ordered = sorted(results, key=lambda result: result.place)
    operations = list(dict.fromkeys(result.operation for result in ordered))
    subjects = sorted({result.subject for result in results})
    reasons: list[str] = []
    lines = [
        f"| operation | {' | '.join(subjects)} |",
        f"| --- |{' --- |' * len(subjects)}",
    ]
    for operation in operations:
        cells = [_cell(by_cell.get((operation, subject), []), reasons) for subject in subjects]
        lines.append(f"| {operation} | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return _HEAD + "\n".join(lines) + "\n" + ("\n" + "\n".join(notes) + "\n" if notes else "")


def _cell(results: list[Result], reasons: list[str]) -> str:
    if any(result.outcome == "failed" for result in results):
        return "**failed**"
    if any(result.outcome == "passed" for result in results):
        return "tested"
    for word in ("not tested", "nothing to try"):
        told = next(
            (r.reason.removeprefix(f"{word}: ") for r in results if r.reason.startswith(word)), ""
        )
        if told:
            if told not in reasons:
                reasons.append(told)
            return f"{word} ({reasons.index(told) + 1})"
    return "-"
