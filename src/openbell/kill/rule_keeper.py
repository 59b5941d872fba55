"""Carries out what the kill rules say: latch, note, tell.

Order of writes, so that a kill -9 between any two does no harm: the latch (fsync) first; then the
memory that the rule has triggered; then the kill switch's log; the controller, who records it in the
audit log, is told after the memory. Without that, the latch is found again by its `by` at the next
start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from openbell.config.layout import DeskLayout
from openbell.domain.kill_rules import (
    ACTOR,
    Judge,
    Judgement,
    Kept,
    Memory,
    Now,
    Rule,
    State,
    Trip,
    key_of,
)
from openbell.errors import OpenbellError, StorageError
from openbell.http_library import aiohttp
from openbell.kill.aside import aside
from openbell.runtime.own_socket import OwnUnixConnector
from openbell.service.logging import alert, get_logger
from openbell.state.files import write_atomically
from openbell.state.halts import Halt
from openbell.state.kill_log import append_act
from openbell.state.latch import UNLISTED, Latch, Latches

_decoder = msgspec.json.Decoder(Memory)


Look = Callable[[Now], Iterable[Judgement]]
"""Gathers the facts and has them judged."""
Tell = Callable[[Mapping[str, object]], Awaitable[None]]
"""Tells the controller, until it has heard or it is hopeless."""


TELL_ATTEMPTS = 20
TELL_AGAIN_S = 0.5
"""A controller that is not back after so long finds the latch itself; what is missing then is the
record in the audit log, and stands in `kill-switch.jsonl`."""
_TELL_TIMEOUT_S = 5.0
_URL = "http://localhost/api/v1/kill-switch/triggered"


BLIND_S = 60.0
"""A rule that is not judged for so long, and was before, is an alert. Shorter gaps are usual: a quote that
is late, books that are being compared."""
TOLD = -1


class RuleKeeper:
    def __init__(
        self,
        layout: DeskLayout,
        file: Path,
        judge: Judge,
        gather: Look,
        tell: Tell,
        *,
        rules: Collection[Rule],
    ) -> None:
        """`file`: where the memory is kept. `rules`: those that are judged here."""
        self.judgements: dict[str, Judgement] = {}
        self._layout = layout
        self._file = file
        self._judge = judge
        self._gather = gather
        self._tell = tell
        self._rules = frozenset(rules)
        self._latches = Latches(layout)
        self._kept: Memory = {}
        self._unkept = False
        self._failed: set[str] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._to_tell: list[Mapping[str, object]] = []
        self._blind_ns: dict[str, int] = {}
        """Of rules that were judged before and are not: since when."""
        self._log = get_logger()

    def start(self) -> None:
        """Reads what was kept, and adopts latches of its own that were not noted any more."""
        try:
            self._judge.memory |= _decoder.decode(self._file.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError) as error:
            alert("what the kill rules had kept cannot be read: they begin anew", why=str(error))
        self._kept = dict(self._judge.memory)
        for latch in self._latches.read():
            rule = latch.halt.who.removeprefix(ACTOR)
            if not latch.halt.who.startswith(ACTOR) or rule not in self._rules:
                continue
            key = key_of(Rule(rule), latch.scope)
            kept = self._judge.memory.get(key)
            if kept is None or kept.trip is None:
                self._adopt(key, latch)
        self._keep()

    def _adopt(self, key: str, latch: Latch) -> None:
        trip = Trip(
            at_ns=int(latch.halt.at.timestamp() * 1e9), text=latch.halt.reason, latches=(latch.id,)
        )
        kept = self._judge.memory.get(key) or Kept()
        self._judge.memory[key] = msgspec.structs.replace(kept, trip=trip)

    def look(self) -> None:
        """Once: judges everything, and latches what has triggered. On the event loop."""
        now = self._now(self.latched())
        try:
            for judgement in self._gather(now):
                self._follow(judgement, now)
            self._keep()
        finally:
            self._tell_now()

    # The same in three parts, for whoever has more to do than to wait for a disk that hangs.

    def latched(self) -> frozenset[str] | None:
        """Ids of the latches there are; None: that is not known. Asks the disk."""
        ids = frozenset(latch.id for latch in self._latches.read())
        return None if UNLISTED in ids else ids

    @property
    def needs_latches(self) -> bool:
        """Whether a judgement hangs on which latches there are: one of its own may have been released."""
        return any(kept.trip is not None for kept in self._judge.memory.values())

    def judge(self, latched: frozenset[str] | None) -> tuple[Now, list[Judgement]]:
        """Asks no disk."""
        now = self._now(latched)
        return now, list(self._gather(now))

    async def follow_aside(self, now: Now, judgements: Iterable[Judgement]) -> None:
        """Latches what has triggered, on a thread of its own. One at a time. Where nothing has, and
        there is nothing new to remember, no disk is asked, and so no thread."""
        found = tuple(judgements)

        def follow() -> None:
            for judgement in found:
                self._follow(judgement, now)
            self._keep()

        latches = any(each.state is State.TRIGGERED and each.since_ns is None for each in found)
        if not latches and self._judge.memory == self._kept:
            follow()
            return
        following = asyncio.ensure_future(aside(follow))
        while not following.done():
            await asyncio.wait({following}, timeout=TELL_AGAIN_S)
            self._tell_now()  # of a latch that is set, though the disk hangs at its record
        following.result()

    @staticmethod
    def _now(latched: frozenset[str] | None) -> Now:
        return Now(time.time_ns(), time.monotonic_ns(), latched)

    def _follow(self, judgement: Judgement, now: Now) -> None:
        before = self.judgements.get(judgement.key)
        self._watch_sight(before, judgement, now)
        if judgement.state is State.TRIGGERED and judgement.since_ns is None:
            judgement = self._trigger(judgement, now)  # with its time
        elif before is not None and before.state is not judgement.state:
            self._log.info(
                "kill rule", rule=str(judgement.rule), scope=str(judgement.scope),
                state=str(judgement.state), why=judgement.text,
            )  # fmt: skip
        self.judgements[judgement.key] = judgement

    def _watch_sight(self, before: Judgement | None, judgement: Judgement, now: Now) -> None:
        """A rule that lost its sight guards nothing, and looks like one that has nothing to say."""
        if judgement.state is not State.NOT_JUDGED:
            if self._blind_ns.pop(judgement.key, 0) < 0:
                self._log.warning(
                    "a kill rule is judged again",
                    rule=str(judgement.rule),
                    scope=str(judgement.scope),
                )
            return
        was_judged = before is not None and before.state is not State.NOT_JUDGED
        # An engine that is not expected to be heard is nobody's silence.
        if was_judged and judgement.rule is not Rule.HEARTBEAT_LOST:
            self._blind_ns[judgement.key] = now.mono_ns
        since_ns = self._blind_ns.get(judgement.key, TOLD)
        if since_ns != TOLD and now.mono_ns - since_ns >= BLIND_S * 1e9:
            self._blind_ns[judgement.key] = TOLD
            alert(
                "a kill rule is not judged any more: it would not trigger", rule=str(judgement.rule),
                scope=str(judgement.scope), why=judgement.text, for_s=BLIND_S,
            )  # fmt: skip

    def _trigger(self, judgement: Judgement, now: Now) -> Judgement:
        actor = f"{ACTOR}{judgement.rule}"
        halt = Halt(judgement.text, actor, datetime.now(UTC))
        try:
            setting = self._latches.set((judgement.scope,), halt)
        except StorageError as error:
            if judgement.key not in self._failed:
                alert(
                    "a kill rule has triggered and COULD NOT LATCH: stop the desk by hand",
                    critical=True, rule=str(judgement.rule), scope=str(judgement.scope),
                    why=judgement.text, problem=error.message,
                )  # fmt: skip
            self._failed.add(judgement.key)
            return judgement
        self._failed.discard(judgement.key)
        ids = tuple(latch.id for latch in setting.latches)
        self._judge.latched(judgement, ids, now)
        self._keep()
        scopes = [str(latch.scope) for latch in setting.latches]
        alert(
            "kill switch set by a rule", critical=True, rule=str(judgement.rule),
            scopes=scopes, why=judgement.text, durable=setting.durable,
            problems=list(setting.problems),
        )  # fmt: skip
        detail: dict[str, object] = {
            "scopes": scopes,
            "reason": judgement.text,
            "latches": list(ids),
        }
        self._to_tell.append({"rule": str(judgement.rule), **detail})
        try:
            append_act(self._layout.kill_switch_log, actor, "kill_switch.activate", detail)
        except OpenbellError as error:
            self._log.error("the kill switch's log takes no record", why=error.message)
        return replace(judgement, since_ns=now.wall_ns)

    def _tell_now(self) -> None:
        while self._to_tell:
            task = asyncio.ensure_future(self._tell(self._to_tell.pop(0)))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def _keep(self) -> None:
        if self._judge.memory == self._kept:
            return
        try:
            write_atomically(self._file, msgspec.json.encode(self._judge.memory))
        except StorageError as error:
            if not self._unkept:
                alert("what the kill rules remember was not kept", why=error.message)
            self._unkept = True
            return
        self._unkept = False
        self._kept = dict(self._judge.memory)


async def tell_controller(layout: DeskLayout, said: Mapping[str, object]) -> None:
    """It withdraws the permit, and records in the audit log. Gives up in time, and says so."""
    connector = OwnUnixConnector(path=str(layout.controller_socket))
    timeout = aiohttp.ClientTimeout(total=_TELL_TIMEOUT_S)
    body, why = msgspec.json.encode(said), ""
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        for _ in range(TELL_ATTEMPTS):
            try:
                token = layout.service_token.read_text().strip()
                headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
                async with session.post(_URL, data=body, headers=headers) as response:
                    if response.status == 200:
                        return
                    why = f"status {response.status}"
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why = type(error).__name__
            await asyncio.sleep(TELL_AGAIN_S)
    get_logger().error("the controller was not told of a kill rule that has triggered", why=why)
