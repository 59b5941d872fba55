"""The guard's watch over the controller: one that is gone is started again, one that hangs is killed
first. What has to be done is decided in `domain.mutual_watch`.

Which process it is, the kernel says: it is the one that listens on the controller's socket, or that
holds the connection on which it hears this guard. No file is believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping

import msgspec

from openbell.config.layout import DeskLayout
from openbell.domain.desk_state import DeskTarget
from openbell.domain.mutual_watch import FROZEN_SHARE, WINDOW_S, Act, PeerFacts, decide
from openbell.errors import ConflictError
from openbell.runtime.peer import listener_pid
from openbell.runtime.process_watch import ProcessWatch, WatchedProcess
from openbell.runtime.processes import ProcessTable
from openbell.runtime.spawn import spawn_module

_MODULE = "openbell.controller"
KILL_S = 5.0
"""How long the kernel may take to end a process that was killed."""


class _Target(msgspec.Struct, frozen=True):
    target: DeskTarget


class ControllerWatch:
    """Keeps a controller beside an open desk."""

    def __init__(
        self,
        layout: DeskLayout,
        table: ProcessTable,
        watch: ProcessWatch,
        *,
        silent_after_s: float,
        tick_s: float,
        restart: bool,
        tell: Callable[..., None],
        environment: Mapping[str, str] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.restarts = 0
        self.why = ""
        self._layout = layout
        self._table = table
        self._watch = watch
        self._silent_after_s = silent_after_s
        self._tick_s = tick_s
        self._restart = restart
        self._tell = tell
        self._environment = dict(os.environ if environment is None else environment)
        self._clock_s = clock_s
        self._changed = asyncio.Event()
        self._heard_s = clock_s()
        """Or since when one is waited for."""
        self._gone_s: float | None = None
        self._started_s: float | None = None
        """When one was started that was not heard yet."""
        self._starts: list[float] = []
        self._process: WatchedProcess | None = None
        self._detached = False
        """It was told to leave the desk running without it."""
        self._resting = False
        self._known: DeskTarget | None = self._target()
        """What the desk was last known to be meant to be."""
        self._told_unreadable = False

    # --- what it hears -----------------------------------------------------------------------

    def hear(self, pid: int) -> None:
        """A beat of the controller with this pid."""
        if self.pid not in (None, pid):
            return
        self._heard_s = self._clock_s()
        self._started_s = self._gone_s = None
        self._resting = False

    def meet(self, pid: int) -> None:
        """It has connected: from now on its end is seen at once."""
        self._detached = False
        if self.pid != pid:
            self._adopt(pid)
        self.hear(pid)

    def detach(self) -> None:
        """It is about to end, and on purpose: nobody is to come after it."""
        self._detached = True

    def _adopt(self, pid: int, *, child: bool = False) -> None:
        if not child and _MODULE not in (self._table.command(pid) or ""):
            return  # whoever asks as a controller is not killed as one for that
        process = self._watch.child(pid) if child else self._watch.other(pid)
        if process is None:
            return
        if self._process is not None:
            self._process.close()
        self._process = process
        self._gone_s = None
        process.exit.add_done_callback(lambda _: self._changed.set())

    # --- what is so --------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None or process.exit.done() else process.pid

    @property
    def silent_s(self) -> float:
        return self._clock_s() - self._heard_s

    @property
    def is_well(self) -> bool:
        return self.pid is not None and self.silent_s < self._silent_after_s

    @property
    def is_wanted(self) -> bool:
        """The desk is meant to be open, as far as was ever known: a file that can be read no more
        says nothing else than it said before. One that could never be read is taken for "no"."""
        return (self._target() or self._known) not in (None, DeskTarget.OFFLINE)

    @property
    def is_closed(self) -> bool:
        """It is known to be; a desk that was never opened is."""
        return self._target() is DeskTarget.OFFLINE

    def _note_target(self) -> None:
        now = self._target()
        if now is None and not self._told_unreadable:
            known = None if self._known is None else str(self._known)
            self._tell("target_unreadable", last_known=known)
        self._known, self._told_unreadable = now or self._known, now is None

    def _target(self) -> DeskTarget | None:
        """None: not known."""
        try:
            return msgspec.json.decode(self._layout.target.read_bytes(), type=_Target).target
        except FileNotFoundError:
            return DeskTarget.OFFLINE
        except (OSError, msgspec.MsgspecError):
            return None

    def as_dict(self) -> dict[str, object]:
        return {
            "pid": self.pid,
            "silent_s": round(self.silent_s, 3),
            "restarts": self.restarts,
            "why": self.why,
        }

    # --- what it does ------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever."""
        while True:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s):
                    await self._changed.wait()
            await self._look()

    def forgive(self, seconds: float) -> None:
        """This process itself was stopped for so long: nobody was silent for that."""
        self._heard_s = min(self._heard_s + seconds, self._clock_s())

    async def _look(self) -> None:
        facts = self._facts()
        decision = decide(facts)
        if decision.resting and not self._resting:
            self.why = f"started {len(self._starts)} times within {WINDOW_S:g}s: waiting"
            self._tell("controller_given_up", why=self.why)
        self._resting = decision.resting
        match decision.act:
            case Act.KILL:
                await self._kill(facts.silent_s)
            case Act.START:
                self._start()

    def _facts(self) -> PeerFacts:
        now_s = self._clock_s()
        self._note_target()
        wanted = self._restart and not self._detached and self.is_wanted
        alive = None if self._process is None else not self._process.exit.done()
        if not wanted:
            # From the moment on which it is wanted again.
            self._heard_s = max(self._heard_s, now_s - self._silent_after_s / 2)
        if self._process is not None and alive is False and self._gone_s is None:
            status = self._process.exit.result()
            if self._started_s is not None and status == ConflictError.exit_code:
                # Another one holds the lock: it is to be heard, or to be found hanging.
                self._process, self._heard_s, alive = None, now_s, None
            else:
                self._gone_s = now_s
                if wanted:
                    self._tell("controller_gone", pid=self._process.pid, status=status)
            self._started_s = None
        if wanted and alive is None and now_s - self._heard_s >= self._silent_after_s:
            alive = self._find()
        self._starts = [at for at in self._starts if now_s - at < WINDOW_S]
        silent_s = now_s - self._heard_s
        return PeerFacts(
            wanted=wanted,
            alive=alive,
            silent_s=silent_s,
            frozen=alive is True and self._is_frozen(silent_s),
            silent_after_s=self._silent_after_s,
            since_start_s=None if self._started_s is None else now_s - self._started_s,
            started_s=[now_s - at for at in self._starts],
            gone_s=now_s - self._gone_s if self._gone_s is not None else now_s - self._heard_s,
        )

    def _is_frozen(self, silent_s: float) -> bool:
        """Asked only of one that is silent for so long that it matters."""
        pid = self.pid
        if pid is None or silent_s < self._silent_after_s * FROZEN_SHARE:
            return False
        facts = self._table.facts(pid)
        return facts is not None and facts.frozen

    def _find(self) -> bool:
        """Nothing was heard: does one listen? It may hang since before this guard was started."""
        pid = listener_pid(self._layout.controller_socket)
        if pid is None:
            return False
        self._adopt(pid)
        return self.pid is not None

    async def _kill(self, silent_s: float) -> None:
        """For certain: another one is started only when it was seen to be gone."""
        process = self._process
        assert process is not None
        self._tell("controller_hangs", pid=process.pid, silent_s=round(silent_s, 3))
        process.signal(signal.SIGKILL)
        try:
            async with asyncio.timeout(KILL_S):
                await asyncio.shield(process.exit)
        except TimeoutError:
            self.why = f"pid {process.pid} outlives SIGKILL"
            self._tell("controller_outlives_kill", pid=process.pid)

    def _start(self) -> None:
        now_s = self._clock_s()
        self._starts.append(now_s)
        self._heard_s = self._started_s = now_s
        self._gone_s = None
        try:
            pid = self._spawn()
        except OSError as error:
            self._started_s, self._gone_s = None, now_s
            self.why = f"cannot be started: {error.strerror}"
            self._tell("controller_not_started", why=self.why)
            return
        self.restarts += 1
        self.why = ""
        self._adopt(pid, child=True)
        self._tell("controller_started", pid=pid, restarts=self.restarts)

    def _spawn(self) -> int:
        """In a session of its own, its output in a file. Raises OSError."""
        layout = self._layout
        return spawn_module(_MODULE, layout.desk, layout.controller_log, self._environment)
