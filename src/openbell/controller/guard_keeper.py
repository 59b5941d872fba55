"""The controller's watch over the guard: there is one while the desk is meant to be open, and it
answers. One that is gone is started again at once, one that hangs is killed first; both are alerts. So is
one in which an emergency stop stood still: it answers, and begins no other (`standing_guard`).

The connection on which it hears the guard tells of its end, and the kernel of which process it is.
Two guards there can never be: the lock is the guard's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from openbell.config.layout import DeskLayout
from openbell.controller.desk import ControlledDesk
from openbell.controller.guard_news import pass_on
from openbell.controller.guard_process import (
    CONNECT_S,
    KILL_S,
    kill_guard,
    listens,
    recorded_guard,
    start_guard,
)
from openbell.controller.standing_guard import StandingGuard
from openbell.domain.dead_man import Mode
from openbell.domain.desk_state import DeskTarget
from openbell.domain.mutual_watch import BACKOFF_MAX_S, BACKOFF_S, LIMIT, WINDOW_S
from openbell.errors import ConflictError, NotRunningError, OpenbellError, UnverifiedError
from openbell.kill.beats import ACTIVE, CLOSING, BeatSender
from openbell.kill.guard_client import (
    GuardGoneError,
    GuardRefusedError,
    NoGuardError,
    ask_guard,
)
from openbell.runtime.peer import credentials
from openbell.runtime.process_watch import WatchedProcess, choose_watch
from openbell.runtime.processes import system_processes
from openbell.service.logging import get_logger

log = get_logger()

START_S = 15.0
"""How long a guard may take until it answers; it does so in a fraction of a second."""
DISARM_S = 55.0
"""Longer than the guard itself gives it (`guard.DISARM_S_MAX`); one that hangs meanwhile is ended by
its watch, and the question with it."""
LINE_MAX = 4 << 20
_POLL_S = 0.02
IDLE_S = 1.0
"""Between two looks whether a closed desk was opened; an opening asks at once."""
_OPEN_TARGETS = (DeskTarget.TRADING, DeskTarget.SAFE, DeskTarget.HALTED)


class GuardKeeper:
    """Keeps one desk's guard."""

    def __init__(self, desk: ControlledDesk) -> None:
        self._desk = desk
        self._table = system_processes()
        self._watch = choose_watch(self._table)
        self._state = "off"
        self._why = ""
        self._told: dict[str, Any] = {}
        """What the guard said of itself last."""
        self._pid: int | None = None
        self._restarts = 0
        self._starts: deque[float] = deque(maxlen=LIMIT)
        self._mode: Mode | None = None
        """What this controller wants of the switches; None: whatever the guard does."""
        self._but: list[str] = []
        """Venues whose timer is left to run out where the others are disarmed."""
        self._changed = asyncio.Event()
        self._up = asyncio.Event()
        self._ending = False
        self._child: WatchedProcess | None = None
        self._replaced_for = ("", desk.renewals)
        """The desk file, and the renewals of its secrets, for which the last one was replaced."""
        self._replacing = False
        self._was_up = False
        self._heard_by: asyncio.StreamWriter | None = None

    # --- what is so --------------------------------------------------------------------------

    @property
    def has_venues(self) -> bool:
        return bool(self._desk.desk.file.venues)

    @property
    def is_wanted(self) -> bool:
        asked = self._desk.targets.asked
        return self.has_venues and not self._ending and asked is not DeskTarget.OFFLINE

    @property
    def holds(self) -> bool:
        """The run that had the switches held goes on. One that was broken off leaves the mode as it is,
        and says nothing any more."""
        run = self._desk.board.newest
        closes = run is not None and run.procedure == "close" and not run.is_over
        return closes and self._mode is Mode.HOLD

    def view(self) -> dict[str, Any] | None:
        """As `status` shows it; None for a desk without venues."""
        if not self.has_venues:
            return None
        up = self._state == "running"
        told = self._told if up else {}
        return {
            "state": self._state,
            "why": self._why or told.get("problem", ""),
            "pid": self._pid if up else None,
            "since": told.get("since"),
            "restarts": self._restarts,
            "mode": told.get("mode"),
            "rss_bytes": told.get("rss_bytes"),
            "venues": told.get("venues", []),
        }

    def problem(self) -> str:
        """Why there is no guard, or not all of one; empty where nothing is wrong."""
        if not self.is_wanted:
            return ""
        if self._state != "running":
            return f"{self._state}{f': {self._why}' if self._why else ''}"
        cold = [
            f"{row['name']} ({row['why']})" if row.get("why") else row["name"]
            for row in self._told.get("venues", ())
            if not row["warm"]
        ]
        problem = str(self._told.get("problem") or "")
        return problem or (f"not connected to {', '.join(cold)}" if cold else "")

    def dead_man(self) -> dict[str, dict[str, Any]]:
        """Each venue's switch, as the guard said last; empty while none answers."""
        rows = self._told.get("dead_man", ()) if self._state == "running" else ()
        return {str(row["venue"]): dict(row) for row in rows}

    # --- its life ----------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever: a guard beside an open desk."""
        while True:
            try:
                await self._keep()
            except OpenbellError as error:
                self._fails(error.message)
            except Exception as error:
                log.exception("the watch over the guard failed", alert=True)
                self._fails(f"defect: {type(error).__name__}")
            await asyncio.sleep(BACKOFF_MAX_S)

    def _fails(self, why: str) -> None:
        self._state, self._why = "failed", why
        log.error("no guard", why=why, alert=True)
        self._desk.auditor.note("guard.failed", self._name, why=why)

    async def _keep(self) -> None:
        while True:
            if not self.is_wanted:
                self._state, self._was_up = "off", False
                await self._pause(IDLE_S)
                continue
            found = await self._connect()
            if found is None:
                await self._start()
                continue
            reader, self._heard_by, pid = found
            try:
                await self._follow(reader, pid)
            finally:
                self._heard_by.close()
                self._up.clear()
                self._pid = None

    async def beat(self) -> None:
        """For ever: says that this controller is well, as often as the guard wants to hear it."""
        sender = BeatSender(self._layout.beats_socket, "controller")
        while True:
            if self.is_wanted:
                sender.send(stage=CLOSING if self.holds else ACTIVE)
            await asyncio.sleep(self._desk.desk.file.guard.beat_every_s)

    # --- what procedures ask of it -----------------------------------------------------------

    async def opened(self, timeout_s: float = START_S) -> str:
        """A guard is up that stays, and its switches follow the engine; why not, where that took too
        long. One that goes by an older desk file or older credentials is replaced first."""
        if not self.has_venues:
            return ""
        self._ending = False
        try:
            async with asyncio.timeout(timeout_s):
                if self._up.is_set():
                    await self._replaces(self._told, self._pid)
                await self._want(Mode.OPEN)
                await self._up.wait()
        except TimeoutError:
            return self._why or "it does not answer"
        except OpenbellError as error:
            return error.message
        return ""

    async def hold(self) -> None:
        """The engine is about to be stopped, and its orders are not to rest."""
        await self._want(Mode.HOLD)

    async def disarm(self, but: Collection[str] = ()) -> Mapping[str, Any]:
        """`{"disarmed", "unknown": [venue, ...], "why"}`: every timer is off and stays off, `but` those
        of venues where orders are not proven to be gone: these are left to run out."""
        self._mode, self._but = Mode.OFF, list(but)
        if not self.has_venues:
            return {"disarmed": True, "unknown": [], "why": ""}
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_S):
                    await self._up.wait()  # one that was killed is being started again
            return {"why": "", **await self._ask("disarm", timeout_s=DISARM_S, but=self._but)}
        except OpenbellError as error:
            unknown = list(self._desk.desk.file.venues)
            return {"disarmed": False, "unknown": unknown, "why": error.message}

    async def resumed(self) -> None:
        """A closing was broken off: the switches follow the engine again."""
        await self._want(Mode.OPEN)

    async def end(self, why: str, *, if_idle: bool = False) -> bool:
        """Whether there is no guard any more. `if_idle`: one that an emergency stop needs stays, and ends by
        itself when it is proven. One that carries out a stop is never killed: it ends after it."""
        self._ending = True
        pid = self._pid
        if pid is None:
            return True
        process = self._watch.other(pid)
        try:
            told = await self._ask("end", why=why, if_idle=if_idle)
            if told.get("ending") is False:
                return self._stays(pid, str(told.get("why")))
            if process is not None:
                async with asyncio.timeout(KILL_S):
                    await asyncio.shield(process.exit)
        except (OpenbellError, TimeoutError):
            if await self._carries_out_a_stop():
                return self._stays(pid, "it carries out an emergency stop, and ends after it")
            log.error("the guard did not end", pid=pid, alert=True)
            return process is not None and await self._kill(process)
        finally:
            if process is not None:
                process.close()
        self._desk.auditor.note("guard.ended", self._name, pid=pid, why=why)
        return True

    def _stays(self, pid: int, why: str) -> bool:
        log.warning("the guard stays", pid=pid, why=why, alert=True)
        self._desk.auditor.note("guard.stays", self._name, pid=pid, why=why)
        return False

    async def _carries_out_a_stop(self) -> bool:
        with contextlib.suppress(OpenbellError):
            return bool((await self._ask("status")).get("stopping"))
        return False  # it hangs: whoever pressed sees that, and goes on without it

    async def detach(self) -> None:
        """This controller ends on a person's word, and no other is to be started for it."""
        with contextlib.suppress(OpenbellError):
            await self._ask("detach")

    async def _want(self, mode: Mode) -> None:
        self._mode = mode
        self._changed.set()
        if self._up.is_set():
            try:
                await self._ask(str(mode))
            except OpenbellError as error:
                log.error(
                    "the guard does not follow", mode=str(mode), why=error.message, alert=True
                )

    # --- hearing it --------------------------------------------------------------------------

    async def _connect(
        self,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int | None] | None:
        """None: nobody listens."""
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_unix_connection(
                    str(self._layout.guard_socket), limit=LINE_MAX
                )
        except (OSError, TimeoutError):
            return None
        found = credentials(writer.get_extra_info("socket"))
        writer.write(msgspec.json.encode({"do": "watch", "as": "controller"}) + b"\n")
        return reader, writer, None if found is None else found[0]

    async def _follow(self, reader: asyncio.StreamReader, pid: int | None) -> None:
        """Until it is gone, hangs, or is no longer wanted."""
        silent_after_s = self._desk.desk.file.guard.guard_silent_after
        process = None if pid is None else self._watch.other(pid)
        said_hello, standing = False, StandingGuard()
        telling: asyncio.Task[None] | None = None
        try:
            while True:
                within_s = silent_after_s if said_hello else max(silent_after_s, START_S)
                try:
                    async with asyncio.timeout(within_s):
                        line = await reader.readline()
                except TimeoutError:
                    await self._hangs(process, within_s)
                    return
                except ValueError:
                    line = b""
                if not line:
                    self._is_gone(pid)
                    return
                said_hello = await self._hear(line, pid, said_hello=said_hello)
                if said_hello and telling is None and not self._replacing:
                    # Beside the reading: one that hangs over its answer is seen to be silent.
                    telling = asyncio.create_task(self._tell_mode())
                if telling is not None and telling.done():
                    telling.result()
                # Of a desk that is closed none would come after one that stays for a stop.
                if (
                    process is not None
                    and self.is_wanted
                    and await standing.is_to_go(self._layout, self._told, pid)
                ):
                    await self._replace(process)
                    return
        except OSError:
            self._is_gone(pid)
        finally:
            if telling is not None:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
            if process is not None:
                process.close()

    async def _hear(self, line: bytes, pid: int | None, *, said_hello: bool) -> bool:
        try:
            told = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            return said_hello
        event = told.get("event")
        if event in ("hello", "beat"):
            self._told = told
            if await self._replaces(told, pid):
                return True
        else:
            pass_on(self._desk, told, pid)
        if event == "hello":
            self._is_up(pid)
            return True
        return said_hello

    async def _replaces(self, told: Mapping[str, Any], pid: int | None) -> bool:
        """Where it goes by an older desk file, or by older credentials: another one takes its place,
        once for each change."""
        now = (self._desk.desk.digest, self._desk.renewals)
        reads_file = told.get("digest") == now[0]
        if (reads_file and self._replaced_for[1] == now[1]) or self._replaced_for == now:
            return False
        before, self._replaced_for, self._replacing = self._replaced_for, now, True
        self._up.clear()
        why = "credentials changed" if reads_file else "desk.toml changed"
        # Its switches are not those of the desk any more: until another one answers there is none.
        self._state, self._why = "starting", why
        log.info("the guard is replaced", why=why, pid=pid)
        try:
            await self._ask("end", why=why)
        except BaseException:
            # It may live on, and says hello once on each connection: on the next one it is asked anew.
            self._replaced_for, self._replacing, self._was_up = before, False, False
            if self._heard_by is not None:
                self._heard_by.close()
            raise
        return True

    async def _replace(self, process: WatchedProcess) -> None:
        """One in which a stop stood still: what hangs in it may keep it from ending by itself. It has kept on
        the disk what the next one needs: mode, whether an engine was heard, what stops have left."""
        why = str(self._told.get("stands_still", ""))
        log.error(
            "a stop stood still in the guard: it is replaced", pid=process.pid, why=why, alert=True
        )
        self._state, self._why, self._was_up = "restarting", "a stop stood still in it", False
        self._desk.auditor.note("guard.replaced", self._name, pid=process.pid, why=why)
        await self._kill(process)

    def _is_up(self, pid: int | None) -> None:
        desk = self._desk
        self._pid, self._state, self._why = pid, "running", ""
        adopted = self._child is None or self._child.pid != pid
        action = "guard.adopted" if adopted else "guard.started"
        desk.auditor.note(action, self._name, pid=pid, restarts=self._restarts)
        log.info("guard", pid=pid, adopted=adopted, restarts=self._restarts)
        self._was_up = True

    async def _tell_mode(self) -> None:
        """What is wanted of the switches, also of what was wanted meanwhile."""
        told: Mode | None = None
        while (mode := self._wanted_mode()) is not told:
            if mode is Mode.OFF:
                await self._ask("disarm", timeout_s=DISARM_S, but=self._but)
            elif mode is not None:
                await self._ask(str(mode), timeout_s=DISARM_S)
            told = mode
        self._up.set()

    def _wanted_mode(self) -> Mode | None:
        """None: whatever the guard does."""
        if self._mode is None and self._desk.targets.asked in _OPEN_TARGETS:
            return Mode.OPEN
        return self._mode

    def _is_gone(self, pid: int | None) -> None:
        if not self.is_wanted or self._replacing:
            self._replacing = False
            return
        if self._was_up:
            log.error("the guard is gone: it is started again", pid=pid, alert=True)
            self._desk.auditor.note("guard.lost", self._name, pid=pid)
        self._state, self._why, self._was_up = "restarting", "it was gone", False

    async def _hangs(self, process: WatchedProcess | None, silent_s: float) -> None:
        pid = None if process is None else process.pid
        log.error("the guard hangs: it is killed and started again", pid=pid, alert=True)
        self._state, self._why, self._was_up = "hung", f"silent for {silent_s:g}s", False
        self._desk.auditor.note("guard.hung", self._name, pid=pid, silent_s=silent_s)
        if process is not None:
            await self._kill(process)

    # --- starting it -------------------------------------------------------------------------

    async def _start(self) -> None:
        """After a back-off; returns when it listens, or did not in time."""
        now_s = time.monotonic()
        while self._starts and now_s - self._starts[0] >= WINDOW_S:
            self._starts.popleft()
        if len(self._starts) >= LIMIT:
            why = f"started {LIMIT} times within {WINDOW_S:g}s; see {self._layout.guard_log}"
            if self._state != "failed":
                self._fails(why)
            await self._pause(WINDOW_S - (now_s - self._starts[0]))
            return
        if self._starts:
            await asyncio.sleep(min(BACKOFF_S * 2.0 ** (len(self._starts) - 1), BACKOFF_MAX_S))
        if self._state != "restarting":
            self._state = "starting"
        if self._starts or self._state == "restarting":
            self._restarts += 1
        self._starts.append(time.monotonic())
        pid = start_guard(self._layout)
        if self._child is not None:
            self._child.close()
        self._child = self._watch.child(pid)
        deadline_s = time.monotonic() + START_S
        while not self._child.exit.done() and time.monotonic() < deadline_s:
            if self._layout.guard_socket.exists() and await listens(self._layout):
                return
            await asyncio.wait({self._child.exit}, timeout=_POLL_S)
        await self._did_not_start(self._child)

    async def _did_not_start(self, child: WatchedProcess) -> None:
        status = child.exit.result() if child.exit.done() else None
        if status == ConflictError.exit_code:
            # One holds the lock and does not listen: hung, or its socket is gone.
            holder = recorded_guard(self._layout, self._watch, self._table)
            if holder is not None:
                await self._hangs(holder, START_S)
                holder.close()
                return
        self._why = f"the guard ended with status {status} as it started"
        if not child.exit.done():
            self._why = f"the guard did not listen within {START_S:g}s"
            await self._kill(child)
        log.error("the guard did not start", why=self._why, alert=True)
        self._desk.auditor.note("guard.start_failed", self._name, why=self._why)

    async def _kill(self, process: WatchedProcess) -> bool:
        """For certain: whether it was seen to be gone."""
        return await kill_guard(process, self._layout, self._table)

    # --- inside ------------------------------------------------------------------------------

    @property
    def _layout(self) -> DeskLayout:
        return self._desk.layout

    @property
    def _name(self) -> str:
        return self._desk.desk.file.desk.name

    async def _pause(self, seconds: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._changed.wait()

    async def _ask(self, do: str, *, timeout_s: float = 5.0, **fields: object) -> dict[str, Any]:
        """Its final answer. Raises NotRunningError, UnverifiedError, and what it names."""
        question = {"do": do, **fields}
        try:
            async with asyncio.timeout(timeout_s):
                async for answer in ask_guard(self._layout, question, first_within_s=timeout_s):
                    if answer.get("final"):
                        return answer
        except NoGuardError as error:
            raise NotRunningError("no guard answers") from error
        except GuardRefusedError as error:
            raise OpenbellError(f"the guard: {error}") from error
        except (GuardGoneError, TimeoutError) as error:
            raise UnverifiedError(f"the guard did not answer: {do}") from error
        raise UnverifiedError(f"the guard ended in the middle of its answer: {do}")
