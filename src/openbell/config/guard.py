"""`[guard]` of desk.toml: the times of the process that can always stop the desk."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from openbell.config.base import Model
from openbell.config.units import Seconds


class Guard(Model):
    """`[guard]`: the independent process that can always stop the desk. A desk without venues has
    none."""

    dead_man_timeout: Annotated[Seconds, Field(gt=0)] = 60.0
    """How long the desk's orders may rest without an engine that is well. Of a venue's own timer it
    is the time-out, refreshed at a quarter of it; elsewhere the guard cancels after it."""
    back_within: Annotated[Seconds, Field(gt=0)] | None = None
    """How long the orders of an engine that ended as it was told to, by anybody's SIGTERM say, may rest
    before it is back: then they are withdrawn as those of one that fell silent. At least as long as
    `dead_man_timeout`, and as long as that unless it is set. Orders that a closing keeps have no end."""
    engine_silent_after: Annotated[Seconds, Field(gt=0)] = 5.0
    """An engine that was not heard for so long is not well: no timer is refreshed for it."""
    controller_silent_after: Annotated[Seconds, Field(gt=0)] = 5.0
    """A controller that was not heard for so long hangs: it is killed, and another one started."""
    guard_silent_after: Annotated[Seconds, Field(gt=0)] = 5.0
    """A guard that was not heard for so long hangs: it is killed, and another one started."""
    restart_controller: bool = True
    """False: a controller that is gone stays gone until a person starts one; for desks whose
    controller is kept up by something else."""
    cancel_timeout: Annotated[Seconds, Field(gt=0)] = 30.0
    """How long the guard tries to prove, of one venue, that it cancelled everything."""

    @model_validator(mode="after")
    def _silence_fits(self) -> Guard:
        if self.engine_silent_after * 2 > self.dead_man_timeout:
            raise ValueError(
                "engine_silent_after must be at most half of dead_man_timeout, or a timer could fire "
                "for an engine that is well"
            )
        if self.back_within is not None and self.back_within < self.dead_man_timeout:
            raise ValueError(
                "back_within must be at least dead_man_timeout: an engine that says that it will be back "
                "is waited for no less than one that was killed"
            )
        return self

    @property
    def back_within_s(self) -> float:
        return self.dead_man_timeout if self.back_within is None else self.back_within

    @property
    def beat_every_s(self) -> float:
        """How often engine, controller and guard say that they are well: a second, or a quarter of
        the shortest silence that counts."""
        shortest = min(
            self.engine_silent_after, self.controller_silent_after, self.guard_silent_after
        )
        return min(1.0, shortest / 4)
