"""`[channels.NAME]` of desk.toml: where people are told what becomes of the desk."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from openbell.config.base import Model
from openbell.config.soundness import Lasting

EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]
Event = Literal[
    "opening", "opened", "not_opened",
    "closing_soon", "closing_called_off", "closing", "closing_resumed", "closed", "not_closed",
    "cut_off",
]  # fmt: skip


class Channel(Model):
    """`[channels.NAME]`: a web hook, or a command of the desk's own; one of the two."""

    url_env: EnvironmentName | None = None
    """The variable that holds a web hook's address, which is a secret. `{"text": "..."}` is posted to
    it, as Slack, Teams, Mattermost and others take it; https, or this machine."""
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Program and arguments, no shell, run in the desk's folder, with the text on its standard
    input. `{python}`, `{desk}` and `{state}` are replaced; `OPENBELL_EVENT`, `OPENBELL_DESK`,
    `OPENBELL_STATE` and `OPENBELL_RUN` are in its environment. Exit status 0: told."""
    secrets: tuple[EnvironmentName, ...] = ()
    """Variables that the command sees besides."""
    events: Annotated[tuple[Event, ...], Field(min_length=1)] = (
        "opening",
        "opened",
        "not_opened",
        "closing_soon",
        "closing_called_off",
        "closing",
        "closing_resumed",
        "closed",
        "not_closed",
        "cut_off",
    )
    """What is told here: that an opening begins, and how it ended; a closing that was announced for
    later, that it was called off, that it begins, that one which was cut off goes on by itself, and how it
    ended; that a run was cut off, found by the next controller."""
    timeout: Lasting = 5.0
    """Of one telling. All channels are told at the same time, and the end of an opening, and a closing,
    wait for the slowest."""

    @model_validator(mode="after")
    def _one_way(self) -> Channel:
        if (self.url_env is None) == (self.command is None):
            raise ValueError("give url_env or command, one of the two")
        if self.secrets and self.command is None:
            raise ValueError("secrets are for a command")
        return self
