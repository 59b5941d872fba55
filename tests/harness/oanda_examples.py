"""OANDA's answers as oandapyV20 publishes them, read from the installed package."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.harness.clients import client_program

SCRIPT = Path(__file__).parents[1] / "clients" / "oanda_examples.py"


@functools.cache
def examples() -> dict[str, dict[str, Any]]:
    """By module and name; each with `response`, many with `body` and `params`."""
    printed = subprocess.run(
        [client_program("vendors"), "-W", "ignore", str(SCRIPT)],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    found: dict[str, dict[str, Any]] = json.loads(printed)
    return found


def response(module: str, name: str) -> Any:
    return examples()[module][name]["response"]
