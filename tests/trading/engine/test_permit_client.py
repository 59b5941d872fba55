"""The permit's life, counted from before it was asked for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from openbell.domain.permit import Permit, PermitScope
from openbell.runtime import peer
from openbell.trading.engine.permit_client import PermitClient, PermitRequest

WAIT_S = 60.0


class Controller:
    def __init__(self) -> None:
        self.answer: dict[str, Any] = {"granted": True, "scope": "trade", "ttl_s": 30.0}
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked = asyncio.Event()
        self.status = 200
        self.is_killed = False
        """It ends each connection in the middle of its question."""

    async def permit(self, request: web.Request) -> web.Response:
        self.asked.set()
        await self.hold.wait()
        if self.is_killed:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def controller(folder: Path) -> AsyncIterator[Controller]:
    made = Controller()
    app = web.Application()
    app.router.add_post("/api/v1/permit", made.permit)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(folder / "c.sock")).start()
    yield made
    made.hold.set()
    await runner.cleanup()


@contextlib.asynccontextmanager
async def client(folder: Path, renew_every_s: float = 1.0) -> AsyncIterator[PermitClient]:
    token = folder / "service.token"
    token.write_text("token-of-the-services\n")
    made = PermitClient(
        socket=folder / "c.sock",
        token=token,
        renew_every_s=renew_every_s,
        request=lambda: PermitRequest(service="e", epoch=1, reconciled=True, phase="ready"),
    )
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Any) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_slow_answer_shortens_the_permit(folder: Path, controller: Controller) -> None:
    controller.hold.clear()
    async with client(folder, renew_every_s=60.0) as permit:
        await controller.asked.wait()
        asked_s = time.monotonic()
        await asyncio.sleep(0.3)  # for so long its answer is under way
        controller.hold.set()
        await until(lambda: permit.scope() is PermitScope.TRADE)
        ends_s = time.monotonic() + permit.expires_in_s()
        assert ends_s <= asked_s + controller.answer["ttl_s"], (
            "it lives from before it was asked for"
        )


async def test_a_grant_that_arrives_after_giving_up_counts_for_nothing(
    folder: Path, controller: Controller
) -> None:
    controller.hold.clear()
    async with client(folder) as permit:
        await controller.asked.wait()
        permit.give_up("halted")
        controller.hold.set()
        await asyncio.sleep(0.2)
        assert permit.scope() is PermitScope.NONE
        permit.want()
        await until(lambda: permit.scope() is PermitScope.TRADE)


async def test_a_refusal_takes_effect_at_once(folder: Path, controller: Controller) -> None:
    async with client(folder) as permit:
        await until(lambda: permit.scope() is PermitScope.TRADE)
        controller.answer = {"granted": False, "why_not": "latched"}
        permit.ask_now()
        await until(lambda: permit.scope() is PermitScope.NONE)
        assert permit.why_not == "latched"


@pytest.mark.parametrize("status", [401, 500])
async def test_an_answer_that_is_none_grants_nothing(
    folder: Path, controller: Controller, status: int
) -> None:
    controller.status = status
    async with client(folder) as permit:
        await until(lambda: str(status) in permit.why_not)
        assert permit.scope() is PermitScope.NONE


async def test_a_controller_that_is_not_there_is_asked_until_it_is(folder: Path) -> None:
    async with client(folder) as permit:
        await until(lambda: "cannot be asked" in permit.why_not)
        assert permit.scope() is PermitScope.NONE


async def test_a_controller_that_was_replaced_is_asked_at_once_and_not_at_the_next_renewal(
    folder: Path, controller: Controller
) -> None:
    """A question that met the one which hung was followed by the pause of a renewal: the new one was
    there, and the permit ran out all the same."""
    controller.answer["ttl_s"] = 600.0
    async with client(folder, renew_every_s=60.0) as permit:
        await until(lambda: permit.scope() is PermitScope.TRADE)
        controller.is_killed = True
        permit._answered.clear()
        permit.ask_now()
        await until(permit._answered.is_set)
        assert permit.scope() is PermitScope.TRADE
        controller.is_killed = False
        controller.asked.clear()
        await until(controller.asked.is_set)  # ten seconds at most, of sixty


async def test_one_that_comes_with_a_promotion_holds_until_the_first_answer(
    folder: Path, controller: Controller
) -> None:
    controller.hold.clear()
    async with client(folder, renew_every_s=60.0) as permit:
        await controller.asked.wait()
        ends_ns = time.monotonic_ns() + int(20e9)
        permit.take(Permit(PermitScope.TRADE, ends_ns), ttl_s=30.0)
        assert permit.scope() is PermitScope.TRADE
        assert permit.expires_in_s() <= 20.0, "it ends when it was said to"
        controller.answer = {"granted": False, "why_not": "halted"}
        controller.hold.set()
        await until(lambda: permit.scope() is PermitScope.NONE)
        assert permit.why_not == "halted"


@pytest.mark.parametrize("left_s", [-0.001, 30.001 + 60.0], ids=["over", "of another clock"])
async def test_one_that_is_over_or_would_live_too_long_is_not_taken(
    folder: Path, left_s: float
) -> None:
    async with client(folder) as permit:
        ends_ns = time.monotonic_ns() + int(left_s * 1e9)
        permit.take(Permit(PermitScope.TRADE, ends_ns), ttl_s=30.0)
        assert permit.scope() is PermitScope.NONE


async def test_one_that_was_given_up_is_not_brought_back_by_a_promotion(folder: Path) -> None:
    async with client(folder) as permit:
        permit.give_up("halted")
        permit.take(Permit(PermitScope.TRADE, time.monotonic_ns() + int(20e9)), ttl_s=30.0)
        assert permit.scope() is PermitScope.NONE


async def test_another_user_who_listens_in_the_controllers_place_is_not_asked(
    folder: Path, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent the services' token, and could have granted a permit."""
    monkeypatch.setattr(peer, "credentials", lambda _: (os.getpid(), os.getuid() + 1))
    async with client(folder, renew_every_s=60.0) as permit:
        await until(lambda: "another user listens" in permit.why_not)
        assert permit.scope() is PermitScope.NONE and not controller.asked.is_set()
        monkeypatch.undo()
        await until(lambda: permit.scope() is PermitScope.TRADE)
