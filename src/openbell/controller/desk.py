"""The desk as the controller holds it: what it was asked to be, its processes, its runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from openbell.config.layout import DeskLayout
from openbell.config.live import live_notice
from openbell.config.models import LoadedDesk
from openbell.config.nearest import nearest, nearest_told
from openbell.config.phases import is_quiet, senders
from openbell.config.redact import Redactor
from openbell.config.references import unsound_entries
from openbell.config.secrets import Secrets, load_secrets
from openbell.controller.adapters import refuse_unmakeable
from openbell.controller.auditing import Auditor
from openbell.controller.clerk import Clerk
from openbell.controller.journal import DeskDatabase
from openbell.controller.living import marked_processes
from openbell.controller.permits import Permits
from openbell.controller.run_board import RunBoard
from openbell.controller.specs import specs_of
from openbell.controller.targets import Targets
from openbell.domain.service_state import ServiceState
from openbell.errors import ConflictError, StorageError, UsageError
from openbell.kill.marker import is_begun
from openbell.procedures.desk_voices import DeskVoices, Roles
from openbell.procedures.settings import load_checked
from openbell.procedures.wording import count_of
from openbell.runtime.spec import AdoptionReport, ServiceEvent
from openbell.runtime.supervisor import Supervisor
from openbell.service.logging import get_logger
from openbell.service_client import ServiceClient
from openbell.state.audit import AuditLog
from openbell.state.desk_lock import ANNOUNCED, UNNAMED, DeskLock, clear_lock, read_lock
from openbell.state.nothing_sent import NothingSent, read_nothing_sent
from openbell.watch.channels import Channels

log = get_logger()

UNASKED_ENDS = frozenset({ServiceState.BACKOFF, ServiceState.FAILED})


@dataclass
class Interrupted:
    """A run that a killed controller left unfinished."""

    number: int
    id: str
    procedure: str
    actor: str
    started: str
    step: str
    why: str
    parameters: Mapping[str, object]
    """What it was asked for last: when it was begun, or gone on with since."""
    waits_because: str = ""
    """Why it does not go on by itself."""

    def as_dict(self) -> dict[str, object]:
        return {
            "id": self.id,
            "procedure": self.procedure,
            "actor": self.actor,
            "started": self.started,
            "step": self.step,
            "why": self.why,
            "parameters": dict(self.parameters),
            "waits_because": self.waits_because,
        }


@dataclass
class ControlledDesk:
    """Everything the API works on. One event loop uses it."""

    layout: DeskLayout
    desk: LoadedDesk
    secrets: Secrets
    supervisor: Supervisor
    adoption: AdoptionReport
    tokens: tuple[str, ...] = ()
    """The API's and the services' token: never shown."""
    board: RunBoard = field(default_factory=RunBoard)
    port_problem: str = ""
    """Why the TCP port is not served; empty when it is."""
    database_problem: str = ""
    """What is damaged of the desk database; empty where nothing is known to be."""
    interrupted: Interrupted | None = None
    started_mono_s: float = field(default_factory=time.monotonic)
    heard_service: Callable[[ServiceEvent], None] = lambda _: None
    """Told of every change of a service's state, after the desk knows it."""
    pair_row: Callable[[str], dict[str, Any]] = lambda _: {}
    """What is told of a service that is one of an engine and its standby."""
    closing_soon: Callable[[], dict[str, object] | None] = lambda: None
    """A closing that is announced for later, as `status` shows it."""
    renewals: int = 0
    """How often other secrets were found while desk.toml stayed as it was."""
    _adoption_told: bool = False
    _made: str = ""
    """Digest of the desk file of which every adapter can be made."""

    def __post_init__(self) -> None:
        self.redactor = Redactor((*self.secrets.values(), *self.tokens))
        self.auditor = Auditor(
            AuditLog(self.layout.audit_log, self.layout.audit_head, self.redactor)
        )
        self.targets = Targets(self.layout)
        self.database = DeskDatabase(self.layout.database)
        self.permits = Permits(
            self.desk.file.permit,
            self.targets,
            self.auditor,
            self.database.current_epoch,
            self.critical_not_ready,
        )
        self.states: dict[str, ServiceState] = {
            view.name: view.state for view in self.supervisor.views()
        }
        # For good: it is asked where a service listens at each question, and may be in the middle of
        # one when desk.toml is read again.
        self.client = ServiceClient(self._port_of, self.layout.service_token)
        self._connect()

    def _connect(self) -> None:
        self.roles = Roles.of(self.desk.file)
        self.voices = DeskVoices(self.client, self.roles)
        self.clerk = Clerk(self.layout, self.desk, self.is_quiet)

    def _port_of(self, service: str) -> int | None:
        """Where it listens now: a service that was replaced may be on its second port."""
        declared = service in self.desk.file.services
        return self.supervisor.view(service).port if declared else None

    def critical_not_ready(self, asking: str = "") -> tuple[str, ...]:
        """Critical services that are not ready, the one that asks aside. Of an engine and its standby
        the one that trades counts, whichever it is."""
        return tuple(
            name
            for name in self._critical()
            if name not in (asking, self.roles.engine if asking == self.roles.standby else "")
            and self.states.get(name) is not ServiceState.READY
        )

    def _critical(self) -> list[str]:
        services = self.desk.file.services
        pair = self.desk.file.engine_pair()
        if pair is None or self.roles.engine is None or not services[pair[0]].critical:
            return [name for name, service in services.items() if service.critical]
        return [
            name
            for name, service in services.items()
            if name == self.roles.engine or (service.critical and name not in pair)
        ]

    def is_critical(self, service: str) -> bool:
        """Whether the desk trades only while this service is ready."""
        return service in self._critical()

    def engine_is(self, name: str) -> None:
        """From now on this service is asked as the engine."""
        if name != self.roles.engine:
            log.info("the engine is", engine=name, before=self.roles.engine)
            self.roles = self.voices.roles = self.roles.with_engine(name)

    def left_out(self) -> tuple[str, ...]:
        """Services that are not meant to run, because the desk was opened without them. Where the
        engine runs, whoever started it, the desk is a whole one and has to be well as such."""
        only = self.targets.only
        stopped = tuple(
            name
            for name in self.desk.file.services
            if only and name not in only and self.states.get(name) is ServiceState.STOPPED
        )
        engine = self.roles.engine
        return stopped if engine is None or engine in stopped else ()

    def nothing_sent(self) -> NothingSent | None:
        """Told where it is known that nothing that can send an order has been started since the desk had
        nothing at the venues; nor was there an emergency stop, which may have closed positions by orders
        of its own. None too of a desk without venues."""
        asks = bool(self.desk.file.venues)
        if not asks or self.senders_run() or is_begun(self.layout) or self.adoption.orphans:
            return None
        return read_nothing_sent(self.layout.nothing_sent, self.layout.emergency)

    def senders_run(self) -> bool:
        """Whether something that can send an order runs."""
        running = {view.name for view in self.supervisor.views() if view.state.is_running}
        return bool(running & senders(self.desk.file.services))

    async def is_quiet(self) -> bool:
        """Nothing that can send an order lives, whoever started it, and no emergency stop, which may."""
        running = {view.name for view in self.supervisor.views() if view.state.is_running}
        marked = await asyncio.to_thread(marked_processes, self.layout)
        return is_quiet(self.desk.file.services, running, marked.values()) and not is_begun(
            self.layout
        )

    def untold_adoption(self) -> str:
        """How many services this controller took over from an earlier one, to be told once; empty
        where it took over none, or it was told."""
        if self._adoption_told or not self.adoption.adopted:
            return ""
        self._adoption_told = True
        same = [view.name for view in self.supervisor.views() if view.adopted]
        count = len(self.adoption.adopted)
        told = f"{count_of(count, 'service was', 'services were')} taken over as "
        told += "it ran" if count == 1 else "they ran"
        restarted = count - len(same)
        return f"{told}, {restarted or 'none'} of them restarted since" if count > 1 else told

    def require_known(self, names: list[str]) -> None:
        """Raises UsageError with the nearest names for one that the desk does not have."""
        for name in names:
            require_declared("service", name, "services", self.desk.file.services)

    def refuse_locked(self, what: str) -> None:
        """Raises RefusedError while deployments and configuration are locked. `what` is not done."""
        lock = self.lock_in_force()
        if lock is not None:
            raise lock.refusal(what)

    def lock_in_force(self) -> DeskLock | None:
        """The lock; None where nothing is locked. That of a closing which is over, whatever came of
        it, is taken away: it would keep a desk that was not proven closed from being opened again."""
        lock = read_lock(self.layout.lock)
        if lock is None or not lock.run:
            return lock
        announced = os.path.lexists(self.layout.planned_closing)
        runs = [each for each in (self.board.current, self.interrupted) if each is not None]
        if lock.run == ANNOUNCED:
            lasts = announced
        elif lock.run == UNNAMED:
            # One that the full disk took no record of either is in no run.
            lasts = announced or self.targets.cut_off_closing
            lasts = lasts or any(each.procedure == "close" for each in runs)
        else:
            lasts = lock.run in {each.id for each in runs}
        if lasts:
            return lock
        log.warning("a lock has outlived its closing, and is released", lock=str(lock))
        self.release_lock_of(lock.run)
        return None

    def release_lock_of(self, run: str, *, unreadable: bool = False) -> None:
        """Releases the lock that this closing set; a person's stays. `unreadable`: also one whose
        file does not say whose it is. What cannot be released stays, and is told."""
        lock = read_lock(self.layout.lock)
        if lock is None or not (lock.run == run or (unreadable and not lock.readable)):
            return
        try:
            clear_lock(self.layout.lock)
        except StorageError as error:
            log.error("the desk stays locked", why=error.message, alert=True)

    async def reload_desk_file(self) -> bool:
        """Reads desk.toml and the secrets that it names again: what changed counts from a service's
        next start on. Whether desk.toml is another one.

        Raises ConfigError (an adapter that cannot be made is one, a secret that is not set another),
        RefusedError for a `.env` that others can read, FailedError where it could not be found out
        whether an adapter can be made, and ConflictError where a service still runs that the file no
        longer declares: it would be watched by nobody. The desk then goes on as it was loaded.
        """
        loaded = load_checked(self.layout.desk)
        if loaded.digest != self._made:
            await refuse_unmakeable(loaded, self.layout)
            self._made = loaded.digest
        if loaded.digest == self.desk.digest:
            self.reload_secrets()
            return False
        dropped = [
            name
            for name in self.desk.file.services
            if name not in loaded.file.services
            and self.states.get(name, ServiceState.STOPPED).is_running
        ]
        if dropped:
            raise ConflictError(
                f"desk.toml no longer declares what still runs: {', '.join(dropped)}",
                hint=f"`openbell stop {' '.join(dropped)}` first",
                services=dropped,
            )
        self._take(loaded, load_secrets(loaded, self.layout))
        trades = self.roles.engine
        self.permits.settings = loaded.file.permit
        self._connect()
        if trades is not None:
            self.engine_is(trades)
        self.auditor.note(
            "desk.reloaded",
            loaded.file.desk.name,
            digest=loaded.digest,
            live=loaded.file.live_venues(),
        )
        self.tell_of_live_venues()
        return True

    def file_has_changed(self) -> bool | None:
        """Whether desk.toml is another one than this controller goes by; None where it cannot be
        read."""
        try:
            return hashlib.sha256(self.desk.path.read_bytes()).hexdigest() != self.desk.digest
        except OSError:
            return None

    def reload_secrets(self) -> bool:
        """Reads the secrets that desk.toml names again, so that a key that was mended in `.env` or
        exchanged at its venue is used from a service's next start on, and by another guard at once.
        False where they are as they were. Raises ConfigError, RefusedError."""
        secrets = load_secrets(self.desk, self.layout)
        changed = self.secrets.differing(secrets)
        if not changed:
            return False
        self._take(self.desk, secrets)
        self.renewals += 1
        self.auditor.note("secrets.reloaded", self.desk.file.desk.name, variables=list(changed))
        log.warning("secrets were read again", variables=list(changed))
        return True

    def _take(self, loaded: LoadedDesk, secrets: Secrets) -> None:
        for spec in specs_of(loaded, self.layout, secrets).values():
            self.supervisor.replace_spec(spec)
            self.states.setdefault(spec.name, ServiceState.STOPPED)
        self.desk, self.secrets = loaded, secrets
        # Those of before stay known: processes that run have them, and may still tell them.
        self.redactor.add(secrets.values())

    @property
    def channels(self) -> Channels:
        """Where people are told what becomes of the desk, as desk.toml says now."""
        return Channels(
            self.desk.file.channels,
            self.layout.desk,
            self.layout.state,
            self.secrets.as_environment(),
            self.redactor.redact,
        )

    def tell_of_live_venues(self) -> None:
        """Into the log: at every start, and whenever desk.toml was read again."""
        live = self.desk.file.live_venues()
        if live:
            log.warning(live_notice(live), venues=live)
        for each in unsound_entries(self.desk.file):
            # It runs, so it is looked after all the same; `openbell check` and the next opening refuse it.
            log.warning(f"desk.toml: {'.'.join(each.key)}: {each.message}", hint=each.hint)

    def on_service_event(self, event: ServiceEvent) -> None:
        """Hears every change of a service's state from the supervisor."""
        self.states[event.service] = event.state
        if event.state.is_running and event.service in senders(self.desk.file.services):
            self.clerk.a_sender_starts()
        unasked = event.state in UNASKED_ENDS
        tell = log.warning if unasked else log.info
        tell(
            "service",
            name=event.service,
            state=str(event.state),
            previous=str(event.previous),
            reason=event.reason,
            pid=event.pid,
            seconds=event.seconds,
        )
        if unasked:
            self.auditor.note(
                "service.crashed" if event.state is ServiceState.BACKOFF else "service.failed",
                event.service,
                reason=event.reason,
            )
        elif event.previous is ServiceState.BACKOFF and event.state is ServiceState.STARTING:
            self.auditor.note("service.restarted", event.service, reason=event.reason)
        self.heard_service(event)
        run = self.board.current
        if run is not None:
            run.emit(
                {
                    "event": "service",
                    "service": event.service,
                    "state": str(event.state),
                    "previous": str(event.previous),
                    "seconds": event.seconds,
                    "message": event.reason,
                    "pid": event.pid,
                }
            )

    def environment(self) -> dict[str, str]:
        """For processes of this desk that are no services: with the secrets it was opened with."""
        state = {"OPENBELL_STATE": str(self.layout.state)}
        return {**os.environ, **self.secrets.as_environment(), **state}

    async def close(self) -> None:
        """Lets go of everything; services run on."""
        await self.supervisor.detach()
        await self.client.close()
        await self.auditor.flush()
        self.database.close()


def require_declared(kind: str, name: str, plural: str, known: Iterable[str]) -> None:
    """Raises UsageError with the nearest names for one that the desk file does not have."""
    names = list(known)
    if name in names:
        return
    near = nearest(name, names)
    raise UsageError(
        f'there is no {kind} "{name}"',
        hint=nearest_told(near) or f"{plural}: {', '.join(names) or 'none'}",
        **{kind: name},
        nearest=near,
    )
