"""Puts the controller's parts together and serves them until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.secrets import Secrets
from openbell.controller.acts import Acts
from openbell.controller.approving import REQUESTS_KEPT
from openbell.controller.close_desk import UNRECORDED, Closings
from openbell.controller.conduct import Conductor
from openbell.controller.database_watch import DatabaseWatch
from openbell.controller.desk import ControlledDesk, Interrupted
from openbell.controller.emergency import Emergency
from openbell.controller.going_on import GoingOn, code_of
from openbell.controller.guard_keeper import GuardKeeper
from openbell.controller.kill_switch import KillSwitch
from openbell.controller.limits import LimitChanges
from openbell.controller.listeners import place_of, tcp_listener, unix_listener
from openbell.controller.observing import Observer
from openbell.controller.open_desk import Openings
from openbell.controller.opening_parts import OpenWishes
from openbell.controller.pair import EnginePair
from openbell.controller.parts import Parts
from openbell.controller.planned_closing import PlannedClosings
from openbell.controller.procedures import Procedures
from openbell.controller.reconciling import Reconciling
from openbell.controller.restarting import Restarts
from openbell.controller.rolling import RollingRestarts
from openbell.controller.run_board import run_id
from openbell.controller.socket_watch import SocketWatch
from openbell.controller.specs import Adopted
from openbell.controller.telling import tell_people
from openbell.errors import OpenbellError, StorageError
from openbell.kill.marker import is_begun
from openbell.runtime import logs as log_files
from openbell.runtime.spec import AdoptionReport
from openbell.runtime.supervisor import Supervisor
from openbell.service.logging import get_logger
from openbell.state.files import write_atomically
from openbell.state.tokens import read_or_make_token
from openbell.watch.channels import Told

if TYPE_CHECKING:
    from openbell.service.server import QuietServer

log = get_logger()


@dataclass
class Hosted:
    """The parts of one controller process."""

    desk: ControlledDesk
    conductor: Conductor
    parts: Parts
    tokens: tuple[str, str]
    """Of the API, and of the services."""
    _telling: asyncio.Task[tuple[Told, ...]] | None = field(default=None, init=False)
    """People, of a run that was cut off."""

    @classmethod
    def of(
        cls,
        layout: DeskLayout,
        loaded: LoadedDesk,
        secrets: Secrets,
        supervisor: Supervisor,
        adoption: AdoptionReport,
        ended: asyncio.Event,
    ) -> Hosted:
        api_token = read_or_make_token(layout.api_token)
        service_token = read_or_make_token(layout.service_token)
        desk = ControlledDesk(
            layout, loaded, secrets, supervisor, adoption, tokens=(api_token, service_token)
        )

        def exit_controller(why: str) -> None:
            log.info("ending", why=why)
            desk.board.end(why)
            ended.set()

        conductor = Conductor(desk)
        guard = GuardKeeper(desk)
        observer = Observer(desk, guard)
        emergency = Emergency(desk, conductor)
        pair = EnginePair(desk)
        limits = LimitChanges(desk)
        openings = Openings(desk, conductor, guard, emergency, limits.end_of_closing)
        closings = Closings(desk, conductor, guard, exit_controller)
        planned = PlannedClosings(desk, closings)
        desk.closing_soon = planned.view
        rolling = RollingRestarts(desk, conductor, observer, pair)
        openings.opened = planned.lock_again
        restarts = Restarts(desk, closings, openings, guard)
        parts = Parts(
            desk=desk,
            observer=observer,
            openings=openings,
            closings=closings,
            planned=planned,
            going_on=GoingOn(desk, conductor, closings),
            rolling=rolling,
            restarts=restarts,
            procedures=Procedures(desk, conductor, openings, closings, rolling, restarts),
            acts=Acts(desk, observer),
            kill_switch=KillSwitch(desk),
            limits=limits,
            emergency=emergency,
            pair=pair,
            reconciling=Reconciling(desk),
            guard=guard,
            exit_controller=exit_controller,
        )
        return cls(desk, conductor, parts, (api_token, service_token))

    async def serve_until(
        self,
        ended: asyncio.Event,
        *,
        adopted: Adopted,
        housekeeping_s: float,
        open_at_once: OpenWishes | None = None,
        actor: str = "",
    ) -> None:
        """Serves the API; returns when `ended` is set and everything was let go. An opening that
        is asked for begins before the API is loaded, which takes as long as a service's start."""
        desk = self.desk
        stopped = is_begun(desk.layout)
        settings = desk.desk.file.controller
        unix = unix_listener(desk.layout.controller_socket)
        place, sockets = place_of(unix), [unix]
        tcp, desk.port_problem = tcp_listener(settings.host, settings.port)
        if tcp is not None:
            sockets.append(tcp)
        else:
            log.error("the port is not served", why=desk.port_problem, alert=True)
        await self._find_interrupted()
        self._find_unrecorded_closing()
        self._write_record(desk.port_problem)
        self._announce(adopted)
        guard = self.parts.guard
        # To the very end: a controller that takes its time to end does not hang.
        beats = asyncio.create_task(guard.beat(), name="beats")
        watching = [
            asyncio.create_task(guard.run(), name="guard"),
            asyncio.create_task(self.parts.pair.run(), name="engine pair"),
            asyncio.create_task(self.parts.planned.run(), name="planned closing"),
            asyncio.create_task(DatabaseWatch(desk).run(), name="database"),
        ]
        # Before any run is begun, which one that comes from here on is to break off: what is loaded below
        # takes seconds on a machine that is at work.
        emergencies = asyncio.create_task(
            self.parts.emergency.watch(held=stopped), name="emergencies"
        )
        if open_at_once is not None:
            await self._open(open_at_once, actor)
        else:
            await self.parts.going_on.begin()
        server = await asyncio.to_thread(self._load_server)
        gc.enable()  # which `main` had disabled
        serving = asyncio.create_task(server.serve(sockets), name="serve")
        housekeeping = asyncio.create_task(self._keep_house(housekeeping_s), name="housekeeping")
        watch = SocketWatch(desk.layout, unix, place, server, desk.auditor)
        sockets_kept = asyncio.create_task(watch.run(), name="socket")
        ending = asyncio.create_task(ended.wait(), name="ended")
        await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
        for task in (housekeeping, emergencies, sockets_kept, *watching):
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        desk.board.end("it was told to")
        await self.conductor.cancel()
        server.stop()
        await serving
        # Of a request that was being answered when the controller was told to end.
        await self.conductor.cancel()
        if self._telling is not None:  # no longer than the slowest channel may take
            await self._telling
        with contextlib.suppress(FileNotFoundError):
            desk.layout.controller_socket.unlink()
        desk.auditor.note("controller.ended", desk.desk.file.desk.name, pid=os.getpid())
        await desk.close()
        beats.cancel()
        desk.layout.controller_record.unlink(missing_ok=True)
        log.info("ended")

    async def _open(self, wishes: OpenWishes, actor: str) -> None:
        """What cannot be opened is left: whoever asked asks again over the API, and is told why."""
        try:
            await self.parts.openings.open(wishes, actor)
        except OpenbellError as error:
            log.error("not opened", why=error.message)

    def _load_server(self) -> QuietServer:
        """What takes long to load, beside services that start: the API, and the library by which
        services are asked, which would otherwise be loaded with the first question."""
        if self.desk.roles.engine is not None:
            importlib.import_module("openbell.http_library")
        from openbell.controller.app import build_app
        from openbell.service.server import QuietServer

        return QuietServer(build_app(self.parts, *self.tokens), graceful_s=5)

    async def _find_interrupted(self) -> None:
        """A run without an end was under way when an earlier controller was killed. One after
        which another was begun is over: what it had found is no longer so."""
        desk = self.desk
        if not desk.layout.database.exists():
            return
        try:
            newest = await desk.database.newest()
            cut_off = None
            for record in await desk.database.unfinished():
                if newest is not None and record.run == newest.run:
                    cut_off = record
                else:
                    name = run_id(record.kind, record.run)
                    why = "abandoned: a later run was begun"
                    await self.conductor.end_unfinished(record.run, name, why)
            if cut_off is not None:
                cut_off = await desk.database.as_asked_last(cut_off.run)
        except OpenbellError as error:
            log.error("earlier runs are not known", why=error.message, alert=True)
            return
        await self._read_requests()
        if cut_off is not None:
            desk.interrupted = Interrupted(
                number=cut_off.run,
                id=run_id(cut_off.kind, cut_off.run),
                procedure=cut_off.kind,
                actor=cut_off.who,
                started=cut_off.begun_at.isoformat(),
                step=cut_off.steps[-1].name if cut_off.steps else "",
                why=cut_off.why,
                parameters=cut_off.params,
            )
            log.error("an earlier run was cut off", alert=True, **desk.interrupted.as_dict())
            self._tell_cut_off(desk.interrupted)
        # That of a closing whose end was written down, and no more, is released here.
        await asyncio.to_thread(desk.lock_in_force)

    def _find_unrecorded_closing(self) -> None:
        """One of which a full disk took nothing but an empty file is in no run's record. It may have ended
        on that disk as well as been cut off."""
        if not self.desk.targets.cut_off_closing or self.desk.interrupted is not None:
            return
        log.error("a closing has no record", why=UNRECORDED, alert=True)
        name = self.desk.desk.file.desk.name
        self._tell(
            f"{name}: CLOSING WITHOUT A RECORD: {UNRECORDED}; `openbell down` goes on with it"
        )

    def _tell_cut_off(self, run: Interrupted) -> None:
        name = self.desk.desk.file.desk.name
        at = f" at {run.step}" if run.step else ""
        text = (
            f"{name}: CUT OFF, {run.id} of {run.actor}{at}: its controller was killed; "
            f"`openbell status` shows the desk, `openbell procedure resume {run.id}` goes on with it"
        )
        self._tell(text, run.id)

    def _tell(self, text: str, run: str = "") -> None:
        """Beside the start, which a channel that hangs must not hold up."""
        self._telling = asyncio.create_task(
            tell_people(self.desk, "cut_off", text, run), name="cut off"
        )

    async def _read_requests(self) -> None:
        """What still waits for people's approval, of steps and of single acts."""
        desk = self.desk
        try:
            await self.conductor.approvals.restore()
            store = await desk.database.requests()
            stored = await asyncio.to_thread(store.newest, REQUESTS_KEPT)
        except OpenbellError as error:
            log.error("earlier requests are not known", why=error.message, alert=True)
            return
        for part in (self.parts.kill_switch, self.parts.reconciling, self.parts.limits):
            part.approving.restore(stored)

    def _write_record(self, port_problem: str) -> None:
        desk = self.desk
        record = {
            "pid": os.getpid(),
            "started_ns": time.time_ns(),
            **code_of(desk),
            "socket": str(desk.layout.controller_socket),
            "host": desk.desk.file.controller.host,
            "port": None if port_problem else desk.desk.file.controller.port,
        }
        try:
            write_atomically(desk.layout.controller_record, msgspec.json.encode(record) + b"\n")
        except StorageError as error:
            # For people only: a full disk is when a controller that can close is needed most.
            log.error("no record of the controller", why=error.message, alert=True)

    def _announce(self, adopted: Adopted) -> None:
        desk = self.desk
        adoption = desk.adoption
        desk.auditor.note(
            "controller.started",
            desk.desk.file.desk.name,
            pid=os.getpid(),
            adopted=list(adoption.adopted),
            gone=list(adoption.gone),
            orphans=[orphan.pid for orphan in adoption.orphans],
            doubled=list(adoption.doubled),
            stopping=list(adoption.stopping),
            live=desk.desk.file.live_venues(),
        )
        desk.tell_of_live_venues()
        log.info(
            "started",
            desk=desk.desk.file.desk.name,
            target=str(desk.targets.now),
            adopted=len(adoption.adopted),
            adopted_in_s=round(adopted.in_s, 3),
            adopted_at_ns=adopted.at_ns,
            gone=list(adoption.gone),
            stopping=list(adoption.stopping),
            orphans=len(adoption.orphans),
        )

    async def _keep_house(self, every_s: float) -> None:
        """The only thing the controller does unasked: a lapsed permit, a closing that the disk did not keep,
        and its own log's size."""
        desk = self.desk
        settings = desk.desk.file.logs
        while True:
            await asyncio.sleep(every_s)
            desk.permits.note_lapse()
            desk.targets.keep_closing_again()
            path = desk.layout.controller_log
            if log_files.size_of(path) > settings.rotate_at:
                with contextlib.suppress(OSError):  # tried again at the next look
                    await asyncio.to_thread(
                        log_files.rotate, path, settings.keep, settings.rotate_at
                    )
