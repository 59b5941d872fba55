"""Alerts of a closing: told once, in the run's events, from what the closing itself sees."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from openbell.config.loader import load_desk
from openbell.controller import closing_alerts
from openbell.controller.closing_alerts import ClosingAlerts
from openbell.controller.desk import ControlledDesk
from openbell.controller.run_board import LiveRun
from openbell.domain.service_state import ServiceState
from openbell.procedures.closing.picture import Picture
from openbell.service_client import Answer

DESK = (
    '[desk]\nname = "small"\n[alerts]\norder_open_for = "30s"\nloss = "100"\n'
    '[services.a]\ncommand = ["true"]\n'
)


def holding(quantity: str | None, *orders: str, known: bool = True) -> Picture:
    rows = (
        ()
        if quantity is None
        else ({"venue": "v", "symbol": "A/B", "quantity": "9", "venue_quantity": quantity},)
    )
    return Picture(
        source="engine", positions=rows, all_positions=known, all_orders=known,
        orders=tuple({"venue": "v", "symbol": "A/B", "cl_ord_id": o, "age_s": 500.0} for o in orders),
    )  # fmt: skip


class Closed:
    """A closing at a clock of the test's."""

    def __init__(
        self, folder: Path, *, resting: frozenset[str] = frozenset(), **parts: Any
    ) -> None:
        (folder / "desk.toml").write_text(DESK)
        desk = cast(ControlledDesk, SimpleNamespace(desk=load_desk(folder), **parts))
        self.now = 0.0
        self.run = LiveRun("close-1", "close", "alice", {}, 0)
        self.alerts = ClosingAlerts(
            desk,
            self.run,
            may_rest=lambda row: row["cl_ord_id"] in resting,
            clock=lambda: self.now,
        )

    def told(self) -> list[tuple[Any, Any]]:
        return [
            (event["rule"], event["subject"])
            for event in self.run.events
            if event["event"] == "alert" and event["alert"] is True
        ]


async def test_a_position_that_grows_is_told_once_and_again_after_it_shrank(tmp_path: Path) -> None:
    closing = Closed(tmp_path)
    for quantity in ("2", "1", "1.5", "1.6"):
        closing.alerts.saw(holding(quantity))
    assert closing.told() == [("position_grew", "v A/B")]
    closing.alerts.saw(holding("0.5"))
    closing.alerts.saw(holding("-0.1"))
    assert len(closing.told()) == 2


async def test_a_position_that_comes_back_from_flat_has_grown(tmp_path: Path) -> None:
    closing = Closed(tmp_path)
    for quantity in ("1", None, "0.2"):
        closing.alerts.saw(holding(quantity))
    assert closing.told() == [("position_grew", "v A/B")]


async def test_a_position_that_was_never_said_to_be_flat_has_not_grown_when_it_is_first_told(
    tmp_path: Path,
) -> None:
    closing = Closed(tmp_path)
    closing.alerts.saw(holding(None, known=False))
    closing.alerts.saw(holding("0.2"))
    assert closing.told() == []


async def test_an_order_left_open_is_told_by_the_desks_own_threshold_unless_it_may_rest(
    tmp_path: Path,
) -> None:
    closing = Closed(tmp_path, resting=frozenset({"ob2"}))
    for now in (0.0, 30.0, 31.0, 32.0):
        closing.now = now
        closing.alerts.saw(holding(None, "ob1", "ob2"))
    assert closing.told() == [("order_open", "v ob1")]


async def test_a_venue_that_stays_silent_is_told_until_it_speaks_again(tmp_path: Path) -> None:
    """Of a venue that did not say which orders are open none was told to be open, however long."""
    closing = Closed(tmp_path)
    silent = replace(holding(None, known=False), unknown=("venue v: no route",))
    for now in (0.0, 30.0, 31.0, 90.0):
        closing.now = now
        closing.alerts.saw(silent)
    assert closing.told() == [("orders_unknown", "desk")]
    assert closing.run.events[-1]["message"].endswith("for 30s and more: venue v: no route")  # type: ignore[attr-defined]
    for now, seen in ((91.0, holding(None)), (92.0, silent), (122.0, silent), (123.0, silent)):
        closing.now = now
        closing.alerts.saw(seen)
    assert closing.told() == [("orders_unknown", "desk")] * 2


async def test_a_look_that_hangs_leaves_unknown_what_the_one_before_did_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_alerts, "EVERY_S", 0.01)
    closing = Closed(
        tmp_path, supervisor=SimpleNamespace(views=lambda: ()),
        roles=SimpleNamespace(risk=None, engine=None),
    )  # fmt: skip
    closing.alerts.saw(replace(holding(None, known=False), unknown=("venue v: no route",)))
    closing.now = 31.0
    closing.alerts.begin()
    async with asyncio.timeout(60):
        while not closing.told():
            await asyncio.sleep(0.01)
    closing.run.emit({"event": "done"})
    assert closing.told() == [("orders_unknown", "desk")]


async def test_loss_and_rejects_are_told_of_services_that_are_degraded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, only one that was ready was asked: an engine whose venue refuses its orders is degraded,
    and was not."""
    monkeypatch.setattr(closing_alerts, "EVERY_S", 0.01)

    async def ask(service: str, path: str, *, timeout_s: float) -> Answer:
        outcomes = {"accepted": 10, "rejected": 90}
        return Answer({"known": True, "daily_pnl": "-101", "outcomes": outcomes}, 200)

    closing = Closed(
        tmp_path,
        supervisor=SimpleNamespace(views=lambda: ()),
        roles=SimpleNamespace(risk="risk", engine="engine"),
        states=dict.fromkeys(("risk", "engine"), ServiceState.DEGRADED),
        voices=SimpleNamespace(ask=ask),
    )
    closing.alerts.begin()
    async with asyncio.timeout(60):
        while len(closing.told()) < 2:
            await asyncio.sleep(0.01)
    closing.run.emit({"event": "done"})
    assert closing.told() == [("loss", "desk"), ("rejects", "desk")]


async def test_nothing_is_told_after_the_runs_end(tmp_path: Path) -> None:
    closing = Closed(tmp_path)
    closing.alerts.saw(holding("1"))
    closing.run.emit({"event": "done"})
    closing.alerts.saw(holding("2"))
    assert [event["event"] for event in closing.run.events] == ["done"]


async def test_a_defect_in_an_alert_does_not_reach_the_closing(tmp_path: Path) -> None:
    closing = Closed(tmp_path)
    closing.alerts.saw(cast(Picture, None))
    assert closing.told() == []
