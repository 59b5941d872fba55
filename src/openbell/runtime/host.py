"""What all services of a desk share: the process table, the watch, the records, the scanner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from openbell.config.layout import DeskLayout
from openbell.runtime.code import CodeWatch
from openbell.runtime.ladder import Ladder
from openbell.runtime.limits import ServiceCgroup
from openbell.runtime.members import Leader, Mark, Scanner
from openbell.runtime.process_watch import ProcessWatch, WatchedProcess, choose_watch
from openbell.runtime.processes import ProcessTable, system_processes
from openbell.runtime.records import Records
from openbell.runtime.spec import ServiceEvent, ServiceSpec

Hold = Callable[[ServiceSpec], str]
"""Why a service may not be started now, or nothing. Asked before every spawn: it must be quick."""

_SLOT_S = 0.01


class Turns:
    """Spawning blocks the loop for half a millisecond. A hundred in a row would keep it from
    hearing of an exit for long; a turn of the loop after each of them made a start of a hundred a
    third slower, as everything started so far looks around in every turn. So: slots of 10 ms."""

    def __init__(self) -> None:
        self._slot_began = 0.0

    async def take(self) -> None:
        """Returns at once while the slot lasts, or else in a later turn of the loop."""
        while time.monotonic() - self._slot_began > _SLOT_S:
            over = self._slot_began
            await asyncio.sleep(0)
            if self._slot_began == over:  # the first to wake begins the next slot
                self._slot_began = time.monotonic()


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
    turns: Turns = field(default_factory=Turns)
    hold: Hold = lambda _: ""
    code: CodeWatch = field(default_factory=CodeWatch)

    @classmethod
    def of(
        cls,
        layout: DeskLayout,
        on_event: Callable[[ServiceEvent], None],
        *,
        table: ProcessTable | None = None,
        watch: ProcessWatch | None = None,
        hold: Hold | None = None,
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
            hold=hold or (lambda _: ""),
        )

    def mark(self, service: str, generation: int) -> Mark:
        return Mark(self.layout.desk_id, service, generation)

    def ladder(
        self,
        process: WatchedProcess,
        leader: Leader,
        cgroup: ServiceCgroup | None,
        *,
        with_earlier_runs: bool = True,
    ) -> Ladder:
        """`with_earlier_runs` is for services, which have one run at a time; an orphan is ended
        alone, as the service's present run may bear a lower generation."""
        return Ladder(
            process,
            leader,
            table=self.table,
            watch=self.watch,
            scanner=self.scanner,
            cgroup=cgroup,
            with_earlier_runs=with_earlier_runs,
        )
