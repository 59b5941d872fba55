"""Signals to exactly the processes that were found, whoever may have their numbers by now."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

from openbell.runtime.processes import ProcessFacts, system_processes


def signal_each(members: Iterable[ProcessFacts], number: signal.Signals) -> str:
    """Signals exactly these processes, each seen again to be the one that was found. Why one of
    them could not be signalled, or nothing; one that has ended needs no signal."""
    table = system_processes()
    problem = ""
    for facts in members:
        try:
            descriptor = os.pidfd_open(facts.pid) if hasattr(os, "pidfd_open") else -1
        except ProcessLookupError:
            continue
        except OSError:
            descriptor = -1
        try:
            now = table.facts(facts.pid)
            if now is None or now.start != facts.start:
                continue
            if descriptor >= 0:
                signal.pidfd_send_signal(descriptor, number)
            else:
                os.kill(facts.pid, number)
        except ProcessLookupError:
            continue
        except OSError as error:
            problem = f"pid {facts.pid} cannot be signalled: {error.strerror}"
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    return problem
