"""What a starting controller knows before it loads what takes long: the services' specifications,
and when those that ran were adopted."""

from __future__ import annotations

import os
from dataclasses import dataclass

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.secrets import Secrets
from openbell.runtime.plan import build_specs
from openbell.runtime.spec import ServiceSpec


@dataclass(frozen=True)
class Adopted:
    """When everything that ran was taken over and probed."""

    in_s: float
    """Since the controller's own code began."""
    at_ns: int


def specs_of(desk: LoadedDesk, layout: DeskLayout, secrets: Secrets) -> dict[str, ServiceSpec]:
    """Each service with exactly the secrets it names. Raises ConfigError for one that is not set."""
    given = {name: secrets.environment_for(name) for name in desk.file.services}
    merged = {key: value for variables in given.values() for key, value in variables.items()}
    return build_specs(desk, layout, os.environ, merged, given)
