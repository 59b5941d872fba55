"""Requests that wait for people: none is forgotten while it waits, and none is kept once it is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.config.approvals import Approvals
from openbell.config.layout import DeskLayout
from openbell.controller import conduct
from openbell.controller.approving import REQUESTS_KEPT, Approving, as_request
from openbell.controller.conduct import Conductor
from openbell.controller.run_board import LiveRun
from openbell.controller.step_approvals import _Waiting
from openbell.domain.approvals import STEP_ACT, ActRequest
from openbell.errors import RefusedError, UsageError
from openbell.runtime.processes import system_processes
from openbell.state.requests import StoredRequest


class FakeDesk:
    """What a request is written to, and who may ask."""

    def __init__(self) -> None:
        people = {"ann": ("operator",), "bob": ("risk",)}
        rules = Approvals(needed_for=("limits-raise",), people=people)
        self.desk = SimpleNamespace(file=SimpleNamespace(approvals=rules))
        self.auditor = self
        self.database = self
        self.recorded = 0
        self.kept: list[StoredRequest] = []
        self.said: dict[str, object] = {}

    async def record(self, *_: object, **said: object) -> None:
        self.recorded += 1
        self.said = said

    async def try_record(self, *_: object, **__: object) -> None:
        """What did not count: not what this is about."""

    async def requests(self) -> Any:
        return SimpleNamespace(add=self.kept.append, use=lambda _: True)


@pytest.fixture
def clock() -> list[int]:
    return [0]


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def approving(desk: FakeDesk, clock: list[int]) -> Approving:
    return Approving(
        desk,  # type: ignore[arg-type]
        "limits-raise",
        "asked",
        "refused",
        "approved",
        clock_ns=lambda: clock[0],
    )


async def ask(approving: Approving, number: int) -> ActRequest:
    return await approving.ask({"limit": (str(number),)}, "why", "ann")


async def test_none_that_waits_is_forgotten_for_a_newer_one(
    approving: Approving, desk: FakeDesk, clock: list[int]
) -> None:
    """The oldest went: whoever was about to approve it was told that there is no such request."""
    first = await ask(approving, 0)
    for number in range(1, REQUESTS_KEPT):
        await ask(approving, number)
    with pytest.raises(RefusedError, match="wait for an approval already"):
        await ask(approving, REQUESTS_KEPT)
    assert desk.recorded == REQUESTS_KEPT, "what was not taken is in no log as a request"
    assert (await ask(approving, 0)) is first, "who asks for the same again is told of it"
    approved = await approving.approve(first.id, first.digest, "bob", "looked")
    assert approved is first
    newest = await ask(approving, REQUESTS_KEPT)
    assert newest in approving.waiting() and len(approving.waiting()) == REQUESTS_KEPT
    clock[0] = first.expires_mono_ns
    assert await ask(approving, REQUESTS_KEPT + 1) in approving.waiting(), "those expired"
    with pytest.raises(RefusedError):
        await approving.approve(newest.id, newest.digest, "bob", "looked")


@pytest.mark.parametrize("reason", ["", "  \n"])
async def test_an_approval_without_a_reason_is_none(
    approving: Approving, desk: FakeDesk, reason: str
) -> None:
    request = await ask(approving, 0)
    with pytest.raises(UsageError, match="needs a reason"):
        await approving.approve(request.id, request.digest, "bob", reason)
    assert (approving.waiting(), desk.recorded) == ([request], 1), "it waits as before"
    assert await approving.approve(request.id, request.digest, "bob", " looked ") is request
    assert desk.said == {"reason": "looked", "digest": request.digest}


def test_what_was_asked_of_a_run_goes_with_its_end() -> None:
    """Each approved request stayed for as long as the controller lived."""
    conductor = Conductor(SimpleNamespace())  # type: ignore[arg-type]
    waiting = conductor.approvals._waiting
    for run in ("open-1", "close-2"):
        request: Any = SimpleNamespace(act=STEP_ACT, parameters={"run": (run,), "step": ("s",)})
        waiting[run] = _Waiting(request, ["ann"])
    over = LiveRun("open-1", "open", "ann", {}, 0)
    over.emit = lambda _: None  # type: ignore[method-assign]
    conductor.finish(over, "trading", "", {}, None)
    assert list(waiting) == ["close-2"]


def left_s(clock_says_ago_s: float, up_s: float = 0.0, **stored: Any) -> float:
    """Of a request of 900 s, under a controller that is started when the machine is up for `up_s`."""
    asked = datetime.now(UTC) - timedelta(seconds=clock_says_ago_s)
    request = StoredRequest(
        id="a", act="limits-raise", parameters={}, reason="", asked_by="ann", asked_at=asked,
        expires_at=asked + timedelta(seconds=900), used=False, approvals=(), **stored,
    )  # fmt: skip
    now_ns = int(up_s * 1e9)
    return (as_request(request, now_ns, 900).expires_mono_ns - now_ns) / 1e9


def test_a_request_that_a_clock_set_back_says_was_not_made_yet_has_expired() -> None:
    """It got its whole life anew from a controller that was started again."""
    assert 0 < left_s(300) <= 600
    assert left_s(1000) <= 0
    assert left_s(-3600) == 0


def test_a_clock_that_is_set_back_prolongs_no_request_on_the_boot_on_which_it_was_made() -> None:
    """By as much as it was set back, whoever started the controller again."""
    here = {"boot_id": system_processes().boot_id(), "expires_mono_ns": int(10_900e9)}
    assert left_s(300, 10_300, **here) == pytest.approx(600, abs=1)
    assert left_s(0, 10_300, **here) == 600, "the clock was set back by five minutes"
    assert left_s(10, 10_900, **here) == 0, "and by fifteen"
    assert left_s(600, 10_300, **here) == pytest.approx(300, abs=1), "the machine has slept"


def test_under_a_later_boot_as_much_has_passed_as_that_has_lived() -> None:
    earlier = {"boot_id": "another", "expires_mono_ns": int(10_900e9)}
    assert left_s(10, 400, **earlier) == 500
    assert left_s(10, 1000, **earlier) < 0
    assert left_s(300, 20, **earlier) == pytest.approx(600, abs=1)
    assert left_s(10, 5000) > 800, "one that an earlier version has kept"


async def test_a_request_is_kept_with_the_time_that_nobody_sets(
    approving: Approving, desk: FakeDesk, clock: list[int]
) -> None:
    clock[0] = int(50e9)
    request = await ask(approving, 1)
    (stored,) = desk.kept
    assert stored.boot_id == system_processes().boot_id()
    assert stored.expires_mono_ns == request.expires_mono_ns == int(50e9 + 900e9)


async def test_a_run_that_does_not_end_holds_up_nobody_who_breaks_it_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An emergency stop was not recorded before a run that a disk held had ended."""
    monkeypatch.setattr(conduct, "BREAK_OFF_S", 0.05)
    layout = DeskLayout.for_desk(tmp_path, {})
    desk: Any = SimpleNamespace(layout=layout, release_lock_of=lambda _: None)
    conductor = Conductor(desk)
    begun, disk = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await disk.wait()

    run = LiveRun("open-x", "open", "ann", {}, 0)
    monkeypatch.setattr(conduct, "run_number", lambda _: 0)
    conductor.carry_out(run, held())
    await begun.wait()
    await asyncio.wait_for(conductor.break_off("an emergency stop"), 20)
    assert not run.is_over
    disk.set()
    async with asyncio.timeout(20):
        while not run.is_over:
            await asyncio.sleep(0.005)
    assert run.events[-1]["message"] == "broken off: an emergency stop"
