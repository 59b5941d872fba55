"""What the conformance suite is run over: one module per adapter and face, each with a `SUBJECT`."""

from __future__ import annotations

import importlib
import os
import pkgutil

from tests.venues.subjects.port import Subject

__all__ = ["Subject", "all_subjects", "chosen_subjects"]

OTHERS = "OPENBELL_SUBJECT"
"""Variable that names a subject of another package, `module:NAME`."""


def all_subjects() -> list[Subject]:
    """Sorted by name."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "port")
    return [importlib.import_module(f"{__name__}.{name}").SUBJECT for name in names]


def chosen_subjects() -> list[Subject]:
    """What the conformance suite is run over: all of ours, or another package's alone."""
    if OTHERS not in os.environ:
        return all_subjects()
    module, _, name = os.environ[OTHERS].partition(":")
    return [getattr(importlib.import_module(module), name)]
