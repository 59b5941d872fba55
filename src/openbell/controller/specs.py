"""From the desk file and its secrets to what the runtime is told of each service."""

from __future__ import annotations

import os

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.secrets import Secrets
from openbell.runtime.plan import build_specs
from openbell.runtime.spec import ServiceSpec


def specs_of(desk: LoadedDesk, layout: DeskLayout, secrets: Secrets) -> dict[str, ServiceSpec]:
    """Each service with exactly the secrets it names. Raises ConfigError for one that is not set."""
    given = {name: secrets.environment_for(name) for name in desk.file.services}
    merged = {key: value for variables in given.values() for key, value in variables.items()}
    return build_specs(desk, layout, os.environ, merged, given)
