"""A line of progress says how far it is, and only something worth a line gets one."""

from __future__ import annotations

import pytest

from openbell.cli.progress import event_line


@pytest.mark.parametrize(
    ("count", "target", "line"),
    [
        (2, 5, "      orders: 2 of 5"),
        (4, 0, "      orders: 4 left"),
        (0, 0, "      orders: none left"),
        (None, None, "      orders"),
        (3, None, "      orders"),
    ],
)
def test_counts_read_by_their_direction(count: int | None, target: int | None, line: str) -> None:
    event = {"event": "progress", "message": "orders", "count": count, "target": target}
    assert event_line(event) == line


def test_a_service_on_its_way_gets_no_line() -> None:
    event = {"event": "service", "service": "a", "state": "starting"}
    assert event_line(event) == ""
