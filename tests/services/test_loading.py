"""Garbage is not looked for while a service loads, and is from the moment at which it runs."""

from __future__ import annotations

import os
import subprocess
import sys

_AS_IF_BY_M = """
import gc, sys
sys.argv[0] = "-m"
import openbell.services
assert not gc.isenabled()
from openbell.services import execution_engine, market_analysis, market_data, risk_management
for service in (execution_engine, market_analysis, market_data, risk_management):
    gc.disable()
    assert service.main() != 0, "it ran without a desk"
    assert gc.isenabled(), service.__name__
    assert gc.get_freeze_count() > 10_000
"""


def test_every_service_collects_garbage_once_it_is_loaded() -> None:
    environment = {name: value for name, value in os.environ.items() if "OPENBELL" not in name}
    subprocess.run([sys.executable, "-c", _AS_IF_BY_M], env=environment, check=True, timeout=120)


def test_a_program_that_only_imports_a_service_keeps_its_collector() -> None:
    code = "import gc, openbell.services; assert gc.isenabled()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
