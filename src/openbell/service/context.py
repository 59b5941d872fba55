"""What the controller tells a service through its environment, and the desk file besides."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openbell.config.layout import DeskLayout
from openbell.config.loader import load_desk
from openbell.config.models import DeskFile, LoadedDesk
from openbell.config.secrets import venue_credentials_from_environment
from openbell.errors import ConfigError
from openbell.service.logging import REDACTOR


@dataclass(frozen=True)
class ServiceContext:
    """Where this service is: its desk, its name, its port, the credentials it was given."""

    desk: LoadedDesk
    layout: DeskLayout
    name: str
    port: int
    mark: str
    """`desk id:service:generation`; empty outside a desk."""
    credentials: Mapping[str, tuple[str, str]] = field(repr=False)
    """Key and secret by venue, of the venues that desk.toml gives this service."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> ServiceContext:
        """Raises ConfigError where `OPENBELL_DESK` is not set or its desk.toml is not valid."""
        variables = dict(os.environ if environment is None else environment)
        folder = variables.get("OPENBELL_DESK")
        if not folder:
            raise ConfigError(
                "OPENBELL_DESK is not set",
                hint="start the service through its desk (`openbell start NAME`), or set it to "
                "the folder of desk.toml",
            )
        desk = load_desk(Path(folder))
        credentials = venue_credentials_from_environment(desk, variables)
        for pair in credentials.values():
            REDACTOR.add(pair)
        return cls(
            desk=desk,
            layout=DeskLayout.for_desk(desk.folder, variables),
            name=variables.get("OPENBELL_SERVICE", ""),
            port=int(variables.get("OPENBELL_PORT") or 0),
            mark=variables.get("OPENBELL_MARK", ""),
            credentials=credentials,
        )

    @property
    def file(self) -> DeskFile:
        """The desk file."""
        return self.desk.file

    @property
    def state(self) -> Path:
        """The service's own folder, made by this call."""
        folder = self.layout.service_state(self.name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder
