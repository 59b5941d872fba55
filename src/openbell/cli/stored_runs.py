"""The runs in a desk's database, read where no controller answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from openbell.config.layout import DeskLayout
from openbell.config.nearest import nearest, nearest_told
from openbell.errors import UsageError

if TYPE_CHECKING:
    from openbell.state.runs import RunStore


@contextlib.contextmanager
def stored_runs(layout: DeskLayout) -> Iterator[RunStore | None]:
    """None: the desk has no database yet. Raises StorageError, CorruptError."""
    from openbell.state.database import open_database
    from openbell.state.runs import RunStore

    if not layout.database.exists():
        yield None
        return
    # Not read-only: one that an older Openbell wrote is migrated by whoever comes first.
    database = open_database(layout.database, create=False)
    try:
        yield RunStore(database)
    finally:
        database.close()


def restart_was_cut_off_in_its_opening(layout: DeskLayout) -> bool:
    """The newest run is the opening of a restart, and has no end: of a desk that nothing else tells from
    one that was closed for good, until the opening has started something. Raises as `stored_runs`."""
    with stored_runs(layout) as store:
        newest = store.list(1) if store is not None else ()
    return any(
        each.kind == "open" and each.finished_at is None and bool(each.params.get("restart_of"))
        for each in newest
    )


def report_at_rest(layout: DeskLayout, run: str) -> dict[str, Any]:
    """As the API gives it. Raises UsageError for a run that is not known."""
    from openbell.procedures.report import report_of

    kind, _, number = run.rpartition("-")
    with stored_runs(layout) as store:
        if store is not None and kind and number.isdigit():
            document = report_of(store, int(number), layout.audit_log)
            if document["run"] == run:
                return document
        known = [] if store is None else [f"{each.kind}-{each.run}" for each in store.list(200)]
    near = nearest(run, known)
    raise UsageError(
        f'there is no run "{run}"',
        hint=nearest_told(near) or "a run is called for example close-12",
        nearest=near,
    )
