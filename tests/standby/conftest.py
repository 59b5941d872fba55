"""Fixtures: desks whose engine has a standby, kept busy by a strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.loaded_desk import QUICK, LoadedDesk
from tests.harness.paper_desk import end_everything


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
