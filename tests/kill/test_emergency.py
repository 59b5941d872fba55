"""The emergency stop of a desk of real processes, judged by the venue's own orders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.harness.cgroups import delegated_cgroup
from tests.kill.small_desk import is_alive, small_desk

from openbell.domain.ids import mint
from openbell.domain.orders import NewOrder, OrdType, Side
from openbell.domain.scopes import DESK, Scope, ScopeKind
from openbell.kill.course import courses
from openbell.kill.marker import read_marker, why_held
from openbell.kill.request import EmergencyRequest
from openbell.runtime.processes import system_processes
from openbell.state.checkpoint import read_checkpoint
from openbell.state.latch import Latches
from openbell.state.order_register import OrderRegister

BLIND = {"kind": "status_503_unknown", "kinds": ["open_orders"]}
"""Nothing is verified while it lasts."""


async def _until_said(process: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
    """What a press told last."""
    assert process.stdout is not None
    while True:
        told: dict[str, Any] = json.loads(await process.stdout.readline())
        if told["event"] == event:
            return told


async def test_a_desk_that_sends_is_stopped_with_nothing_but_its_files(tmp_path: Path) -> None:
    async with small_desk(tmp_path / "desk", ("mt5", "kraken")) as desk:
        await desk.start("engine", "helper", "outside")
        desk.rest(30)
        await desk.until_sending("engine")
        await desk.until(lambda: len(desk.own_open()) > 70, "orders of the engine rest")

        pressed = await desk.press("--reason", "prices look wrong")

        assert pressed.status == 0, pressed
        assert desk.own_open() == []
        assert pressed.statement["result"] == "verified"
        (engine,) = pressed.statement["frozen"]
        assert (engine["service"], engine["result"]) == ("engine", "frozen")
        ended = {each["service"]: each["result"] for each in pressed.statement["ended"]}
        assert ended == {"engine": "killed", "helper": "stopped"}
        assert set(desk.alive()) == {"outside"}, "what is the outside world stays"

        assert Latches(desk.layout).scopes() == {DESK}
        assert (read_marker(desk.layout) or {})["reason"] == "prices look wrong"
        assert "prices look wrong" in why_held(desk.layout, "engine")
        assert why_held(desk.layout, "venue") == ""
        made = read_checkpoint(Path(pressed.statement["checkpoint"]["path"]))
        assert made.info.level == "quick"
        assert b"verified" in made.sections["trading"]
        assert desk.course()[-1]["statement"]["result"] == "verified"


async def test_an_engine_that_ignores_the_latch_is_frozen_and_its_last_order_is_found(
    tmp_path: Path,
) -> None:
    async with small_desk(tmp_path / "desk", rate=200, obeys=False) as desk:
        (here,) = desk.houses.values()
        # What it sends lands long after it was frozen.
        await here.suffer({"kind": "hang", "hold_s": 0.08, "kinds": ["submit"]})
        await desk.start("engine")
        await desk.until_sending()
        await desk.until(lambda: len(desk.own_open()) > 20, "orders rest")
        pressed = await desk.press()
        assert pressed.status == 0, pressed
        await asyncio.sleep(0.3)
        assert desk.own_open() == []


async def test_a_service_with_a_cgroup_of_its_own_is_frozen_and_killed_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with delegated_cgroup(monkeypatch) as cgroups:
        async with small_desk(tmp_path / "desk", rate=200, obeys=False) as desk:
            await desk.start("engine")
            await desk.until_sending()
            (folder,) = (each for each in cgroups.iterdir() if each.is_dir())
            pressed = await desk.press()
            assert pressed.status == 0, pressed
            (frozen,) = pressed.statement["frozen"]
            assert (frozen["result"], frozen["how"]) == ("frozen", "cgroup")
            assert desk.own_open() == []
            assert (folder / "cgroup.procs").read_text() == ""
            await desk.start("engine")
            await desk.until_sending("engine")


async def test_two_empty_lists_are_as_far_apart_as_the_longest_latency_that_an_engine_saw(
    tmp_path: Path,
) -> None:
    """It lands 0.6 s after it was sent, the engine long frozen by then."""
    async with small_desk(tmp_path / "desk", obeys=False) as desk:
        (here,) = desk.houses.values()
        desk.layout.order_latency.write_text('{"mt5-0": 0.8}')
        await here.suffer({"kind": "hang", "hold_s": 0.6, "kinds": ["submit"]})
        await desk.start("engine")
        await desk.until_sending()
        await desk.until(lambda: len(desk.own_open()) > 3, "orders rest")
        pressed = await desk.press()
        assert pressed.status == 0, pressed
        assert desk.own_open() == []
        assert pressed.venue("mt5-0")["took_s"] > 0.8
        await asyncio.sleep(0.7)
        assert desk.own_open() == []


async def test_latencies_that_cannot_be_read_are_told_and_the_longest_believed_one_is_waited_for(
    tmp_path: Path,
) -> None:
    async with small_desk(tmp_path / "desk") as desk:
        desk.rest(1)
        desk.layout.order_latency.write_text("torn")
        pressed = await desk.press("--timeout", "3")
        assert pressed.status == 7, pressed
        assert desk.own_open() == []
        assert "order-latency.json is damaged" in str(pressed.statement["problems"])
        assert "30 s apart" in pressed.venue("mt5-0")["why"]


async def test_a_frozen_engine_is_killed_and_never_asked(tmp_path: Path) -> None:
    """A SIGTERM makes this one send: delivered to a stopped process it would wait, and act at last."""
    async with small_desk(tmp_path / "desk") as desk:
        (here,) = desk.houses.values()
        await desk.start("engine")
        await desk.until_sending()
        await desk.until(lambda: bool(desk.own_open()), "orders rest")
        pid = desk.runs["engine"].process.pid
        os.kill(pid, signal.SIGSTOP)
        pressed = await desk.press()
        assert pressed.status == 0
        assert not is_alive(pid)
        seen = len(here.sim.exchange.ledger.orders)
        await asyncio.sleep(0.2)
        assert len(here.sim.exchange.ledger.orders) == seen


async def test_pressed_twice_the_second_follows_the_first(tmp_path: Path) -> None:
    async with small_desk(tmp_path / "desk") as desk:
        (here,) = desk.houses.values()
        desk.rest(5)
        await here.suffer(BLIND)
        first = await desk.begin("--reason", "first")
        await desk.until(lambda: "frozen" in desk.events(), "the first is at work")
        second = await desk.begin("--reason", "second")
        await _until_said(second, "begun")
        here.sim.faults.clear()
        one, two = await asyncio.gather(desk.end(first), desk.end(second))
        assert (one.status, two.status) == (0, 0)
        assert (one.statement["joined"], two.statement["joined"]) == (False, True)
        assert two.statement["course"] == one.statement["course"] == "001"
        assert two.statement["reason"] == "first"
        assert two.heard("venue"), "it shows how the first one goes"
        assert desk.own_open() == []


async def test_a_second_press_does_not_take_the_word_of_one_whose_latch_was_released_meanwhile(
    tmp_path: Path,
) -> None:
    """The first had proven one venue and was busy with the other; a person released the switch there, and
    orders went on. The second latched anew, and was told what had been so before."""
    async with small_desk(tmp_path / "desk", ("mt5", "oanda")) as desk:
        quick, slow = desk.houses["mt5-0"], desk.houses["oanda-1"]
        scopes = ("--scope", "venue:mt5-0", "--scope", "venue:oanda-1")
        desk.rest(2)
        await slow.suffer(BLIND)
        first = await desk.begin(*scopes)

        def is_proven() -> bool:
            return bool(courses(desk.layout.emergency)) and any(
                (each.get("what"), each.get("venue")) == ("verified", "mt5-0")
                for each in desk.course()
            )

        await desk.until(is_proven, "the first venue is proven")
        latches = Latches(desk.layout)
        latches.release(each for each in latches.read() if each.scope.name == "mt5-0")
        quick.rest(2, desk=desk.desk_id)
        second = await desk.begin(*scopes)
        assert (await _until_said(second, "begun"))["joined"] == "001"
        slow.sim.faults.clear()
        one, two = await asyncio.gather(desk.end(first), desk.end(second))
        assert (one.status, two.status) == (0, 0)
        assert two.statement["joined"] is False
        assert desk.own_open() == []


async def test_a_second_press_takes_over_when_the_first_is_killed(tmp_path: Path) -> None:
    async with small_desk(tmp_path / "desk") as desk:
        (here,) = desk.houses.values()
        desk.rest(5)
        await desk.start("engine", "helper")
        await desk.until_sending("engine")
        await here.suffer(BLIND)
        first = await desk.begin()
        await desk.until(lambda: "frozen" in desk.events(), "the first is at work")
        second = await desk.begin()
        begun = await _until_said(second, "begun")
        assert begun["joined"] == "001"
        first.kill()
        here.sim.faults.clear()
        pressed = await desk.end(second)
        assert pressed.status == 0
        assert pressed.statement["joined"] is False
        assert pressed.heard("begun")[-1]["took_over"] == "001"
        assert desk.own_open() == []
        assert desk.alive() == {}


async def test_a_second_press_ends_a_first_one_that_is_stopped_and_takes_over(
    tmp_path: Path,
) -> None:
    """It had the lock, and was followed for ever: it lives, and never goes on."""
    async with small_desk(tmp_path / "desk") as desk:
        (here,) = desk.houses.values()
        desk.rest(5)
        await here.suffer(BLIND)
        first = await desk.begin()
        await desk.until(lambda: "frozen" in desk.events(), "the first is at work")
        # What a terminal does with a key, or by going away, it does not even notice.
        for number in (signal.SIGTSTP, signal.SIGHUP):
            first.send_signal(number)
        followers = [await desk.begin() for _ in range(3)]
        for follower in followers:
            assert (await _until_said(follower, "begun"))["joined"] == "001"
        facts = system_processes().facts(first.pid)
        assert facts is not None and facts.alive and not facts.frozen
        first.send_signal(signal.SIGSTOP)
        here.sim.faults.clear()
        pressed = [await desk.end(follower) for follower in followers]
        assert await first.wait() == -signal.SIGKILL
        assert [each.status for each in pressed] == [0, 0, 0], pressed
        assert {each.statement["course"] for each in pressed} == {"002"}, "one took over"
        (carried,) = (each for each in pressed if not each.statement["joined"])
        assert first.pid in [event["pid"] for each in pressed for event in each.heard("stuck")]
        assert [e["took_over"] for e in carried.heard("begun") if "joined" not in e] == ["001"]
        assert desk.own_open() == []


async def test_a_wider_press_does_not_take_a_narrower_one_for_its_own(tmp_path: Path) -> None:
    async with small_desk(tmp_path / "desk", ("mt5", "oanda")) as desk:
        desk.rest(5)
        slow = desk.houses["mt5-0"]
        await slow.suffer(BLIND)
        first = await desk.begin("--scope", "venue:mt5-0")
        await desk.until(lambda: "latched" in desk.events(), "the first is at work")
        wider = await desk.begin()
        await desk.until(lambda: len(courses(desk.layout.emergency)) > 1, "both are at work")
        slow.sim.faults.clear()
        pressed = await desk.end(wider)
        assert pressed.status == 0
        assert pressed.statement["joined"] is False
        assert {each["venue"] for each in pressed.statement["venues"]} == set(desk.houses)
        assert desk.own_open() == []
        await desk.end(first)


async def test_several_scopes_stop_exactly_what_they_name(tmp_path: Path) -> None:
    async with small_desk(tmp_path / "desk", ("mt5", "oanda", "kraken")) as desk:
        desk.rest(3)
        desk.rest(4, market=1)
        await desk.start("engine")
        await desk.until_sending()
        pressed = await desk.press("--scope", "venue:kraken-2", "--scope", "symbol:USD/JPY")
        assert pressed.status == 0, pressed
        assert set(Latches(desk.layout).scopes()) == {
            Scope(ScopeKind.VENUE, "kraken-2"),
            Scope(ScopeKind.SYMBOL, "USD/JPY"),
        }
        left = {name: [o.symbol for o in here.open()] for name, here in desk.houses.items()}
        assert left["kraken-2"] == []
        assert set(left["mt5-0"]) == {"EURUSD"}
        assert left["oanda-1"] == ["EUR_USD"] * 3
        assert not desk.is_frozen("engine"), "a part of a desk is latched, and goes on"
        assert set(desk.alive()) == {"engine"}
        assert read_marker(desk.layout) is None
        assert pressed.statement["checkpoint"] is None


async def test_a_strategy_whose_engine_does_not_answer_is_unknown_with_what_to_do(
    tmp_path: Path,
) -> None:
    more = '[strategies.momentum]\ntype = "a.b:C"\nvenue = "mt5-0"\nsymbols = ["EUR/USD"]\n'
    async with small_desk(tmp_path / "desk", more=more) as desk:
        pressed = await desk.press("--scope", "strategy:momentum", "--timeout", "2")
        assert pressed.status == 7
        (strategy,) = pressed.statement["strategies"]
        assert strategy["result"] == "unknown"
        assert "venue:mt5-0" in strategy["by_hand"]
        assert Latches(desk.layout).scopes() == {Scope(ScopeKind.STRATEGY, "momentum")}


async def test_a_scope_that_the_desk_does_not_have_is_never_called_verified(tmp_path: Path) -> None:
    async with small_desk(tmp_path / "desk") as desk:
        desk.rest(3)
        pressed = await desk.press("--scope", "venue:mt6-0", "--scope", "strategy:nobody")
        assert pressed.status == 7, pressed
        assert pressed.statement["result"] == "unknown"
        told = " ".join(pressed.statement["problems"])
        assert "mt6-0" in told and "nobody" in told and "mt5-0" in told, "the nearest name is said"
        assert len(desk.own_open()) == 3


async def test_orders_at_a_venue_that_was_taken_out_of_desk_toml_are_never_called_verified(
    tmp_path: Path,
) -> None:
    """Nobody asks that venue any more, and only the register knows of them: it was zero everywhere."""
    async with small_desk(tmp_path / "desk") as desk:
        desk.rest(1)
        register = OrderRegister(desk.layout.live_orders, system_processes().boot_id(), slots=8)
        register.open()
        gone = NewOrder(
            cl_ord_id=mint(desk.desk_id, 7, 1),
            venue="gone",
            symbol="EUR/USD",
            side=Side.BUY,
            ord_type=OrdType.LIMIT,
            order_qty=Decimal(1),
            price=Decimal(1),
        )
        register.intended(gone)
        pressed = await desk.press()
        assert pressed.status == 7, pressed
        assert desk.own_open() == []
        assert pressed.venue("mt5-0")["result"] == "verified"
        told = pressed.venue("gone")
        assert (told["result"], told["in_doubt"]) == ("unknown", [gone.cl_ord_id])
        assert gone.cl_ord_id in told["by_hand"]


def test_a_strategys_positions_are_not_flattened_whoever_asks() -> None:
    wish = {"scopes": ["strategy:momentum", "venue:mt5-0"], "flatten": True}
    with pytest.raises(ValueError, match="cannot be flattened"):
        EmergencyRequest.from_wire(wish)


async def test_a_broken_desk_file_is_said_and_the_desk_is_latched_and_ended_all_the_same(
    tmp_path: Path,
) -> None:
    async with small_desk(tmp_path / "desk") as desk:
        await desk.start("engine", "helper", "outside")
        await desk.until_sending("engine")
        (desk.folder / "desk.toml").write_text("[desk\nname = ")
        pressed = await desk.press()
        assert pressed.status == 7
        assert pressed.statement["venues"] == []
        assert "log in at each venue" in pressed.statement["by_hand"]
        assert "TOML" in pressed.statement["problems"][0]
        assert Latches(desk.layout).scopes() == {DESK}
        assert set(desk.alive()) == {"outside"}, "the records say what each is"


async def test_a_stranger_under_a_recorded_pid_is_not_touched(tmp_path: Path) -> None:
    async with small_desk(tmp_path / "desk") as desk:
        await desk.start("helper")
        record = desk.layout.records / "helper.json"
        stranger = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
        try:
            pid = desk.runs["helper"].process.pid
            record.write_text(record.read_text().replace(f'"pid":{pid}', f'"pid":{stranger.pid}'))
            pressed = await desk.press()
            assert pressed.status == 0
            assert is_alive(stranger.pid)
            assert not is_alive(pid), "its mark proves it"
        finally:
            with contextlib.suppress(ProcessLookupError):
                stranger.kill()
            await stranger.wait()
