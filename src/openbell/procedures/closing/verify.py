"""Closing, step 12: nothing of the desk is left on this machine, the checkpoint can still be
read, the logs are on the disk, and the errors in them are told."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openbell.errors import OpenbellError
from openbell.procedures.closing.context import Closing
from openbell.procedures.declared import StepSpec
from openbell.procedures.ports import facts_of, run_folder_sockets
from openbell.procedures.step import OnFailure, Outcome, Plan, Say, Verification
from openbell.procedures.wording import count_of
from openbell.runtime.ports import holder_of
from openbell.state.checkpoint import validate
from openbell.watch.log_line import LogLine
from openbell.watch.logs import CONTROLLER, GUARD, errors_since, log_paths

ERRORS_WITHIN_NS = 300 * 1_000_000_000
"""Five minutes."""
ERRORS_SHOWN = 100
ERROR_TEXT_MAX = 120


@dataclass(frozen=True)
class LookAround:
    def __str__(self) -> str:
        return (
            "look for processes, sockets, listeners and errors of the last five minutes, read the "
            "checkpoint once more, and bring the logs to the disk"
        )


SPEC = StepSpec(
    name="verify",
    title="Verify that nothing is left",
    does="Looks for processes, sockets, listeners and errors of the last five minutes, reads the "
    "checkpoint once more, and brings the logs to the disk.",
    verified_by="That look is the verification.",
    timeout_s=60.0,
    on_failure=OnFailure.WARN,
    needed_because="it is the proof",
    evidence="processes, orphans and sockets left, errors by service, the checkpoint, logs not on the disk",
)


@dataclass
class VerifyClosed:
    closing: Closing
    name: str = SPEC.name
    title: str = SPEC.title
    timeout_s: float = SPEC.timeout_s
    on_failure: OnFailure = SPEC.on_failure
    _found: Verification | None = None

    async def observe(self) -> None:
        """Nothing to find out first: looking is what the step does."""

    def plan(self, facts: None) -> Plan[LookAround]:
        return Plan((LookAround(),))

    async def act(self, plan: Plan[LookAround], say: Say) -> None:
        """Looked here: logs on a slow disk take what the step is given."""
        say("looking for what is left")
        self._found = await self._look()

    async def verify(self, say: Say) -> Verification:
        """What was seen a moment ago: nothing was done since. Seen in part is not seen."""
        return await self._look() if self._found is None else self._found

    async def _look(self) -> Verification:
        closing = self.closing
        processes, unseen = await asyncio.to_thread(self._processes)
        sockets, removed = await asyncio.to_thread(self._sockets)
        paths = log_paths(closing.layout, [*closing.desk.file.services, CONTROLLER, GUARD])
        errors = await asyncio.to_thread(
            errors_since, paths, closing.now_ns() - ERRORS_WITHIN_NS, ERRORS_SHOWN
        )
        closing.processes_left = processes
        closing.sockets_left = sockets
        closing.errors = tuple(line.as_dict() for line in errors)
        # Last: a slow disk must not hide what was found out before.
        unflushed = await asyncio.to_thread(not_on_disk, paths.values())
        broken = await asyncio.to_thread(_why_broken, closing.checkpoint)
        closing.not_proven = (
            *((f"whether a command was left at work is not known: {unseen}",) if unseen else ()),
            *((f"the checkpoint cannot be read any more: {broken}",) if broken else ()),
            *(
                (f"logs are not known to be on the disk: {', '.join(unflushed)}",)
                if unflushed
                else ()
            ),
        )
        left = [count_of(len(processes), "process", "processes")] if processes else []
        left += [count_of(len(sockets), "socket")] if sockets else []
        evidence: dict[str, object] = {
            "processes": list(processes),
            "sockets": list(sockets),
            "dead_sockets_removed": list(removed),
            "orphans": [each["pid"] for each in processes if each["found_by"] == "marker"],
            "errors": len(errors),
            "errors_by_service": errors_by_service(errors),
            "checkpoint": closing.checkpoint,
            "checkpoint_valid": None if closing.checkpoint is None else not broken,
            "logs_not_on_disk": unflushed,
        }
        wrong = [f"left behind: {', '.join(left)}"] if left else []
        wrong += closing.not_proven
        if wrong:
            found = Verification(Outcome.FAILED, "; ".join(wrong), evidence)
        else:
            found = Verification(
                Outcome.DONE, f"no process, no socket left{errors_told(errors)}", evidence
            )
        return found

    def _processes(self) -> tuple[tuple[Mapping[str, object], ...], str]:
        """What the runtime still sees, whoever carries the desk's mark, and commands that were left at
        work; last why it is not known of these, empty where it is."""
        closing = self.closing
        left: dict[int, Mapping[str, object]] = {}
        for view in facts_of(closing.services).views.values():
            if view.state.is_running and view.pid is not None:
                left[view.pid] = {"service": view.name, "pid": view.pid, "found_by": "record"}
        for pid, mark in closing.marked().items():
            left.setdefault(pid, {"service": mark, "pid": pid, "found_by": "marker"})
        try:
            at_work = closing.at_work()
        except OSError as error:
            return tuple(left.values()), str(error) or "the disk does not answer"
        for pid, told in at_work.items():
            left[pid] = {"service": told, "pid": pid, "found_by": "marker"}
        return tuple(left.values()), ""

    def _sockets(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Sockets in the run folder on which somebody listens, and listeners on services' ports; and
        the files that a killed process left, which nobody listens on: those are taken away."""
        closing = self.closing
        layout = closing.layout
        # Controller and guard go last, after this look.
        keep = (layout.controller_socket, layout.guard_socket, layout.beats_socket)
        listening, removed = run_folder_sockets(layout.run, keep)
        left = [str(path) for path in listening]
        for name, service in closing.desk.file.services.items():
            for port in service.ports:
                holder = holder_of(port)
                if holder is not None:
                    left.append(f"port {port} ({name}): {holder}")
        return tuple(left), tuple(map(str, removed))


def errors_by_service(lines: Sequence[LogLine]) -> dict[str, dict[str, object]]:
    """`{"execution-engine": {"count": 2, "last": "the newest one's text"}}`, most errors first."""
    found: dict[str, dict[str, object]] = {}
    counts = Counter(line.service for line in lines)
    last = {line.service: line.text for line in lines}
    for service, count in counts.most_common():
        found[service] = {"count": count, "last": last[service][:ERROR_TEXT_MAX]}
    return found


def errors_told(lines: Sequence[LogLine]) -> str:
    """Each service that wrote errors, with their number and the newest; empty where there is none."""
    if not lines:
        return ""
    least = "at least " if len(lines) >= ERRORS_SHOWN else ""
    named = "; ".join(
        f"{service} {each['count']}, the last: {each['last']}"
        for service, each in errors_by_service(lines).items()
    )
    return f"; {least}{count_of(len(lines), 'error')} in the last five minutes ({named})"


def not_on_disk(logs: Iterable[Path]) -> list[str]:
    """Brings every log that exists to the disk; names of those of which that is not known. An fsync
    that failed once says nothing when it is asked again, so it is not."""
    failed = []
    for path in logs:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError:
            failed.append(path.name)
            continue
        try:
            os.fsync(descriptor)
        except OSError:
            failed.append(path.name)
        finally:
            os.close(descriptor)
    return failed


def _why_broken(checkpoint: str | None) -> str:
    """Why it cannot be read back; empty where it can, and where there is none, which is told by the
    step that did not write it."""
    if checkpoint is None:
        return ""
    try:
        validate(Path(checkpoint))
    except OpenbellError as error:
        return error.message
    return ""
