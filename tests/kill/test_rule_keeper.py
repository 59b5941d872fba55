"""What a rule that triggers leaves behind, and what a kill -9 between any two of its writes does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.config.kill_rules import KillRules
from openbell.config.layout import DeskLayout
from openbell.domain.kill_rules import Judge, Now, Reading, Rule, State
from openbell.domain.scopes import DESK
from openbell.errors import StorageError
from openbell.kill import heartbeat_rule, rule_keeper
from openbell.kill.heartbeat_rule import HeartbeatRule
from openbell.kill.rule_keeper import RuleKeeper
from openbell.state.halts import Halt
from openbell.state.latch import Latch, Latches

D = Decimal


class Kept:
    """A keeper of one rule, the P&L of which the test says."""

    def __init__(self, folder: Path) -> None:
        self.layout = DeskLayout.for_desk(folder, {})
        self.layout.make()
        self.file = folder / "rules.json"
        self.told: list[Mapping[str, object]] = []
        self.net = Reading(D(0))
        self.begin()

    def begin(self) -> None:
        self.judge = Judge()
        self.keeper = RuleKeeper(
            self.layout, self.file, self.judge, self.gather, self.tell, rules=set(Rule)
        )
        self.keeper.start()

    def gather(self, now: Now):
        yield self.judge.drawdown(DESK, self.net, now, limit=D(100), currency="USDT")

    async def tell(self, said: Mapping[str, object]) -> None:
        self.told.append(said)

    def look(self, net: str) -> State:
        self.net = Reading(D(net))
        self.keeper.look()
        (found,) = self.keeper.judgements.values()
        return found.state

    @property
    def latches(self):
        return Latches(self.layout).read()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


async def test_a_trigger_latches_is_logged_and_told_to_the_controller(kept: Kept) -> None:
    import asyncio

    kept.look("0")
    assert kept.look("-100") is State.TRIGGERED
    (latch,) = kept.latches
    assert (latch.scope, latch.halt.who) == (DESK, "rule:max_drawdown")
    assert "-100 100 USDT below" in latch.halt.reason.replace(",", "")
    assert "rule:max_drawdown" in kept.layout.kill_switch_log.read_text()
    await asyncio.sleep(0)
    assert [said["latches"] for said in kept.told] == [[latch.id]]
    for _ in range(5):
        assert kept.look("-200") is State.TRIGGERED
    assert len(kept.latches) == 1


async def test_a_rule_that_was_judged_and_is_blind_for_a_minute_is_an_alert_once(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(rule_keeper, "alert", lambda event, **facts: alerts.append((event, facts)))
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(
        RuleKeeper, "_now",
        staticmethod(lambda latched: Now(10**18, int(clock.now_s * 1e9), latched)),
    )  # fmt: skip

    def blind_for(seconds: float) -> None:
        kept.net = Reading(None, "no sound, fresh price in USDT for kraken BTC/USD")
        kept.keeper.look()
        clock.now_s += seconds
        kept.keeper.look()

    blind_for(3600)
    assert alerts == [], "it was never judged: the desk is still being opened"
    for _ in range(2):
        kept.look("0")
        blind_for(rule_keeper.BLIND_S - 1)
        assert alerts == []
    clock.now_s += 2
    kept.keeper.look()
    kept.keeper.look()
    ((event, facts),) = alerts
    assert "would not trigger" in event and "kraken BTC/USD" in str(facts["why"])
    kept.look("0")
    blind_for(rule_keeper.BLIND_S)
    assert len(alerts) == 2


async def test_a_new_process_goes_on_from_what_was_kept(kept: Kept) -> None:
    kept.look("500")
    kept.begin()
    assert kept.look("401") is State.ARMED
    assert kept.look("400") is State.TRIGGERED
    kept.begin()
    assert kept.look("400") is State.TRIGGERED
    assert len(kept.latches) == 1
    Latches(kept.layout).release(kept.latches)
    kept.begin()
    assert kept.look("400") is State.RELEASED
    assert kept.latches == ()


async def test_a_latch_that_was_set_before_a_kill_and_not_noted_is_adopted(kept: Kept) -> None:
    """Killed between the latch and the memory: no second latch, and its release counts."""
    kept.look("0")
    Latches(kept.layout).set((DESK,), Halt("lost it", "rule:max_drawdown", datetime.now(UTC)))
    kept.begin()
    assert kept.look("-150") is State.TRIGGERED
    assert len(kept.latches) == 1
    Latches(kept.layout).release(kept.latches)
    assert kept.look("-150") is State.RELEASED


async def test_memory_that_cannot_be_read_is_told_and_latches_hold(kept: Kept) -> None:
    kept.look("0")
    kept.look("-100")
    kept.file.write_bytes(b'{"torn')
    kept.begin()
    assert kept.look("-100") is State.TRIGGERED
    assert len(kept.latches) == 1


async def test_a_latch_that_cannot_be_set_is_tried_at_every_look(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.look("0")

    def full(*_: object) -> None:
        raise StorageError("no space", hint="")

    with monkeypatch.context() as broken:
        broken.setattr(Latches, "set", full)
        assert kept.look("-100") is State.TRIGGERED
        assert kept.latches == ()
    assert kept.look("-100") is State.TRIGGERED
    assert len(kept.latches) == 1


_PROCESS = textwrap.dedent(
    """
    import asyncio, itertools, sys
    from decimal import Decimal
    from pathlib import Path
    from openbell.config.layout import DeskLayout
    from openbell.domain.kill_rules import Judge, Reading, Rule
    from openbell.domain.scopes import DESK
    from openbell.kill.rule_keeper import RuleKeeper

    async def tell(said):
        pass

    async def main():
        folder = Path(sys.argv[1])
        layout, judge, net = DeskLayout.for_desk(folder, {}), Judge(), 0
        def gather(now):
            reading = Reading(Decimal(net))
            yield judge.drawdown(DESK, reading, now, limit=Decimal(10**9), currency="USDT")
        keeper = RuleKeeper(layout, folder / "rules.json", judge, gather, tell, rules=set(Rule))
        keeper.start()
        for net in itertools.count(1):
            keeper.look()
            print(net, flush=True)

    asyncio.run(main())
    """
)


def test_kill_9_at_random_moments_loses_no_high_that_was_reached(tmp_path: Path) -> None:
    """Real processes: what was said to be the highest is kept when it is said."""
    DeskLayout.for_desk(tmp_path, {}).make()
    for lines in (1, 7, 23):
        process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(lines)][-1]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kept = Kept(tmp_path)
        high = kept.judge.memory["max_drawdown desk"].high
        assert high is not None and high >= said


class Heard:
    """An engine whose silence the test says."""

    def __init__(self, folder: Path) -> None:
        self.layout = DeskLayout.for_desk(folder, {})
        self.layout.make()
        self.silent_s: float | None = None
        self.begin()

    def begin(self) -> None:
        rules = KillRules.model_validate_json('{"heartbeat_lost": {"after": "15s"}}')
        self.rule = HeartbeatRule(self.layout, rules, lambda: self.silent_s, self.tell)

    async def tell(self, said: Mapping[str, object]) -> None:
        pass

    def look(self, silent_s: float | None) -> str:
        self.silent_s = silent_s
        self.rule.look()
        (row,) = self.rule.document()
        return str(row["state"])

    @property
    def latched(self) -> list[str]:
        return [latch.halt.who for latch in Latches(self.layout).read()]


async def test_an_engine_that_is_silent_for_too_long_latches_the_desk(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    assert heard.look(14.9) == "armed"
    assert heard.look(15.0) == "triggered"
    assert heard.latched == ["rule:heartbeat_lost"]
    heard.begin()
    assert heard.look(99.0) == "triggered"
    assert len(heard.latched) == 1


async def test_right_after_the_guard_itself_was_stopped_nothing_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_rule, "LOOK_EVERY_S", 0.02)
    heard = Heard(tmp_path)
    running = asyncio.create_task(heard.rule.run())
    await asyncio.sleep(0)
    heard.silent_s = 20.0
    time.sleep(1.2)  # this process is stopped for longer than a beat
    seen = []
    for _ in range(3):
        await asyncio.sleep(0)
        seen += heard.latched
    assert seen == []
    heard.silent_s = 0.1  # its beats were read meanwhile
    await asyncio.sleep(0.1)
    assert heard.latched == []
    heard.silent_s = 20.0
    async with asyncio.timeout(20):
        while not heard.latched:
            await asyncio.sleep(0.01)
    running.cancel()


async def test_a_disk_that_hangs_holds_up_nothing_but_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the guard the same event loop refreshes the dead-man's switches."""
    monkeypatch.setattr(heartbeat_rule, "LOOK_EVERY_S", 0.02)
    hangs, is_back = threading.Event(), threading.Event()
    read = Latches.read

    def hang(latches: Latches, **keys: bool) -> tuple[Latch, ...]:
        hangs.set()
        is_back.wait(60)
        return read(latches, **keys)

    heard = Heard(tmp_path)
    heard.silent_s = 20.0
    with monkeypatch.context() as patch:
        patch.setattr(Latches, "read", hang)
        running = asyncio.create_task(heard.rule.run())
        async with asyncio.timeout(20):
            while not hangs.is_set():
                await asyncio.sleep(0.01)
            for _ in range(5):
                await asyncio.sleep(0.01)  # the loop goes on
        assert not is_back.is_set()
        is_back.set()
        async with asyncio.timeout(20):
            while not heard.latched:
                await asyncio.sleep(0.01)
    running.cancel()


