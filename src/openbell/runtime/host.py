"""What all services of a desk share: the process table, the watch, the records, the scanner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from openbell.config.layout import DeskLayout
from openbell.runtime.ladder import Ladder
from openbell.runtime.limits import ServiceCgroup
from openbell.runtime.members import Leader, Mark, Scanner
from openbell.runtime.process_watch import ProcessWatch, WatchedProcess, choose_watch
from openbell.runtime.processes import ProcessTable, system_processes
from openbell.runtime.records import Records
from openbell.runtime.spec import ServiceEvent


@dataclass(frozen=True)
class Host:
    """The machine as the supervisor of one desk sees it."""

    layout: DeskLayout
    table: ProcessTable
    watch: ProcessWatch
    records: Records
    scanner: Scanner
    boot_id: str
    on_event: Callable[[ServiceEvent], None]
    spawning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One spawn at a time, with a turn for everything else in between: a hundred in a row would
    keep the loop from hearing of an exit for a tenth of a second."""

    @classmethod
    def of(
        cls,
        layout: DeskLayout,
        on_event: Callable[[ServiceEvent], None],
        *,
        table: ProcessTable | None = None,
        watch: ProcessWatch | None = None,
    ) -> Host:
        """The real machine, or the given parts of it."""
        table = table or system_processes()
        return cls(
            layout=layout,
            table=table,
            watch=watch or choose_watch(table),
            records=Records(layout.records),
            scanner=Scanner(table, layout.desk_id),
            boot_id=table.boot_id(),
            on_event=on_event,
        )

    def mark(self, service: str, generation: int) -> Mark:
        return Mark(self.layout.desk_id, service, generation)

    def ladder(
        self, process: WatchedProcess, leader: Leader, cgroup: ServiceCgroup | None
    ) -> Ladder:
        return Ladder(
            process,
            leader,
            table=self.table,
            watch=self.watch,
            scanner=self.scanner,
            cgroup=cgroup,
        )
