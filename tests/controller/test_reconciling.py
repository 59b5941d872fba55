"""Adoptions take the desk's one place beside the runs: books do not change while a run is under way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openbell.config.approvals import Approvals
from openbell.config.layout import DeskLayout
from openbell.controller.reconciling import Reconciling
from openbell.controller.run_board import LiveRun, RunBoard
from openbell.domain.service_state import ServiceState
from openbell.errors import ConflictError
from openbell.service_client import Answer

DIFFERS = {
    "result": "differs", "adoptable": True, "digest": "d1", "differences": [],
}  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    """As much of a controlled desk as an adoption asks; its engine differs from its venue."""
    told: list[str] = []

    async def tell_engine(path: str, _body: Any, *, timeout_s: float) -> Answer:
        told.append(path)
        return Answer(DIFFERS if path == "/v1/reconcile" else {"adopted": ["BTC/USDT"]}, 200)

    async def record(*_: Any, **__: Any) -> None:
        pass

    return SimpleNamespace(
        layout=DeskLayout(desk=tmp_path, state=tmp_path / "state"),
        board=RunBoard(),
        told=told,
        voices=SimpleNamespace(tell_engine=tell_engine),
        roles=SimpleNamespace(engine="engine"),
        states={"engine": ServiceState.READY},
        desk=SimpleNamespace(file=SimpleNamespace(venues={"sim": None}, approvals=Approvals())),
        auditor=SimpleNamespace(record=record, note=lambda *_, **__: None),
    )


@pytest.fixture
def reconciling(desk: Any, monkeypatch: pytest.MonkeyPatch) -> Reconciling:
    """Of a desk at which one person may adopt; an approval, once it counts, is told in `approved`."""
    made = Reconciling(desk)
    desk.approved = []

    async def approve(request: str, *_: Any, **__: Any) -> Any:
        desk.approved.append(request)
        return SimpleNamespace(
            id=request, reason="by hand", asked_by="ann",
            parameters={"venues": ("sim",), "shown": ("d1",)},
        )  # fmt: skip

    monkeypatch.setattr(type(made.approving), "needed", property(lambda _: False))
    monkeypatch.setattr(made.approving, "approve", approve)
    return made


async def test_nothing_is_adopted_while_a_run_is_under_way(
    desk: Any, reconciling: Reconciling
) -> None:
    """Books changed between what a closing compared and the checkpoint that it saved of them."""
    desk.board.add(LiveRun("close-1", "close", "joe", {}, started_ns=0))
    with pytest.raises(ConflictError, match="close-1"):
        await reconciling.adopt(["sim"], "by hand", "d1", "ann")
    with pytest.raises(ConflictError, match="close-1"):
        await reconciling.approve("r1", "digest", "seen", "joe")
    assert "/v1/adopt" not in desk.told
    assert desk.approved == [], "it can still be approved"


@pytest.mark.parametrize("by", ["one person", "approval"])
async def test_a_run_waits_for_an_adoption_that_is_under_way(
    desk: Any, reconciling: Reconciling, by: str
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    tell = desk.voices.tell_engine

    async def slow(path: str, body: Any, *, timeout_s: float) -> Answer:
        if path == "/v1/adopt":
            begun.set()
            await go.wait()
        answer: Answer = await tell(path, body, timeout_s=timeout_s)
        return answer

    desk.voices.tell_engine = slow
    adopting = asyncio.create_task(
        reconciling.adopt(["sim"], "by hand", "d1", "ann")
        if by == "one person"
        else reconciling.approve("r1", "digest", "seen", "joe")
    )
    async with asyncio.timeout(60):
        await begun.wait()
        opening = asyncio.create_task(desk.board.reserve("open", "joe"))
        await asyncio.sleep(0)
        assert not opening.done(), "the place is not free"
        go.set()
        await opening
        assert adopting.done() or await adopting
    assert desk.told[-1] == "/v1/adopt"
