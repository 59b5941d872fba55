"""Guarded desks of real processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.guarded_desk import GuardedDesk, guarded_desk


@pytest.fixture
def make_guarded(tmp_path: Path) -> Iterator[Callable[..., GuardedDesk]]:
    """`make_guarded("kraken", ...)`: a desk with these venues, not opened."""
    with contextlib.ExitStack() as stack:

        def make(*venues: str, **settings: Any) -> GuardedDesk:
            folder = tmp_path / f"desk{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(guarded_desk(folder, *venues, **settings))

        yield make
