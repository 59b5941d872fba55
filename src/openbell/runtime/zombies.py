"""Processes of services that have ended and that nobody reaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from openbell.domain.alerts import Zombie
from openbell.runtime.processes import ProcessTable


class ZombieWatch:
    """Remembers since when each zombie was seen: every process is one for a moment as it ends."""

    def __init__(self, table: ProcessTable, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._clock = clock
        self._since: dict[tuple[int, int], float] = {}

    def look(self, leaders: Mapping[str, int]) -> tuple[Zombie, ...] | None:
        """Zombies in the sessions of these processes, by service; None where there is no reading
        the process table. A zombie has no environment, so its mark cannot be asked for: what left
        its service's session is not seen here."""
        services = {pid: service for service, pid in leaders.items()}
        now = self._clock()
        try:
            found = {
                (facts.pid, facts.start): services[facts.session]
                for facts in self._table.everything()
                if not facts.alive and facts.session in services
            }
        except OSError:
            return None
        self._since = {key: self._since.get(key, now) for key in found}
        return tuple(
            Zombie(service, key[0], now - self._since[key])
            for key, service in sorted(found.items())
        )
