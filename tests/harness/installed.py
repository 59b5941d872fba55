"""Programs of the machine that some tests use: where they are, or why the test does without."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
"""A folder for each version; nothing of it is in PATH but what chooses among them."""


def chromium() -> str:
    found = os.environ.get("OPENBELL_CHROMIUM") or shutil.which("chromium")
    return found or _missing("no chromium", "chromium", "OPENBELL_CHROMIUM")


def redis_server() -> str:
    return shutil.which("redis-server") or _missing("no redis-server", "redis-server")


def postgres_programs() -> Path:
    """The folder of initdb, postgres and psql."""
    if named := os.environ.get("OPENBELL_POSTGRES"):
        return Path(named)
    if there := shutil.which("initdb"):
        return Path(there).resolve().parent
    versions = [each for each in DEBIAN_POSTGRES.glob("*/bin") if (each / "initdb").exists()]
    if not versions:
        _missing("no PostgreSQL server", "postgresql", "OPENBELL_POSTGRES")
    return max(versions, key=lambda each: float(each.parent.name))


def _missing(what: str, package: str, variable: str = "") -> NoReturn:
    """Skips the test, but for where all programs have to be there."""
    named = f", or name one by {variable}" if variable else ""
    why = f"{what} here (apt-get install {package}{named})"
    if os.environ.get("OPENBELL_PROGRAMS") == "required":
        pytest.fail(why)
    pytest.skip(why)
