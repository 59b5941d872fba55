"""What an engine that does not trade refuses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from openbell.errors import ConflictError
from openbell.services.execution_engine import ExecutionEngine


@pytest.mark.parametrize("phase", ["standby", "retired"])
def test_a_standby_refuses_what_may_write_the_books(phase: str) -> None:
    api: Any = SimpleNamespace(state=lambda _fields: "told")
    engine: Any = ExecutionEngine.__new__(ExecutionEngine)
    engine._api, engine._engine = api, SimpleNamespace(phase=phase)
    assert engine._handler("state")({}) == "told"
    for name in ("orders", "halt", "resume", "cancel", "flatten", "reconcile", "adopt"):
        with pytest.raises(ConflictError, match=f"this engine is {phase}"):
            engine._handler(name)({})