async def test_of_an_engine_that_is_heard_no_disk_is_asked_and_no_thread_begun_after_the_first_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads a look, four looks a second, were half of what an idle guard cost."""
    monkeypatch.setattr(heartbeat_rule, "LOOK_EVERY_S", 0.01)
    begun: list[str] = []
    for module in (heartbeat_rule, rule_keeper):
        within = module.aside

        async def counted(work: Any, within: Any = within) -> Any:
            begun.append(str(work))
            return await within(work)

        monkeypatch.setattr(module, "aside", counted)
    heard = Heard(tmp_path)
    looks: list[float] = []

    def gather_again() -> float:
        looks.append(heard.silent_s)
        return heard.silent_s

    heard.rule._silence = gather_again
    heard.silent_s = 0.1
    running = asyncio.create_task(heard.rule.run())
    async with asyncio.timeout(20):
        while not looks:
            await asyncio.sleep(0.01)
        first, wanted = len(begun), len(looks) + 10
        while len(looks) < wanted:
            await asyncio.sleep(0.01)
        assert len(begun) == first
        heard.silent_s = 20.0
        while not heard.latched:
            await asyncio.sleep(0.01)
    running.cancel()


async def test_an_engine_that_left_or_was_never_heard_is_not_judged(tmp_path: Path) -> None:
    heard = Heard(tmp_path)
    assert heard.look(None) == "not_judged"
    assert heard.latched == []


async def test_a_released_silence_latches_again_only_after_the_engine_was_heard(
    tmp_path: Path,
) -> None:
    heard = Heard(tmp_path)
    heard.look(15.0)
    Latches(heard.layout).release(Latches(heard.layout).read())
    assert heard.look(16.0) == "released"
    assert heard.look(600.0) == "released"
    assert heard.look(0.5) == "armed"
    assert heard.look(15.0) == "triggered"
    assert heard.latched == ["rule:heartbeat_lost"]


async def test_where_it_is_not_set_nothing_is_judged_and_no_file_made(tmp_path: Path) -> None:
    layout = DeskLayout.for_desk(tmp_path, {})
    layout.make()
    rule = HeartbeatRule(layout, KillRules(), lambda: 1e9)
    rule.look()
    assert rule.document() == []
    assert list(layout.state.glob("heartbeat*")) == []
