"""What a command that is run often, or while a desk starts, goes without."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        (
            ("commands.up", "daemon", "progress"),
            {"asyncio", "pydantic", "psutil", "msgspec"},
        ),
        (("commands.status",), {"asyncio", "pydantic", "psutil", "msgspec"}),
        (("commands.down", "progress"), {"pydantic"}),
    ],
)
def test_a_command_that_a_controller_answers_loads_little(
    modules: tuple[str, ...], without: set[str]
) -> None:
    names = ", ".join(f"openbell.cli.{name}" for name in ("main", *modules))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {names}\nprint(*sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert without & set(done.stdout.split()) == set()
