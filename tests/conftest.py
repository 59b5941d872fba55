"""How the tests are spread over processes (pytest-xdist)."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

CONFORMANCE = "tests/venues/conformance/"
"""Its last test looks at the results of all of it: so one process runs it, and begins with it."""


class _ConformanceInOne(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
    def _split_scope(self, nodeid: str) -> str:
        return CONFORMANCE if nodeid.startswith(CONFORMANCE) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _ConformanceInOne(config, log)
