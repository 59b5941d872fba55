"""The sources of a frame: each is asked in a thread of its own, so that one that hangs holds up
neither the others nor the view.

Everything here only reads. The venues are asked through the engine alone, and seldom: a view must
not spend the budget that a closing needs.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openbell.cli.client import Client
from openbell.cli.watch.document import CLOSE, OLD_AFTER_S, Heard, Look, counts, held
from openbell.config.layout import DeskLayout
from openbell.domain.alerts import PositionKey, Zombie, least_seen
from openbell.errors import NotRunningError, OpenbellError, UnverifiedError
from openbell.runtime.processes import system_processes
from openbell.runtime.zombies import ZombieWatch

STATUS_TIMEOUT_S = 5.0
TIMEOUT_S = 12.0
"""The controller itself waits ten seconds for a service."""
VENUES_EVERY_S = 10.0
VENUES_IN_CLOSING_S = 3.0
ONCE_WITHIN_S = 30.0
ACTIONS = 10
_TAIL_BYTES = 256 << 10


class Source:
    """One question, asked again and again."""

    def __init__(
        self,
        ask: Callable[[], Mapping[str, Any]],
        every_s: Callable[[], float],
        old_after_s: float = OLD_AFTER_S,
    ) -> None:
        self._ask = ask
        self._every_s = every_s
        self._old_after_s = old_after_s
        self._body: Mapping[str, Any] | None = None
        self._at = 0.0
        self._why = ""
        self._lock = threading.Lock()
        self.answered = threading.Event()
        """Set once the first question was answered, or failed."""

    def begin(self) -> None:
        threading.Thread(target=self._go_on, daemon=True).start()

    def _go_on(self) -> None:
        while True:
            began = time.monotonic()
            self.ask()
            # The thread ends with the process; nothing has to wake it before.
            time.sleep(max(0.05, self._every_s() - (time.monotonic() - began)))

    def ask(self) -> None:
        try:
            body, why = self._ask(), ""
        except OpenbellError as error:
            body, why = None, error.message
        except Exception as error:  # noqa: BLE001 - a thread that ended would look like silence
            body, why = None, f"a defect in the view: {type(error).__name__}: {error}"
        with self._lock:
            if body is not None:
                self._body, self._at = body, time.monotonic()
            self._why = why
        self.answered.set()

    def heard(self) -> Heard:
        with self._lock:
            age_s = None if self._body is None else time.monotonic() - self._at
            return Heard(self._body, age_s, self._why, self._old_after_s)


@dataclass
class _Seen:
    """What the status thread learned, replaced as a whole."""

    status: Mapping[str, Any]
    controller_why: str = ""
    gone_since: float | None = None
    run: Mapping[str, Any] | None = None
    events: tuple[Mapping[str, Any], ...] = ()
    events_why: str = ""
    zombies: tuple[Zombie, ...] | None = None
    actions: Sequence[Mapping[str, Any]] | None = None


@dataclass
class Looking:
    """Looks at one desk."""

    client: Client
    layout: DeskLayout
    offline_status: Callable[[], Mapping[str, Any]]
    """What the desk's files say, in the shape of the controller's status."""
    every_s: float
    _seen: _Seen | None = None
    _answered_before: bool = False
    _controller: object = None
    _started_with: dict[str, int] = field(default_factory=dict)
    _least: dict[PositionKey, Any] = field(default_factory=dict)
    _of_run: str = ""

    def __post_init__(self) -> None:
        self._zombies = ZombieWatch(system_processes())
        self.status = Source(self._ask_status, self._often)
        asked = {
            name: (f"{name}{query}", every)
            for name, query, every in (
                ("strategies", "", self._often),
                ("feeds", "", self._often),
                ("connections", "", self._often),
                ("risk", "", self._often),
                ("orders", "?past_engine=false", self._seldom),
                ("positions", "?past_engine=false", self._seldom),
            )
        }
        self.sources = {
            name: Source(
                lambda path=path: dict(self.client.get(path, timeout_s=TIMEOUT_S)),  # type: ignore[misc]
                every,
                max(OLD_AFTER_S, 3 * self.every_s)
                if every == self._often
                else 3 * max(VENUES_EVERY_S, self.every_s),
            )
            for name, (path, every) in asked.items()
        }

    def _often(self) -> float:
        return self.every_s

    def _seldom(self) -> float:
        run = self._seen.status.get("run") if self._seen is not None else None
        closing = run is not None and run["procedure"] == CLOSE
        return max(self.every_s, VENUES_IN_CLOSING_S if closing else VENUES_EVERY_S)

    def begin(self) -> None:
        for source in (self.status, *self.sources.values()):
            source.begin()

    def once(self) -> Look:
        """Asks everything one time."""
        every = (self.status, *self.sources.values())
        for source in every:
            threading.Thread(target=source.ask, daemon=True).start()
        self.wait(ONCE_WITHIN_S)
        return self.look()

    def wait(self, within_s: float) -> None:
        """Until every source has answered, or the time is up."""
        deadline = time.monotonic() + within_s
        for source in (self.status, *self.sources.values()):
            source.answered.wait(max(0.0, deadline - time.monotonic()))

    # --- the status thread -------------------------------------------------------------------

    def _ask_status(self) -> Mapping[str, Any]:
        before = self._seen
        try:
            status = dict(self.client.get("status", timeout_s=STATUS_TIMEOUT_S))
        except (NotRunningError, UnverifiedError) as error:
            seen = self._without_controller(before, error.message)
        else:
            self._answered_before = True
            seen = _Seen(status)
            self._follow_run(seen, before)
        leaders = {
            str(row["name"]): int(row["pid"])
            for row in seen.status.get("services") or ()
            if row.get("pid")
        }
        seen.zombies = self._zombies.look(leaders)
        seen.actions = last_actions(self.layout.audit_log)
        self._seen = seen
        return seen.status

    def _without_controller(self, before: _Seen | None, why: str) -> _Seen:
        seen = _Seen(self.offline_status(), controller_why=why)
        if before is not None:
            seen.run, seen.events = before.run, before.events
            seen.gone_since = before.gone_since
        if seen.gone_since is None and self._answered_before:
            seen.gone_since = time.monotonic()
        if seen.run is not None and not _is_over(seen.events):
            seen.events_why = "its controller is gone; how it ended was not seen"
        return seen

    def _follow_run(self, seen: _Seen, before: _Seen | None) -> None:
        """Events of the run under way, or of the one that was and whose end was not seen yet."""
        now = seen.status.get("run")
        controller = (seen.status.get("controller") or {}).get("pid")
        if before is not None:
            seen.run, seen.events = before.run, before.events
        if controller != self._controller:
            seen.events = ()  # a new controller numbers its events from the first
            self._controller = controller
        try:
            if now is not None and (seen.run is None or seen.run["id"] != now["id"]):
                more = self.client.get(f"runs/{now['id']}", timeout_s=STATUS_TIMEOUT_S)
                seen.run = {**now, "parameters": more.get("parameters") or {}}
                seen.events = ()
            if seen.run is not None and not _is_over(seen.events):
                path = f"runs/{seen.run['id']}/events?after={len(seen.events)}&follow=false"
                more_events = self.client.lines(path, timeout_s=STATUS_TIMEOUT_S)
                seen.events = (*seen.events, *more_events)
        except OpenbellError as error:
            seen.events_why = error.message

    # --- a frame -----------------------------------------------------------------------------

    def look(self) -> Look:
        """What is known now. Raises the status source's trouble where nothing at all is known."""
        seen = self._seen
        if seen is None:
            raise UnverifiedError(
                f"nothing is known of the desk yet: {self.status.heard().why or 'no answer'}",
                hint="look again, or see `openbell status`",
            )
        heard = {name: source.heard() for name, source in self.sources.items()}
        self._note_beginning(seen, heard)
        now = datetime.now(UTC)
        elapsed = None
        if seen.run is not None:
            started = datetime.fromisoformat(str(seen.run["started"]))
            elapsed = round(max(0.0, (now - started).total_seconds()), 3)
        gone = None if seen.gone_since is None else round(time.monotonic() - seen.gone_since, 3)
        return Look(
            at=now.isoformat(timespec="seconds"),
            status=seen.status,
            controller_why=seen.controller_why,
            controller_gone_s=gone,
            run=seen.run,
            run_elapsed_s=elapsed,
            events=seen.events,
            events_why=seen.events_why,
            actions=seen.actions,
            zombies=seen.zombies,
            started_with=self._started_with,
            least=self._least,
            now_ns=time.time_ns(),
            **heard,
        )

    def _note_beginning(self, seen: _Seen, heard: Mapping[str, Heard]) -> None:
        """From what a closing set out: the most that was seen of it, as it only goes down; and the
        smallest that each position was seen at."""
        run = "" if seen.run is None or seen.run["procedure"] != CLOSE else str(seen.run["id"])
        if run != self._of_run:
            self._of_run, self._started_with, self._least = run, {}, {}
        if not run or _is_over(seen.events):
            return
        told = first_counts(seen.events)
        for what in ("orders", "positions"):
            known = [
                count
                for count in (
                    counts(heard[what], what, seen.status)["total"],
                    told.get(what),
                    self._started_with.get(what),
                )
                if count is not None
            ]
            if known:
                self._started_with = {**self._started_with, what: max(known)}
        positions = heard["positions"]
        if positions.says and positions.body is not None:
            self._least = least_seen(self._least, held(positions.body))


def first_counts(events: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The first count of open orders and of positions that the closing's own steps told."""
    found: dict[str, int] = {}
    for event in events:
        step, count = event.get("step"), event.get("count")
        what = {"cancel_orders": "orders", "flatten": "positions"}.get(str(step))
        if event.get("event") == "progress" and what is not None and count is not None:
            found.setdefault(what, int(count))
    return found


def last_actions(audit_log: Path) -> list[Mapping[str, Any]] | None:
    """The newest records of the audit log, oldest first; None where it cannot be read. Not verified
    here: `openbell audit verify` does that."""
    try:
        with audit_log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError:
        return None
    whole = lines[1:] if size > _TAIL_BYTES else lines
    found: list[Mapping[str, Any]] = []
    for line in whole[-ACTIONS - 1 :]:
        try:
            record = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            return None
        if isinstance(record, dict):
            found.append(record)  # what has no end yet is being written
    return found[-ACTIONS:]


def _is_over(events: Sequence[Mapping[str, Any]]) -> bool:
    return bool(events) and events[-1].get("event") in ("done", "failed")
