"""Fixtures: a closed paper desk of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.harness.paper_desk import PaperDesk, await_condition, copy_paper_desk, end_everything


@pytest.fixture
def await_that() -> Callable[..., None]:
    return await_condition


@pytest.fixture
def paper_desk(tmp_path: Path) -> Iterator[PaperDesk]:
    """A closed paper desk; whatever the test leaves running is ended, by pid."""
    desk = copy_paper_desk(tmp_path / "desk")
    yield desk
    end_everything(desk)
