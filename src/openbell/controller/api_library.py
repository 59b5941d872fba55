"""FastAPI, whose models of an API's description are made when somebody asks for one.

Imported plainly it makes some forty of pydantic's models at once, half of its own loading, in every
controller and while the desk's services start; only `/docs` and `/openapi.json` use them. So the controller
imports this module before any that uses FastAPI, and what models are declared meanwhile are completed when
they are first used, which pydantic does by itself.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict


@contextlib.contextmanager
def _models_completed_later() -> Iterator[None]:
    """A model takes its settings from its bases; `BaseModel` itself has none."""
    now = BaseModel.model_config
    BaseModel.model_config = ConfigDict(**{**now, "defer_build": True})
    try:
        yield
    finally:
        BaseModel.model_config = now


if "fastapi" in sys.modules:
    import fastapi
else:
    with _models_completed_later():
        import fastapi

__all__ = ["fastapi"]
