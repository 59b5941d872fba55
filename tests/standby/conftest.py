"""Fixtures: desks whose engine has a standby, kept busy by a strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.loaded_desk import LoadedDesk
from tests.harness.paper_desk import end_everything

QUICK = {
    # How long an order that never arrived is in doubt after a kill; the shorter, the more answers
    # come late.
    "timeout": ('fee_currency = "BNB"', 'fee_currency = "BNB"\ntimeout = "2s"'),
    # After each turn of a rolling restart, beside what is waited for.
    "watched": ("[desk]\n", '[rolling]\nwatch_for = "300ms"\ntrading_within = "30s"\n[desk]\n'),
}
"""Settings of a desk that wait for less. What a test sets under the same name takes their place."""


@pytest.fixture
def make_desk(tmp_path: Path) -> Iterator[Callable[..., LoadedDesk]]:
    """Makes desks that are ended with the test, by pid."""
    made: list[LoadedDesk] = []

    def make(**settings: Any) -> LoadedDesk:
        loaded = LoadedDesk.make(tmp_path / f"d{len(made)}", **QUICK | settings)
        made.append(loaded)
        return loaded

    yield make
    for loaded in made:
        end_everything(loaded.desk)
