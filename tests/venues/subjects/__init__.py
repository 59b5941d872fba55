"""What the conformance suite is run over: one module per adapter and face, each with a `SUBJECT`."""

from __future__ import annotations

import importlib
import pkgutil

from tests.venues.subjects.port import Subject

__all__ = ["Subject", "all_subjects"]


def all_subjects() -> list[Subject]:
    """Sorted by name."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "port")
    return [importlib.import_module(f"{__name__}.{name}").SUBJECT for name in names]
