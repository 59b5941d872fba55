"""What is known of the dead-man's switches where no guard answers: what applies at each venue, by desk.toml
and the adapter's word, and that nobody says whether it runs."""

from __future__ import annotations

from openbell.config.models import LoadedDesk
from openbell.domain.dead_man import within
from openbell.errors import OpenbellError
from openbell.guard.dead_man_row import NOT_LOOKED, DeadManRow
from openbell.venues.credentials import Credentials
from openbell.venues.port import DeadMansSwitch
from openbell.venues.registry import open_venue


def rows_without_guard(desk: LoadedDesk) -> list[dict[str, object]]:
    """A row per venue, as the guard gives it to `dead_man` with `look`. Nothing is asked of a venue."""
    return [_row(desk, name) for name in desk.file.venues]


def _row(desk: LoadedDesk, name: str) -> dict[str, object]:
    config = desk.file.venues[name]
    wanted_s = desk.file.guard.dead_man_timeout
    applies, state, problem = "guard", "unknown", ""
    switch: DeadMansSwitch | None = None
    if config.dead_man == "off":
        applies, state = "none", "off"
    elif config.dead_man == "venue":
        try:
            switch = open_venue(name, config, Credentials("", "")).capabilities.dead_mans_switch
            applies = "guard" if switch is None else "venue"
        except OpenbellError as error:
            applies, problem = "unknown", error.message
    if applies == "none":
        why, gap = "nothing is armed here: dead_man is off", f'dead_man = "off" in [venues.{name}]'
    elif applies == "venue":
        why = "no guard answers: a timer that it had started runs out, and nobody starts it anew"
        gap = "no guard refreshes the timer; whether it runs is not known"
    else:
        why = problem or "no guard answers"
        gap = "no guard is there to cancel"
    row = DeadManRow(
        venue=name,
        config=config,
        switch=switch,
        applies=applies,
        timeout_s=wanted_s if switch is None else within(wanted_s, switch.min_s, switch.max_s),
        state=state,
        why=why,
        not_covered=[f"everything: {gap}"],
    )
    return {**row.as_dict(), **NOT_LOOKED}
