"""The guard put together: what it holds, what it hears, what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import psutil

import openbell
from openbell.config.layout import DeskLayout
from openbell.config.models import LoadedDesk
from openbell.config.secrets import Secrets
from openbell.domain.dead_man import EngineIs, Mode
from openbell.errors import OpenbellError
from openbell.guard.closing_watch import ClosingWatch
from openbell.guard.controller_watch import ControllerWatch
from openbell.guard.dead_man import DeadMan
from openbell.guard.dead_man_row import NOT_LOOKED
from openbell.guard.engine_watch import EngineWatch, watch_for_stops
from openbell.guard.latch_request import latch_on_request
from openbell.guard.record import GuardRecord, RecordKeeper
from openbell.guard.server import Fields, Handler, Peer
from openbell.guard.stopping import Stopping
from openbell.guard.unproven_stop import UnprovenStop
from openbell.guard.warm_venue import WarmVenue
from openbell.kill.beats import CLOSING, Beat
from openbell.kill.heartbeat_rule import HeartbeatRule
from openbell.runtime import logs as log_files
from openbell.runtime.process_watch import choose_watch
from openbell.runtime.processes import system_processes
from openbell.service.logging import get_logger

_log = logging.getLogger(__name__)

ALERTS = frozenset(
    {
        "controller_gone", "controller_hangs", "controller_given_up", "controller_not_started",
        "controller_outlives_kill", "target_unreadable", "dead_man_fires", "dead_man_fired",
        "dead_man_late", "dead_man_problem", "socket_lost", "paused", "emergency_stop",
        "stop_stands_still",
    }
)  # fmt: skip
"""Events that a person must see."""
KEEP_HOUSE_S = 10.0
DISARM_S_MAX = 50.0
"""However slow the venues are; then what is not known to be disarmed is said."""
RECORD_S = 1.0
"""For a disk to take what a guard that comes after has to know; an answer waits no longer for it."""
WELL_AGAIN_S = 30.0
"""A part that failed and goes on for so long since is no problem any more."""
PAUSE_S = 1.0
"""A look that comes so much late: this process was stopped, or the machine slept."""


class Guard:
    """One desk's guard."""

    def __init__(
        self,
        layout: DeskLayout,
        loaded: LoadedDesk,
        secrets: Secrets | None,
        record: GuardRecord,
        *,
        watching: bool,
        on_end: Callable[[], None],
    ) -> None:
        """`watching`: the guard before this one had heard an engine, and not of its end."""
        settings = loaded.file.guard
        self.mode = record.mode
        self.layout = layout
        self.loaded = loaded
        self.engine = EngineWatch(settings.engine_silent_after, self._engine_changed)
        table = system_processes()
        self.controller = ControllerWatch(
            layout,
            table,
            choose_watch(table),
            silent_after_s=settings.controller_silent_after,
            tick_s=settings.beat_every_s / 2,
            restart=settings.restart_controller,
            tell=self.tell,
        )
        self.closing = ClosingWatch(
            settings.controller_silent_after, lambda: self.controller.is_well
        )
        credentials = {} if secrets is None else secrets.closing_credentials()
        self.venues = {
            name: WarmVenue(name, config, credentials.get(name), self.tell)
            for name, config in loaded.file.venues.items()
        }
        self.stopping = Stopping(layout, loaded, self.venues, credentials, self.tell)
        self.switches = {
            name: DeadMan(warm, settings, layout, self, self.tell)
            for name, warm in self.venues.items()
        }
        for name, switch in self.switches.items():
            switch.left_to_run_out = name in record.left
        self.going_on = UnprovenStop(
            layout, loaded, self.venues, self.switches, self.stopping, self.tell
        )
        self.heartbeat_rule = HeartbeatRule(
            layout,
            loaded.file.kill_switch.rules,
            self._engine_silence,
            beat_every_s=settings.beat_every_s,
        )
        self.problem = ""
        """What has kept it from doing all it should since it began; empty where nothing has."""
        self._failed: dict[str, str] = {}
        """By part, until it has gone on for `WELL_AGAIN_S`."""
        self.keep_reachable: Callable[[], Awaitable[bool]] | None = None
        """Opens again the sockets whose path leads elsewhere; False: no beat could arrive."""
        self._keeper = RecordKeeper(
            layout.guard_record, record, lambda why: self.tell("record_not_written", why=why)
        )
        self._watchers: set[asyncio.Queue[dict[str, Any]]] = set()
        self._on_end = on_end
        self._beat_every_s = settings.beat_every_s
        self._started_s = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._process = psutil.Process()
        if watching or record.left_s is not None:
            self.engine.expect(record.left_s)

    @property
    def leaves_nothing(self) -> bool:
        """That a guard which comes after has to know."""
        told = self.mode is not Mode.OPEN and not self.controller.is_closed
        is_away = self._record.left_s is not None
        return not self._record.engine_heard and not is_away and not told

    @property
    def _record(self) -> GuardRecord:
        return self._keeper.record

    # --- its life ----------------------------------------------------------------------------

    def start(self) -> None:
        """Everything that goes on until the end."""
        bodies = {
            **{f"venue {name}": warm.run for name, warm in self.venues.items()},
            **{f"dead man {name}": switch.run for name, switch in self.switches.items()},
            "controller": self.controller.run,
            "pauses": self._notice_pauses,
            "sockets": self._keep_sockets,
            "stops": lambda: watch_for_stops(self.engine, self.layout, self._beat_every_s),
            "heartbeat rule": self.heartbeat_rule.run,
            "going on": self.going_on.run,
            "house": self._keep_house,
            "idle": self._end_when_idle,
        }
        self._tasks = [
            asyncio.create_task(self._lasting(name, body), name=name)
            for name, body in bodies.items()
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(warm.close() for warm in self.venues.values()))
        await self._keeper.kept(RECORD_S)

    async def _lasting(self, name: str, body: Callable[[], Any]) -> None:
        """One part that fails is begun again; the others go on."""
        well_again: asyncio.TimerHandle | None = None
        while True:
            try:
                await body()
            except Exception as error:  # noqa: BLE001 - one part must not end the others
                _log.exception("part failed: %s", name)
                self._failed[name] = f"{name} failed: {type(error).__name__}"
            if well_again is not None:
                well_again.cancel()
            await asyncio.sleep(1)
            later = asyncio.get_running_loop().call_later
            well_again = later(WELL_AGAIN_S, self._failed.pop, name, None)

    async def _notice_pauses(self) -> None:
        """While this process was stopped nobody could be heard: that is nobody's silence."""
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(self._beat_every_s / 4)
            over_s = time.monotonic() - began_s - self._beat_every_s / 4
            if over_s > self._beat_every_s:
                for watch in (self.engine, self.controller, self.closing):
                    watch.forgive(over_s)
            if over_s > PAUSE_S:
                self.tell("paused", seconds=round(over_s, 3))

    async def _keep_house(self) -> None:
        settings, path = self.loaded.file.logs, self.layout.guard_log
        while True:
            await asyncio.sleep(KEEP_HOUSE_S)
            if log_files.size_of(path) > settings.rotate_at:
                with contextlib.suppress(OSError):  # tried again at the next look
                    await asyncio.to_thread(
                        log_files.rotate, path, settings.keep, settings.rotate_at
                    )

    async def _keep_sockets(self) -> None:
        """More often than the shortest silence that counts. While no beat can arrive the controller
        is not taken for hung; the engine is, where that lasts: its orders then are to go."""
        told = False
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(self._beat_every_s)
            if self.keep_reachable is None:
                continue
            try:
                heard, failed = await self.keep_reachable(), ""
            except (OSError, OpenbellError) as error:
                heard, failed = False, str(error)
            if failed and not told:
                self.tell("socket_lost", why=f"it cannot be opened again: {failed}")
            told = bool(failed)
            if not heard:
                lost_s = time.monotonic() - began_s
                self.controller.forgive(lost_s)
                self.closing.forgive(lost_s)
                if not failed:
                    self.engine.forgive(lost_s)

    async def _end_when_idle(self) -> None:
        """A closed desk without a controller has nothing to guard: its controller was killed before it
        ended this guard, or left it to an emergency stop that is over now. Nothing is left armed."""
        idle_s = 0.0
        while True:
            await asyncio.sleep(self._beat_every_s)
            closed = self.controller.is_closed and self.controller.pid is None
            idle_s = idle_s + self._beat_every_s if closed else 0.0
            if idle_s >= self.loaded.file.guard.controller_silent_after * 2:
                if not await self._why_needed():
                    break
                idle_s = 0.0
        self.tell("idle", why="the desk is closed, and no controller runs")
        async for _ in self._disarm({}, None):
            pass
        self._on_end()

    # --- what it hears -----------------------------------------------------------------------

    def hear(self, beat: Beat, at_s: float) -> None:
        if beat.sender == "controller":
            self.controller.hear(beat.pid)
            if beat.stage == CLOSING:
                self.closing.hear(at_s)
            return
        self.engine.hear(beat, at_s)

    def _engine_silence(self) -> float | None:
        """None where no engine has to be heard."""
        gone = self.engine.state in (EngineIs.UNHEARD, EngineIs.LEFT) or self.engine.ended_by_stop
        if self.mode is not Mode.OPEN or gone:
            return None
        return self.engine.silent_s

    def _engine_changed(self) -> None:
        self._wake()
        self._keeper.keep(msgspec.structs.replace(self._record, **self._engine_facts()))

    def _engine_facts(self) -> dict[str, Any]:
        """As the record has them."""
        state = self.engine.state
        # Of a desk that was disarmed, an engine that leaves leaves nothing that a guard has to see to.
        away = state is EngineIs.LEFT and self.mode is not Mode.OFF
        return {
            "engine_heard": state in (EngineIs.WELL, EngineIs.SILENT),
            "left_s": self.engine.left_s if away else None,
        }

    def _wake(self) -> None:
        for switch in self.switches.values():
            switch.changed.set()

    def tell(self, event: str, **facts: object) -> None:
        """Into the log, and to whoever watches."""
        log = get_logger()
        if event in ALERTS and not (
            event == "dead_man_fired" and facts.get("result") == "verified"
        ):
            log.error(event.replace("_", " "), alert=True, **facts)
        else:
            log.info(event.replace("_", " "), **facts)
        told = {"event": event, "at": datetime.now(UTC).isoformat(), **facts}
        for watcher in self._watchers:
            with contextlib.suppress(asyncio.QueueFull):  # it does not read: it sees the next beat
                watcher.put_nowait(told)

    # --- what it answers ---------------------------------------------------------------------

    def handlers(self) -> dict[str, Handler]:
        return {
            "status": self._status,
            "watch": self._watch,
            "dead_man": self._dead_man,
            "open": self._open,
            "hold": self._hold,
            "disarm": self._disarm,
            "detach": self._detach,
            "end": self._end,
            "latch": lambda fields, _: latch_on_request(self.layout, fields, self.tell),
            "emergency_stop": self._emergency_stop,
        }

    def document(self) -> dict[str, Any]:
        """As docs/reference/guard.md shows it."""
        return {
            "pid": self._record.pid,
            "start": self._record.start,
            "boot_id": self._record.boot_id,
            "since": datetime.fromtimestamp(self._record.since_ns / 1e9, UTC).isoformat(),
            "uptime_s": round(time.monotonic() - self._started_s, 3),
            "version": openbell.__version__,
            "desk": self.loaded.file.desk.name,
            "digest": self.loaded.digest,
            "mode": str(self.mode),
            "problem": "; ".join(
                filter(None, (self.problem, self._standing_still(), *self._failed.values()))
            ),
            "rss_bytes": self._process.memory_info().rss,
            "engine": self.engine.as_dict(),
            "controller": self.controller.as_dict(),
            "venues": [warm.as_dict() for warm in self.venues.values()],
            "dead_man": [switch.as_dict() for switch in self.switches.values()],
            "kill_rules": self.heartbeat_rule.document(),
            "stands_still": self.stopping.stands_still,
            "at_work": self.stopping.under_way
            or self.going_on.tries
            or any(switch.runs_out for switch in self.switches.values()),
            "stopping": self.stopping.comes_to_an_end,
            "going_on": self.going_on.document(),
        }

    def _standing_still(self) -> str:
        if not (problem := self.stopping.problem):
            return ""
        if self.controller.is_well:
            return f"{problem}; the controller replaces it once no stop is under way"
        return (
            f"{problem}; no controller is there to replace it: end its process (pid {os.getpid()})"
        )

    async def _status(self, _fields: Fields, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        yield {**self.document(), "final": True}

    async def _dead_man(self, fields: Fields, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        switches = self.switches.values()
        rows = [switch.as_dict() for switch in switches]
        if fields.get("look"):
            seen = await asyncio.gather(*(self._seen(warm) for warm in self.venues.values()))
            pairs = zip(switches, seen, strict=True)
            rows = [{**switch.as_dict(more["open_orders"]), **more} for switch, more in pairs]
        yield {
            "mode": str(self.mode),
            "engine": self.engine.as_dict(),
            "venues": rows,
            "final": True,
        }

    async def _seen(self, warm: WarmVenue) -> dict[str, int | None]:
        """What rests at the venue now; None: not known."""
        if warm.venue is None or not warm.warm:
            return NOT_LOOKED
        try:
            async with asyncio.timeout(warm.config.timeout):
                listing = await warm.venue.open_orders()
        except (TimeoutError, OpenbellError):
            return NOT_LOOKED
        except Exception as error:  # noqa: BLE001 - an adapter's defect must not end the guard
            _log.error("the adapter of %s raised %s", warm.name, type(error).__name__)
            return NOT_LOOKED
        count = len(listing.orders) if listing.complete else None
        return {"open_orders": count, "elsewhere": listing.elsewhere}

    async def _watch(self, fields: Fields, peer: Peer) -> AsyncIterator[dict[str, Any]]:
        """Events as they come, and every beat the whole status. The controller's connection."""
        if fields.get("as") == "controller" and peer is not None:
            self.controller.meet(peer[0])
        news: asyncio.Queue[dict[str, Any]] = asyncio.Queue(256)
        self._watchers.add(news)
        try:
            yield {"event": "hello", **self.document()}
            while True:
                try:
                    async with asyncio.timeout(self._beat_every_s):
                        told = await news.get()
                except TimeoutError:
                    told = {"event": "beat", **self.document()}
                yield told
        finally:
            self._watchers.discard(news)

    async def _open(self, _fields: Fields, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        """The desk is opened, or goes on: switches follow the engine."""
        if self.mode is Mode.OFF:
            self.engine.forget()
        elif self.mode is Mode.HOLD:
            self.engine.expect_anew()
        if self.mode is not Mode.OPEN:
            for switch in self.switches.values():
                switch.left_to_run_out = False
        self._set_mode(Mode.OPEN, **self._engine_facts())
        await self._keeper.kept(RECORD_S)
        yield {"mode": str(self.mode), "final": True}

    async def _hold(self, _fields: Fields, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        """The engine is about to be stopped, and orders are not to rest: what is armed is kept up
        until it is disarmed, for as long as the closing is heard."""
        self.closing.hear(time.monotonic())
        if self.mode is Mode.OPEN:
            self._set_mode(Mode.HOLD)
        await self._keeper.kept(RECORD_S)
        yield {"mode": str(self.mode), "final": True}

    async def _disarm(self, fields: Fields, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        """Never armed again before the next `open`. `but`: venues whose timer is to run out, as what rests
        there is not proven to be gone; left out, those of before."""
        if isinstance(but := fields.get("but"), list):
            for name, switch in self.switches.items():
                switch.left_to_run_out = name in but
        self._set_mode(Mode.OFF, engine_heard=False, left_s=None)
        switches = tuple(self.switches.values())
        waits = [asyncio.create_task(switch.disarmed()) for switch in switches]
        if waits:
            needed_s = min(max(switch.disarming_s for switch in switches), DISARM_S_MAX)
            _, late = await asyncio.wait(waits, timeout=needed_s)
            # A venue that only wants fewer requests is waited for as long as there is time.
            if any(switch.held_back and not switch.is_known_disarmed for switch in switches):
                _, late = await asyncio.wait(waits, timeout=DISARM_S_MAX - needed_s)
            for each in late:
                each.cancel()
        rows = [
            {"venue": name, "applies": switch.applies, "state": switch.as_dict()["state"]}
            for name, switch in self.switches.items()
        ]
        unknown = [name for name, switch in self.switches.items() if not switch.is_known_disarmed]
        await self._keeper.kept(RECORD_S)
        why = "; ".join(f"{name}: {self.switches[name].why_not_disarmed}" for name in unknown)
        yield {
            "disarmed": not unknown, "unknown": unknown, "why": why, "venues": rows, "final": True,
        }  # fmt: skip

    async def _detach(self, _fields: Fields, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        """The controller ends on a person's word, and the desk goes on without one."""
        self.controller.detach()
        yield {"detached": True, "final": True}

    async def _end(self, fields: Fields, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        """After a closing, or to be replaced: timers that run go on running then. `if_idle`: nobody comes
        after it, so it stays for as long as an emergency stop needs it, and then ends by itself."""
        if fields.get("if_idle") and (needed := await self._why_needed()):
            self.tell("stays", why=needed)
            yield {"ending": False, "why": needed, "final": True}
            return
        self.tell("ending", why=str(fields.get("why", "asked to")))
        yield {"ending": True, "final": True}
        self._on_end()

    async def _why_needed(self) -> str:
        """By an emergency stop; empty: it is not."""
        if self.stopping.comes_to_an_end:
            return "it carries out an emergency stop"
        return await self.going_on.why_needed()

    async def _emergency_stop(self, fields: Fields, _peer: Peer) -> AsyncIterator[dict[str, Any]]:
        self.tell("emergency_stop", by=fields.get("actor"), reason=fields.get("reason"))
        async for told in self.stopping.answers(fields):
            yield told

    def _set_mode(self, mode: Mode, **also: object) -> None:
        if mode is not self.mode:
            self.tell("mode", mode=str(mode), before=str(self.mode))
        self.mode = mode
        self._wake()
        left = tuple(name for name, switch in self.switches.items() if switch.left_to_run_out)
        self._keeper.keep(msgspec.structs.replace(self._record, mode=mode, left=left, **also))
