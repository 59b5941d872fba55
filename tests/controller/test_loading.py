"""What a controller goes without until somebody asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

ADOPTING = ("controller.main", "config.loader", "runtime.supervisor", "controller.specs")


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        (ADOPTING, {"sqlalchemy", "starlette", "uvicorn", "aiohttp", "openbell.procedures.step"}),
        (
            (*ADOPTING, "controller.hosting", "controller.app"),
            {"uvicorn", "aiohttp", "ccxt", "zmq", "openbell.controller.description"},
        ),
    ],
)
def test_a_controller_loads_what_its_next_step_takes(
    modules: tuple[str, ...], without: set[str]
) -> None:
    names = ", ".join(f"openbell.{name}" for name in modules)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {names}\nprint(*sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert without & set(done.stdout.split()) == set()
