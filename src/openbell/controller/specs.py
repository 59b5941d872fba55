"""What a starting controller knows before it loads what takes long: the services' specifications,
when those that ran were adopted, and what keeps a service from being started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime

from openbell.config.layout import DeskLayout
from openbell.config.models import DeskFile, LoadedDesk
from openbell.config.secrets import Secrets
from openbell.errors import StorageError
from openbell.kill.marker import why_held
from openbell.runtime.plan import build_specs
from openbell.runtime.spec import ServiceSpec
from openbell.state.last_word import a_sender_starts, spend_last_word
from openbell.state.nothing_sent import keep_nothing_sent


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


def why_not_started(layout: DeskLayout, spec: ServiceSpec) -> str:
    """Why this service may not be started now; empty where it may. Asked directly before every start,
    restarts included: before the first thing that can send an order, the fact that nothing could is
    taken off the disk, and so is what the venues said before, which a simulated one may change too."""
    if held := why_held(layout, spec.role):
        return held
    try:
        if spec.can_send:
            a_sender_starts(layout)
        elif spec.role == "venue":
            spend_last_word(layout.last_word)
    except StorageError as error:
        can = "could send an order" if spec.can_send else "could fill one that rests"
        return f"it {can}, and the disk still says that nothing can: {error.message}"
    return ""


def is_new(layout: DeskLayout, desk: DeskFile) -> bool:
    """Whether nothing was ever done with this state folder, and that says something: what a simulated
    venue of the desk holds lies there too. At another venue orders may rest that a lost folder knew of."""
    if any(venue.environment != "simulated" for venue in desk.venues.values()):
        return False
    files = (layout.database, layout.target, layout.audit_log, layout.emergency_marker)
    folders = (layout.records, layout.checkpoints, layout.live_orders)
    return not any(map(os.path.lexists, files)) and not any(
        True for folder in folders for _ in folder.glob("*")
    )


def keep_nothing_sent_since(layout: DeskLayout, closing: str) -> str:
    """Writes down that nothing can have sent an order since this closing; empty: since the state folder
    was made. Why it is not kept, or nothing: then it is not known, and the venues are asked."""
    try:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        keep_nothing_sent(layout.nothing_sent, closing, at)
    except StorageError as error:
        return error.message
    return ""
