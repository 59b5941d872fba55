"""What a trial of a venue concludes from what it was told."""

from __future__ import annotations

import pytest

from openbell.venues.trial import clock_check

MS = 1_000_000


@pytest.mark.parametrize(
    ("ahead_ms", "round_trip_ms", "result"),
    [
        (0, 100, "ok"),
        (-900, 200, "ok"),
        (900, 300, "unknown"),
        (0, 2400, "unknown"),
        (-1100, 300, "unknown"),
        (1100, 100, "failed"),
        (-30_000, 4000, "failed"),
    ],
)
def test_a_skew_is_told_as_far_as_the_answers_way_allows(
    ahead_ms: int, round_trip_ms: int, result: str
) -> None:
    before_ns = 1_700_000_000_000 * MS
    there_ns = before_ns + (round_trip_ms // 2 + ahead_ms) * MS
    check = clock_check(there_ns, before_ns, before_ns + round_trip_ms * MS)
    assert check.result == result
    assert f"{ahead_ms:+d} ms from ours" in check.detail
    assert bool(check.hint) is (result != "ok")
